"""Who is at work in a folder of an object store, for every process and machine to see: a small file each.

It is renewed for as long as the work goes on.

Whoever begins writes a mark of their own first, and looks for others then: of two that begin at once, one sees the
other, or both do. That asks no more of a store than to list what was written. Whether a mark is too old is told by the
store's own times, so clocks that differ do not matter. Knows nothing of what the work is.
"""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from imgpro.errors import Action, OperatorError, TargetFault
from imgpro.store.target import MARKS, Absent, Item, Lock, in_use

RENEW_S: Final = 60.0
# A mark that was not renewed for so long is nobody's any more: longer than a holder works on without having renewed it,
# and than a request may be on its way after that.
EXPIRES_S: Final = 1_800.0
TRUSTED_S: Final = 600.0
_MOST_BYTES: Final = 4_096


class MayOnlyRead(Exception):
    """Who only wants to read may not write a mark, and goes without."""


class Place(Protocol):
    """What marks need of a store. All but `remove` may raise TargetFault."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file. Raises MayOnlyRead."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already. Where that fails it is there still: it ends by itself."""
        ...

    def small(self, name: str) -> bytes:
        """Return the beginning of a small file. Raises Absent."""
        ...

    def list(self, prefix: str) -> Iterator[Item]:
        """Yield files by the start of their names."""
        ...

    def there(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        ...


class Holder(msgspec.Struct, frozen=True):
    """The process that a mark belongs to: by its number, where that is told apart from others (empty: nowhere)."""

    machine: str
    pid: int

    @classmethod
    def own(cls) -> "Holder":
        """Return this process."""
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                boot = file.read().strip()
            return cls(f"{boot} {os.stat('/proc/self/ns/pid').st_ino}", os.getpid())
        except OSError:
            return cls("", os.getpid())

    def has_ended(self, own: "Holder") -> bool:
        """Tell whether that process is known to have ended."""
        if not self.machine or self.machine != own.machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


class Mark:
    """A mark that is held. Make it with `held`."""

    def __init__(self, place: Place, what: Lock, *, shared: bool) -> None:
        self.name = f"{MARKS}{what}-{'shared' if shared else 'alone'}-{secrets.token_hex(8)}"
        self._place = place
        self._content = msgspec.json.encode(Holder.own()) + b"\n"
        self._renewed_s = float("-inf")
        self._ended = threading.Event()
        self._renewing = threading.Lock()

    def write(self) -> None:
        """Write it, or write it again. Raises TargetFault."""
        began_s = _now_s()
        self._place.write(self.name, self._content)
        self._renewed_s = began_s

    def keep(self) -> None:
        """Renew it from time to time, until `end`; what fails is tried again."""
        while not self._ended.wait(RENEW_S):
            with self._renewing, contextlib.suppress(OperatorError):
                # Gone, or old enough to be taken for nobody's: writing it again would be too late.
                if not self._ended.is_set() and self._trusted() and self._place.there(self.name):
                    self.write()

    def check(self, describe: Callable[[], str]) -> None:
        """Raise TargetFault unless this is still ours to work on."""
        if not self._trusted() or not self._place.there(self.name):
            raise TargetFault(
                f"The store could not be told for long that work goes on at {describe()}; others may work there now.",
                Action("fix", label="Start again"),
            )

    def end(self) -> None:
        """Renew it no more; no writing is under way after that."""
        self._ended.set()
        with self._renewing:
            pass

    def _trusted(self) -> bool:
        return _now_s() - self._renewed_s < TRUSTED_S


@contextlib.contextmanager
def held(place: Place, what: Lock, describe: Callable[[], str], *, shared: bool) -> Iterator[Mark | None]:
    """Hold a mark for the length of a `with`; None for who may only read.

    Raises TargetFault if somebody has one that excludes it.
    """
    mark = Mark(place, what, shared=shared)
    if not _may_write(place, mark):
        yield None
        return
    keeper = threading.Thread(target=mark.keep, name="s3-mark", daemon=True)
    try:
        if _others(place, mark, what, shared=shared):
            raise in_use(describe())
        keeper.start()
        yield mark
    finally:
        mark.end()
        place.remove(mark.name)


def _may_write(place: Place, mark: Mark) -> bool:
    try:
        mark.write()
    except MayOnlyRead:
        return False
    except TargetFault:
        place.remove(mark.name)  # the store may have taken it all the same
        raise
    return True


def _others(place: Place, mark: Mark, what: Lock, *, shared: bool) -> bool:
    """Tell whether somebody has a mark that excludes ours; remove those that are nobody's any more."""
    items = [item for item in place.list(MARKS) if item.name.startswith(f"{MARKS}{what}-")]
    now_s = next((item.mtime_s for item in items if item.name == mark.name), float("-inf"))
    for item in items:
        if item.name == mark.name or (shared and item.name.startswith(f"{MARKS}{what}-shared-")):
            continue
        if now_s - item.mtime_s <= EXPIRES_S and not _has_ended(place, item.name):
            return True
        place.remove(item.name)
    return False


def _has_ended(place: Place, name: str) -> bool:
    try:
        holder = msgspec.json.decode(place.small(name)[:_MOST_BYTES], type=Holder)
    except Absent:
        return True
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return holder.has_ended(Holder.own())


def _now_s() -> float:
    """Return a time that also goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
