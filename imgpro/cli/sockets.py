"""The sockets that `imgpro run` listens on: bound here, or handed over by systemd. Nothing of what is answered."""

import errno
import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

from imgpro.errors import Action, ConfigError, StorageFault
from imgpro.sense import Listen, parse_listen
from imgpro.settings import Server

BACKLOG = 1024
_FIRST_FD: Final = 3  # sd_listen_fds(3)
_TLS_NAME: Final = "https"  # FileDescriptorName= of sockets that speak TLS


def listening_sockets(
    settings: Server, environ: MutableMapping[str, str] | None = None
) -> list[tuple[Listen, socket.socket]]:
    """Return every socket to answer on, with the address it stands for. Raises StorageFault, ConfigError.

    Sockets that a service manager handed over come instead of `server.listen`. They stay its own: it keeps them open
    from one start to the next, and removes their names.
    """
    addresses: Sequence[Listen] = handed_over(os.environ if environ is None else environ)
    if not addresses:
        addresses = [parse_listen(text) for text in settings.listen]
    return [(address, bind(address)) for address in addresses]


def handed_over(env: MutableMapping[str, str]) -> list[Listen]:
    """Return the sockets that a service manager left open for this very process, and forget that it did.

    What this process starts has other descriptors under the same numbers.
    """
    pid, count, names = (env.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = [*names.split(":"), *[""] * int(count)]
    return [Listen("fd", fd=_FIRST_FD + n, tls=named[n] == _TLS_NAME) for n in range(int(count))]


def bind(address: Listen) -> socket.socket:
    """Return a bound socket for one address. Raises StorageFault, ConfigError."""
    try:
        if address.kind == "fd":
            return _adopt(address.fd)
        if address.kind == "unix":
            return _bind_unix(Path(address.path))
        return _bind_tcp(address)
    except OSError as error:
        where = address.path or (f"{address.host}:{address.port}" if address.kind == "tcp" else f"fd:{address.fd}")
        raise StorageFault(
            f"Cannot listen on {where}: {error.strerror or error}.",
            Action("fix", label="another address, for example --listen :0 for any free port"),
        ) from None


def _adopt(fd: int) -> socket.socket:
    """Return the socket behind a descriptor that whoever started us has opened. Raises OSError, ConfigError."""
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or kind != socket.SOCK_STREAM:
        raise ConfigError(
            f"Descriptor {fd} is a socket, but not one that takes connections (TCP, or a unix stream).",
            Action("fix", label="ListenStream= in the socket unit"),
        )
    try:
        sock.listen(BACKLOG)  # it may do so already
    except OSError:
        raise ConfigError(
            f"Descriptor {fd} is a connection already, not a socket that takes them.",
            Action("fix", label="Accept=no in the socket unit"),
        ) from None
    return sock


def _bind_tcp(address: Listen) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EADDRINUSE):
                raise  # IPv4 alone would meet the same
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
