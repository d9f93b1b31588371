"""`imgpro upload --watch`: new pictures of a folder go up as they appear, and wait there while the server is away.

The folder itself is the queue: what is in it and not in the journal is still to be sent, so nothing has to be moved or
copied, and a killed watcher finds everything again. Each picture is sent under an Idempotency-Key made of its bytes and
its time: if the watcher died between the server's answer and the journal's line, sending it again stores nothing.
Looks once a second instead of waiting for the kernel's word, which network disks do not give.
"""

import contextlib
import os
import random
import signal
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from blake3 import blake3

from imgpro.cli.journal import Entry, Journal, Look, State
from imgpro.cli.pictures import Picture, PictureChanged, is_picture_name, shown
from imgpro.cli.remote import CHUNK_BYTES, Outcome, Server
from imgpro.cli.words import note
from imgpro.errors import Action, OperatorError, ServerUnreachable

LOOK_S: Final = 1.0
IDLE_SHARE: Final = 10  # a look that takes long is followed by a rest this many times as long
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
LONGEST_WISH_S: Final = 300.0  # of a server that names a time
MAX_FAULTS: Final = 4  # of one picture on which the server stumbles, before it is put aside
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Show = Callable[[dict[str, Any]], None]


class Stops:
    """A service manager's stop, and the terminal's end, are taken for Ctrl+C; all of them can be made to wait."""

    def __init__(self) -> None:
        self._held = False
        self._asked = False
        for number in _STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, self._on_signal)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let a stop wait for what is done within."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt

    def _on_signal(self, *_: object) -> None:
        self._asked = True
        if not self._held:
            raise KeyboardInterrupt


def watch_folder(
    server: Server, folder: str, fields: Mapping[str, str], show: Show, *, recursive: bool, existing: bool
) -> None:
    """Send each new picture of a folder until SIGINT or SIGTERM; `show` is given the answers.

    Raises OperatorError where it makes no sense to go on, StorageFault.
    """
    if not os.path.isdir(folder):
        raise OperatorError(f"There is no folder {shown(folder)}.", Action("fix", label="Name a folder to watch"))
    journal = Journal.open(folder, with_old=not existing)
    watcher = Watcher(server, folder, fields, show, journal, Stops(), recursive=recursive)
    try:
        watcher.begin(existing=existing)
        while True:
            time.sleep(watcher.look())
    except KeyboardInterrupt:
        left = watcher.waiting
        note(f"stopped; {_count(left)} waiting for the next start" if left else "stopped")
    finally:
        journal.close()


