"""The way of an import into the data: the running server's socket, else a server of its own without a network.

Whoever runs the command can read the pictures; the server need not be able to. So they are carried over one by one.
"""

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import uvloop

from imgpro import processors
from imgpro.cli import office
from imgpro.errors import Action, OperatorError, ServerUnreachable, StorageFault
from imgpro.flows.bring_in import Incoming
from imgpro.sources import Loaded
from imgpro.store.layout import ADMIN_SOCKET

PATIENCE_S: Final = 10.0  # for a server that restarts
PAUSE_S: Final = 0.25
DEADLINE_S: Final = 600.0

Body = tuple[int | None, Callable[[], Iterable[bytes]]]  # length if it is known, and what yields the bytes anew


class Refused(Exception):
    """The server does not take a picture. `error` is the code, `message` a sentence."""

    def __init__(self, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(answer.get("message", ""))
        self.status = status
        self.answer = answer
        self.error = str(answer.get("error", ""))
        self.message = str(answer.get("message") or "The server did not take it.")
        self.details = {str(key): str(value) for key, value in (answer.get("details") or {}).items()}


class Carrier:
    """Speaks to whoever has the data directory open, from any number of threads, for the length of a `with`.

    Raises DataDirMissing, DataDirLocked, what opening a data directory raises, and ServerUnreachable where the server
    has ended and does not come back.
    """

    def __init__(self, loaded: Loaded, data: Path) -> None:
        self._loaded = loaded
        self._data = data
        self._own: _OwnServer | None = None
        self._local = threading.local()
        self._connections: set[http.client.HTTPConnection] = set()
        self.stopped = threading.Event()

    def __enter__(self) -> Self:
        office.look_for_data(self._data)
        if not self._is_served():
            office.refuse_foreign_root(self._data)
            self._own = _OwnServer(self._loaded, self._data)
            self._own.start()
        else:
            processors.give_way()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        for connection in tuple(self._connections):
            connection.close()
        if self._own is not None:
            self._own.stop()

    def ask(self, command: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Have an operator's command carried out. Raises its error."""
        try:
            return self._patiently(command, lambda: (None, lambda: [json.dumps(dict(values)).encode()]))
        except Refused as problem:
            raise office.as_error(dict(problem.answer)) from None

    def bring(self, incoming: Incoming, body: Body) -> dict[str, Any]:
        """Hand a picture over, and return what became of it (`flows.bring_in.Brought`). Raises Refused."""
        head = msgspec.json.encode(incoming) + b"\n"
        length, chunks = body

        def whole() -> Iterator[bytes]:
            yield head
            yield from chunks()

        return self._patiently("bring-in", lambda: (None if length is None else len(head) + length, whole))

    def _patiently(self, what: str, make: Callable[[], Body]) -> dict[str, Any]:
        """Exchange once, and again while the server is gone for a moment: nothing comes twice."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._exchange(what, *make())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._forget()
                if self._own is not None or time.monotonic() > until or self.stopped.wait(PAUSE_S):
                    raise ServerUnreachable(
                        f"The server has ended or does not answer: {error}.",
                        Action("fix", label="the same command, once it runs again: it goes on where it was"),
                    ) from None

    def _exchange(self, what: str, length: int | None, chunks: Callable[[], Iterable[bytes]]) -> dict[str, Any]:
        connection = self._connection()
        headers = {"Host": "admin", "Content-Type": "application/json"}
        headers |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before it hung up
                connection.request("POST", f"/{what}", chunks(), headers, encode_chunked=length is None)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except BaseException:
            self._forget()
            raise
        if response.status >= 400:
            raise Refused(response.status, answer)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if getattr(self._local, "connection", None) is None:
            self._local.connection = office.Connection(self._data, DEADLINE_S)
            self._connections.add(self._local.connection)
        found: http.client.HTTPConnection = self._local.connection
        return found

    def _forget(self) -> None:
        """Begin the next exchange on a new connection."""
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is not None:
            self._connections.discard(connection)
            connection.close()

    def _is_served(self) -> bool:
        try:
            return office.ask_about(self._data, "readyz") is not None
        except OperatorError as problem:
            if "belongs to" not in problem.message:
                raise
            label = "sudo imgpro import ...: root may read your pictures and speak to the server"
            raise OperatorError(problem.message, Action("fix", label=label)) from None


class _OwnServer:
    """The appliance with its operator's door alone, in a thread of this process."""

    def __init__(self, loaded: Loaded, data: Path) -> None:
        self._loaded = loaded
        self._data = data
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="own server")

    def start(self) -> None:
        """Return once it answers. Raises what kept it from that."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """End it; what it has stored is on the disk."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - handed to whoever waits for the start
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from imgpro.appliance import Appliance  # a server that runs needs none of this here
        from imgpro.web.admin import AdminDoor
        from imgpro.web.app import build_runner

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as parts:
            appliance = await Appliance.start(self._loaded.settings, self._data, serving=False, workers=True)
            parts.push_async_callback(appliance.close)
            build_runner(appliance, None)  # which knows the paths that are ours
            door = AdminDoor(appliance)
            parts.push_async_callback(door.close)
            await door.open()
            if not (self._data / ADMIN_SOCKET).is_socket():
                raise StorageFault(f"No socket can be made in {self._data}, which is what pictures are taken in by.")
            self._ready.set()
            await self._stop.wait()
