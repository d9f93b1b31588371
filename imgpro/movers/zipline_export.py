"""Reads the JSON that Zipline exports (of 3.7.13 for the way to 4, and of 4) as if it were a dump of its tables."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from imgpro.errors import SourceUnusable
from imgpro.movers.json_elements import elements
from imgpro.movers.rows import Rows

_COLUMNS: Final = {
    "user": ("id", "username"),
    "file": (
        *("id", "name", "originalname", "type", "createdat", "deletesat"),
        *("maxviews", "password", "userid", "folderid"),
    ),
    "folder": ("id", "name"),
    "folderfiles": ("fileid", "folderid"),
    "tag": ("id", "name"),
    "_filetotag": ("a", "b"),
    "zipline": ("filesroute", "filesextensionlessurls"),
}
_OLD_FILE: Final = (
    *("name", "original_name", "type", "created_at", "expires_at"),
    *("max_views", "password", "user"),
)
_NEW_FILE: Final = (
    *("id", "name", "originalName", "type", "createdAt", "deletesAt"),
    *("maxViews", "password", "userId", "folderId"),
)
# Taken apart: what matters, and what may be large.
_OPENED: Final = frozenset(
    ["versions", "request", "files", "users", "folders", "urls", "stats", "thumbnails", "invites", "data"]
    + ["user_map", "thumbnail_map", "folder_map", "file_map", "url_map", "invite_map"]
    + [f"data.{name}" for name in ("files", "users", "folders", "userTags", "urls", "thumbnails", "metrics", "invites")]
)

_Row = tuple[str, tuple[str | None, ...]]


class ZiplineExport:
    """An export as a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tables(self) -> Iterator[Rows]:
        """Yield what stands there, as tables. Raises SourceUnusable if it is no export of 3 or 4."""
        for table, rows in groupby(self._rows(), key=lambda row: row[0]):
            yield Rows(table, _COLUMNS[table], (values for _, values in rows))

    def _rows(self) -> Iterator[_Row]:
        version = None
        environment: dict[str, Any] = {}
        for where, key, value in elements(self._path, _OPENED):
            if where == "versions" and key == "export":
                version = str(value)
            elif where == "request" and key == "env" and isinstance(value, dict):
                environment = value
                if version == "3" and "UPLOADER_ROUTE" in value:
                    yield "zipline", (*_texts(value, "UPLOADER_ROUTE"), None)
            elif where == "data" and key == "settings" and isinstance(value, dict):
                yield "zipline", _settings(value, environment)
            elif isinstance(value, dict):
                yield from _new(where, value) if where.startswith("data.") else _old(where, key, value)
        if version not in ("3", "4"):
            said = "nothing" if version is None else version
            raise SourceUnusable(f"{self._path} is no export of Zipline 3 or 4: as its version it says {said}.")


def _settings(stored: dict[str, Any], environment: dict[str, Any]) -> tuple[str | None, ...]:
    """Return what 4 goes by: the environment is above what is stored. What 3 went by may still stand in there."""
    route, bare = _texts(stored, "filesRoute", "filesExtensionlessUrls")
    over_route, over_bare = _texts(environment, "FILES_ROUTE", "FILES_EXTENSIONLESS_URLS")
    return over_route or route, over_bare or bare


def _new(where: str, value: dict[str, Any]) -> Iterator[_Row]:
    if where == "data.files":
        yield "file", _texts(value, *_NEW_FILE)
    elif where == "data.users":
        yield "user", _texts(value, "id", "username")
    elif where == "data.folders":
        yield "folder", _texts(value, "id", "name")
    elif where == "data.userTags":
        tag = _texts(value, "id", "name")
        yield "tag", tag
        yield from (("_filetotag", (file, tag[0])) for file in _ids(value))


def _old(where: str, key: str, value: dict[str, Any]) -> Iterator[_Row]:
    if where == "files":
        yield "file", (key, *_texts(value, *_OLD_FILE), None)
    elif where == "users":
        yield "user", (key, *_texts(value, "username"))
    elif where == "folders":
        yield "folder", (key, *_texts(value, "name"))
        yield from (("folderfiles", (file, key)) for file in _ids(value))


def _ids(value: dict[str, Any]) -> Iterator[str]:
    files = value.get("files")
    return (file for file in files if isinstance(file, str)) if isinstance(files, list) else iter(())


def _texts(value: dict[str, Any], *keys: str) -> tuple[str | None, ...]:
    return tuple(_text(value.get(key)) for key in keys)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
