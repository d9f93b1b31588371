"""Where operator's commands are carried out: by the running server, through its socket, else here under the lock."""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro import errors
from imgpro.errors import Action, DataDirLocked, DataDirMissing, ImgproError, OperatorError
from imgpro.sources import Loaded
from imgpro.store.layout import ADMIN_SOCKET

LOOK_DEADLINE_S: Final = 10.0
SHOW_S: Final = 0.1
_TOLD: Final = ("imgpro.flows.errands", "imgpro.flows.backup_runs")
STARTING_S: Final = 8.0
DEADLINE_S: Final = 600.0  # deleting all pictures of an account takes its time


def perform(loaded: Loaded, data: Path, command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a command on a data directory and return what it has to say.

    Raises the command's own error, DataDirMissing, DataDirLocked, and what opening a data directory raises.
    """
    look_for_data(data)
    return _there_or_here(
        data,
        lambda: _ask_server(data, command, values),
        lambda: asyncio.run(_perform_here(loaded, data, command, values)),
    )


def errand(
    loaded: Loaded,
    data: Path,
    kind: str,
    values: Mapping[str, Any],
    show: Callable[[Mapping[str, Any]], None],
    *,
    workers: bool = False,
    told: Sequence[str] = (),
) -> dict[str, Any]:
    """Have long work done on a data directory and return its result; `show` is told how it stands, again and again.

    Broken off with Ctrl+C, the work ends as well. `workers`: it takes or makes pictures. `told` names loggers whose
    words the result says anyway. Raises the work's own error, and what `perform` raises.
    """
    look_for_data(data)
    return _there_or_here(
        data,
        lambda: errand_there(data, kind, values, show),
        lambda: asyncio.run(_errand_here(loaded, data, kind, values, show, workers=workers, told=told)),
    )


def _there_or_here(
    data: Path, there: Callable[[], dict[str, Any] | None], here: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Have it done by the server, else here. A server that starts holds the lock a while before it listens."""
    deadline_s = time.monotonic() + STARTING_S
    while True:
        answer = there()
        if answer is not None:
            return answer
        refuse_foreign_root(data)
        try:
            return here()
        except DataDirLocked:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(0.2)


def errand_there(
    data: Path, kind: str, values: Mapping[str, Any], show: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any] | None:
    """Have the running server do it, and follow it to its end; None if none listens."""
    answer = _exchange(data, "POST", f"errand/{kind}", json.dumps(dict(values)).encode())
    if answer is None:
        return None
    path = f"errand/{answer['errand']}"
    try:
        while answer["state"] == "running":
            show(answer)
            answer = _exchange(data, "GET", path, None)
            if answer is None:
                raise errors.ServerUnreachable("The server has stopped, and the work with it.")
    except KeyboardInterrupt:
        _exchange(data, "DELETE", path, None)
        raise
    show(answer)
    return _outcome(answer)


async def _errand_here(
    loaded: Loaded,
    data: Path,
    kind: str,
    values: Mapping[str, Any],
    show: Callable[[Mapping[str, Any]], None],
    *,
    workers: bool,
    told: Sequence[str],
) -> dict[str, Any]:
    from imgpro.appliance import Appliance  # a server that runs needs none of this here

    for name in (*_TOLD, *told):  # no log is kept here, and Python would print what is told in other words
        logging.getLogger(name).addHandler(logging.NullHandler())
    appliance = await Appliance.start(loaded.settings, data, serving=False, workers=workers)
    try:
        report = appliance.errands.start(kind, values)
        while report.state == "running":
            report = await appliance.errands.ended(report.errand, SHOW_S)
            show(msgspec.structs.asdict(report))
    finally:
        await appliance.close()
    return _outcome(msgspec.structs.asdict(report))


def _outcome(report: Mapping[str, Any]) -> dict[str, Any]:
    if report["state"] == "done":
        result: dict[str, Any] = report["result"]
        return result
    if report["state"] == "stopped":
        raise OperatorError("It was broken off.")
    told = report["error"]
    problem = as_error(told)
    problem.exit_code = told["exit_code"]
    raise problem


def ask_about(data: Path, what: str) -> dict[str, Any] | None:
    """Return what the server that holds the data directory says of itself; None if none listens.

    Raises ServerUnreachable, OperatorError.
    """
    return _exchange(data, "GET", what, None, allowed=(503,), deadline_s=LOOK_DEADLINE_S)


def look_for_data(data: Path) -> None:
    """Raise DataDirMissing where there is no data directory, OperatorError where it is closed to this user."""
    try:
        there = (data / "FORMAT").exists()
    except PermissionError:
        raise _not_ours(data) from None
    if not there:
        raise DataDirMissing(
            f"There is no data directory of imgpro at {data}.", Action("fix", label="Name it with --data DIR")
        )


def _ask_server(data: Path, command: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    return _exchange(data, "POST", command, json.dumps(dict(values)).encode())


def _exchange(
    data: Path,
    method: str,
    what: str,
    body: bytes | None,
    *,
    allowed: tuple[int, ...] = (),
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any] | None:
    """Ask the server that holds the data directory; None if none listens."""
    connection = Connection(data, deadline_s)
    try:
        connection.request(method, f"/{what}", body, {"Content-Type": "application/json", "Host": "admin"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError:
        raise _not_ours(data) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise errors.ServerUnreachable(
            f"The server did not answer: {error}.",
            errors.Action("fix", label="Look whether it still runs (imgpro health), then do it again"),
        ) from None
    finally:
        connection.close()
    if response.status >= 400 and response.status not in allowed:
        raise as_error(answer)
    return answer


def as_error(answer: dict[str, Any]) -> ImgproError:
    """Return what a server said went wrong."""
    action = answer.get("action") or {}
    message = answer.get("message", "The command failed.")
    return OperatorError(message, Action("fix", label=action.get("label")), answer.get("details"))


async def _perform_here(loaded: Loaded, data: Path, command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    from imgpro.appliance import Appliance  # a server that runs needs none of this here

    appliance = await Appliance.start(loaded.settings, data, serving=False)
    try:
        return await appliance.operate.perform(command, values)
    finally:
        await appliance.close()


def refuse_foreign_root(data: Path) -> None:
    """Files that root makes beside the database would lock the service out of it."""
    owner = data.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise OperatorError(
            f"{data} belongs to {_owner(data)}; as root this would leave files that the server cannot open.",
            Action("fix", label=f"sudo -u {_owner(data)} imgpro ..."),
        )


def _not_ours(data: Path) -> OperatorError:
    try:
        owner = _owner(data)
    except OSError:
        return OperatorError(f"{data} cannot be looked into by this user.", Action("fix", label="sudo imgpro ..."))
    return OperatorError(f"{data} belongs to {owner}.", Action("fix", label=f"sudo -u {owner} imgpro ..."))


def _owner(data: Path) -> str:
    try:
        return data.owner()
    except KeyError:
        return str(data.stat().st_uid)


class Connection(http.client.HTTPConnection):
    """HTTP over the socket in a data directory."""

    def __init__(self, data: Path, deadline_s: float) -> None:
        super().__init__("admin", timeout=deadline_s)
        self._data = data

    def connect(self) -> None:
        """Connect by way of the directory's descriptor: a path of a socket may have only 107 bytes."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{ADMIN_SOCKET}")
        except BaseException:
            with contextlib.suppress(OSError):
                self.sock.close()
            raise
        finally:
            os.close(folder)
