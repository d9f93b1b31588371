"""Finds files where another host's database says that they are, and never anywhere else."""

import os
import stat
from pathlib import Path
from typing import Final

from imgpro.errors import Action, SourceUnusable
from imgpro.movers.folder import item_name

OUTSIDE: Final = "Its path leads out of the folder of files."
MISSING: Final = "Its file is not there."


class HostFiles:
    """The files below one folder. What a database says of them is not trusted."""

    def __init__(self, folder: Path, *, such_as: str) -> None:
        """Raise SourceUnusable if there is no such folder. `such_as` is an example for the words about it."""
        if not folder.is_dir():
            raise SourceUnusable(
                f"There is no folder {folder}.", Action("fix", label=f"Name the folder of files, such as {such_as}")
            )
        self.folder = folder
        self._real = os.path.realpath(folder)
        self.name = item_name(os.fsencode(self._real))  # as text that no other folder has

    def find(self, path: str) -> str:
        """Return the file at `path` below the folder. Raises NotThere."""
        parts = path.split("/")
        if not path or path.startswith("/") or "\0" in path or ".." in parts:
            raise NotThere(OUTSIDE if path else MISSING)
        whole = os.path.join(self.folder, path)
        try:
            real = os.path.realpath(whole, strict=True)
            kind = os.stat(real).st_mode
        except (OSError, ValueError):
            raise NotThere(MISSING) from None
        if not real.startswith(self._real.rstrip("/") + "/"):
            raise NotThere(OUTSIDE)
        if not stat.S_ISREG(kind):
            raise NotThere(MISSING)
        return real


class NotThere(Exception):
    """There is no such file, or not where files may be; says so in a sentence."""