class Watcher:
    """Looks at a folder and sends what is new in it, one picture after the other."""

    def __init__(
        self,
        server: Server,
        folder: str,
        fields: Mapping[str, str],
        show: Show,
        journal: Journal,
        stops: Stops,
        *,
        recursive: bool,
    ) -> None:
        self._server = server
        self._folder = folder
        self._fields = fields
        self._show = show
        self._journal = journal
        self._stops = stops
        self._recursive = recursive
        self._seen: dict[str, Look] = {}  # those to be sent, at the last look, in the order of their appearance
        self._aside: set[tuple[str, Look]] = set()
        self._faults: dict[tuple[str, Look], int] = {}
        self._pause_s = 0.0
        self._not_before = 0.0
        self._told: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """How many pictures are still to be sent."""
        return len(self._seen)

    def begin(self, *, existing: bool) -> None:
        """Note what is there before the first watch, and say what is going on."""
        found = self._scan() or {}
        first = self._journal.fresh
        old = [Entry.of(path, look, "old") for path, look in found.items()]
        self._journal.start(old if first and not existing else (), found)
        self._journal.note_touched(found)
        new = sum(not self._journal.knows(path, look) for path, look in found.items())
        since = f"; {_count(new)} there to be sent" if new else ""
        note(f"watching {shown(self._folder)} for {self._server.base}{since}; Ctrl+C ends it")

    def look(self) -> float:
        """Send what has come and is complete; return how many seconds to rest before the next look."""
        began = time.monotonic()
        found = self._scan()
        if found is None:
            return LOOK_S
        if self._journal.worn:
            self._journal.start((), found)
        self._journal.note_touched(found)
        new = {path: look for path, look in found.items() if self._is_new(path, look)}
        # Complete is what has not changed since the last look; what came first goes first.
        ready = [path for path, look in self._seen.items() if new.get(path) == look]
        known = {path: new[path] for path in self._seen if path in new}
        self._seen = known | dict(sorted(new.items() - known.items(), key=lambda item: (item[1].mtime_ns, item[0])))
        rest_s = max(LOOK_S, (time.monotonic() - began) * IDLE_SHARE)
        for path in ready:
            if time.monotonic() < self._not_before:
                break
            self._send(path, self._seen[path])
        return rest_s

    def _is_new(self, path: str, look: Look) -> bool:
        return look.size > 0 and not self._journal.knows(path, look) and (path, look) not in self._aside

    def _scan(self) -> dict[str, Look] | None:
        """Return the pictures that are there by path below the folder; None if it cannot be looked into."""
        found: dict[str, Look] = {}
        try:
            for entry in self._entries(self._folder):
                # A file may go between its name and its size.
                with contextlib.suppress(OSError):
                    facts = entry.stat()
                    if stat.S_ISREG(facts.st_mode):
                        path = os.path.relpath(entry.path, self._folder)
                        found[path] = _look(facts)
        except OSError as error:
            self._tell("folder", f"{shown(self._folder)} cannot be looked into: {error.strerror}; trying on")
            return None
        self._told.pop("folder", None)
        return found

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        below: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_picture_name(entry.name):
                    yield entry
                elif self._recursive and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
        for path in below:
            # A folder that went meanwhile, or that is not ours, is no reason to miss the others.
            with contextlib.suppress(OSError):
                yield from self._entries(path)

    def _send(self, path: str, look: Look) -> None:
        full = os.path.join(self._folder, path)
        try:
            digest = _digest(full, look)
        except OSError as error:
            self._leave_out(path, look, f"It cannot be read: {error.strerror}.")
            return
        if digest is None:
            return  # gone, or being written again: the next look sees
        same = self._journal.same(path, look, digest)
        if same is not None:
            self._done(path, look, same.state, digest)
            return
        picture = Picture(full, shown(path), shown(os.path.basename(path)), look.size)
        key = f"watch-{self._journal.id}-{digest}-{look.mtime_ns}"
        outcome = self._server.upload(picture, self._fields, key)
        self._judge(path, look, digest, outcome)

    def _judge(self, path: str, look: Look, digest: str, outcome: Outcome) -> None:
        if outcome.verdict == "sent":
            # Shown before it is written down: after a kill in between it is shown twice rather than never.
            with self._stops.held():
                self._show(outcome.answer)
                self._done(path, look, "sent", digest)
            self._recovered()
        elif outcome.verdict == "known":
            note(f"{shown(path)}: was stored before; its link is in the gallery")
            self._done(path, look, "sent", digest)
            self._recovered()
        elif outcome.verdict == "refused":
            if isinstance(outcome.problem, PictureChanged):
                return  # the next look sees what became of it
            note(" ".join([f"{shown(path)}:", outcome.problem.message, *outcome.problem.details.values()]))
            self._done(path, look, "refused", digest)
            self._recovered()
        elif outcome.answer.get("error") in ("unauthorized", "forbidden"):
            raise outcome.problem
        else:
            self._stumbled(path, look, outcome)

    def _done(self, path: str, look: Look, state: State, digest: str) -> None:
        self._journal.add(Entry.of(path, look, state, digest))
        self._seen.pop(path, None)

    def _stumbled(self, path: str, look: Look, outcome: Outcome) -> None:
        """Wait before the next try. A picture on which the server itself fails does not hold the others up for ever."""
        if outcome.status == 500 and not isinstance(outcome.problem, ServerUnreachable):
            self._faults[path, look] = self._faults.get((path, look), 0) + 1
            if self._faults[path, look] >= MAX_FAULTS:
                self._leave_out(path, look, outcome.problem.message)
                return
        self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
        spread = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # so that not all come back at once
        self._not_before = time.monotonic() + max(spread, min(outcome.wait_s, LONGEST_WISH_S))
        self._tell("server", f"{outcome.problem.message} New pictures wait until it works.")

    def _recovered(self) -> None:
        self._pause_s = 0.0
        if self._told.pop("server", None):
            note(f"{self._server.base} takes pictures again")

    def _tell(self, about: str, text: str) -> None:
        """Say what holds things up, once as long as it does."""
        if text != self._told.get(about):
            self._told[about] = text
            note(text)

    def _leave_out(self, path: str, look: Look, reason: str) -> None:
        self._aside.add((path, look))
        self._seen.pop(path, None)
        note(f"{shown(path)}: {reason} It is left out until the next start.")


def _look(facts: os.stat_result) -> Look:
    return Look(facts.st_size, facts.st_mtime_ns, facts.st_ino)


def _digest(path: str, look: Look) -> str | None:
    """Return the BLAKE3 of a file that is still as it was looked at; None if it is not. Raises OSError."""
    hashed = blake3()
    try:
        with open(path, "rb", buffering=0) as file:  # its bytes are all that is wanted
            while chunk := file.read(CHUNK_BYTES):
                hashed.update(chunk)
            facts = os.fstat(file.fileno())
            named = os.stat(path)
    except FileNotFoundError:
        return None
    unchanged = _look(facts) == look == _look(named)
    return hashed.hexdigest() if unchanged else None


def _count(number: int) -> str:
    return f"{number} picture is" if number == 1 else f"{number} pictures are"
