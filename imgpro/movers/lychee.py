"""Reads Lychee 4 to 7: originals and smaller sizes in folders, their rows in SQLite, MySQL or PostgreSQL.

Its tables changed three times: up to 4.4 a photo names its file (`url`) and its one album; from 4.5 the files stand in
`size_variants` and what albums share in `base_albums`; from 5 who may see an album stands in `access_permissions`; from
6.6 or so a photo may be in several albums (`photo_album`) and tags have tables. Which of it is there is looked at.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from imgpro.model import LeadsTo
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import Columns, HostDatabase
from imgpro.movers.host_files import MISSING, HostFiles, NotThere
from imgpro.movers.host_source import HostSource
from imgpro.movers.host_values import iso, links, listed, moment, no_picture, path_of, segment, truth

WANTED: Final[Columns] = {
    "photos": (
        *("id", "legacy_id", "title", "description", "tags", "url", "type", "owner_id", "album_id", "album"),
        *("public", "is_public", "created_at", "taken_at"),
    ),
    "size_variants": ("photo_id", "short_path", "storage_disk"),
    "albums": ("id", "title", "public", "password"),
    "base_albums": ("id", "legacy_id", "title", "is_public", "password"),
    "access_permissions": ("base_album_id", "user_id", "user_group_id", "password"),
    "photo_album": ("photo_id", "album_id"),
    "tags": ("id", "name"),
    "photos_tags": ("photo_id", "tag_id"),
    "users": ("id", "username", "email"),
}
_INDEXED: Final = (
    *(("size_variants", "photo_id"), ("albums", "id"), ("base_albums", "id"), ("photo_album", "photo_id")),
    *(("access_permissions", "base_album_id"), ("tags", "id"), ("photos_tags", "photo_id"), ("users", "id")),
)

_PHOTOS: Final = """
    SELECT p.*, u.username, u.email,
           (SELECT group_concat(name, char(31)) FROM (SELECT t.name FROM photos_tags AS pt
             JOIN tags AS t ON t.id = pt.tag_id WHERE pt.photo_id = p.id ORDER BY t.name)) AS tag_names
      FROM photos AS p LEFT JOIN users AS u ON u.id = p.owner_id ORDER BY p.rowid
"""
_VARIANTS: Final = "SELECT short_path, storage_disk FROM size_variants WHERE photo_id = ? ORDER BY rowid"
_ALBUMS: Final = """
    SELECT a.id, coalesce(b.title, a.title) AS title, b.legacy_id, a.public, b.is_public,
           coalesce(b.password, a.password) AS password,
           (SELECT count(*) FROM access_permissions AS o
             WHERE o.base_album_id = a.id AND o.user_id IS NULL AND o.user_group_id IS NULL) AS opened,
           (SELECT count(*) FROM access_permissions AS o WHERE o.base_album_id = a.id AND o.user_id IS NULL
             AND o.user_group_id IS NULL AND coalesce(o.password, '') <> '') AS locked
      FROM albums AS a LEFT JOIN base_albums AS b ON b.id = a.id
     WHERE a.id = ? OR a.id IN (SELECT pa.album_id FROM photo_album AS pa WHERE pa.photo_id = ?)
     ORDER BY a.rowid
