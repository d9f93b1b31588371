"""A few megabytes that are given up when the disk is full, so that deleting, which makes room, still can be recorded.

Knows nothing of what else is on the disk. Its methods block.
"""

import os
from pathlib import Path
from typing import Final

BALLAST_BYTES: Final = 4 * 1024 * 1024


class Ballast:
    """One file without content."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def release(self) -> bool:
        """Give the room up; False if that has been done before."""
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True

    def held(self) -> bool:
        """Tell whether there is room to give up."""
        return self._path.exists()

    def keep(self, spare_bytes: int) -> bool:
        """Take the room again if `spare_bytes` is plenty; tell whether it is held now. Raises nothing."""
        if self.held():
            return True
        if spare_bytes < 2 * BALLAST_BYTES:
            return False
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, BALLAST_BYTES)
        except OSError:
            self.release()
            return False
        finally:
            os.close(fd)
        return True
