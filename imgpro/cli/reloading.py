"""SIGHUP: settings are read again, and what can change while the server runs changes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from imgpro.appliance import Appliance
from imgpro.cli.supervisor import Supervisor
from imgpro.errors import Action, ConfigError
from imgpro.flows.live import Difference, changes, merged, sources_of, waiting
from imgpro.settings import Settings
from imgpro.sources import Loaded

log = logging.getLogger(__name__)

# Tries what only trying shows; returns what cannot fail. Raises ConfigError.
Prepare = Callable[[Settings], Awaitable[Callable[[], None]]]


class Reloading:
    """Reads the settings again when asked, one time after the other. Invalid ones change nothing."""

    def __init__(
        self,
        loaded: Loaded,
        load_again: Callable[[], Loaded],
        appliance: Appliance,
        supervisor: Supervisor,
        prepare: tuple[Prepare, ...] = (),
    ) -> None:
        self._loaded = loaded
        self._load_again = load_again
        self._appliance = appliance
        self._supervisor = supervisor
        self._prepare = prepare
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="reload")

    def ask(self) -> None:
        """Have the settings read again soon. May be called from a signal's handler; several calls may be one reload."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(self._asked.set)

    async def close(self) -> None:
        """Reload no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._supervisor.reloading()
            try:
                await self._reload()
            except ConfigError as problem:
                log.error("the settings stay as they were: %s", _in_one_line(problem))
            except Exception:
                log.exception("the settings stay as they were")
            self._supervisor.ready()

    async def _reload(self) -> None:
        appliance = self._appliance
        loaded = await asyncio.to_thread(self._load_again)
        self._refuse_lost_file(loaded)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        running, wanted = appliance.settings, loaded.settings
        held = waiting(running, wanted)
        settings = merged(running, wanted)
        steps = await self._prepared(settings)
        # Told while such lines are written: the change may be that they are not any more.
        told = log.isEnabledFor(logging.INFO)
        if told:
            _tell(running, settings, held)
        for step in steps:
            step()
        appliance.apply(settings)
        appliance.sources = sources_of(appliance.sources, loaded.sources, held)
        appliance.waiting = tuple(held)
        self._loaded = loaded
        if not told:
            _tell(running, settings, held)

    async def _prepared(self, settings: Settings) -> list[Callable[[], None]]:
        steps, problems = [], []
        for prepare in self._prepare:
            try:
                steps.append(await prepare(settings))
            except ConfigError as problem:
                problems.append(problem)
        if problems:
            raise ConfigError(" ".join(_in_one_line(problem) for problem in problems))
        return steps

    def _refuse_lost_file(self, loaded: Loaded) -> None:
        """Refuse to fall back to defaults because a file has gone: it may be in the middle of being replaced."""
        before = self._loaded.config_file
        if before is not None and loaded.config_file is None:
            raise ConfigError(
                f"The configuration file {before} is gone.", Action("fix", label="put it back, or restart without it")
            )


def _tell(running: Settings, settings: Settings, held: Sequence[Difference]) -> None:
    for change in changes(running, settings):
        log.info("%s", change)
    for change in held:
        log.warning("%s needs a restart", change)
    log.info("the settings were read again")


def _in_one_line(problem: ConfigError) -> str:
    words = "; ".join(line.strip() for line in problem.message.split("\n")).replace(":; ", ": ")
    return f"{words} Try: {problem.action.label}." if problem.action.type == "fix" and problem.action.label else words
