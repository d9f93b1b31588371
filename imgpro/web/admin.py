"""The operator's door into a running server: a socket in the data directory that only its owner can open.

`POST /{command}` with JSON values; the answer is what `Operate.perform` returns. Long work is begun with
`POST /errand/{kind}`, looked at with `GET /errand/{name}` and broken off with `DELETE`. `POST /bring-in` takes a
picture over: a line of JSON (`flows.bring_in.Incoming`), then the file. `GET /readyz` tells how well the server is.
Who may open the socket may read the database as well, so there is no other check.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.errors import BadRequest, ImgproError
from imgpro.flows.bring_in import Incoming
from imgpro.flows.errands import Report
from imgpro.settings import Uploads
from imgpro.store.layout import ADMIN_SOCKET
from imgpro.web import respond
from imgpro.web.bodies import Pace, raw_chunks, read_json, read_line
from imgpro.web.health import reasons

# Files come from disks and shares that may have to wake up first.
FROM_HERE: Final = Uploads(chunk_deadline_s=300.0, min_rate_bytes=0, deadline_s=7200.0)
LOOK_S: Final = 0.25  # how long a look at an errand waits for its end

log = logging.getLogger(__name__)


class AdminDoor:
    """Listens in the data directory. Make it with `open`, end it with `close`."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self._path = appliance.data.root / ADMIN_SOCKET
        app = web.Application()
        app.router.add_post("/bring-in", self._bring_in)
        app.router.add_post("/{command}", self._post)
        app.router.add_post("/errand/{kind}", self._start_errand)
        app.router.add_get("/errand/{name}", self._look_at_errand)
        app.router.add_delete("/errand/{name}", self._stop_errand)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/log", self._get_log)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def open(self) -> None:
        """Begin. A file system without sockets costs the commands, not the server."""
        try:
            sock = _bind(self._path)
        except OSError as error:
            log.warning("operator's commands need the server to be stopped: no socket at %s (%s)", self._path, error)
            return
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """End, and take the name away."""
        await self._runner.cleanup()
        with contextlib.suppress(OSError):
            self._path.unlink()

    async def _get_readyz(self, request: web.Request) -> web.Response:
        return await reasons(self._appliance.readiness)

    async def _get_log(self, request: web.Request) -> web.Response:
        """Return the last lines of the log, the newest last."""
        lines = self._appliance.log_lines.newest()[::-1]
        rows = [{"at_s": line.at_s, "level": line.level, "name": line.name, "text": line.text} for line in lines]
        return respond.json({"lines": rows})

    async def _post(self, request: web.Request) -> web.Response:
        async def work() -> dict[str, Any]:
            values = await read_json(request, Pace(Uploads()))
            return await self._appliance.operate.perform(request.match_info["command"], values)

        return await self._answer(work())

    async def _bring_in(self, request: web.Request) -> web.Response:
        async def work() -> dict[str, Any]:
            pace = Pace(FROM_HERE)
            incoming = _incoming(await read_line(request, pace))
            taken = await self._appliance.bring_in.take(incoming, raw_chunks(request, pace))
            return msgspec.structs.asdict(taken)

        return await self._answer(work())

    async def _start_errand(self, request: web.Request) -> web.Response:
        async def work() -> dict[str, Any]:
            values = await read_json(request, Pace(Uploads()))
            return _plain(self._appliance.errands.start(request.match_info["kind"], values))

        return await self._answer(work())

    async def _look_at_errand(self, request: web.Request) -> web.Response:
        async def work() -> dict[str, Any]:
            return _plain(await self._appliance.errands.ended(request.match_info["name"], LOOK_S))

        return await self._answer(work())

    async def _stop_errand(self, request: web.Request) -> web.Response:
        async def work() -> dict[str, Any]:
            return _plain(await self._appliance.errands.stop(request.match_info["name"]))

        return await self._answer(work())

    async def _answer(self, work: Awaitable[dict[str, Any]]) -> web.Response:
        try:
            return respond.json(await work)
        except ImgproError as problem:
            return respond.error(problem, self._appliance.home.base)
        except Exception:
            log.exception("an operator's command failed")
            return respond.error(ImgproError())


def _incoming(line: bytes) -> Incoming:
    try:
        return msgspec.json.decode(line, type=Incoming)
    except msgspec.DecodeError as error:
        raise BadRequest(f"What is said of the picture cannot be read: {error}.") from None


def _plain(report: Report) -> dict[str, Any]:
    return msgspec.structs.asdict(report)


def _bind(path: Path) -> socket.socket:
    """Bind by way of the directory's descriptor: a path of a socket may have only 107 bytes."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o077)  # narrower would be felt by other threads: their directories need an x
    try:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    return sock
