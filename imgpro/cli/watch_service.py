"""What `imgpro service status` finds out: from systemd, and from the server itself."""

import contextlib
import http.client
import json
import re
import socket
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from imgpro import units
from imgpro.cli import systemd
from imgpro.errors import Action

_ADDRESS: Final = re.compile(r"Answering on (\S+), data in (.*)")
_DEADLINE_S: Final = 5.0
_PROPERTIES: Final = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "StatusText", "User", "MainPID",
    "ActiveEnterTimestamp", "UnitFileState", "MemoryCurrent",
)  # fmt: skip


def look() -> dict[str, Any]:
    """Return what is known about the service; empty values where nothing is."""
    found = systemd.show(units.SERVICE, *_PROPERTIES)
    said = _ADDRESS.match(found["StatusText"])
    answers = _ask(said[1]) if said else {}
    return {
        "installed": found["LoadState"] == "loaded",
        "state": "active" if found["ActiveState"] == "reloading" else found["ActiveState"] or "unknown",
        "result": found["Result"],
        "exit_code": int(found["ExecMainStatus"] or 0),
        "starts_at_boot": found["UnitFileState"] == "enabled",
        "since": found["ActiveEnterTimestamp"],
        "restarts": int(found["NRestarts"] or 0),
        "pid": int(found["MainPID"] or 0),
        "user": found["User"],
        "memory_bytes": int(found["MemoryCurrent"]) if found["MemoryCurrent"].isdigit() else None,
        "socket": systemd.show(units.SOCKET, "ActiveState")["ActiveState"] == "active",
        "address": said[1] if said else "",
        "data": said[2] if said else "",
        "says": found["StatusText"],
        "version": answers.get("version", ""),
        "ready": answers.get("status") in ("ok", "degraded"),
        "checks": answers.get("checks", {}),
        "reasons": answers.get("reasons", {}),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return it for a person."""
    if not found["installed"]:
        return ["imgpro is not installed as a service"]
    told = [
        f"state     {found['state']} since {found['since'] or 'never'}, {found['restarts']} restarts after failures"
    ]
    if found["state"] != "active":
        told[0] = f"state     {found['state']} ({found['result']}, exit code {found['exit_code']})"
    told.append(f"boot      {'starts' if found['starts_at_boot'] else 'does NOT start'} with this machine")
    told.append(f"socket    {'held by systemd' if found['socket'] else 'not held: a restart refuses connections'}")
    if found["address"]:
        told += [f"open      {found['address']}", f"data      {found['data']}, as the user {found['user']}"]
    if found["version"]:
        told.append(f"version   {found['version']}")
    for name, verdict in found["checks"].items():
        reason = found["reasons"].get(name, "")
        told.append(f"{name:<9} {verdict}" + (f": {reason}" if reason else ""))
    return told


def remedy(found: dict[str, Any]) -> Action:
    """Return what to do about a service that is not well."""
    if not found["installed"]:
        return Action("fix", label="sudo imgpro service install --data DIR")
    if found["state"] == "inactive":
        return Action("fix", label=f"sudo systemctl start {units.SERVICE}")
    return Action("fix", label=f"journalctl -u {units.SERVICE} -n 50")


def _ask(address: str) -> dict[str, Any]:
    """Return what the server says about itself; empty if it does not answer."""
    found: dict[str, Any] = {}
    for path in ("/healthz", "/readyz"):
        try:
            connection = _connection(address)
            try:
                connection.request("GET", path, headers={"Host": "localhost"})
                found.update(json.loads(connection.getresponse().read()))
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException):
            return {}
    return found


def _connection(address: str) -> http.client.HTTPConnection:
    """Return a connection to an address of this machine; by loopback, if the server is there, it says more."""
    if address.startswith("unix:"):
        connection = http.client.HTTPConnection("localhost", timeout=_DEADLINE_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_DEADLINE_S)
        connection.sock.connect(address.removeprefix("unix:"))
        return connection
    parts = urlsplit(address)
    host = parts.hostname or "localhost"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", parts.port or 80), _DEADLINE_S):
        host = "127.0.0.1"
    if parts.scheme == "https":
        # It is this machine, asked by its address, which no certificate names.
        context = ssl._create_unverified_context()  # noqa: S323
        return http.client.HTTPSConnection(host, parts.port, timeout=_DEADLINE_S, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=_DEADLINE_S)
