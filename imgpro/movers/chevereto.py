"""Reads Chevereto 3 and 4, and Chevereto Free: pictures in folders by date, their rows in MariaDB or MySQL."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

from imgpro.model import LeadsTo
from imgpro.movers.chevereto_ids import CheveretoIds
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import Columns, HostDatabase
from imgpro.movers.host_files import MISSING, HostFiles, NotThere
from imgpro.movers.host_source import HostSource
from imgpro.movers.host_values import links, listed, moment, number, owner_of, path_of, tags_of, truth

WANTED: Final[Columns] = {
    "images": (
        *("image_id", "image_name", "image_extension", "image_date", "image_date_gmt", "image_title"),
        *("image_description", "image_nsfw", "image_user_id", "image_album_id", "image_storage_mode", "image_path"),
        *("image_size", "image_storage_id", "image_original_filename", "image_category_id", "image_chain"),
        *("image_expiration_date_gmt", "image_is_approved"),
    ),
    "albums": ("album_id", "album_name", "album_privacy"),
    "users": ("user_id", "user_username", "user_email", "user_status"),
    "storages": ("storage_id", "storage_name", "storage_url"),
    "categories": ("category_id", "category_name"),
    "tags": ("tag_id", "tag_name"),
    "tags_files": ("tag_file_tag_id", "tag_file_file_id"),
    "settings": ("setting_name", "setting_value"),
}

_TAGS: Final = """
    SELECT t.tag_name AS name FROM tags_files AS f JOIN tags AS t ON t.tag_id = f.tag_file_tag_id
     WHERE f.tag_file_file_id = i.image_id
"""
# Names are given out once on each storage, so that a folder that all were copied into may hold another picture's file.
_NAMESAKES: Final = "FROM images AS o WHERE o.image_name = i.image_name AND o.image_extension = i.image_extension"
_IMAGES: Final = f"""
    SELECT i.*, a.album_id, a.album_name, a.album_privacy, u.user_username, u.user_email, u.user_status,
           s.storage_name, s.storage_url, c.category_name,
           {tags_of(_TAGS)} AS tags,
           (SELECT min(o.image_storage_id) {_NAMESAKES}) AS first_storage,
           (SELECT max(o.image_storage_id) {_NAMESAKES}) AS last_storage,
           EXISTS (SELECT 1 {_NAMESAKES} AND o.image_storage_id IS NULL) AS beside
      FROM images AS i
           LEFT JOIN albums AS a ON a.album_id = i.image_album_id
           LEFT JOIN users AS u ON u.user_id = i.image_user_id
           LEFT JOIN storages AS s ON s.storage_id = i.image_storage_id
           LEFT JOIN categories AS c ON c.category_id = i.image_category_id
     ORDER BY i.rowid
"""  # noqa: S608  # parts of our own
_VIDEOS: Final = ("mp4", "webm", "mov")
_BY_LINK: Final = "private_but_link"
_OPEN_ALBUMS: Final = (None, "", "public", _BY_LINK)
_ANOTHERS: Final = "The file of its name is another picture's, from another storage: import each storage by itself."
_HAS_MEDIUM: Final = 2  # bits of image_chain
_HAS_THUMB: Final = 1
_HAS_ORIGINAL: Final = 8


class Chevereto(HostSource):
    """Chevereto's pictures. `prefix` begins the names of its tables; `at` is where their folder is served."""

    pictures = "images"

    def __init__(
        self, files: Path, database: Path, prefix: str = "chv_", at: str = "/images", *, by_mail: bool = False
    ) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/var/www/html/images")
        super().__init__(f"chevereto {self._files.name}")
        self._path = database
        self._prefix = prefix
        self._owner = "user_email" if by_mail else "user_username"
        self._at = "/" + at.strip("/") if at.strip("/") else ""

    def _open(self) -> HostDatabase:
        database = HostDatabase(self._path, WANTED, ("images", "albums", "users"), prefix=self._prefix)
        database.need_columns("albums", "album_privacy")
        for table, column in (
            *(("albums", "album_id"), ("users", "user_id"), ("storages", "storage_id"), ("tags", "tag_id")),
            *(("tags_files", "tag_file_file_id"), ("categories", "category_id")),
        ):
            database.index(table, column)
        database.index("images", "image_name", "image_extension", "image_storage_id")
        return database

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        rows = database.rows("SELECT setting_name, setting_value FROM settings")
        settings = {row["setting_name"]: row["setting_value"] or "" for row in rows}
        pages, privacy = _Pages(settings), _Privacy(settings)
        now_ms = time.time() * 1000
        for row in database.rows(_IMAGES):
            yield self._one(row, pages, privacy, now_ms)

    def _one(self, row: dict[str, Any], pages: "_Pages", privacy: "_Privacy", now_ms: float) -> Found | LeftOut:
        stored = _stored_at(row)
        place = number(row["image_storage_id"])
        item = f"{stored} (storage {place})" if place else stored
        ends_ms = moment(row["image_expiration_date_gmt"])
        if (row["image_extension"] or "").lower() in _VIDEOS:
            return LeftOut(item, "It is a video, no picture.")
        if ends_ms is not None and ends_ms <= now_ms:
            return LeftOut(item, "It had ended there already.")
        try:
            path = self._files.find(stored)
        except NotThere as problem:
            return LeftOut(item, _elsewhere(row) if str(problem) == MISSING else str(problem))
        if _is_anothers(row, path):
            return LeftOut(item, _ANOTHERS)
        note = privacy.why_private(row)
        return Found(
            item=item,
            path=path,
            name=row["image_original_filename"] or f"{row['image_name']}.{row['image_extension']}",
            created_ms=moment(row["image_date_gmt"]) or moment(row["image_date"]),
            expires_ms=ends_ms,
            description=_described(row),
            public=not note,
            note=note,
            namespace=row["album_name"] or "",
            tags=_tags(row),
            owner=owner_of(row, self._owner),
            old_links=links(*self._direct(row, stored), *pages.of(row)),
        )

    def _direct(self, row: dict[str, Any], stored: str) -> Iterator[tuple[str, LeadsTo]]:
        base = self._at
        if row["storage_url"]:
            base = f"/{row['storage_url'].partition('://')[2].partition('/')[2]}".rstrip("/")
        yield f"{base}/{path_of(stored)}", "o"
        stem, _, extension = (path_of(part) for part in stored.rpartition("."))
        chain = number(row["image_chain"])
        if chain & _HAS_MEDIUM:
            yield f"{base}/{stem}.md.{extension}", "m"
        if chain & _HAS_THUMB:
            yield f"{base}/{stem}.th.{extension}", "s"
        if chain & _HAS_ORIGINAL:
            yield f"{base}/{stem}.or.{extension}", "o"


