"""`imgpro run`: log, banner, sockets, signals. Everything else is the appliance and the web side."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from imgpro.appliance import Appliance
from imgpro.cli.banner import addresses_of, print_banner
from imgpro.cli.logs import set_up_logging, wants_json
from imgpro.cli.reloading import Reloading
from imgpro.cli.sockets import is_inet, listening_sockets
from imgpro.cli.supervisor import Supervisor
from imgpro.flows.log_lines import LogLines
from imgpro.jobs import Jobs
from imgpro.sources import Listen, Loaded
from imgpro.web.access import AccessLog
from imgpro.web.admin import AdminDoor
from imgpro.web.app import build_runner

log = logging.getLogger(__name__)


Bound = Sequence[tuple[Listen, socket.socket]]


def serve(loaded: Loaded, data: Path, load_again: Callable[[], Loaded]) -> None:
    """Run until SIGTERM or SIGINT, then finish what is under way and stop; `load_again` is called on SIGHUP.

    Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault, ConfigError.
    """
    lines = set_up_logging(loaded.settings.log)
    supervisor = Supervisor()
    sockets = listening_sockets(loaded.settings.server)
    uvloop.run(_serve(loaded, load_again, lines, data, sockets, supervisor))


async def _serve(
    loaded: Loaded,
    load_again: Callable[[], Loaded],
    lines: LogLines,
    data: Path,
    sockets: Bound,
    supervisor: Supervisor,
) -> None:
    settings = loaded.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    paths = [address.path for address, _ in sockets if address.kind == "unix"]
    async with contextlib.AsyncExitStack() as parts:
        appliance = await Appliance.start(settings, data, sources=loaded.sources, log_lines=lines)
        parts.push_async_callback(appliance.close)
        access = AccessLog(as_json=wants_json(settings.log)) if settings.log.access else None
        if access is not None:
            parts.callback(access.flush)
        runner = build_runner(appliance, access)
        parts.push_async_callback(runner.cleanup)
        await runner.setup()
        appliance.fetcher.own_ports = frozenset(sock.getsockname()[1] for _, sock in sockets if is_inet(sock))
        for _, sock in sockets:
            await runner.listen(sock)
        addresses = [address for _, sock in sockets for address in addresses_of(sock)]
        appliance.home.found_at(next((address for address in addresses if address.startswith("http")), ""))
        door = AdminDoor(appliance)
        parts.push_async_callback(door.close)
        await door.open()
        jobs = Jobs(appliance)
        jobs.start()
        parts.push_async_callback(jobs.stop)
        setup_link = None if await appliance.operate.claimed() else await appliance.operate.setup_link()
        print_banner(settings, data, addresses, setup_link)
        reloading = Reloading(loaded, load_again, appliance, supervisor)
        loop.add_signal_handler(signal.SIGHUP, reloading.ask)
        parts.push_async_callback(reloading.close)
        supervisor.ready()
        watch = asyncio.create_task(supervisor.watch(appliance.db.ping), name="watchdog")
        parts.callback(watch.cancel)
        await stop.wait()
        log.info("stopping")
        supervisor.stopping()
        appliance.drain()
        _remove_names(paths)
        await runner.drain()
    log.info("stopped")


def _on_signal(stop: asyncio.Event) -> None:
    """The first signal asks for a clean stop, a second one ends at once."""
    if stop.is_set():
        os._exit(130)
    stop.set()


def _remove_names(paths: Sequence[str]) -> None:
    """Take the names of our unix sockets away: whoever finds one should find a server behind it."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
