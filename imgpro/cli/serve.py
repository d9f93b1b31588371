"""`imgpro run`: log, banner, sockets, signals. Everything else is the appliance and the web side."""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from imgpro.appliance import Appliance
from imgpro.cli.banner import addresses_of, print_banner
from imgpro.cli.hang_ups import HangUps
from imgpro.cli.logs import Logs, set_up_logging
from imgpro.cli.options import known_data
from imgpro.cli.reloading import Prepare, Reloading
from imgpro.cli.sockets import bind, is_inet, listening_sockets
from imgpro.cli.supervisor import Supervisor
from imgpro.errors import Action, ConfigError, StorageFault
from imgpro.flows.upkeep import DataWatch
from imgpro.jobs import Jobs
from imgpro.sense import Listen, parse_listen
from imgpro.settings import Settings
from imgpro.sources import Loaded
from imgpro.web.access import AccessLog
from imgpro.web.admin import AdminDoor
from imgpro.web.app import build_runner
from imgpro.web.server import Runner
from imgpro.web.tls import Certificate

if TYPE_CHECKING:
    from imgpro.web.metrics import MetricsDoor

log = logging.getLogger(__name__)

MAX_FILES: Final = 65_536
_ECHO_S: Final = 0.25  # within which a second signal is the first one, passed on

Bound = Sequence[tuple[Listen, socket.socket]]


def serve(
    loaded: Loaded, data: Path, load_again: Callable[[], Loaded], hang_ups: HangUps, *, accept: bool = False
) -> None:
    """Run until SIGTERM or SIGINT, then finish what is under way and stop; `load_again` is called on SIGHUP.

    `accept`: take the data directory as it is, whatever was there at the last start.
    Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault, ConfigError.
    """
    logs = set_up_logging(loaded.settings.log)
    faulthandler.enable()  # the watchdog's SIGABRT then tells where every thread stood
    _prepare_process()
    supervisor = Supervisor()
    server = loaded.settings.server
    certificate = Certificate(server) if server.tls_cert else None
    sockets = listening_sockets(server)
    _note_other_addresses(loaded, sockets)
    try:
        uvloop.run(_serve(loaded, load_again, logs, data, sockets, certificate, supervisor, hang_ups, accept=accept))
    finally:
        hang_ups.close()
        logs.close()


def _note_other_addresses(loaded: Loaded, sockets: Bound) -> None:
    """Warn where the settings name an address and systemd holds the socket of another."""
    if loaded.sources.get("server.listen", "default") == "default" or any(
        address.kind != "fd" for address, _ in sockets
    ):
        return
    wanted = [parse_listen(text) for text in loaded.settings.server.listen]
    held = {sock.getsockname()[:2] for _, sock in sockets if is_inet(sock)}
    if any(at.kind == "tcp" and (at.host or "::", at.port) not in held for at in wanted):
        log.warning(
            "server.listen is not in use: systemd holds the socket, on %s; `sudo imgpro service install --listen ADDR` "
            "moves it",
            ", ".join(f"{host}:{port}" for host, port in sorted(held)) or "another address",
        )


async def _serve(
    loaded: Loaded,
    load_again: Callable[[], Loaded],
    logs: Logs,
    data: Path,
    sockets: Bound,
    certificate: Certificate | None,
    supervisor: Supervisor,
    hang_ups: HangUps,
    *,
    accept: bool,
) -> None:
    settings = loaded.settings
    stop = _Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal)
    paths = [address.path for address, _ in sockets if address.kind == "unix"]
    async with contextlib.AsyncExitStack() as parts:
        parts.callback(_remove_names, paths)
        async with supervisor.starting(f"Opening {data}"):
            appliance = await Appliance.start(
                settings, data, sources=loaded.sources, log_lines=logs.lines, known=known_data(data), accept=accept
            )
        parts.push_async_callback(appliance.close)
        runner = await _set_up_web(appliance, logs, parts)
        addresses = await _listen(appliance, runner, sockets, certificate)
        door = AdminDoor(appliance)
        parts.push_async_callback(door.close)
        await door.open()
        jobs = Jobs(appliance)
        jobs.start()
        parts.push_async_callback(jobs.stop)
        await _introduce(appliance, data, addresses, in_journal=supervisor.is_there)
        if runner.metrics_door is not None:
            parts.push_async_callback(runner.metrics_door.close)
            paths += await _tell_metrics(appliance, runner.metrics_door)
        reloading = Reloading(loaded, load_again, appliance, supervisor, _preparing(appliance, certificate))
        parts.push_async_callback(reloading.close)
        supervisor.ready(f"Answering on {addresses[0]}, data in {data}")
        watch = asyncio.create_task(supervisor.watch(appliance.db.ping), name="watchdog")
        parts.callback(watch.cancel)
        exchanged = _stop_when_exchanged(appliance, stop)
        parts.callback(exchanged.cancel)
        hang_ups.listen(lambda: _on_hang_up(hang_ups, reloading, loop, stop))
        await stop.wait()
        await reloading.close()
        log.info("stopping")
        supervisor.stopping(appliance.settings.server.stop_deadline_s)
        appliance.drain()
        _remove_names(paths)
        await runner.drain()
    log.info("stopped")
    if exchanged.done() and not exchanged.cancelled():
        raise exchanged.result()


