"""How root gets to a directory that lies among those of others, who may exchange what is in them at any moment.

Held open, it stays the one that was looked at. Knows nothing of what the directory is for.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from imgpro.errors import Action, OperatorError

_HELD: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # as path_resolution(7)


def opened(path: Path, *, make: bool = False) -> int:
    """Return a descriptor of the directory at an absolute path, to be closed; `make`: with those that are missing.

    Only links that root has made are followed: another's may lead anywhere. Raises OperatorError, OSError.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, _LISTED))  # a disk that is mounted when it is asked for is there from now on
    names, links = list(path.parts[1:]), 0
    here = os.open("/", _HELD)
    try:
        while names:
            name = names.pop(0)
            there = _step(here, name, 0o755 if names else 0o750, make=make)
            if stat.S_ISLNK(os.fstat(there).st_mode):
                links += 1
                target = _target(there, path, followed=links)
                os.close(there)
                names = [*target.parts[target.is_absolute() :], *names]
                there = os.open("/" if target.is_absolute() else ".", _HELD, dir_fd=here)
            os.close(here)
            here = there
        return os.open(".", _LISTED, dir_fd=here)
    finally:
        os.close(here)


def path_of(held: int) -> Path:
    """Return where an open directory is now, by no link."""
    return Path(os.readlink(f"/proc/self/fd/{held}"))


def _step(here: int, name: str, mode: int, *, make: bool) -> int:
    try:
        return os.open(name, _HELD, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(name, mode, dir_fd=here)
    return os.open(name, _HELD, dir_fd=here)


def _target(link: int, path: Path, *, followed: int) -> Path:
    """Return where a link leads. Raises OperatorError for one that root has not made, and for a loop."""
    target = Path(os.readlink("", dir_fd=link))
    if os.fstat(link).st_uid != 0 or followed > _MOST_LINKS:
        raise OperatorError(
            f"{path} leads over a link that is not root's, to {target}: its owner could lead it elsewhere.",
            Action("fix", label=f"--data {os.path.realpath(path)}"),
        )
    return target
