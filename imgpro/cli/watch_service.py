"""What `imgpro service status` finds out: from systemd, and from the server itself."""

import contextlib
import re
import socket
from typing import Any, Final

import msgspec

from imgpro import units
from imgpro.cli import asking, systemd
from imgpro.errors import Action, ConfigError, ServerUnreachable

_ADDRESS: Final = re.compile(r"Answering on (\S+), data in (.*)")
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
    """Return what the server says about itself; empty if it does not answer.

    It is this machine, whose address no certificate names; asked by loopback, if the server is there, it says more.
    """
    try:
        target = msgspec.structs.replace(asking.parse_target(address), trusted=True)
        if target.port:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", target.port), asking.DEADLINE_S):
                target = msgspec.structs.replace(target, host="127.0.0.1")
        return {**asking.ask(target, "/healthz").body, **asking.ask(target, "/readyz").body}
    except (ConfigError, ServerUnreachable):
        return {}
