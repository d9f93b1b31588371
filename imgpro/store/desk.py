"""The other end of a `SideProcess`: does one piece of work after the other, tells how far it is, and ends on demand.

Started as `imgpro __side__ <fd> <processors>`; the descriptor is one end of a stream of length-prefixed pickles between
two processes of ours, which nobody else can write to. Knows nothing of what the work is.
"""

import logging
import os
import pickle
import queue
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from imgpro.errors import ImgproError
from imgpro.processors import keep_to
from imgpro.store import durable
from imgpro.store.quiet_threads import quieten

LENGTH: Final = struct.Struct("<Q")
STOP: Final = b"stop"
TELL_S: Final = 0.1
BATCH: Final = 256  # results of a walk that are sent together

Work = Callable[..., Any]
"""Done by `work(desk, *arguments)`: a function of a module, so that the other process finds it by its name."""


class Desk:
    """What work is given: `stop` is set when it shall end, `interrupt` is called then, `tell` says how far it is."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        self.stop = threading.Event()
        self.interrupt: Callable[[], None] = lambda: None
        self.kept: dict[str, Any] = {}  # from one piece of work to the next
        self.send = send
        self._untold = 0
        self._told_s = 0.0
        self._lock = threading.Lock()

    def tell(self, stage: str, count: int) -> None:
        """Say what begins and how much of it there is; or with an empty name how much more has been done."""
        with self._lock:
            now_s = time.monotonic()
            if not stage:
                self._untold += count
                if now_s - self._told_s < TELL_S:
                    return
            self._flush()
            self._told_s = now_s
            if stage:
                self.send("tell", (stage, count))

    def flush(self) -> None:
        """Say what has not been said yet."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._untold:
            self.send("tell", ("", self._untold))
            self._untold = 0


def main(fd: int, back: set[int]) -> None:
    """Serve the descriptor `fd` until the other end closes, or is gone; on the processors `back`, where any are named,
    behind everybody else.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the server is told, and tells us
        signal.signal(number, signal.SIG_IGN)
    durable.die_together(os.getppid())
    if back:
        keep_to(back)
        step_back()
    line = socket.socket(fileno=fd)
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        data = pickle.dumps((kind, value))
        with sending:
            line.sendall(LENGTH.pack(len(data)) + data)

    logging.basicConfig(level=logging.DEBUG, handlers=[_Forwarder(send)])
    desk = Desk(send)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(line, orders, desk), daemon=True).start()
    while True:
        send(*_outcome(desk, orders.get()))


def step_back() -> None:
    """Let everybody else go first: at the processor, where whoever wakes up takes it at once, and at the disk.

    A process of its own can do that; a thread that holds the interpreter's lock meanwhile would hold up all others.
    """
    quieten()
    with suppress(OSError):
        os.nice(19)  # where the next is not allowed
    idle_at_the_processor(0)


def idle_at_the_processor(pid: int) -> None:
    """Let a process (0: this one) have what no other wants, where that is possible."""
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def frames(line: socket.socket) -> Iterator[bytes]:
    """Yield what is sent, until the other end has closed or is gone."""
    with line.makefile("rb") as file, suppress(OSError):
        while len(head := file.read(LENGTH.size)) == LENGTH.size:
            yield file.read(LENGTH.unpack(head)[0])


def _listen(line: socket.socket, orders: "queue.SimpleQueue[bytes]", desk: Desk) -> None:
    for frame in frames(line):
        if frame == STOP:
            desk.stop.set()
            desk.interrupt()
        else:
            orders.put(frame)
    os._exit(0)  # whatever is being done: who asked for it is not there any more


def _outcome(desk: Desk, order: bytes) -> tuple[str, Any]:
    try:
        work, arguments = pickle.loads(order)  # noqa: S301 - from the process that started this one
        result = work(desk, *arguments)
        if isinstance(result, Iterator):
            _walk(desk, result)
            result = None
        desk.flush()
        return "done", result
    except Exception as error:  # noqa: BLE001 - whatever it is, the other process has to hear of it
        desk.flush()
        return "failed", _portable(error)
    finally:
        desk.interrupt = lambda: None


def _walk(desk: Desk, results: Iterator[Any]) -> None:
    """Send what a walk yields, some together."""
    batch: list[Any] = []
    sent_s = time.monotonic()
    try:
        for result in results:
            batch.append(result)
            if len(batch) >= BATCH or time.monotonic() - sent_s > TELL_S:
                desk.send("items", batch)
                batch, sent_s = [], time.monotonic()
    finally:
        desk.send("items", batch)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent; one that nobody expected says where it was raised."""
    if isinstance(error, ImgproError):
        return error
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - of our own making
    except Exception:  # noqa: BLE001 - some can be written and not be read
        found = RuntimeError(f"{type(error).__name__}: {error}")
        found.add_note(error.__notes__[-1])
        return found
    return error


class _Forwarder(logging.Handler):
    """Has the other process log."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._give = send

    def emit(self, record: logging.LogRecord) -> None:
        fields = {**record.__dict__, "msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        self._give("log", {name: value for name, value in fields.items() if isinstance(value, str | int | float)})
