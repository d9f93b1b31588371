"""What `imgpro run` says once it listens: where it is, where the data lies, how to claim it, and a code for phones."""

import contextlib
import fcntl
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from imgpro import __version__
from imgpro.settings import Settings

MAX_ADDRESSES: Final = 6
MIN_ROWS: Final = 20
# Networks of containers and virtual machines on this host: nobody on the LAN reaches these addresses.
_INNER: Final = re.compile(r"(docker|veth|virbr|cni|podman|lxcbr|lxdbr)\d*|br-[0-9a-f]{12}|(veth|cali|flannel).*")
_SIOCGIFADDR: Final = 0x8915
# White on black whatever the terminal's colours are: a code with its colours swapped is not read by every phone.
_WHITE, _ON_BLACK, _END = "\x1b[38;5;231m", "\x1b[48;5;16m", "\x1b[0m"


def print_banner(settings: Settings, data: Path, addresses: Sequence[str], setup_link: str | None) -> None:
    """Say where the server is, where the data lies and how to claim it, on standard error."""
    at_terminal = sys.stderr.isatty()
    lines = [f"imgpro {__version__} is running", f"  data     {data.resolve()}"]
    lines += [f"  open     {address}" for address in addresses[:MAX_ADDRESSES]]
    if settings.server.base_url:
        lines.append(f"  links    {settings.server.base_url}")
    if setup_link is not None:
        lines.append(f"  set up   {setup_link}")
        lines.append("           makes the operator's account; once, for 30 minutes; again: imgpro setup-link")
    if not settings.log.access or at_terminal:
        first = next((address for address in addresses if address.startswith("http")), "")
        lines.append(f"  upload   curl -F file=@picture.jpg {first}/v1/upload")
    lines.append("  stop     Ctrl+C" if at_terminal else f"  pid      {os.getpid()}")
    best = best_address(settings.server.base_url, addresses)
    if at_terminal and best is not None:
        lines = [*_code(best), *lines]
    try:
        click.echo("\n".join(lines), err=True)
    except OSError:  # a full disk behind it, or nobody: no reason not to serve
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - what could not be written stays in the old one


def best_address(base_url: str | None, addresses: Sequence[str]) -> str | None:
    """Return the address that a phone on this network can open, None if there is none."""
    for address in [base_url, *addresses]:
        host = (address or "").partition("://")[2].partition("/")[0]
        if host and not re.match(r"localhost\b|127\.|\[::1\]|[^:]+\.local\b", host):
            return address
    return None


def addresses_of(sock: socket.socket, *, tls: bool = False) -> list[str]:
    """Return the addresses under which a listening socket is found, the most useful first."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return [f"unix:{sock.getsockname()}"]
    host, port = sock.getsockname()[:2]
    return addresses_at(host, port, tls=tls)


def addresses_at(host: str, port: int, *, tls: bool = False) -> list[str]:
    """Return the addresses of a server that listens on a port of one interface, or of all."""
    scheme = "https" if tls else "http"
    if host not in ("::", "0.0.0.0"):  # noqa: S104
        return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"]
    local = socket.gethostname()
    names = [*lan_addresses(), "localhost"]
    if local and local != "localhost":
        names.insert(len(names) - 1, f"{local.partition('.')[0]}.local")
    return [f"{scheme}://{name}:{port}" for name in names]


def lan_addresses() -> list[str]:
    """Return this machine's IPv4 addresses on its networks, the one with the default route first.

    Connecting a datagram socket sends nothing; it only makes the kernel choose a source address. No name is looked up:
    where no DNS server answers, that takes ten seconds.
    """
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        found += _interface_addresses(probe)
    return [address for address in dict.fromkeys(found) if not address.startswith("127.")]


def _interface_addresses(sock: socket.socket) -> Iterator[str]:
    """Yield the address of each network interface that leads out of this machine (netdevice(7))."""
    for _, name in socket.if_nameindex():
        if _INNER.fullmatch(name):
            continue
        with contextlib.suppress(OSError):  # an interface without an address
            answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            yield socket.inet_ntoa(answer[20:24])


def _code(address: str) -> list[str]:
    """Return the lines of a QR code, none where the terminal cannot show it. It stands first: what follows is read."""
    size = os.get_terminal_size(sys.stderr.fileno())
    speaks = "utf" in (sys.stderr.encoding or "").lower() and os.environ.get("TERM", "dumb") != "dumb"
    if size.lines < MIN_ROWS or not speaks:
        return []
    import io

    import segno

    drawn = io.StringIO()
    segno.make(address, error="l", micro=False, boost_error=False).terminal(drawn, border=1, compact=True)
    rows = drawn.getvalue().splitlines()
    if size.columns < len(rows[0]) + 2:
        return []
    # The lower half of the last line lies outside of the code.
    return [f"  {_WHITE}{_ON_BLACK}{row}{_END}" for row in rows[:-1]] + [f"  {_WHITE}{rows[-1]}{_END}"]
