"""Long work that somebody asked for: one of a kind at a time, with its progress to look at, and an end to it on demand.

Knows nothing of what the work is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from imgpro.errors import Action, ImgproError, NotFound, OperatorError

KEPT: Final = 32  # ended ones, for whoever asks for the end of what they began

log = logging.getLogger(__name__)

State = Literal["running", "done", "failed", "stopped"]
Values = Mapping[str, Any]


class Progress:
    """How far an errand has come. Written by the errand, from any thread; read by whoever waits for it."""

    def __init__(self) -> None:
        self.stage = ""  # what is being done, in words
        self.done = 0
        self.total = 0  # 0: not known
        self.unit: Literal["", "bytes"] = ""  # of `done` and `total`: things, or bytes

    def begin(self, stage: str, total: int = 0, unit: Literal["", "bytes"] = "") -> None:
        """Start another stage, of which `total` is to be done."""
        self.stage, self.done, self.total, self.unit = stage, 0, total, unit

    def advance(self, count: int = 1) -> None:
        """Say that so much more has been done."""
        self.done += count


Work = Callable[[Values, Progress], Awaitable[dict[str, Any]]]


class Report(msgspec.Struct, frozen=True):
    """How an errand stands. `result` is there once it is done, `error` where it failed."""

    errand: str
    kind: str
    state: State
    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class _Errand:
    def __init__(self, name: str, kind: str, progress: Progress, task: asyncio.Task[dict[str, Any]]) -> None:
        self.name = name
        self.kind = kind
        self.progress = progress
        self.task = task

    def report(self) -> Report:
        if not self.task.done():
            return self._report("running")
        if self.task.cancelled():
            return self._report("stopped")
        error = self.task.exception()
        if error is None:
            return self._report("done", result=self.task.result())
        problem = error if isinstance(error, ImgproError) else ImgproError()
        told = {"message": problem.message, "exit_code": problem.exit_code, "details": dict(problem.details)}
        return self._report("failed", error={**told, "action": {"label": problem.action.label}})

    def _report(self, state: State, **outcome: dict[str, Any]) -> Report:
        seen = self.progress
        return Report(self.name, self.kind, state, seen.stage, seen.done, seen.total, seen.unit, **outcome)


class Errands:
    """Those under way and the last that ended. One for the appliance."""

    def __init__(self) -> None:
        self._kinds: dict[str, Work] = {}
        self._errands: dict[str, _Errand] = {}
        self._count = 0

    def offer(self, kind: str, work: Work) -> None:
        """Make known how errands of a kind are done."""
        self._kinds[kind] = work

    def start(self, kind: str, values: Values) -> Report:
        """Begin an errand. Raises NotFound for an unknown kind, OperatorError where one of its kind is under way."""
        work = self._kinds.get(kind)
        if work is None:
            raise NotFound(f"There is no command {kind}.")
        if any(errand.kind == kind and not errand.task.done() for errand in self._errands.values()):
            raise OperatorError(f"{kind} is under way already.", Action("fix", label="Wait until it has ended"))
        self._count += 1
        name, progress = f"{kind}-{self._count}", Progress()
        task = asyncio.get_running_loop().create_task(_do(work, kind, values, progress), name=f"errand {name}")
        self._errands[name] = _Errand(name, kind, progress, task)
        self._forget_old()
        return self._errands[name].report()

    def under_way(self, kind: str) -> Report | None:
        """Return the errand of a kind that is being done; None if none is."""
        found = (errand.report() for errand in self._errands.values() if errand.kind == kind)
        return next((report for report in found if report.state == "running"), None)

    def look(self, name: str) -> Report:
        """Return how an errand stands. Raises NotFound."""
        return self._find(name).report()

    async def ended(self, name: str, patience_s: float) -> Report:
        """Return how it stands once it has ended, or after `patience_s` seconds. Raises NotFound."""
        errand = self._find(name)
        await asyncio.wait([errand.task], timeout=patience_s)
        return errand.report()

    async def stop(self, name: str) -> Report:
        """Break an errand off between its steps, and return how it ended. Raises NotFound."""
        errand = self._find(name)
        errand.task.cancel()
        await asyncio.wait([errand.task])
        return errand.report()

    async def close(self) -> None:
        """Break all of them off."""
        tasks = [errand.task for errand in self._errands.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, name: str) -> _Errand:
        found = self._errands.get(name)
        if found is None:
            raise NotFound("There is no such work under way.")
        return found

    def _forget_old(self) -> None:
        ended = [name for name, errand in self._errands.items() if errand.task.done()]
        for name in ended[:-KEPT]:
            del self._errands[name]


async def _do(work: Work, kind: str, values: Values, progress: Progress) -> dict[str, Any]:
    try:
        return await work(values, progress)
    except ImgproError as problem:
        log.error("%s failed: %s", kind, problem)
        raise
    except Exception:
        log.exception("%s failed", kind)
        raise
