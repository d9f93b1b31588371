"""Reads Picsur 0.3 to 0.5: everything, the pictures too, is in PostgreSQL."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from imgpro.errors import SourceUnusable
from imgpro.model import LeadsTo
from imgpro.movers.dump_postgres import unhex
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_database import Columns, HostDatabase, kind_of
from imgpro.movers.host_source import HostSource
from imgpro.movers.host_values import links, moment, segment
from imgpro.movers.qoi import QoiBroken, png_of

WANTED: Final[Columns] = {
    "e_image_backend": ("id", "user_id", "created", "file_name", "expires_at"),
    "e_image_file_backend": ("image_id", "variant", "filetype", "data"),
    "e_user_backend": ("id", "username"),
    "e_role_backend": ("name", "permissions"),
}

_IMAGES: Final = """
    SELECT i.id, i.created, i.file_name, i.expires_at, u.username
      FROM e_image_backend AS i LEFT JOIN e_user_backend AS u ON u.id = i.user_id ORDER BY i.rowid
"""
_FILES: Final = "SELECT variant, filetype, data FROM e_image_file_backend WHERE image_id = ?"
_GUEST: Final = "guest"  # whom uploads without an account belong to
_MAY_LOOK: Final = "image-view"  # a permission
_NOT_FOR_GUESTS: Final = "Pictures were for people with an account there; it is private here."
_CHANGED: Final = "Picsur kept it without the file that was uploaded; it came as PNG."
_QOI: Final = "image:qoi"
_TAKEN: Final = ("image:jpeg", "image:png", "image:webp", "image:bmp", "anim:gif", "anim:webp")  # as they are
# All that a picture can be asked for as.
_STILLS: Final = ("jpg", "png", "webp", "bmp", "tiff", "qoi", "gif")


class Picsur(HostSource):
    """Picsur's pictures, out of a plain dump of its database."""

    pictures = "e_image_backend"

    def __init__(self, database: Path) -> None:
        """Take the path of the dump."""
        super().__init__("picsur")  # its ids are like no other's
        self._path = database

    def _open(self) -> HostDatabase:
        if kind_of(self._path) != "postgres":
            raise SourceUnusable(f"{self._path} is no dump of PostgreSQL, where Picsur keeps everything.")
        needed = ("e_image_backend", "e_image_file_backend", "e_user_backend")
        database = HostDatabase(self._path, WANTED, needed, bytes_of=("e_image_file_backend", "data"))
        database.index("e_image_file_backend", "image_id")
        database.index("e_user_backend", "id")
        return database

    def _found(self, database: HostDatabase) -> Iterator[Found | LeftOut]:
        now_ms = time.time() * 1000
        guest = next(database.rows("SELECT permissions FROM e_role_backend WHERE name = ?", (_GUEST,)), {})
        closed = _MAY_LOOK not in (guest.get("permissions") or _MAY_LOOK).strip("{}").replace('"', "").split(",")
        for row in database.rows(_IMAGES):
            files = {each["variant"]: each for each in database.rows(_FILES, (row["id"],)) if each["data"]}
            yield self._one(row, files, now_ms, closed=closed)

    def _one(
        self, row: dict[str, Any], files: dict[str, dict[str, Any]], now_ms: float, *, closed: bool
    ) -> Found | LeftOut:
        item = row["id"] or "(no id)"
        ends_ms = moment(row["expires_at"])
        if ends_ms is not None and ends_ms <= now_ms:
            return LeftOut(item, "It had ended there already.")
        # What was uploaded, if it was kept; else what Picsur made of it at once.
        found = next((files[kind] for kind in ("original", "master") if _usable(files.get(kind))), None)
        if found is None:
            kinds = ", ".join(sorted(str(each["filetype"]) for each in files.values()))
            return LeftOut(item, f"It is kept as {kinds} only." if kinds else "Its bytes are not there.")
        packed = found["filetype"] == _QOI
        place, path = found["data"], self._path
        return Found(
            item=item,
            pieces=(lambda: _as_png(path, place)) if packed else (lambda: unhex(path, place)),
            name=_named(row["file_name"] or "", found["filetype"]),
            created_ms=moment(row["created"]),
            expires_ms=ends_ms,
            owner="" if row["username"] == _GUEST else row["username"] or "",
            old_links=links(*_links(item)),
            public=not closed,
            note=" ".join(filter(None, (_CHANGED if packed else "", _NOT_FOR_GUESTS if closed else ""))),
        )


def _usable(file: dict[str, Any] | None) -> bool:
    return file is not None and (file["filetype"] in _TAKEN or file["filetype"] == _QOI)


def _as_png(path: Path, place: str) -> Iterator[bytes]:
    try:
        yield from png_of(unhex(path, place))
    except QoiBroken as problem:
        raise SourceUnusable(str(problem)) from None


def _named(name: str, filetype: str) -> str:
    extension = {"qoi": "png", "jpeg": "jpg"}.get(kind := filetype.partition(":")[2], kind)
    known = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tiff", ".tif", ".qoi")
    stem = name.rpartition(".")[0] if name.lower().endswith(known) else name
    return f"{stem or 'image'}.{extension}"


def _links(item: str) -> Iterator[tuple[str, LeadsTo]]:
    yield f"/view/{segment(item)}", "page"
    yield f"/i/{segment(item)}", "o"
    for extension in _STILLS:
        yield f"/i/{segment(item)}.{extension}", "o"
