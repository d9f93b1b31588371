"""The server's ends of the zygote and of each worker: start, ask, kill, notice that they are gone.

Lives in the server process and must never import Pillow. Everything runs on the event loop; nothing blocks it
longer than starting a program takes.
"""

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from imgpro import frozen
from imgpro.imaging.protocol import (
    Answer,
    Done,
    Failed,
    Forked,
    Kill,
    SandboxReport,
    Task,
    WorkerSettings,
    decode_answer,
    decode_forked,
    receive,
    send,
)

FORK_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 5.0
ZYGOTE_ARGUMENT: Final = "__zygote__"


class ChildGone(Exception):
    """The process at the other end has ended or cannot be started."""


class DeadlinePassed(Exception):
    """The job took longer than it may; its worker has been killed."""


def zygote_command(fd: int) -> list[str]:
    """Return the command line that starts a zygote on the descriptor `fd`."""
    if frozen.is_frozen():
        return [frozen.running_file(), ZYGOTE_ARGUMENT, str(fd)]
    return [sys.executable, "-m", "imgpro.imaging.zygote", str(fd)]


def zygote_environment() -> dict[str, str]:
    """Return an environment without anything of the server's: settings may hold secrets."""
    clean = {"LC_ALL": "C.UTF-8", "SVT_LOG": "1", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if frozen.is_frozen():
        return clean | frozen.loader_environment()
    return clean | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class Zygote:
    """The process that forks workers. Orders are answered in the order they were given."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, by its absolute path
                zygote_command(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                env=zygote_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C at the terminal is the server's to handle
            )
        self._control.setblocking(False)
        self._pending: deque[asyncio.Future[int]] = deque()
        self.alive = True
        self._loop.add_reader(self._control.fileno(), self._on_readable)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def fork(self, settings: WorkerSettings) -> "WorkerHandle":
        """Return a new worker, confined and ready. Raises ChildGone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pid = await self._order(settings, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        handle = WorkerHandle(self, ours, pid)
        try:
            async with asyncio.timeout(FORK_TIMEOUT_S):
                await handle.ready()
        except TimeoutError:
            handle.kill()
            raise ChildGone from None
        except BaseException:
            handle.kill()
            raise
        return handle

    async def _order(self, settings: WorkerSettings, fd: int) -> int:
        """Order a fork and return the worker's pid. A zygote that does not answer is ended."""
        answer: asyncio.Future[int] = self._loop.create_future()
        try:
            send(self._control, settings, (fd,))
            self._pending.append(answer)
            async with asyncio.timeout(FORK_TIMEOUT_S):
                pid = await answer
        except (OSError, TimeoutError):
            self.end()
            raise ChildGone from None
        if pid == 0:
            raise ChildGone
        return pid

    def kill(self, pid: int) -> None:
        """Kill a worker. Where the zygote is gone, its workers are as well."""
        if self.alive:
            try:
                send(self._control, Kill(pid))
            except OSError:
                self.end()

    def end(self) -> None:
        """Kill the zygote, and by that all its workers."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._process.kill()
            while self._pending:
                _fail(self._pending.popleft(), ChildGone())

    async def wait(self) -> None:
        """Wait until the ended process is collected."""
        with suppress(subprocess.TimeoutExpired):  # a process that not even SIGKILL ends must not stop us
            await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)

    def _on_readable(self) -> None:
        try:
            data, _ = receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        forked: Forked = decode_forked(data)
        if self._pending:
            waiting = self._pending.popleft()
            if not waiting.done():
                waiting.set_result(forked.pid)
            else:
                self.kill(forked.pid)  # whoever ordered it has gone


class WorkerHandle:
    """One worker process, with at most one job."""

    def __init__(self, zygote: Zygote, sock: socket.socket, pid: int) -> None:
        self._zygote = zygote
        self._sock = sock
        self.pid = pid
        self.alive = True
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] | None = None
        self.report: SandboxReport | None = None
        self.on_gone: Callable[[WorkerHandle], None] | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._on_readable)

    async def ready(self) -> None:
        """Wait until the worker has confined itself. Raises ChildGone."""
        answer = await self._next()
        if not isinstance(answer, SandboxReport):
            raise ChildGone
        self.report = answer

    async def run(self, task: Task, files: tuple[int, ...], deadline_s: float) -> Done | Failed:
        """Give the worker a job and return its answer.

        Raises ChildGone when it dies over it and DeadlinePassed after `deadline_s`. When the caller is cancelled
        the worker is killed: nobody wants its answer, and the next job must not get it.
        """
        timer = self._loop.call_later(deadline_s, self._on_deadline)
        try:
            send(self._sock, task, files)
            answer = await self._next()
        except OSError:
            self.kill()
            raise ChildGone from None
        except BaseException:
            self.kill()
            raise
        finally:
            timer.cancel()
        if isinstance(answer, SandboxReport):
            self.kill()
            raise ChildGone
        if answer.leaving:
            self._close()
        return answer

    def kill(self) -> None:
        """End the worker at once, whatever it does. Safe to call again."""
        if self.alive:
            self._zygote.kill(self.pid)
            self._close()

    def _next(self) -> "asyncio.Future[Answer]":
        self._answer = self._loop.create_future()
        if not self.alive:
            self._answer.set_exception(ChildGone())
        return self._answer

    def _on_readable(self) -> None:
        try:
            data, _ = receive(self._sock)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        if self._answer is None or self._answer.done():
            self.kill()  # it speaks without being asked: not to be trusted with another picture
            return
        try:
            self._answer.set_result(decode_answer(data))
        except ValueError:
            self.kill()

    def _on_deadline(self) -> None:
        if self._answer is not None:
            _fail(self._answer, DeadlinePassed())
        self.kill()

    def _close(self) -> None:
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            if self._answer is not None:
                _fail(self._answer, ChildGone())
            if self.on_gone is not None:
                self.on_gone(self)


def _fail(waiting: "asyncio.Future[Answer] | asyncio.Future[int]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # whoever was waiting may have left; that is no news for the log
