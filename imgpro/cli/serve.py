"""`imgpro run`: log, banner, sockets, signals. Everything else is the appliance and the web side."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import uvloop

from imgpro.appliance import Appliance
from imgpro.cli.banner import addresses_of, print_banner
from imgpro.cli.logs import set_up_logging, wants_json
from imgpro.errors import Action, ConfigError, StorageFault
from imgpro.flows.log_lines import LogLines
from imgpro.jobs import Jobs
from imgpro.sources import Listen, Loaded, parse_listen
from imgpro.web.access import AccessLog
from imgpro.web.admin import AdminDoor
from imgpro.web.app import build_runner
from imgpro.web.server import BACKLOG

log = logging.getLogger(__name__)


def serve(loaded: Loaded, data: Path) -> None:
    """Run until SIGTERM or SIGINT, then finish what is under way and stop.

    Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault, ConfigError.
    """
    lines = set_up_logging(loaded.settings.log)
    sockets = [_bind(parse_listen(text)) for text in loaded.settings.server.listen]
    uvloop.run(_serve(loaded, lines, data, sockets))


async def _serve(loaded: Loaded, lines: LogLines, data: Path, sockets: Sequence[socket.socket]) -> None:
    settings = loaded.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    paths = [address.path for address in map(parse_listen, settings.server.listen) if address.kind == "unix"]
    async with contextlib.AsyncExitStack() as parts:
        appliance = await Appliance.start(settings, data, sources=loaded.sources, log_lines=lines)
        parts.push_async_callback(appliance.close)
        access = AccessLog(as_json=wants_json(settings.log)) if settings.log.access else None
        if access is not None:
            parts.callback(access.flush)
        runner = build_runner(appliance, access)
        parts.push_async_callback(runner.cleanup)
        await runner.setup()
        appliance.fetcher.own_ports = frozenset(sock.getsockname()[1] for sock in sockets if _is_inet(sock))
        for sock in sockets:
            await runner.listen(sock)
        addresses = [address for sock in sockets for address in addresses_of(sock)]
        appliance.home.found_at(next((address for address in addresses if address.startswith("http")), ""))
        door = AdminDoor(appliance)
        parts.push_async_callback(door.close)
        await door.open()
        jobs = Jobs(appliance)
        jobs.start()
        parts.push_async_callback(jobs.stop)
        setup_link = None if await appliance.operate.claimed() else await appliance.operate.setup_link()
        print_banner(settings, data, addresses, setup_link)
        await stop.wait()
        log.info("stopping")
        appliance.drain()
        _remove_names(paths)
        await runner.drain()
    log.info("stopped")


def _on_signal(stop: asyncio.Event) -> None:
    """The first signal asks for a clean stop, a second one ends at once."""
    if stop.is_set():
        os._exit(130)
    stop.set()


def _bind(address: Listen) -> socket.socket:
    try:
        if address.kind == "fd":
            return socket.socket(fileno=address.fd)
        if address.kind == "unix":
            return _bind_unix(Path(address.path))
        return _bind_tcp(address)
    except OSError as error:
        where = address.path or f"{address.host}:{address.port}"
        raise StorageFault(
            f"Cannot listen on {where}: {error.strerror or error}.",
            Action("fix", label="another address, for example --listen :0 for any free port"),
        ) from None


def _bind_tcp(address: Listen) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno in (13, 98):  # EACCES, EADDRINUSE: IPv4 alone would meet the same
                raise
    host = address.host or "0.0.0.0"  # noqa: S104  # a LAN appliance answers on every interface
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
    if not found:
        raise ConfigError(f"server.listen: {host} is not an address of this machine.")
    family, _, _, _, target = found[0]
    return socket.create_server(target[:2], family=family, backlog=BACKLOG)


def _bind_unix(path: Path) -> socket.socket:
    """Bind a name in the file system; one that a killed server left is taken over, one in use is not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.is_socket():
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            sock.close()
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    sock.bind(str(path))
    path.chmod(0o660)
    sock.listen(BACKLOG)
    return sock


def _remove_names(paths: Sequence[str]) -> None:
    """Take the names of our unix sockets away: whoever finds one should find a server behind it."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _is_inet(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)
