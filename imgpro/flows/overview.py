"""What the operator sees of the whole: disk, growth, what came lately, accounts, mail, settings. Changes nothing.

Every number is kept by triggers, asked of the file system, or read in a bounded piece: the page costs the same with ten
pictures and with a million.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from imgpro import forms
from imgpro.flows.keyring import KeyRing
from imgpro.model import Account, Key
from imgpro.settings import Settings
from imgpro.store import queries, queries_accounts, queries_operator, room
from imgpro.store.db import Database
from imgpro.store.derivs import DerivativeCache
from imgpro.store.layout import DataDir
from imgpro.store.queries import Totals
from imgpro.store.queries_operator import DAY_MS, Growth, MailState, Upload
from imgpro.store.room import Copies, FileSystem

DAYS: Final = 30
LEAST_DAYS: Final = 7  # a rate by fewer days says more of the first import than of what follows
LATELY: Final = 24
PAGE: Final = 50
TO_VERIFY: Final = 20
FAR_DAYS: Final = 3_650
MAX_SEQ: Final = 2**62


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One file system that imgpro's data lies on. Bytes.

    `full_in_days` is when uploads are refused if it goes on like in the last weeks; None: not within ten years.
    """

    total_bytes: int
    free_bytes: int
    own_bytes: int
    reserve_bytes: int
    full_in_days: int | None

    @property
    def others_bytes(self) -> int:
        """What lies on it besides imgpro's data."""
        return max(0, self.total_bytes - self.free_bytes - self.own_bytes)

    @property
    def full(self) -> bool:
        """Tell whether uploads are refused for want of room."""
        return self.free_bytes < self.reserve_bytes


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """What takes room. `database_disk` is there only where the database lies on another file system. Bytes."""

    disk: Disk
    database_disk: Disk | None
    totals: Totals
    cache_bytes: int
    cache_limit_bytes: int
    database_bytes: int
    copies: Copies
    ballast_held: bool
    accounts: int


class Setting(msgspec.Struct, frozen=True):
    """One setting as it is in force; `value` as a person would write it, secrets only as set or not."""

    section: str
    name: str
    value: str
    source: str
    description: str


class Overview:
    """Reads it all. One for the appliance."""

    def __init__(self, settings: Settings, db: Database, data: DataDir, derivs: DerivativeCache, ring: KeyRing) -> None:
        self._settings = settings
        self._db = db
        self._data = data
        self._derivs = derivs
        self._ring = ring
        self.started_ms = _now_ms()

    def apply(self, settings: Settings) -> None:
        """Tell of other settings."""
        self._settings = settings

    async def storage(self, growth: Sequence[Growth]) -> Storage:
        """Return how full everything is, judged by the `growth` of the last days. Raises StorageFault."""
        async with self._db.reader() as conn:
            totals = await queries.totals(conn)
            accounts = await queries_operator.accounts_count(conn)
            first_day = await queries_operator.first_day(conn)
        data, cache = self._data, self._derivs.stats().bytes

        def look() -> tuple[FileSystem, FileSystem, int, Copies, bool]:
            return (
                room.file_system(data.root),
                room.file_system(data.database.parent),
                room.database_bytes(data.database),
                room.copies(data.backups),
                data.ballast.held(),
            )

        main, beside, database, copies, held = await asyncio.to_thread(look)
        pictures = totals.blob_bytes + cache + copies.bytes
        apart = main.device != beside.device
        daily = _daily_bytes(growth, first_day, _today())
        reserve = self._settings.storage.reserve_bytes
        return Storage(
            disk=_disk(main, pictures + (0 if apart else database), reserve, daily),
            database_disk=_disk(beside, database, reserve, 0) if apart else None,
            totals=totals,
            cache_bytes=cache,
            cache_limit_bytes=self._settings.cache.max_bytes,
            database_bytes=database,
            copies=copies,
            ballast_held=held,
            accounts=accounts,
        )

    async def growth(self) -> list[Growth]:
        """Return the last thirty days, today last, those without a change too."""
        first = _today() - DAYS + 1
        async with self._db.reader() as conn:
            found = {row.day: row for row in await queries_operator.growth(conn, first)}
        return [found.get(day, Growth(day, 0, 0, 0)) for day in range(first, first + DAYS)]

    async def lately(self) -> list[Upload]:
        """Return the pictures that came last, whoever they belong to."""
        async with self._db.reader() as conn:
            return await queries_operator.latest_uploads(conn, _now_ms(), LATELY)

    async def mail(self) -> MailState:
        """Return how the mail queue stands."""
        async with self._db.reader() as conn:
            return await queries_operator.mail_state(conn, _now_ms())

    async def to_verify(self) -> list[Account]:
        """Return the youngest of the accounts that nobody has vouched for."""
        async with self._db.reader() as conn:
            return await queries_operator.accounts_to_verify(conn, TO_VERIFY)

    async def accounts(self, text: str, before_seq: int | None) -> tuple[list[Account], int | None]:
        """Return a page of accounts with `text` in their address, the youngest first, and where the next one begins."""
        async with self._db.reader() as conn:
            found = await queries_operator.accounts_found(
                conn, text.strip().lower(), MAX_SEQ if before_seq is None else before_seq, PAGE + 1
            )
        return found[:PAGE], found[PAGE - 1].seq if len(found) > PAGE else None

    async def account(self, account_id: str) -> tuple[Account, list[Key]] | None:
        """Return an account and its keys."""
        async with self._db.reader() as conn:
            account = await queries_accounts.account_by_id(conn, account_id)
            keys = [] if account is None else await queries_accounts.keys_listed(conn, account.seq)
        return None if account is None else (account, [self._ring.with_last_use(key) for key in keys])


def settings_in_force(settings: Settings, sources: Mapping[str, str]) -> dict[str, list[Setting]]:
    """Return every setting by section, with where its value came from. Nothing secret."""
    found: dict[str, list[Setting]] = {}
    for field in forms.fields():
        value = getattr(getattr(settings, field.section), field.name)
        shown = forms.show_value(field, value).replace('"', "") or "(empty)"
        if field.secret:
            shown = "(set, not shown)" if value else "(not set)"
        source = sources.get(field.path, "default")
        found.setdefault(field.section, []).append(Setting(field.section, field.name, shown, source, field.description))
    return found


def _disk(found: FileSystem, own_bytes: int, reserve_bytes: int, daily_bytes: float) -> Disk:
    left = found.free_bytes - reserve_bytes
    days = left / daily_bytes if daily_bytes > 0 and left > 0 else None
    return Disk(
        total_bytes=found.total_bytes,
        free_bytes=found.free_bytes,
        own_bytes=own_bytes,
        reserve_bytes=reserve_bytes,
        full_in_days=int(days) if days is not None and days < FAR_DAYS else None,
    )


def _daily_bytes(growth: Sequence[Growth], first_day: int | None, today: int) -> float:
    """Return by how many bytes the originals grow in a day, on average of the days there have been."""
    days = DAYS if first_day is None else min(DAYS, max(LEAST_DAYS, today - first_day + 1))
    return sum(day.added_bytes - day.removed_bytes for day in growth) / days


def _today() -> int:
    return _now_ms() // DAY_MS


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
