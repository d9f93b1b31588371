"""What this machine remembers of a data directory outside of it: which one lay at its path at the last start.

A disk that is not mounted leaves an empty directory, in which nothing tells that it was ever anything else. Best
effort: where nothing can be kept, nothing is known. Its methods block and raise nothing.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from imgpro.store import durable

FOLDER: Final = "known-data"


class _Record(msgspec.Struct, frozen=True):
    """One remembered directory. `path` is for whoever reads the file."""

    path: str
    instance_id: str


class KnownData:
    """The memory of one data directory, a small file in `folder`, which must not lie in that directory."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root = os.path.abspath(root)
        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
        self.path = folder / FOLDER / f"{name}.json"

    def instance_id(self) -> str | None:
        """Return the instance that was there at the last start; None if there was none."""
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return found.instance_id if found.path == self._root else None

    def remember(self, instance_id: str) -> None:
        """Note what is there now."""
        if self.instance_id() == instance_id:
            return
        with contextlib.suppress(OSError, UnicodeEncodeError):
            durable.make_directories(self.path.parent)
            durable.write_file(self.path, msgspec.json.encode(_Record(self._root, instance_id)) + b"\n", 0o640)
