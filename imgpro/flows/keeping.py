"""How well the pictures are kept: backups, their trials, reading originals again, and what is wrong with any of it.

Reads what those write down; asks no other machine and changes nothing.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from imgpro.flows.backup_runs import BackupStatus
from imgpro.flows.backups import Backups
from imgpro.flows.journal import Journaling
from imgpro.forms import show_bytes
from imgpro.settings import Scrub as ScrubSettings
from imgpro.store import queries, queries_keeping, queries_scrub
from imgpro.store.db import Database
from imgpro.store.journal import JournalStatus
from imgpro.store.queries_keeping import Run
from imgpro.store.queries_scrub import Round

DAY_MS: Final = 86_400_000


class Worry(msgspec.Struct, frozen=True):
    """Something that the operator should see to: which work it is about, what is wrong, and what to do."""

    about: str
    words: str
    todo: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands at one moment. `blobs` and `blob_bytes` are the originals there are, `damaged` the bad ones.

    `round` is how far they have been read again, None between two rounds; `scrubs`: it happens by itself.
    """

    backups: BackupStatus
    blobs: int
    blob_bytes: int
    damaged: int
    scrub: Run | None
    round: Round | None
    scrubs: bool
    retention: Run | None
    journal: JournalStatus
    journal_fails: bool
    failures: dict[str, int]  # backups and trials that failed since the start
    now_ms: int

    @property
    def share_read(self) -> float:
        """How much of the round under way is done, from 0 to 1."""
        if self.round is None:
            return 0.0
        return min(1.0, self.round.checked / self.blobs) if self.blobs else 1.0

    @property
    def worries(self) -> tuple[Worry, ...]:
        """What is wrong, the gravest first."""
        return tuple(_worries(self))

    def about(self, name: str) -> Worry | None:
        """Return what is wrong with one kind of work."""
        return next((worry for worry in self.worries if worry.about == name), None)


class Keeping:
    """Looks. One for the appliance."""

    def __init__(self, db: Database, backups: Backups, journal: Journaling, scrub: Callable[[], ScrubSettings]) -> None:
        self._db = db
        self._journal = journal
        self._backups = backups
        self._scrub = scrub

    async def look(self) -> Kept:
        """Return how it stands."""
        status = await self._backups.status()
        async with self._db.reader() as conn:
            runs = await queries_keeping.last_runs(conn)
            totals = await queries.totals(conn)
            damaged = await queries_keeping.damaged_count(conn)
            under_way = await queries_scrub.round_under_way(conn)
        return Kept(
            backups=status,
            blobs=totals.blobs,
            blob_bytes=totals.blob_bytes,
            damaged=damaged,
            scrub=runs.get("scrub"),
            round=under_way,
            scrubs=self._scrub().every_s is not None,
            retention=runs.get("retention"),
            journal=self._journal.status(),
            journal_fails=self._journal.failing,
            failures=self._backups.failures,
            now_ms=time.time_ns() // 1_000_000,
        )


def _worries(kept: Kept) -> Iterator[Worry]:
    backups = kept.backups
    if kept.damaged:
        some = "One original is" if kept.damaged == 1 else f"{kept.damaged:,} originals are"
        yield Worry(
            "scrub", f"{some} damaged or missing on the disk.", "imgpro scrub, which names them and looks in backups"
        )
    run = backups.run
    if run is not None and run.failed:
        lacking = bool(run.details.get("missing"))
        words = "The last backup lacks pictures" if lacking else "The last backup failed"
        todo = "imgpro scrub, which names them" if lacking else "imgpro backup create, which says what to do"
        yield Worry("backup", f"{words}: {run.message}", todo)
    elif backups.late:
        words = "No backup has been made yet."
        if backups.made_ms is not None:
            words = f"The last good backup is {(kept.now_ms - backups.made_ms) // DAY_MS} days old."
        yield Worry("backup", words, "imgpro backup create")
    if backups.verify is not None and backups.verify.failed:
        words = f"The newest backup, tried out, is not good: {backups.verify.message}"
        yield Worry("verify", words, "imgpro backup create, which copies what is bad there again")
    if kept.journal_fails:
        reason = f": {kept.journal.reason}" if kept.journal.reason else ""
        yield Worry("journal", f"The journal of metadata cannot be written{reason}.", "look at the disk of the data")
    if kept.retention is not None and kept.retention.failed:
        yield Worry("retention", kept.retention.message, "imgpro retention list")


def backup_words(kept: Kept) -> str:
    """Return in a line how it stands with backups."""
    backups, run = kept.backups, kept.backups.run
    if backups.made_ms is None or run is None:
        words = "none yet"
    else:
        words = f"last good one {show_time(backups.made_ms)} to {run.details.get('place', backups.place)}"
    following = f"next {show_time(backups.next_ms)}" if backups.next_ms is not None else "none is made by itself"
    where = "; on the same disk as the pictures" if backups.own_disk else ""
    return f"{words}; {following}{where}"


def verify_words(kept: Kept) -> str:
    """Return in a line when a backup was last tried out."""
    verify = kept.backups.verify
    if verify is None or verify.good_ms is None:
        return "no backup has been tried out yet"
    return f"the last good trial of a backup was {show_time(verify.good_ms)}"


def scrub_words(kept: Kept) -> str:
    """Return in a line how far originals were read again."""
    found, words = kept.scrub, "never read again"
    if found is not None and (whole := found.details.get("whole_round_ms")):
        words = f"all read again {show_time(whole)}"
    if kept.round is not None:
        words += f"; {kept.share_read:.0%} of this round ({show_bytes(kept.round.bytes)})"
    elif not kept.scrubs:
        words += "; it happens only by command"
    return words


def journal_words(kept: Kept) -> str:
    """Return in a line how complete the journal is from which the database can be made again."""
    size = show_bytes(kept.journal.snapshot_bytes + kept.journal.tail_bytes)
    return f"not complete yet ({size})" if kept.journal.behind else f"complete ({size})"


def show_time(at_ms: int) -> str:
    """Return a time as a line of text says it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_ms / 1000))
