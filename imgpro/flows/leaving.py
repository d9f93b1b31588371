"""Deleting an account with everything that is its own: in steps, and to the end also after a crash between two of them.

In the first transaction nothing of the account works any more and its address is free; its pictures go in batches; its
row goes last. Whatever ends the process between, `go_on` finds what has begun and ends it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from imgpro.errors import Action, Forbidden, ImgproError, NotFound, ValidationError
from imgpro.flows.email_address import parse_email
from imgpro.flows.errands import Progress, Values
from imgpro.flows.journal import Journaling
from imgpro.flows.keyring import KeyRing
from imgpro.flows.log_lines import LogLines
from imgpro.flows.remove import Remove
from imgpro.flows.traces import Traces
from imgpro.model import Account
from imgpro.store import queries_accounts, queries_leaving
from imgpro.store.db import Database

log = logging.getLogger(__name__)

BATCH: Final = 100
_LAST_OPERATOR: Final = "This is the only operator of this server, which cannot be without one."
_WAY_OUT: Final = Action("fix", label="Deleting the data directory deletes the whole server")


class Leaving:
    """Deletes accounts. One for the appliance."""

    def __init__(
        self,
        db: Database,
        ring: KeyRing,
        remove: Remove,
        traces: Traces,
        journal: Journaling,
        log_lines: Callable[[], LogLines],
    ) -> None:
        self._db = db
        self._ring = ring
        self._remove = remove
        self._traces = traces
        self._journal = journal
        self._log_lines = log_lines
        self._under_way: dict[int, asyncio.Task[int]] = {}

    async def look(self, values: Values) -> dict[str, Any]:
        """Return what deleting the account of the address in `values` would take away. Raises NotFound, Forbidden."""
        account = await self._found(values)
        await self._db.write(lambda conn: _refuse_last_operator(conn, account))
        async with self._db.reader() as conn:
            found = await queries_leaving.belongings(conn, account.seq, _now_ms())
        if found is None:
            raise _unknown(account.email)
        return {"email": account.email, "id": account.id, **msgspec.structs.asdict(found)}

    async def carry_out(self, values: Values, progress: Progress) -> dict[str, Any]:
        """Delete the account of the address in `values`, with everything. Raises NotFound, Forbidden."""
        account = await self._found(values)
        await self.begin(account)
        progress.begin("deleting pictures", account.images)
        deleted = await self._ended(account, progress.advance)
        return {"email": account.email, "deleted": deleted, "cleared": await self._clear(progress)}

    async def _clear(self, progress: Progress) -> bool:
        """Clear database and journal of what was deleted; where that cannot be done now, the jobs do it later."""
        try:
            progress.begin("clearing the database")
            await self._traces.clear(at_once=True)
            await self._journal.renew(progress)
        except ImgproError as problem:
            log.warning("traces of a deleted account are still in the database or its journal: %s", problem)
            return False
        return True

    async def begin(self, account: Account) -> None:
        """Do the first step, after which nothing can bring the account back. Raises NotFound, Forbidden."""
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            found = queries_accounts.account_by_seq(conn, account.seq)
            if found is None or found.leaving_ms is not None:
                raise _unknown(account.email)
            _refuse_last_operator(conn, found)
            queries_leaving.take_leave(conn, found, now_ms)

        await self._db.write(write)
        self._ring.forget(account.seq)
        self._log_lines().forget(account.email)

    def go_on_with(self, account: Account) -> None:
        """Do the other steps in the background."""
        self._start(account, lambda _: None)

    async def go_on(self) -> int:
        """End what has begun, in this run or before it; return how many accounts went."""
        async with self._db.reader() as conn:
            begun = await queries_leaving.leaving(conn)
        for account in begun:
            await self._ended(account, lambda _: None)
        return len(begun)

    async def close(self) -> None:
        """Break off between two batches; the next start goes on."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _ended(self, account: Account, advance: Callable[[int], None]) -> int:
        task = self._under_way.get(account.seq) or self._start(account, advance)
        # Who waits may go away, by Ctrl+C for one: the deletion has begun and goes on.
        return await asyncio.shield(task)

    def _start(self, account: Account, advance: Callable[[int], None]) -> asyncio.Task[int]:
        task = asyncio.create_task(self._delete(account, advance), name=f"deleting account {account.id}")
        self._under_way[account.seq] = task
        task.add_done_callback(lambda task: self._end(account, task))
        return task

    def _end(self, account: Account, task: asyncio.Task[int]) -> None:
        del self._under_way[account.seq]
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.warning("deleting account %s goes on in a minute: %s", account.id, problem)

    async def _delete(self, account: Account, advance: Callable[[int], None]) -> int:
        deleted = 0
        while True:
            async with self._db.reader() as conn:
                batch = await queries_accounts.image_ids_of_account(conn, account.seq, BATCH)
            if not batch and await self._db.write(lambda conn: queries_leaving.finish_leave(conn, account.seq)):
                break
            gone = await self._remove.images(batch)
            deleted += gone
            advance(gone)
        self._ring.forget(account.seq)
        log.info("account %s was deleted, with %d pictures in this run", account.id, deleted)
        return deleted

    async def _found(self, values: Values) -> Account:
        try:
            email = parse_email(str(values.get("email") or ""))
        except ValueError as error:
            raise ValidationError(str(error)) from None
        async with self._db.reader() as conn:
            found = await queries_accounts.account_at(conn, email)
        if found is None or found.leaving_ms is not None:
            raise _unknown(email)
        return found


def _refuse_last_operator(conn: Any, account: Account) -> None:
    if account.role == "operator" and not queries_leaving.another_operator(conn, account.seq):
        raise Forbidden(_LAST_OPERATOR, _WAY_OUT)


def _unknown(email: str) -> NotFound:
    return NotFound(f"There is no account {email}.", Action("fix", label="`imgpro accounts list`"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
