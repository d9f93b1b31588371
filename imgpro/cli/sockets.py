"""The sockets that `imgpro run` listens on: bound here, or handed over by systemd. Nothing of what is answered."""

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from imgpro.errors import Action, ConfigError, StorageFault
from imgpro.settings import Server
from imgpro.sources import Listen, parse_listen

BACKLOG = 1024


def listening_sockets(settings: Server) -> list[tuple[Listen, socket.socket]]:
    """Return every socket to answer on, with the address it stands for. Raises StorageFault, ConfigError."""
    addresses: Sequence[Listen] = [parse_listen(text) for text in settings.listen]
    return [(address, bind(address)) for address in addresses]


def bind(address: Listen) -> socket.socket:
    """Return a bound socket for one address. Raises StorageFault, ConfigError."""
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


def is_inet(sock: socket.socket) -> bool:
    """Tell whether a socket has a port."""
    return sock.family in (socket.AF_INET, socket.AF_INET6)
