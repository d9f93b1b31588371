"""How much room every file system has that imgpro writes on, and what follows: warnings, refusals, a smaller cache.

Looks every few seconds, so that requests need not. Each step back takes a little more room than the step there, so that
nothing flaps. Knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from imgpro.errors import ImgproError, StorageFull, StorageUnwritable
from imgpro.forms import show_bytes
from imgpro.settings import MIB, Storage
from imgpro.store import room
from imgpro.store.blobs import MIN_FREE_INODES, BlobStore
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir

log = logging.getLogger(__name__)

State = Literal["ok", "low", "full", "unwritable"]
What = Literal["pictures", "database"]

LOW_INODES: Final = 4_096
INODE_SLACK: Final = 64
MAX_SLACK_BYTES: Final = 32 * MIB  # what has to be free beyond a threshold before it counts as passed upwards
MAX_SPARE_BYTES: Final = 512 * MIB  # from so much above the reserve on, the cache gives way to originals
AGAIN_S: Final = 0.02  # while uploads are refused, they make us look again, at most this often


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One file system that imgpro writes on, as it was found last. `refusal` is why nothing can be written there."""

    holds: tuple[What, ...]
    state: State
    total_bytes: int
    free_bytes: int
    free_inodes: int | None
    reserve_bytes: int
    low_bytes: int
    refusal: str = ""

    @property
    def disk(self) -> str:
        """What to call it: "the disk", unless there are several."""
        return "the disk" if len(self.holds) > 1 else f"the disk of the {self.holds[0]}"

    @property
    def words(self) -> str:
        """How it stands, with the numbers that decide, for the operator."""
        if self.state == "unwritable":
            return f"cannot be written to: {self.refusal}"
        scarce = self.free_inodes is not None and self.free_inodes < LOW_INODES
        free = f"{show_bytes(self.free_bytes)} free" + (f" and {self.free_inodes} inodes" if scarce else "")
        needs = show_bytes(self.reserve_bytes) + (f" and {MIN_FREE_INODES} inodes" if scarce else "")
        if self.state == "full":
            return f"full: {free}, uploads need {needs}"
        if self.state == "low":
            return f"low: {free}, uploads are refused below {needs}"
        return free

    @property
    def sentence(self) -> str:
        """The same, with what disk it is."""
        link = {"unwritable": " ", "ok": " is ok: "}.get(self.state, " is ")
        return f"{self.disk}{link}{self.words}"


class _Place(msgspec.Struct, frozen=True):
    """What has to be writable for the pictures, or for the database; `file` is one that is there and not locked."""

    what: What
    folders: tuple[Path, ...]
    file: Path


