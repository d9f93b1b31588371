"""`imgpro run`: log, banner, sockets, signals. Everything else is the appliance and the web side."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop

from imgpro import __version__
from imgpro.appliance import Appliance
from imgpro.cli.logs import set_up_logging, wants_json
from imgpro.errors import Action, ConfigError, StorageFault
from imgpro.jobs import Jobs
from imgpro.settings import Settings
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
    set_up_logging(loaded.settings.log)
    sockets = [_bind(parse_listen(text)) for text in loaded.settings.server.listen]
    uvloop.run(_serve(loaded.settings, data, sockets))


async def _serve(settings: Settings, data: Path, sockets: Sequence[socket.socket]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    paths = [address.path for address in map(parse_listen, settings.server.listen) if address.kind == "unix"]
    async with contextlib.AsyncExitStack() as parts:
        appliance = await Appliance.start(settings, data)
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
        addresses = [address for sock in sockets for address in _addresses(sock)]
        appliance.home.found_at(next((address for address in addresses if address.startswith("http")), ""))
        door = AdminDoor(appliance)
        parts.push_async_callback(door.close)
        await door.open()
        jobs = Jobs(appliance)
        jobs.start()
        parts.push_async_callback(jobs.stop)
        setup_link = None if await appliance.operate.claimed() else await appliance.operate.setup_link()
        _banner(settings, data, addresses, setup_link)
        await stop.wait()
        log.info("stopping")
        appliance.draining = True
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


def _banner(settings: Settings, data: Path, addresses: Sequence[str], setup_link: str | None) -> None:
    """Say where the server is, where the data lies and how to claim it, on standard error."""
    lines = [f"imgpro {__version__} is running", f"  data     {data.resolve()}"]
    lines += [f"  open     {address}" for address in addresses[:6]]
    if settings.server.base_url:
        lines.append(f"  links    {settings.server.base_url}")
    if setup_link is not None:
        lines.append(f"  set up   {setup_link}")
        lines.append("           makes the operator's account; once, for 30 minutes; again: imgpro setup-link")
    if not settings.log.access or sys.stderr.isatty():
        first = next((address for address in addresses if address.startswith("http")), "")
        lines.append(f"  upload   curl -F file=@picture.jpg {first}/v1/upload")
    lines.append("  stop     Ctrl+C" if sys.stderr.isatty() else f"  pid      {os.getpid()}")
    click.echo("\n".join(lines), err=True)


def _addresses(sock: socket.socket) -> list[str]:
    if not _is_inet(sock):
        name = sock.getsockname()
        return [f"unix:{name}"]
    host, port = sock.getsockname()[:2]
    if host not in ("::", "0.0.0.0"):  # noqa: S104
        return [f"http://{f'[{host}]' if ':' in host else host}:{port}"]
    local = socket.gethostname()
    names = [*_lan_addresses(), "localhost"]
    if local and local != "localhost":
        names.insert(len(names) - 1, f"{local.partition('.')[0]}.local")
    return [f"http://{name}:{port}" for name in names]


def _lan_addresses() -> list[str]:
    """Return this machine's addresses on its networks, the one with the default route first.

    Connecting a datagram socket sends nothing; it only makes the kernel choose a source address.
    """
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    with contextlib.suppress(OSError):
        found += [str(row[4][0]) for row in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return [address for address in dict.fromkeys(found) if not address.startswith("127.")]
