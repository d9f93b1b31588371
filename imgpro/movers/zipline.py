"""Reads Zipline, from its days with SQLite to 4.x: uploads in one folder, their rows in a database or an export."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from imgpro.model import LeadsTo
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import Columns, HostDatabase, kind_of
from imgpro.movers.host_files import HostFiles, NotThere
from imgpro.movers.host_source import HostSource
from imgpro.movers.host_values import links, listed, moment, no_picture, number, segment, tags_of, truth
from imgpro.movers.zipline_export import ZiplineExport

WANTED: Final[Columns] = {
    "file": (
        *("id", "name", "originalname", "type", "mimetype", "createdat", "deletesat", "expiresat"),
        *("maxviews", "password", "userid", "folderid"),
    ),
    "image": ("id", "file", "mimetype", "created_at", "expires_at", "maxviews", "password", "userid"),
    "user": ("id", "username"),
    "folder": ("id", "name"),
    "folderfiles": ("fileid", "folderid"),
    "tag": ("id", "name"),
    "_filetotag": ("a", "b"),
    "invisiblefile": ("id", "fileid", "invis"),
    "invisibleimage": ("id", "imageid", "invis"),
    "zipline": ("filesroute", "filesextensionlessurls"),
}

# 3.7 calls `mimetype` and `expiresAt` what 4 calls `type` and `deletesAt`.
_FILES: Final = f"""
    SELECT f.name, f.originalname, coalesce(f.type, f.mimetype) AS mime, f.createdat AS created,
           coalesce(f.deletesat, f.expiresat) AS ends, f.maxviews, f.password, u.username,
           (SELECT d.name FROM folder AS d
             WHERE d.id = coalesce(f.folderid, (SELECT ff.folderid FROM folderfiles AS ff WHERE ff.fileid = f.id)))
             AS folder,
           {tags_of("SELECT t.name FROM _filetotag AS ft JOIN tag AS t ON t.id = ft.b WHERE ft.a = f.id")} AS tags,
           (SELECT i.invis FROM invisiblefile AS i WHERE i.fileid = f.id) AS invis
      FROM file AS f LEFT JOIN user AS u ON u.id = f.userid ORDER BY f.rowid
"""  # noqa: S608  # parts of our own
_IMAGES: Final = """
    SELECT f.file AS name, NULL AS originalname, f.mimetype AS mime, f.created_at AS created, f.expires_at AS ends,
           f.maxviews, f.password, u.username, NULL AS folder, NULL AS tags,
           (SELECT i.invis FROM invisibleimage AS i WHERE coalesce(i.imageid, i.id) = f.id) AS invis
      FROM image AS f LEFT JOIN user AS u ON u.id = f.userid ORDER BY f.rowid
"""


class Zipline(HostSource):
    """Zipline's uploads. `route` is where its files are, None: what its database says, or "/u"."""

    pictures = "file"

    def __init__(self, files: Path, database: Path, route: str | None = None) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/zipline/uploads")
        super().__init__(f"zipline {self._files.name}")
        self._path = database
        self._route = route

    def _open(self) -> HostDatabase:
        export = ZiplineExport(self._path) if kind_of(self._path) == "json" else None
        database = HostDatabase(self._path, WANTED, ("user",), dump=export)
        if not database.has("image"):
            database.need("file")
        for table, column in (
            *(("user", "id"), ("folder", "id"), ("folderfiles", "fileid"), ("tag", "id"), ("_filetotag", "a")),
            *(("invisiblefile", "fileid"), ("invisibleimage", "imageid"), ("invisibleimage", "id")),
        ):
            database.index(table, column)
        return database

    def count(self) -> int | None:
        """Return how many files there are."""
        database = self._database()
        return database.count("file") + database.count("image")

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        settings = next(database.rows("SELECT * FROM zipline"), {})
        route = self._route if self._route is not None else settings.get("filesroute") or "/u"
        base = "/" + route.strip("/") if route.strip("/") else ""
        bare = truth(settings.get("filesextensionlessurls"))
        now_ms = time.time() * 1000
        for row in database.rows(_FILES if database.has("file") else _IMAGES):
            yield self._one(row, base, bare=bare, now_ms=now_ms)

    def _one(self, row: dict[str, Any], base: str, *, bare: bool, now_ms: float) -> Found | LeftOut:
        name = row["name"] or ""
        item = name or "(no name)"
        ends_ms = moment(row["ends"])
        reason = no_picture(row["mime"] or "")
        if ends_ms is not None and ends_ms <= now_ms:
            reason = "It had ended there already."
        elif number(row["maxviews"]):
            reason = f"It was to end after {row['maxviews']} views; there is no such end here."
        if reason:
            return LeftOut(item, reason)
        try:
            path = self._files.find(name)
        except NotThere as problem:
            return LeftOut(item, str(problem))
        return Found(
            item=item,
            path=path,
            name=row["originalname"] or name,
            created_ms=moment(row["created"]),
            expires_ms=ends_ms,
            public=not row["password"],
            note="It had a password there; it is private here." if row["password"] else "",
            namespace=row["folder"] or "",
            tags=listed(row["tags"]),
            owner=row["username"] or "",
            old_links=links(*_links(name, row["invis"] or "", base, bare=bare)),
        )


def _links(name: str, invisible: str, base: str, *, bare: bool) -> Iterator[tuple[str, LeadsTo]]:
    names = [name, name.rpartition(".")[0]] if bare and "." in name else [name]
    for each in filter(None, names):
        yield f"{base}/{segment(each)}", "o"
        yield f"/raw/{segment(each)}", "o"
        yield f"/view/{segment(each)}", "page"
    yield f"/r/{segment(name)}", "o"
    if invisible:
        yield f"{base}/{segment(invisible)}", "o"
