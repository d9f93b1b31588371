"""`imgpro health`: is the server there; for containers and timers. Asks over HTTP, as everybody does.

Loads little, because it may run every few seconds.
"""

import contextlib
import http.client
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.words import note
from imgpro.errors import Action, ConfigError, ImgproError, ServerUnreachable
from imgpro.sense import as_answered, parse_listen
from imgpro.settings import Server
from imgpro.sources import Loaded, load

DEADLINE_S: Final = 5.0
MAX_BYTES: Final = 4 * 1024 * 1024


class Target(msgspec.Struct, frozen=True):
    """Where a server is asked. `trusted`: it is on this machine, so its certificate need not vouch for it."""

    name: str
    host: str = ""
    port: int = 0
    path: str = ""  # of a socket
    prefix: str = ""
    tls: bool = False
    trusted: bool = False


class Reply(msgspec.Struct, frozen=True):
    """What it said, and by which name it was asked."""

    name: str
    status: int
    body: dict[str, Any]


@click.command("health")
@click.option("--url", metavar="URL", help="Server to ask, http(s)://HOST:PORT or unix:/path. Else by the settings.")
@click.option(
    "--ready", is_flag=True, help="Ask whether it can store and serve pictures now, not only whether it lives."
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON.")
@data_option
@config_option
def health(url: str | None, ready: bool, as_json: bool, data: str | None, config: Path | None) -> None:
    """Ask the server whether it is well: exits 0 if so, 1 if not, 69 if nobody answers.

    Without --url it is asked at the first address in server.listen; where that leads nowhere because systemd or a free
    port decides, through the socket in its data directory, by whoever may use that.

    Example: imgpro health --ready
    """
    path = "/readyz" if ready else "/healthz"
    reply = ask(parse_target(url), path) if url else _ask_own(load({"storage.data": data}, config), path)
    well = reply.status == 200
    if as_json:
        click.echo(json.dumps(reply.body))
    elif well:
        click.echo("ok")
    if not well:
        why = reply.body.get("reasons", {})
        found = [name for name, state in reply.body.get("checks", {}).items() if state == "failed"]
        failed = [f"{name} ({why[name]})" if name in why else name for name in found]
        note(f"{reply.name} is not well: {', '.join(failed) or f'it answers {reply.status}'}")
        sys.exit(1)


def _ask_own(loaded: Loaded, path: str) -> Reply:
    """Ask the server of these settings. Raises ConfigError, ServerUnreachable."""
    try:
        return ask(own_target(loaded.settings.server), path)
    except (ConfigError, ServerUnreachable) as problem:
        data = data_dir(loaded)
        try:
            from imgpro.cli import office  # loads asyncio, which whoever sends pictures does not wait for

            answer = office.ask_about(data, "readyz")
        except (ImgproError, OSError):
            answer = None
        if answer is None:
            raise problem from None
        lives = path == "/healthz" or answer.get("status") != "unavailable"
        return Reply(str(data), 200 if lives else 503, answer)


def own_target(server: Server) -> Target:
    """Return where the server of these settings is reached from this machine: its first address that says so.

    Raises ConfigError where none does: port 0 is another one at each start, and a descriptor has no address.
    """
    for address in as_answered(map(parse_listen, server.listen), server):
        if address.kind == "unix":
            return Target(f"unix:{address.path}", path=address.path, trusted=True)
        if address.kind == "tcp" and address.port:
            host = address.host
            if address.is_everywhere:
                host = "::1" if host == "::" else "127.0.0.1"
            shown = f"[{host}]" if ":" in host else host
            name = f"{'https' if address.tls else 'http'}://{shown}:{address.port}"
            return Target(name, host=host, port=address.port, tls=address.tls, trusted=True)
    raise ConfigError("The settings do not say where the server is reached.", Action("fix", label="--url URL"))


def parse_target(url: str) -> Target:
    """Read an address that a person gave. Raises ConfigError."""
    if url.startswith("unix:") and len(url) > 5:
        return Target(url, path=url[5:], trusted=True)
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is not the address of a server.", Action("fix", label="--url http://127.0.0.1:8080"))
    prefix = parts.path.rstrip("/")
    return Target(url, host=parts.hostname, port=port, prefix=prefix, tls=parts.scheme == "https")


def ask(target: Target, path: str, deadline_s: float = DEADLINE_S) -> Reply:
    """Ask for a JSON document, by no proxy. Raises ServerUnreachable."""
    status, body = fetch(target, path, deadline_s)
    try:
        found = json.loads(body)
    except ValueError:
        found = {}
    return Reply(target.name, status, found if isinstance(found, dict) else {})


def fetch(target: Target, path: str, deadline_s: float) -> tuple[int, bytes]:
    """Ask for something that is not long; return the status and the body. Raises ServerUnreachable."""
    connection = _Connection(target, deadline_s)
    try:
        connection.request("GET", target.prefix + path, headers={"User-Agent": "imgpro-health"})
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServerUnreachable(
            f"{target.name} does not answer: {reason}.", Action("fix", label="Start it, or name it with --url")
        ) from None
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over TCP, TLS or a socket in the file system."""

    def __init__(self, target: Target, deadline_s: float) -> None:
        super().__init__(target.host or "localhost", target.port or 80, timeout=deadline_s)
        self._target = target
        self.default_port = 443 if target.tls else 80  # decides whether Host names the port

    def connect(self) -> None:
        """Connect."""
        target = self._target
        if target.path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            with contextlib.ExitStack() as undo:
                undo.callback(self.sock.close)
                self.sock.connect(target.path)
                undo.pop_all()
            return
        super().connect()
        if target.tls:
            context = ssl.create_default_context()
            if target.trusted:
                # Its name is that of the outside world, and the file may be newer than what is in use.
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=target.host)