"""
# Folders of the files that were made of an original, and what comes closest to them here.
_SIZES: Final[Mapping[str, LeadsTo]] = {
    "thumb": "s",
    "thumb2x": "s",
    "small": "s",
    "small2x": "m",
    "medium": "l",
    "medium2x": "l",
}
_ORIGINALS: Final = ("original", "big", "import")
_LOCAL_DISKS: Final = (None, "", "images")
_UNSORTED: Final = "unsorted"


class Lychee(HostSource):
    """Lychee's photos. `files` is its folder `uploads`; `at` is where that folder is served."""

    pictures = "photos"

    def __init__(self, files: Path, database: Path, at: str = "/uploads", *, by_mail: bool = False) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/var/www/html/Lychee/public/uploads")
        super().__init__(f"lychee {self._files.folder.resolve()}")
        self._path = database
        self._owner = "email" if by_mail else "username"
        self._at = "/" + at.strip("/") if at.strip("/") else ""

    def _open(self) -> HostDatabase:
        database = HostDatabase(self._path, WANTED, ("photos", "albums", "users"))
        if not database.has("photos", "url"):
            database.need("size_variants", "base_albums")
        for table, column in _INDEXED:
            database.index(table, column)
        return database

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        for row in database.rows(_PHOTOS):
            albums = list(database.rows(_ALBUMS, (row["album_id"] or row["album"], row["id"])))
            variants = list(database.rows(_VARIANTS, (row["id"],)))
            if row["url"]:
                variants.append({"short_path": f"big/{row['url']}", "storage_disk": None})
            yield self._one(row, albums, variants)

    def _one(
        self, row: dict[str, Any], albums: list[dict[str, Any]], variants: list[dict[str, Any]]
    ) -> Found | LeftOut:
        item = row["id"] or "(no id)"
        title = row["title"] or ""
        if reason := no_picture(row["type"] or ""):
            return LeftOut(f"{item} {title}".strip(), reason)
        original = next((each for each in variants if _folder(each) in _ORIGINALS), None)
        if original is None:
            raw = any(_folder(each) == "raw" for each in variants)
            return LeftOut(f"{item} {title}".strip(), "It is a raw file, no picture." if raw else MISSING)
        try:
            path = self._files.find(original["short_path"])
        except NotThere as problem:
            away = str(problem) == MISSING and original["storage_disk"] not in _LOCAL_DISKS
            reason = f"Its file is on the storage {original['storage_disk']}, not in the folder of files."
            return LeftOut(f"{item} {title}".strip(), reason if away else str(problem))
        public, note = _seen(row, albums)
        return Found(
            item=item,
            path=path,
            name=_named(title, original["short_path"]),
            created_ms=moment(row["created_at"]) or _told_by_id(row) or moment(row["taken_at"]),
            description=row["description"] or "",
            public=public,
            note=note,
            display_date=iso(row["taken_at"]),
            namespace=(albums[0]["title"] or "") if albums else "",
            tags=_tags(row),
            owner=row[self._owner] or "",
            old_links=links(*self._links(row, albums, variants)),
        )

    def _links(
        self, row: dict[str, Any], albums: list[dict[str, Any]], variants: list[dict[str, Any]]
    ) -> Iterator[tuple[str, LeadsTo]]:
        for each in variants:
            folder = _folder(each)
            if folder in _ORIGINALS or folder in _SIZES:
                yield f"{self._at}/{path_of(each['short_path'])}", _SIZES.get(folder, "o")
        photos = [row["id"], row["legacy_id"]]
        for photo, place in zip(photos, ("id", "legacy_id"), strict=True):
            if not photo:
                continue
            for album in [each[place] for each in albums if each[place]] or [_UNSORTED]:
                yield f"/gallery/{segment(album)}/{segment(photo)}", "page"
                yield f"/r/{segment(album)}/{segment(photo)}", "page"
            yield f"/view?p={segment(photo)}", "page"


def _folder(variant: dict[str, Any]) -> str:
    return str(variant["short_path"] or "").partition("/")[0]


def _seen(row: dict[str, Any], albums: list[dict[str, Any]]) -> tuple[bool, str]:
    """Return whether everybody could see a photo, and what to say if not."""
    if truth(row["public"]) or truth(row["is_public"]):
        return True, ""
    locked = False
    for album in albums:
        opened = truth(album["public"]) or truth(album["is_public"]) or album["opened"] > 0
        closed = bool(album["password"]) or album["locked"] > 0
        if opened and not closed:
            return True, ""
        locked = locked or closed
    if locked:
        return False, "Its album had a password there; it is private here."
    return False, "It was not public there; it is private here."


def _told_by_id(row: dict[str, Any]) -> int | None:
    """Return when a photo was stored, of the time when ids were clocks: ten-thousandths of a second."""
    clock = row["legacy_id"] or row["id"] or ""
    return moment(clock[:10]) if clock.isdigit() and len(clock) == 14 else None


def _named(title: str, stored: str) -> str:
    """Return a file name: the title, with the extension of the file."""
    extension = stored.rpartition(".")[2].lower() if "." in stored else ""
    if not title or not extension:
        return title or stored.rpartition("/")[2]
    return title if title.lower().endswith((f".{extension}", ".jpg", ".jpeg")) else f"{title}.{extension}"


def _tags(row: dict[str, Any]) -> tuple[str, ...]:
    if row["tag_names"]:
        return listed(row["tag_names"])
    return tuple(filter(None, (tag.strip() for tag in (row["tags"] or "").split(","))))
