"""Whether the journal knows of commits that the database does not have: then an older database was put in its place.

What a killed commit left at the journal's end is none of that. A file beside the journal says how far the last commit
went that came about, written after each: a commit is durable before, so no crash makes it say too much.
"""

import contextlib
import logging
import os
import shlex
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Final

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.store import durable, journal_position, peek, schema
from imgpro.store import journal_format as form
from imgpro.store.journal_position import Noted
from imgpro.store.journal_tail import MODE

LAST_COMMIT: Final = "last-commit"
ASIDE: Final = "aside-"  # and the beginning of a folder of what an older database did not have
KEPT: Final = 3
KEPT_S: Final = 30 * 86_400.0
_UNFINISHED: Final = ".unfinished"
_STAMP: Final = "%Y%m%dT%H%M%SZ"

log = logging.getLogger(__name__)


class LastCommit(msgspec.Struct, frozen=True):
    """The last commit that came about: it ends after `end` bytes of tail `number`. `at_ms` is its Unix time in ms."""

    instance: str
    number: int
    end: int
    at_ms: int


class Witness:
    """Writes down how far the last commit went; for the writer's thread. What fails is not tried again: less is said
    then, never too much.
    """

    def __init__(self, folder: Path, instance_id: str) -> None:
        self._path = folder / LAST_COMMIT
        self._instance = instance_id
        self._fd: int | None = None
        self._failed = False

    def note(self, number: int, end: int) -> None:
        """Write it down. Costs one write into the memory of the system."""
        found = LastCommit(self._instance, number, end, time.time_ns() // 1_000_000)
        line = form.framed(b'"last-commit",' + msgspec.json.encode(found))
        try:
            if self._fd is None and not self._failed:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
                os.fchmod(self._fd, MODE)
            if self._fd is not None:
                os.pwrite(self._fd, line, 0)  # what a longer line left after it is not read
        except OSError:
            self._failed = True
            self.close()
            with contextlib.suppress(OSError):  # what it says may be of a journal that is no more
                self._path.unlink()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def last_commit(folder: Path) -> LastCommit | None:
    """Return the last commit that came about, as far as that is known. Raises OSError."""
    try:
        with (folder / LAST_COMMIT).open("rb") as file:
            content = form.opened(file.readline(form.MAX_LINE_BYTES).rstrip(b"\n"))
    except FileNotFoundError:
        return None
    if content is None or len(content) != 2 or content[0] != "last-commit":
        return None
    try:
        return msgspec.convert(content[1], LastCommit)
    except msgspec.ValidationError:
        return None


def ahead(database: Path, folder: Path, instance_id: str) -> LastCommit | None:
    """Return the last commit of the journal if the database lacks it and the journal has more to say than it.

    None as well where the database cannot be read, or is that of a newer program. Blocking; raises OSError.
    """
    last = last_commit(folder)  # before the database, which goes on meanwhile where a server runs
    found = form.listed(folder)
    if last is None or last.instance != instance_id or not found.highest or not database.exists():
        return None
    try:
        with peek.looking(database) as connection:
            if schema.version(connection) > _supported():
                return None
            noted = journal_position.read(connection)
    except sqlite3.Error:
        return None
    number, end = _reached(noted, last)
    if (last.number, last.end) <= (number, end):
        return None
    tail = found.tails.get(number)
    more = found.highest > number or (tail is not None and tail.stat().st_size > end)
    return last if more else None


def _ahead_if_known(database: Path, folder: Path, instance_id: str) -> LastCommit | None:
    try:
        return ahead(database, folder, instance_id)
    except OSError as error:
        # No server is to stay away for a journal: without one as well it starts, and makes it anew where it can.
        log.error("whether the database is older than its journal could not be told: %s", error)
        return None


def _reached(noted: Noted | None, last: LastCommit) -> tuple[int, float]:
    """Return the tail that the database knows of, and how far."""
    if noted is None:
        return 0, 0  # from before there was a journal
    if noted.position is not None:
        return noted.position.number, noted.position.end
    return (noted.behind, float("inf")) if noted.behind is not None else (last.number, float("inf"))


def settle(database: Path, folder: Path, instance_id: str, *, accept: bool) -> Path | None:
    """Refuse a database that is older than its journal or, where the operator says `accept`, set that journal aside.

    A journal of a newer program is set aside without their word: nothing can be made of it here, and who went back to
    this program has put the older database there on purpose. Returns where it lies then. For a start, under the lock,
    before the database is opened. Raises DataUnusable, StorageFull, StorageFault.
    """
    try:
        undo(folder)
        last = _ahead_if_known(database, folder, instance_id)
        if last is None:
            return None
        newer = _is_of_newer_program(folder)
        if not (accept or newer):
            here = shlex.quote(str(folder.parent))
            raise DataUnusable(
                f"{database} is older than the journal beside it: what came after it, up to {show_commit(last)}, "
                "is only in there.",
                Action(
                    "fix",
                    label=f"imgpro rebuild --data {here} brings everything back. To go on with the older database: "
                    f"imgpro run --accept-data --data {here}",
                ),
            )
        aside = _set_aside(folder)
    except OSError as error:
        raise durable.write_fault(error, "holding the database against its journal") from error
    log.warning(
        "the database was older than its journal: what came after it, up to %s, is kept in %s for %d days, or until "
        "something is deleted or changed; imgpro rebuild --journal %s%s goes back to it",
        show_commit(last),
        aside,
        KEPT_S // 86_400,
        shlex.quote(str(aside)),
        " of the newer version" if newer else "",
    )
    return aside


def show_commit(last: LastCommit) -> str:
    """Return when it was, in words."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(last.at_ms / 1000))


def asides(folder: Path) -> list[Path]:
    """Return the folders of what was set aside, the oldest first. Raises OSError."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(f"{ASIDE}*") if path.suffix != _UNFINISHED and path.is_dir())


def highest(folder: Path) -> int:
    """Return the highest number of a file that was set aside; 0 if there is none. Raises OSError."""
    return max((form.listed(path).highest for path in asides(folder)), default=0)


def drop_asides(folder: Path, *, now_s: float | None = None) -> None:
    """Remove what was set aside: all of it, or with `now_s` (Unix time) what may not be kept. Raises OSError."""
    found = asides(folder)
    late = found if now_s is None else [*found[:-KEPT], *(path for path in found[-KEPT:] if _ended(path, now_s))]
    for path in late:
        shutil.rmtree(path)
    if late:
        durable.fsync_directory(folder)


def _ended(path: Path, now_s: float) -> bool:
    return now_s - path.stat().st_mtime > KEPT_S


def _is_of_newer_program(folder: Path) -> bool:
    tails = form.listed(folder).tails
    header = form.read_header(tails[max(tails)]) if tails else None
    return header is not None and header.schema > _supported()


def _supported() -> int:
    return schema.packaged_migrations()[-1].version


def _set_aside(folder: Path) -> Path:
    """Move all files of the journal into a folder of their own, all or none: it has its name once they are in it."""
    stamp = time.strftime(_STAMP, time.gmtime())
    target, number = folder / f"{ASIDE}{stamp}", 1
    while os.path.lexists(target):
        number += 1
        target = folder / f"{ASIDE}{stamp}-{number}"
    unfinished = target.with_name(f"{target.name}{_UNFINISHED}")
    unfinished.mkdir(0o750)
    durable.fsync_directory(folder)
    found = form.listed(folder)
    for path in found.partial:
        path.unlink(missing_ok=True)
    for path in (*found.numbered(0, found.highest + 1), folder / LAST_COMMIT):
        with path.open("rb") as file:
            durable.fsync_fd(file.fileno())
        os.rename(path, unfinished / path.name)
        durable.point("journal.aside")
    durable.fsync_directory(unfinished)
    os.rename(unfinished, target)
    durable.fsync_directory(folder)
    drop_asides(folder, now_s=time.time())
    return target


def undo(folder: Path) -> None:
    """Put back what setting aside had moved when it was broken off: the database may be another one by now.

    Under the lock. Raises OSError.
    """
    for unfinished in folder.glob(f"{ASIDE}*{_UNFINISHED}") if folder.is_dir() else ():
        for path in unfinished.iterdir():
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, folder / path.name)
        durable.fsync_directory(folder)
        unfinished.rmdir()
