"""Reads PictShare 2 and 3: one folder for each file, named like it, with what is known of it beside it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from imgpro.errors import Action, SourceUnusable
from imgpro.movers.folder import item_name
from imgpro.movers.found import Found, LeftOut
from imgpro.movers.host_files import HostFiles, NotThere
from imgpro.movers.host_values import links, moment, segment
from imgpro.store.staged_rows import StagedRows

_META: Final = "meta.json"
_MAX_META_BYTES: Final = 64 * 1024
_PICTURES: Final = ("png", "bmp", "gif", "jpg", "jpeg", "x-png", "webp", "ico", "svg")
_NO_PICTURES: Final = frozenset({"deletecodes"})  # a folder of version 2
_OTHERS: Final = {
    "mp4": "It is a video, no picture.",
    "txt": "It is a text, no picture.",
    "md": "It is a text, no picture.",
    "url": "It is an address, no picture.",
    "album": "It is an album, no picture.",
}


class PictShare:
    """PictShare's pictures. `files` is its folder `data`, or that of one domain in it."""

    def __init__(self, files: Path) -> None:
        """Raise SourceUnusable if there is no such folder."""
        self._files = HostFiles(files, such_as="/var/www/pictshare/data")
        self.name = f"pictshare {self._files.name}"

    def count(self) -> int | None:
        """Return how many folders there are."""
        with os.scandir(self._files.folder) as entries:
            return sum(1 for _ in entries)

    def read(self) -> Iterator[Found | LeftOut]:
        """Yield every picture, by name. Raises SourceUnusable if this is no folder of PictShare's."""
        names = StagedRows({"names": ("name",)})
        try:
            with os.scandir(self._files.folder) as entries:
                folders = (entry.name for entry in entries if entry.is_dir())
                names.add("names", ((item_name(os.fsencode(name)),) for name in folders if name not in _NO_PICTURES))
            if not next(self._ours(names), None):
                raise SourceUnusable(
                    f"Nothing in {self._files.folder} is as PictShare keeps it: a folder and a file in it of one name.",
                    Action("fix", label="Name PictShare's folder data, or that of one domain in it"),
                )
            for row in names.rows("SELECT name FROM names ORDER BY name"):
                yield self._one(row["name"])
        finally:
            names.close()

    def _ours(self, names: StagedRows) -> Iterator[bool]:
        for row in names.rows("SELECT name FROM names"):
            if os.path.isfile(self._files.folder / row["name"] / row["name"]):
                yield True

    def _one(self, name: str) -> Found | LeftOut:
        if not name.isprintable() or name.startswith("%:"):
            return LeftOut(name, "PictShare gives no such names.")
        extension = name.rpartition(".")[2].lower()
        if extension in _OTHERS:
            return LeftOut(name, _OTHERS[extension])
        try:
            path = self._files.find(f"{name}/{name}")
        except NotThere as problem:
            return LeftOut(name, str(problem))
        if extension not in _PICTURES:
            return LeftOut(name, "It is no picture.")
        told = self._told(name)
        return Found(
            item=name,
            path=path,
            name=_named(told.get("original_filename"), name),
            created_ms=moment(str(told.get("uploaded", ""))) or round(os.stat(path).st_mtime * 1000),
            # Sizes and filters stood before the name, in any order: a star stands for them.
            old_links=links((f"/{segment(name)}", "o"), (f"/*/{segment(name)}", "o")),
        )

    def _told(self, name: str) -> dict[str, Any]:
        """Return what stands beside a file; nothing where that cannot be read."""
        try:
            path = self._files.find(f"{name}/{_META}")
            if os.path.getsize(path) > _MAX_META_BYTES:
                return {}
            told = json.loads(Path(path).read_bytes())
        except (NotThere, OSError, ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}


def _named(original: object, name: str) -> str:
    """Return the name that a picture had before; PictShare knows an address, too, where it fetched one."""
    known = original if isinstance(original, str) else ""
    if "://" in known:
        known = unquote(known.partition("?")[0].rstrip("/").rpartition("/")[2])
    return known or name
