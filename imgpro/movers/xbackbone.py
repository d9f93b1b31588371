"""Reads XBackBone 2 and 3: uploads in a folder for each user, their rows in SQLite or MySQL."""

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from imgpro.model import LeadsTo
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import Columns, HostDatabase
from imgpro.movers.host_files import HostFiles, NotThere
from imgpro.movers.host_source import HostSource
from imgpro.movers.host_values import links, listed, moment, no_picture, owner_of, segment, tags_of, truth

WANTED: Final[Columns] = {
    "uploads": ("id", "user_id", "code", "filename", "storage_path", "published", "timestamp"),
    "users": ("id", "username", "email", "user_code"),
    "tags": ("id", "name"),
    "uploads_tags": ("upload_id", "tag_id"),
}

_TAGS: Final = """
    SELECT t.name FROM uploads_tags AS ut JOIN tags AS t ON t.id = ut.tag_id WHERE ut.upload_id = p.id
"""
_UPLOADS: Final = f"""
    SELECT p.code, p.filename, p.storage_path, p.published, p.timestamp, u.username, u.email, u.user_code,
           {tags_of(_TAGS)} AS tags
      FROM uploads AS p LEFT JOIN users AS u ON u.id = p.user_id ORDER BY p.rowid
"""  # noqa: S608  # parts of our own


class XBackBone(HostSource):
    """XBackBone's uploads. `files` is its folder `storage`."""

    pictures = "uploads"

    def __init__(self, files: Path, database: Path, *, by_mail: bool = False) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/var/www/html/xbackbone/storage")
        super().__init__(f"xbackbone {self._files.name}")
        self._path = database
        self._owner = "email" if by_mail else "username"

    def _open(self) -> HostDatabase:
        database = HostDatabase(self._path, WANTED, ("uploads", "users"))
        for table, column in (("users", "id"), ("tags", "id"), ("uploads_tags", "upload_id")):
            database.index(table, column)
        return database

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        for row in database.rows(_UPLOADS):
            yield self._one(row)

    def _one(self, row: dict[str, Any]) -> Found | LeftOut:
        stored = row["storage_path"] or ""
        item = stored or row["code"] or "(no path)"
        guessed = mimetypes.guess_type(row["filename"] or stored, strict=False)[0]
        if reason := no_picture(guessed or ""):
            return LeftOut(item, reason)
        try:
            path = self._files.find(stored)
        except NotThere as problem:
            return LeftOut(item, str(problem))
        published = truth(row["published"])
        return Found(
            item=item,
            path=path,
            name=row["filename"] or "",
            created_ms=moment(row["timestamp"]),
            public=published,
            note="" if published else "It was not published there; it is private here.",
            tags=listed(row["tags"]),
            owner=owner_of(row, self._owner),
            old_links=links(*_links(row)),
        )


def _links(row: dict[str, Any]) -> Iterator[tuple[str, LeadsTo]]:
    if not row["user_code"] or not row["code"]:
        return
    whole = f"/{segment(row['user_code'])}/{segment(row['code'])}"
    extension = (row["filename"] or "").rpartition(".")[2] if "." in (row["filename"] or "") else ""
    yield whole, "page"
    yield f"{whole}/raw", "o"
    yield f"{whole}/download", "o"
    if extension:
        # Its page for people, the file for programs that show links: the file serves both.
        yield f"{whole}.{segment(extension)}", "o"
        yield f"{whole}/raw.{segment(extension)}", "o"
