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
from imgpro.movers.host_values import iso, links, listed, moment, no_picture, owner_of, path_of, segment, tags_of, truth

WANTED: Final[Columns] = {
    "photos": (
        *("id", "legacy_id", "title", "description", "tags", "url", "type", "owner_id", "album_id", "album"),
        *("public", "is_public", "created_at", "taken_at"),
    ),
    "size_variants": ("photo_id", "short_path", "storage_disk"),
    "albums": ("id", "title", "public", "password", "full_photo"),
    "base_albums": (
        *("id", "legacy_id", "title", "is_public", "password", "grants_full_photo", "grants_full_photo_access"),
    ),
    "access_permissions": ("base_album_id", "user_id", "user_group_id", "password", "grants_full_photo_access"),
    "configs": ("key", "value"),
    "photo_album": ("photo_id", "album_id"),
    "tags": ("id", "name"),
    "photos_tags": ("photo_id", "tag_id"),
    "users": ("id", "username", "email"),
}
_INDEXED: Final = (
    *(("size_variants", "photo_id"), ("albums", "id"), ("base_albums", "id"), ("photo_album", "photo_id")),
    *(("access_permissions", "base_album_id"), ("tags", "id"), ("photos_tags", "photo_id"), ("users", "id")),
)

_TAGS: Final = "SELECT t.name FROM photos_tags AS pt JOIN tags AS t ON t.id = pt.tag_id WHERE pt.photo_id = p.id"
_PHOTOS: Final = f"""
    SELECT p.*, u.username, u.email, {tags_of(_TAGS)} AS tag_names
      FROM photos AS p LEFT JOIN users AS u ON u.id = p.owner_id ORDER BY p.rowid
"""  # noqa: S608  # parts of our own
_VARIANTS: Final = "SELECT short_path, storage_disk FROM size_variants WHERE photo_id = ? ORDER BY rowid"
# What everybody may do with an album.
_OPENED: Final = """
    SELECT count(*) FROM access_permissions AS o
     WHERE o.base_album_id = a.id AND o.user_id IS NULL AND o.user_group_id IS NULL"""
_ALBUMS: Final = f"""
    SELECT a.id, coalesce(b.title, a.title) AS title, b.legacy_id, a.public, b.is_public,
           coalesce(b.password, a.password) AS password,
           coalesce(b.grants_full_photo_access, b.grants_full_photo, a.full_photo) AS whole,
           ({_OPENED}) AS opened, ({_OPENED} AND coalesce(o.password, '') <> '') AS locked,
           ({_OPENED} AND lower(o.grants_full_photo_access) IN ('1', 't', 'true')) AS opened_whole
      FROM albums AS a LEFT JOIN base_albums AS b ON b.id = a.id
     WHERE a.id = ? OR a.id IN (SELECT pa.album_id FROM photo_album AS pa WHERE pa.photo_id = ?)
     ORDER BY a.rowid
"""  # noqa: S608  # parts of our own
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
_ADMIN: Final = "admin"


class Lychee(HostSource):
    """Lychee's photos. `files` is its folder `uploads`; `at` is where that folder is served."""

    pictures = "photos"

    def __init__(self, files: Path, database: Path, at: str = "/uploads", *, by_mail: bool = False) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/var/www/html/Lychee/public/uploads")
        super().__init__(f"lychee {self._files.name}")
        self._path = database
        self._owner = "email" if by_mail else "username"
        self._at = "/" + at.strip("/") if at.strip("/") else ""

    def _open(self) -> HostDatabase:
        database = HostDatabase(self._path, WANTED, ("photos", "albums", "users"))
        if not database.has("photos", "url"):
            database.need("size_variants", "base_albums")
        if database.has("access_permissions"):
            database.need_columns("access_permissions", "user_id", "password")
        if database.has("base_albums", "is_public"):
            database.need_columns("base_albums", "password")
        if database.has("albums", "public"):
            database.need_columns("albums", "password")
        for table, column in _INDEXED:
            database.index(table, column)
        return database

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        gallery = _Gallery({row["key"]: row["value"] for row in database.rows('SELECT "key", value FROM configs')})
        for row in database.rows(_PHOTOS):
            albums = list(database.rows(_ALBUMS, (row["album_id"] or row["album"], row["id"])))
            variants = list(database.rows(_VARIANTS, (row["id"],)))
            if row["url"]:
                variants.append({"short_path": f"big/{row['url']}", "storage_disk": None})
            yield self._one(row, albums, variants, gallery)

    def _one(
        self, row: dict[str, Any], albums: list[dict[str, Any]], variants: list[dict[str, Any]], gallery: "_Gallery"
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
        note = gallery.closed or _why_private(row, albums, gallery)
        return Found(
            item=item,
            path=path,
            name=_named(title, original["short_path"]),
            created_ms=moment(row["created_at"]) or _told_by_id(row) or moment(row["taken_at"]),
            description=row["description"] or "",
            public=not note,
            note=note,
            display_date=iso(row["taken_at"]),
            namespace=(albums[0]["title"] or "") if albums else "",
            tags=_tags(row),
            owner=self._whose(row),
            old_links=links(*self._links(row, albums, variants)),
        )

    def _whose(self, row: dict[str, Any]) -> str:
        """Return whose a photo is. Up to 4.6 the administrator was user 0, with a name that was kept as a hash."""
        owner = owner_of(row, self._owner)
        hidden = owner.startswith(("$2y$", "$argon2"))
        return _ADMIN if hidden or (not owner and row["owner_id"] == "0") else owner

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


class _Gallery:
    """What the settings of the whole gallery say. `closed`: why nothing in it was for everybody, "" if it was."""

    def __init__(self, configs: dict[str, str | None]) -> None:
        # Below the root, links may have worked for everybody all the same.
        signed_in = truth(configs.get("login_required")) and not truth(configs.get("login_required_root_only"))
        self.closed = "Its gallery was for people with an account there; it is private here." if signed_in else ""
        if configs.get("gallery_password"):
            self.closed = "Its gallery had a password there; it is private here."
        whole = configs.get("grants_full_photo_access", configs.get("full_photo"))
        self.shows_whole = whole is None or truth(whole)


def _why_private(row: dict[str, Any], albums: list[dict[str, Any]], gallery: _Gallery) -> str:
    """Return why not everybody could see a photo as it is, "" where they could."""
    alone = truth(row["public"]) or truth(row["is_public"])
    seen, locked = alone, False
    if alone and not albums and gallery.shows_whole:
        return ""
    for album in albums:
        opened = truth(album["public"]) or truth(album["is_public"]) or album["opened"] > 0
        closed = bool(album["password"]) or album["locked"] > 0
        whole = album["opened_whole"] > 0 if album["opened"] else album["whole"] is None or truth(album["whole"])
        if alone or (opened and not closed):
            if whole:
                return ""
            seen = True
        locked = locked or closed
    if seen:
        return "Only smaller sizes of it were for everybody there; it is private here."
    if locked:
        return "Its album had a password there; it is private here."
    return "It was not public there; it is private here."


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
