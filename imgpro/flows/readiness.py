"""Whether this server could store and serve a picture right now, and what is not as it should be though it could.

Reasons are for the operator: they name disks and numbers.
"""

import time
from typing import Final, Literal

import msgspec

from imgpro.errors import ImgproError
from imgpro.flows.keeping import Keeping, backup_words, journal_words, scrub_words, verify_words
from imgpro.flows.mail import Mail
from imgpro.flows.watch_room import RoomWatch, State
from imgpro.imaging.pool import Pool
from imgpro.store import queries_operator
from imgpro.store.db import Database

FRESH_S: Final = 0.05

Verdict = Literal["ok", "degraded", "failed"]
_VERDICTS: Final[dict[State, Verdict]] = {"ok": "ok", "low": "degraded", "full": "failed", "unwritable": "failed"}


class Check(msgspec.Struct, frozen=True):
    """What was found about one part. `degraded` is worth a look and keeps nobody from uploading."""

    verdict: Verdict
    reason: str

    @property
    def good(self) -> bool:
        """Tell whether the server is useful as far as this goes."""
        return self.verdict != "failed"


class Readiness:
    """Looks at everything that decides. One for the appliance."""

    def __init__(self, db: Database, room: RoomWatch, pool: Pool, mail: Mail, keeping: Keeping) -> None:
        self._db = db
        self._room = room
        self._pool = pool
        self._mail = mail
        self._keeping = keeping
        self.draining = False

    async def decisive(self) -> dict[str, Check]:
        """Return what must hold for the server to be useful, by name."""
        return {
            "serving": Check("failed", "stopping") if self.draining else Check("ok", "answers"),
            "database": await self._database(),
            "disk": await self._disk(),
            "workers": self._workers(),
        }

    async def everything(self) -> dict[str, Check]:
        """Return that, and what only the operator needs to know."""
        found = {**await self.decisive(), "sandbox": self._sandbox(), "mail": await self._letters()}
        return {**found, **await self._kept()}

    async def _database(self) -> Check:
        try:
            await self._db.ping()
        except ImgproError as problem:
            return Check("failed", f"takes no writes: {problem.message}")
        return Check("ok", "takes writes")

    async def _disk(self) -> Check:
        await self._room.look(newer_than_s=time.monotonic() - FRESH_S)
        if self._room.gone is not None:
            return Check("failed", self._room.gone.message)
        rooms = self._room.rooms
        words = [found.words if len(rooms) == 1 else f"{found.disk}: {found.words}" for found in rooms]
        verdict = _VERDICTS[self._room.state]
        return Check(verdict, "; ".join(words))

    def _workers(self) -> Check:
        status = self._pool.status()
        words = f"{status.workers} of {status.wanted} run, {status.busy} busy, {status.queued} jobs wait"
        if not status.workers:
            return Check("failed", words)
        return Check("ok" if status.workers == status.wanted else "degraded", words)

    def _sandbox(self) -> Check:
        report = self._pool.sandbox
        if report is None:
            return Check("degraded", "no worker has told how it is confined")
        if report.open:
            return Check("degraded", f"not refused to a worker: {', '.join(report.open)}")
        landlock = f"Landlock ABI {report.landlock_abi}" if report.landlock_abi else "no Landlock"
        return Check("ok", f"{landlock}, {'seccomp' if report.seccomp else 'no seccomp'}")

    async def _kept(self) -> dict[str, Check]:
        """Say how well pictures are kept. Nothing of it keeps anybody from uploading."""
        try:
            kept = await self._keeping.look()
        except ImgproError as problem:
            return {"backup": Check("degraded", f"not known: {problem.message}")}
        words = {"backup": backup_words(kept), "verify": verify_words(kept), "scrub": scrub_words(kept)}
        words["journal"] = journal_words(kept)
        found = {}
        for name, told in words.items():
            worry = kept.about(name)
            found[name] = Check("ok", told) if worry is None else Check("degraded", f"{worry.words} ({told})")
        if (held := kept.about("retention")) is not None:
            found["retention"] = Check("degraded", held.words)
        return found

    async def _letters(self) -> Check:
        if not self._mail.enabled:
            return Check("ok", "no mail server is set")
        async with self._db.reader() as conn:
            state = await queries_operator.mail_state(conn, time.time_ns() // 1_000_000)
        waiting = f"{state.waiting} {'letter waits' if state.waiting == 1 else 'letters wait'}"
        if state.failed:
            return Check("degraded", f"{waiting}: {state.last_error or 'the mail server did not take them'}")
        return Check("ok", waiting if state.waiting else "nothing waits")