class _Privacy:
    """Who could see which picture. A private site showed strangers only what was for everybody with the link."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._private = settings.get("website_privacy_mode") == "private"
        forced = settings.get("website_content_privacy_mode") or "default"
        self._forced = None if forced == "default" else forced
        self._one_person = (
            settings.get("website_mode_personal_uid") if settings.get("website_mode") == "personal" else ""
        )

    def why_private(self, row: dict[str, Any]) -> str:
        """Return why not everybody could see a picture, "" where they could."""
        privacy = row["album_privacy"]
        if not row["album_id"] and number(row["image_album_id"]):
            return "Its album is not in the database; it is private here."
        if privacy not in _OPEN_ALBUMS:
            how = "had a password" if privacy == "password" else "was private"
            return f"Its album {how} there; it is private here."
        if self._private and (self._forced or privacy) != _BY_LINK:
            return "The site was for people with an account there; it is private here."
        if self._one_person and row["image_user_id"] != self._one_person:
            return "The site showed one person's pictures only; it is private here."
        if row["user_status"] == "banned":
            return "Its owner was banned there; it is private here."
        approved = row["image_is_approved"] is None or truth(row["image_is_approved"])
        return "" if approved else "It was not approved there; it is private here."


class _Pages:
    """Addresses of the pages of pictures, as the settings of the site shape them."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._known = bool(settings)
        self._ids = CheveretoIds(settings.get("crypt_salt", ""), number(settings.get("id_padding")))
        route = settings.get("route_image") or "image"
        self._base = "" if settings.get("root_route") == "image" else f"/{route}"

    def of(self, row: dict[str, Any]) -> Iterator[tuple[str, LeadsTo]]:
        """Yield the addresses of a picture's page; none where the settings are not there: they may hold a salt."""
        if not self._known or not (number_there := number(row["image_id"])) > 0:
            return
        short = self._ids.encode(number_there)
        yield f"{self._base}/{short}", "page"
        if title := _in_address(row["image_title"] or ""):
            yield f"{self._base}/{title}.{short}", "page"


def _stored_at(row: dict[str, Any]) -> str:
    """Return where the file lies below the folder of pictures."""
    name = f"{row['image_name']}.{row['image_extension']}"
    mode = row["image_storage_mode"]
    if mode == "direct":
        return name
    if mode == "old":
        return f"old/{name}"
    if mode == "path":
        return f"{(row['image_path'] or '').rstrip('/')}/{name}"
    return f"{(row['image_date'] or '')[:10].replace('-', '/')}/{name}"


def _is_anothers(row: dict[str, Any], path: str) -> bool:
    """Tell whether the file at `path` is that of a namesake on another storage."""
    here = [None] if row["beside"] else []
    storages = {row["image_storage_id"], row["first_storage"], row["last_storage"], *here}
    return len(storages) > 1 and os.stat(path).st_size != number(row["image_size"])


def _elsewhere(row: dict[str, Any]) -> str:
    if number(row["image_storage_id"]) == 0:
        return MISSING
    where = row["storage_name"] or row["storage_url"] or row["image_storage_id"]
    return f"Its file is on the storage {where}: copy what is there into the folder of files, and import again."


def _described(row: dict[str, Any]) -> str:
    """Return title and description; a title that only repeats the file's name says nothing."""
    title, words = (row["image_title"] or "").strip(), (row["image_description"] or "").strip()
    stem = (row["image_original_filename"] or "").rpartition(".")[0]
    known = {_plain(stem), _plain(row["image_name"] or ""), ""}
    return "\n".join(filter(None, ("" if _plain(title) in known else title, words)))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _tags(row: dict[str, Any]) -> tuple[str, ...]:
    more = [row["category_name"] or "", "nsfw" if truth(row["image_nsfw"]) else ""]
    return tuple(filter(None, (*listed(row["tags"]), *more)))


def _in_address(title: str) -> str:
    """Return a title as the site puts it before the id."""
    text = re.sub(r"[\\/~&!'\"?]+", "", title)
    text = re.sub(r"[\s-]+", " ", text).strip().replace(" ", "-")
    return quote_plus(re.sub(r"<[^>]*>?", "", text))