class RoomWatch:
    """Knows how things stand on each file system. One for the appliance; `look` before anything is asked."""

    def __init__(self, settings: Storage, data: DataDir, blobs: BlobStore, derivs: DerivativeCache) -> None:
        self._settings = settings
        self._data = data
        self._blobs = blobs
        self._derivs = derivs
        # Of files that are open anyway, the database itself must not be opened: closing would let go of its locks.
        self._places = (
            _Place("pictures", (data.tmp, data.blobs), data.cache / "CACHEDIR.TAG"),
            _Place("database", (data.database.parent,), Path(f"{data.database}-wal")),
        )
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self.gone: ImgproError | None = None  # where the data directory is not there at all
        self.rooms: tuple[Room, ...] = ()

    def apply(self, settings: Storage) -> None:
        """Take other thresholds, from the next look on."""
        self._settings = settings

    @property
    def state(self) -> State:
        """The worst state of all file systems."""
        found = worst(self.rooms)
        return "ok" if found is None else found.state

    @property
    def may_cache(self) -> bool:
        """Tell whether derivatives may be written; read from any thread."""
        return self.gone is None and self.state in ("ok", "low")

    async def check(self) -> None:
        """Refuse what would be stored where there is no room. Raises StorageFull, StorageFault.

        Costs nothing while there is room, and asks anew when there was none: it may be back.
        """
        if self.gone is None and self.state in ("ok", "low"):
            return
        await self.look(newer_than_s=time.monotonic() - AGAIN_S)
        if self.gone is not None:
            raise self.gone
        bad = next((room for room in self.rooms if room.state == "unwritable"), None)
        if bad is not None:
            raise StorageUnwritable(f"This server cannot store anything at the moment ({bad.refusal}).")
        if self.state == "full":
            raise StorageFull()

    async def look(self, newer_than_s: float | None = None) -> None:
        """See how things stand now and do what follows; nothing if that was done since `newer_than_s` (monotonic)."""
        async with self._looking:
            if newer_than_s is not None and self._looked_s > newer_than_s:
                return
            try:
                await asyncio.to_thread(self._data.check_there)
                found = await asyncio.to_thread(self._measure)
            except ImgproError as problem:
                self.gone = problem  # whoever watches the data directory says so in the log
                return
            finally:
                self._looked_s = time.monotonic()
            self.gone = None
            before = {what: old for old in self.rooms for what in old.holds}
            self.rooms = tuple(found)
            for now in found:
                _tell(before.get(now.holds[0]), now)
            await self._act()

    # In a thread

    def _measure(self) -> list[Room]:
        before = {what: old.state for old in self.rooms for what in old.holds}
        found = [(place, room.file_system(place.folders[0])) for place in self._places]
        rooms: dict[int, Room] = {}
        for place, disk in found:
            refusal = room.refusal(place.folders, place.file)
            known = rooms.get(disk.device)
            if known is not None:
                holds, refusal = (*known.holds, place.what), known.refusal or refusal
            else:
                holds = (place.what,)
            state = self._judge(disk, before.get(place.what, "ok"))
            rooms[disk.device] = Room(
                holds=holds,
                state="unwritable" if refusal else state,
                total_bytes=disk.total_bytes,
                free_bytes=disk.free_bytes,
                free_inodes=disk.free_inodes,
                reserve_bytes=self._settings.reserve_bytes,
                low_bytes=self._settings.low_bytes,
                refusal=refusal,
            )
        return list(rooms.values())

    def _judge(self, disk: room.FileSystem, before: State) -> State:
        reserve, low = self._settings.reserve_bytes, self._settings.low_bytes
        if _below(disk, reserve, MIN_FREE_INODES, was_below=before == "full"):
            return "full"
        return "low" if _below(disk, low, LOW_INODES, was_below=before in ("low", "full")) else "ok"

    # What follows

    async def _act(self) -> None:
        pictures = next(found for found in self.rooms if "pictures" in found.holds)
        self._derivs.hold(still=pictures.state in ("low", "full"))
        if pictures.state in ("low", "full"):
            await self._shrink_cache(pictures)
        database = next(found for found in self.rooms if "database" in found.holds)
        if database.state in ("ok", "low"):
            with contextlib.suppress(ImgproError):  # the next look will tell
                await asyncio.to_thread(self._blobs.keep_ballast)

    async def _shrink_cache(self, found: Room) -> None:
        """Give derivatives up before uploads are refused, but only as far as that helps.

        Where something else fills the disk faster than the whole cache could make up for, it stays: pictures that are
        looked at would be made anew each time, on a disk that is no less full.
        """
        held = self._derivs.stats()
        spare = min(max(self._settings.low_bytes - found.reserve_bytes, 2 * MAX_SLACK_BYTES) // 2, MAX_SPARE_BYTES)
        wanted_bytes = found.reserve_bytes + spare - found.free_bytes
        wanted_files = 0 if found.free_inodes is None else 2 * MIN_FREE_INODES - found.free_inodes
        gone = await self._derivs.give_up(
            wanted_bytes if wanted_bytes <= held.bytes else 0, wanted_files if wanted_files <= held.files else 0
        )
        if gone:
            self._derivs.hold(still=True)
            log.info("%s is low: %d derivatives were removed from the cache", found.disk, gone)


def _below(disk: room.FileSystem, limit_bytes: int, limit_inodes: int, *, was_below: bool) -> bool:
    slack = min(limit_bytes // 8, MAX_SLACK_BYTES) if was_below else 0
    if disk.free_bytes < limit_bytes + slack:
        return True
    return disk.free_inodes is not None and disk.free_inodes < limit_inodes + was_below * INODE_SLACK


def _tell(before: Room | None, now: Room) -> None:
    """Say once that something has changed."""
    old = before.state if before is not None else "ok"
    if old == now.state:
        return
    if now.state == "unwritable":
        log.error("%s; uploads are refused until it can", now.sentence)
    elif now.state == "full":
        log.warning("%s; reading and deleting go on", now.sentence)
    elif old in ("full", "unwritable"):
        log.warning("%s; uploads are taken again", now.sentence)
    elif now.state == "low":
        log.warning("%s", now.sentence)
    else:
        log.info("%s", now.sentence)


def worst(rooms: Sequence[Room]) -> Room | None:
    """Return the room of which the operator should know first; None where all is well."""
    order: tuple[State, ...] = ("unwritable", "full", "low")
    return next((found for state in order for found in rooms if found.state == state), None)
