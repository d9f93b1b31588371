"""What a watched folder's pictures have come to: a file of one JSON line for each, in the user's state directory.

A line counts once it is synced. Later lines of a path override earlier ones; a torn last line was never acknowledged
and is not there. Knows nothing of servers.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import platformdirs
from blake3 import blake3

from imgpro.cli import disk
from imgpro.errors import Action, OperatorError
from imgpro.store import durable

MAX_GONE: Final = 20_000  # sent pictures that are no longer in the folder and are still remembered
TIDY_AFTER: Final = 10_000  # lines added
_MODE: Final = 0o600  # names of pictures are in it

State = Literal["old", "sent", "refused"]


class Look(msgspec.Struct, frozen=True):
    """What tells without reading that a file is still the same. Some disks number their files anew at each mount."""

    size: int
    mtime_ns: int
    inode: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One picture. `old`: it was there before the first watch. `digest` is BLAKE3 of its bytes, empty for old ones."""

    path: str
    size: int
    mtime_ns: int
    state: State
    digest: str = ""
    inode: int = 0

    @classmethod
    def of(cls, path: str, look: Look, state: State, digest: str = "") -> "Entry":
        """Return the entry of a file as it is now."""
        return cls(path, look.size, look.mtime_ns, state, digest, look.inode)


class Journal:
    """The entries of one folder, locked for one watcher. Make it with `Journal.open`, end it with `close`."""

    def __init__(self, path: Path, folder: str, lock_fd: int) -> None:
        self._path = path
        self._folder = folder
        self._lock_fd = lock_fd
        self._append_fd = -1
        self._entries: dict[str, Entry] = {}
        self._by_time: dict[tuple[int, int], list[Entry]] = {}
        self._added = 0
        self.id = os.urandom(8).hex()
        self.fresh = True

    @classmethod
    def open(cls, folder: str, *, with_old: bool = True) -> "Journal":
        """Open the journal of a folder, made new if there is none; without `old` entries if those are to be sent.

        Raises OperatorError if another process watches the folder, StorageFault.
        """
        real = os.path.realpath(folder)
        where = Path(platformdirs.user_state_dir("imgpro", appauthor=False)) / "watch"
        name = blake3(os.fsencode(real)).hexdigest()[:32]
        try:
            durable.make_directories(where)
            journal = cls(where / f"{name}.jsonl", real, _lock(where / f"{name}.lock", folder))
            journal._read(with_old=with_old)
        except OSError as error:
            raise disk.fault(error, f"opening the journal in {where}") from error
        return journal

    def start(self, old: Iterable[Entry], present: Mapping[str, Look]) -> None:
        """Begin to write, or begin anew: put the file in place with what still counts, and with `old` entries added.

        Raises StorageFault.
        """
        self._forget_gone(present)
        for entry in old:
            self._take(entry)
        head = {"id": self.id, "folder": self._folder}
        # As ASCII, because a name may hold bytes that are no text.
        lines = [json.dumps(head), *(_line(entry) for entry in self._entries.values())]
        try:
            durable.write_file(self._path, ("\n".join(lines) + "\n").encode(), _MODE)
            if self._append_fd >= 0:
                os.close(self._append_fd)
            self._append_fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise disk.fault(error, f"writing {self._path}") from error
        self.fresh, self._added = False, 0

    @property
    def worn(self) -> bool:
        """Tell whether it is time to `start` anew, so that the file does not grow for ever."""
        return self._added >= TIDY_AFTER

    def add(self, *entries: Entry) -> None:
        """Write entries down; when this returns they survive a power cut. Raises StorageFault."""
        try:
            durable.write_all(self._append_fd, "".join(_line(entry) + "\n" for entry in entries).encode())
            durable.fsync_fd(self._append_fd)
        except OSError as error:
            raise disk.fault(error, f"writing {self._path}") from error
        self._added += len(entries)
        for entry in entries:
            self._take(entry)

    def note_touched(self, found: Mapping[str, Look]) -> None:
        """Write down the new times of old files whose size is the same: what was merely touched is not published."""
        touched = [
            Entry.of(path, look, "old")
            for path, look in found.items()
            if (entry := self._entries.get(path)) is not None
            and entry.state == "old"
            and entry.size == look.size
            and entry.mtime_ns != look.mtime_ns
        ]
        if touched:
            self.add(*touched)

    def knows(self, path: str, look: Look) -> bool:
        """Tell without reading the file whether it needs no sending; an old one may have been moved."""
        entry = self._entries.get(path)
        if entry is not None and (entry.size, entry.mtime_ns) == (look.size, look.mtime_ns):
            return True
        alike = self._by_time.get((look.size, look.mtime_ns), ())
        return any(before.state == "old" and before.inode == look.inode for before in alike)

    def same(self, path: str, look: Look, digest: str) -> Entry | None:
        """Return the entry of these very bytes if the file was merely touched, moved or copied with its time."""
        entry = self._entries.get(path)
        if entry is not None and entry.digest == digest:
            return entry
        alike = self._by_time.get((look.size, look.mtime_ns), ())
        return next((before for before in alike if before.digest == digest), None)

    def close(self) -> None:
        """Let another watcher in."""
        for fd in (self._append_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)

    def _take(self, entry: Entry) -> None:
        self._entries.pop(entry.path, None)  # so that the newest stand last
        self._entries[entry.path] = entry
        self._by_time.setdefault((entry.size, entry.mtime_ns), []).append(entry)

    def _read(self, *, with_old: bool) -> None:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for number, line in enumerate(lines):
            try:
                found = json.loads(line)
                if number == 0:
                    self.id, self.fresh = str(found["id"]), False
                    continue
                entry = msgspec.convert(found, Entry)
            except (ValueError, KeyError, TypeError, msgspec.ValidationError):
                continue
            if with_old or entry.state != "old":
                self._take(entry)

    def _forget_gone(self, present: Mapping[str, Look]) -> None:
        """Drop the oldest of those that are gone, unless the folder looks like a disk that is not mounted."""
        if not any(path in present for path in self._entries):
            return
        gone = [path for path, entry in self._entries.items() if path not in present and entry.state != "old"]
        for path in gone[: max(0, len(gone) - MAX_GONE)]:
            del self._entries[path]
        kept, self._entries, self._by_time = self._entries, {}, {}
        for entry in kept.values():
            self._take(entry)


def _line(entry: Entry) -> str:
    return json.dumps(msgspec.to_builtins(entry))


def _lock(path: Path, folder: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise OperatorError(
            f"{folder} is watched by {who} already.", Action("fix", label="Stop that one first")
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd
