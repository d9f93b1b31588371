"""Who works on a data directory, seen from outside: the lock is looked at, never taken."""

import contextlib
import fcntl
import os
from pathlib import Path

import msgspec

LOCK_NAME = "imgpro.lock"


class Holder(msgspec.Struct, frozen=True):
    """The process that holds the lock; `pid` is None where it cannot be told."""

    pid: int | None


def holder(root: Path) -> Holder | None:
    """Return who holds the lock of the data directory at `root`; None if nobody does. Raises OSError.

    Asking the kernel takes no lock, so that a server that starts at this moment is not refused.
    """
    path = root / LOCK_NAME
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    try:
        table = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        held = _refused(path)
    else:
        held = any(_is_of(line.split(), seen.st_ino) for line in table.splitlines())
    if not held:
        return None
    with contextlib.suppress(OSError, ValueError):
        return Holder(int(path.read_text(encoding="ascii")))
    return Holder(None)


def _is_of(words: list[str], inode: int) -> bool:
    # "1: FLOCK  ADVISORY  WRITE 708 08:01:1234 0 EOF". The device is left out: some file systems have two numbers.
    return len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode)


def _refused(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