async def _set_up_web(appliance: Appliance, logs: Logs, parts: contextlib.AsyncExitStack) -> Runner:
    """Return the web side, which listens nowhere yet, and have `parts` end it."""

    def access(settings: Settings) -> AccessLog | None:
        return logs.access(settings.log) if settings.log.access else None

    runner = build_runner(appliance, access(appliance.settings))
    parts.push_async_callback(runner.cleanup)
    await runner.setup()
    appliance.followers.append(lambda new: logs.apply(new.log))
    appliance.followers.append(lambda new: runner.apply(new.server, access(new)))
    # What is there now stays. A collection, which holds up whoever asks, need not go through it: 20 ms each time.
    gc.collect()
    gc.freeze()
    return runner


async def _listen(appliance: Appliance, runner: Runner, sockets: Bound, certificate: Certificate | None) -> list[str]:
    """Answer on every socket; return the addresses to open. Raises ConfigError."""
    appliance.fetcher.own_ports = frozenset(sock.getsockname()[1] for _, sock in sockets if is_inet(sock))
    named = any(address.tls for address, _ in sockets)
    if named and certificate is None:
        raise ConfigError(
            "A socket named https was handed over, and server.tls_cert is not set.",
            Action("fix", label="set server.tls_cert, or take FileDescriptorName=https out of the socket unit"),
        )
    found: list[str] = []
    for address, sock in sockets:
        # Where no address says https, all that have a port speak TLS.
        tls = address.tls or (certificate is not None and not named and is_inet(sock))
        await runner.listen(sock, certificate if tls else None)
        found += addresses_of(sock, tls=tls)
    appliance.home.found_at(next((address for address in found if address.startswith("http")), ""))
    if certificate is not None and not any(address.startswith("https:") for address in found):
        log.warning("server.tls_cert is set, and no address has a port to speak TLS on")
    return found


async def _introduce(appliance: Appliance, data: Path, addresses: Sequence[str], *, in_journal: bool) -> None:
    """Print the banner, with the link that claims the server, if nobody has.

    A journal keeps what it is told, and shows it to more people than the one who may claim it: it gets no link.
    """
    claimed = await appliance.operate.claimed()
    setup_link = None if claimed or in_journal else await appliance.operate.setup_link()
    print_banner(appliance.settings, data, addresses, setup_link)
    if not claimed and in_journal:
        log.info("nobody has claimed this server: sudo imgpro setup-link --data %s prints the link", data)


async def _tell_metrics(appliance: Appliance, door: "MetricsDoor") -> list[str]:
    """Answer at the address that metrics have for themselves; return its name in the file system, if it has one.

    Raises StorageFault, ConfigError.
    """
    address = parse_listen(appliance.settings.metrics.listen)
    sock = bind(address)
    if is_inet(sock):
        appliance.fetcher.own_ports |= {sock.getsockname()[1]}
    await door.open(sock)
    log.info("metrics are told at %s", ", ".join(f"{found}/metrics" for found in addresses_of(sock)))
    return [address.path] if address.kind == "unix" else []


def _preparing(appliance: Appliance, certificate: Certificate | None) -> tuple[Prepare, ...]:
    """Return what has to be tried before settings that were read again are in force."""

    async def mail(settings: Settings) -> Callable[[], None]:
        return await appliance.mail.prepare(settings.mail)

    async def tls(settings: Settings) -> Callable[[], None]:
        assert certificate is not None
        return await certificate.prepare(settings.server)

    return (mail,) if certificate is None else (mail, tls)


def _on_hang_up(hang_ups: HangUps, reloading: Reloading, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Reload; or stop, where the signal means that the terminal in front of which the server ran has been closed."""
    if not hang_ups.terminal_gone:
        reloading.ask()
        return
    with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
        loop.call_soon_threadsafe(stop.set)


def _prepare_process() -> None:
    """Take all the descriptors that this process may have, and no harm from signals that mean nothing here."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if most == resource.RLIM_INFINITY else min(most, MAX_FILES)
    if files != resource.RLIM_INFINITY and files < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # tools that rotate logs send them; by default they kill


def _stop_when_exchanged(appliance: Appliance, stop: asyncio.Event) -> asyncio.Task[StorageFault]:
    """Have the server stop when its data directory is no longer the one it opened."""
    task = asyncio.create_task(DataWatch(appliance.data).exchanged(), name="data watch")
    task.add_done_callback(lambda _: stop.set())
    return task


class _Stop(asyncio.Event):
    """Is set by the first signal, which asks for a clean stop; a second one ends at once.

    Who signals a whole group of processes (`timeout`, systemd without KillMode=mixed) reaches the executable's loader
    as well, which passes it on: what comes within a moment is the same signal.
    """

    _first = 0.0

    def on_signal(self) -> None:
        """Heed a SIGTERM or SIGINT."""
        now = time.monotonic()
        if not self.is_set():
            self._first = now
            self.set()
        elif now - self._first > _ECHO_S:
            os._exit(130)


def _remove_names(paths: Sequence[str]) -> None:
    """Take the names of our unix sockets away: whoever finds one should find a server behind it."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
