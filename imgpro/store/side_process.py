"""A process of its own for long reading of the disk, so that nobody who is served waits for it, and with an end on
demand: the disk may hang and the work may crash, the server goes on.

Whatever it takes of memory is given back when it ends. Knows nothing of what is read.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, TypeVarTuple

from imgpro import frozen
from imgpro.errors import Action, OperatorError
from imgpro.processors import half, keep_to
from imgpro.store.desk import LENGTH, STOP, Desk, idle_at_the_processor
from imgpro.store.side_thread import SideThread

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

STOP_PATIENCE_S: Final = 5.0  # for its end; then it is killed, and one that hangs at a disk is left behind
_LOOK_S: Final = 0.5
_ARGUMENT: Final = "__side__"

Tell = Callable[[str, int], None]

_back = threading.Event()


def stand_back() -> None:
    """Have the processes that are started from now on stand back: this one serves visitors."""
    _back.set()


class SideProcess:
    """One process for the length of an `async with`; it is started by the first piece of work.

    Raises OperatorError where it ends before its work does.
    """

    def __init__(self, name: str, tell: Tell | None = None) -> None:
        self._name = name
        self._tell = tell
        self._side = SideThread(name)
        self._side.interrupt = self._ask_to_end
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._sending = threading.Lock()
        self._until_s: float | None = None
        self._heard = bytearray()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._side.run(self._end)
        finally:
            await self._side.__aexit__(kind, error, trace)

    async def run(self, work: Callable[[Desk, *Arguments], T], *arguments: *Arguments) -> T:
        """Have `work(desk, *arguments)` done there and return its result; raise what it raises.

        All of it has to be picklable, `work` a function of a module. Whoever is cancelled here waits until it has
        ended, or has been killed.
        """
        results = await self._side.run(lambda: list(self._do(work, arguments)))
        found: T = results[-1]
        return found

    async def walk(
        self, source: Callable[[Desk, *Arguments], Iterator[T]], *arguments: *Arguments
    ) -> AsyncGenerator[T, None]:
        """Yield what `source(desk, *arguments)` yields there, some time later."""
        async with contextlib.aclosing(self._side.walk(self._do(source, arguments))) as batches:
            async for batch in batches:
                for item in batch or ():
                    yield item

    def _do(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[Any]:
        """Order a piece of work; yield batches of a walk, and at last the result. In the thread."""
        if self._process is None:
            self._start()
        self._send(pickle.dumps((work, arguments)))
        try:
            while True:
                kind, value = self._receive()
                if kind == "done":
                    yield value
                    return
                if kind == "failed":
                    raise value
                if kind == "items":
                    yield value
                elif kind == "log":
                    _log(value)
                elif self._tell is not None:
                    self._tell(*value)
        except GeneratorExit:  # nobody wants to know the rest
            self._end()
            raise

    def _start(self) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(_LOOK_S)
        back = half(os.sched_getaffinity(0)) if _back.is_set() else set[int]()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, by its absolute path
                _command(theirs.fileno(), back),
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A Ctrl-C at the terminal is for who asked. Not a session of its own: Linux shares processors out among
                # sessions (sched_autogroup), and who stands back within one of its own stands back for nobody.
                process_group=0,
            )
        if back:
            # From its very start: it does both itself, but only after a tenth of a second. Not by way of our thread,
            # which holds the interpreter's lock while it waits for a processor.
            idle_at_the_processor(self._process.pid)
            keep_to(back, self._process.pid)

    def _send(self, data: bytes) -> None:
        assert self._line is not None
        with self._sending, contextlib.suppress(OSError):  # where it is gone, that is noticed at the next answer
            self._line.sendall(LENGTH.pack(len(data)) + data)

    def _receive(self) -> tuple[str, Any]:
        """Return what is told next. Raises OperatorError where nothing will be any more."""
        self._fill(LENGTH.size)
        end = LENGTH.size + LENGTH.unpack_from(self._heard)[0]
        self._fill(end)
        data = bytes(self._heard[LENGTH.size : end])
        del self._heard[:end]
        kind, value = pickle.loads(data)  # noqa: S301 - from a process that runs our own program
        return kind, value

    def _fill(self, count: int) -> None:
        assert self._line is not None
        while len(self._heard) < count:
            if self._until_s is not None and time.monotonic() > self._until_s:
                raise self._gone()
            try:
                found = self._line.recv(max(65_536, count - len(self._heard)))
            except TimeoutError:
                continue
            except OSError:
                found = b""
            if not found:
                raise self._gone()
            self._heard += found

    def _ask_to_end(self) -> None:
        """From the event loop, when the work is to end."""
        self._until_s = time.monotonic() + STOP_PATIENCE_S
        if self._line is not None:
            self._send(STOP)

    def _gone(self) -> OperatorError:
        code = self._end()
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with {code}"
        return OperatorError(
            f"The process that did this work ({self._name}) ended {how}, in the middle of it.",
            Action("fix", label="Look whether memory ran out (journalctl -k), then do it again"),
        )

    def _end(self) -> int | None:
        """End it, at once if its work has not ended; return its exit code, if it could be collected. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert self._line is not None
        self._line.close()  # by which it ends by itself
        self._heard.clear()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_S)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_S)
        return None  # it hangs in the system, as at a share that does not answer, and is gone once that lets it go


def _command(fd: int, back: set[int]) -> list[str]:
    words = [_ARGUMENT, str(fd), ",".join(map(str, back))]
    if frozen.is_frozen():
        return [frozen.running_file(), *words]
    return [sys.executable, "-P", "-m", "imgpro", *words]


def _environment() -> dict[str, str]:
    """Return an environment like ours: what talks to object stores finds its credentials there."""
    found = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if frozen.is_frozen():
        return found | frozen.loader_environment()
    places = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


def _log(fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
