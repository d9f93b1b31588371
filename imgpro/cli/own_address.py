"""How the server of this machine is reached, by its own settings: for what stands beside it and holds no key."""

import os
import socket
from collections.abc import Sequence
from typing import Final

from imgpro import units
from imgpro.cli import login_file, remote
from imgpro.errors import Action, ConfigError
from imgpro.integrations.proxies import Front
from imgpro.sense import Listen, as_answered, parse_listen
from imgpro.sources import load

EXAMPLE: Final = "https://img.example.org"


def front(option: str | None, listen: str | None) -> tuple[Front, bool]:
    """Return this server as a proxy shows it, and whether its address is known: else an example stands for it.

    Raises ConfigError.
    """
    settings = load({}).settings.server
    named = option or os.environ.get(login_file.SERVER_VARIABLE) or settings.base_url
    base = remote.parse_server(named)[0] if named else EXAMPLE
    try:
        addresses = [parse_listen(listen)] if listen else as_answered(map(parse_listen, settings.listen), settings)
        found = Front(base, _for_proxy(addresses), remote.is_local(base.partition("://")[2]))
    except ValueError as error:
        raise ConfigError(f"A proxy cannot be told this: {error}.", Action("fix", label="another --listen")) from None
    return found, bool(named)


def announced(option: str | None) -> str:
    """Return the address that neighbours in the local network can open. Raises ConfigError."""
    named = option or os.environ.get(login_file.SERVER_VARIABLE)
    if named:
        return remote.parse_server(named)[0]
    settings = load({}).settings.server
    for address in as_answered(map(parse_listen, settings.listen), settings):
        if address.kind == "tcp" and not address.is_loopback:
            scheme = "https" if address.tls else "http"
            return f"{scheme}://{socket.gethostname()}.local:{address.port or units.PORT}"
    if settings.base_url:
        return settings.base_url.rstrip("/")
    label = "server.base_url for the address of your proxy, or --server URL"
    raise ConfigError("This server listens for its own machine only.", Action("fix", label=label))


def _for_proxy(addresses: Sequence[Listen]) -> str:
    """Return where a proxy on this machine finds a server that listens so. Raises ValueError if it speaks TLS alone."""
    for address in addresses:
        if address.kind == "unix":
            return f"unix:{address.path}"
        if address.kind == "tcp" and not address.tls:
            host = "127.0.0.1" if address.is_everywhere else address.host
            host = f"[{host}]" if ":" in host else host
            return f"{host}:{address.port or units.PORT}"
    if addresses and all(address.tls for address in addresses):
        raise ValueError("every address that imgpro listens on speaks TLS")
    return f"127.0.0.1:{units.PORT}"
