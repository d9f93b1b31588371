"""The parent of all workers: loads Pillow once, then forks a confined worker whenever the server asks.

Single-threaded and without any picture of its own, so that a fork is cheap and clean. Ends when the server does.
Started as `python -m imgpro.imaging.zygote <fd>`, in the frozen executable as `imgpro __zygote__ <fd>`; the
descriptor is one end of a SOCK_SEQPACKET pair.
"""

import ctypes
import gc
import os
import select
import signal
import socket
import sys

from imgpro.imaging.protocol import Forked, WorkerSettings, decode_order, receive, send


def main(fd: int) -> None:
    """Serve fork and kill orders from the descriptor `fd` until the other end closes."""
    # Before Pillow is loaded, so that not even an import outlives a server that died at once.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal goes to the server, which closes us
    control = socket.socket(fileno=fd)
    from imgpro.imaging.rehearsal import rehearse

    rehearse()
    gc.collect()
    gc.freeze()  # what lives now lives for ever; a collection must not touch, and so copy, its pages
    _serve(control)


def _serve(control: socket.socket) -> None:
    wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    readable = select.poll()  # select(2) knows no descriptor beyond 1023, and the server may have more than that open
    for file in (control.fileno(), wake):
        readable.register(file, select.POLLIN)
    while True:
        ready = [file for file, _ in readable.poll()]
        if wake in ready:
            os.read(wake, 512)
            _reap(children)
        if control.fileno() not in ready:
            continue
        data, files = receive(control)
        if not data:
            return  # workers die with us
        order = decode_order(data)
        if isinstance(order, WorkerSettings):
            _fork(order, files[0], control, children)
        elif order.pid in children:
            os.kill(order.pid, signal.SIGKILL)


def _reap(children: set[int]) -> None:
    """Collect the ended workers. Only from here on may their pids be used again."""
    for child in tuple(children):
        pid, _ = os.waitpid(child, os.WNOHANG)
        if pid == child:
            children.discard(child)


def _fork(settings: WorkerSettings, fd: int, control: socket.socket, children: set[int]) -> None:
    """Fork one worker on the socket `fd` and answer with its pid."""
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError:
        child = -1
    if child == 0:
        _become_worker(settings, fd, parent)
    os.close(fd)
    if child > 0:
        children.add(child)
    send(control, Forked(max(child, 0)))


def _become_worker(settings: WorkerSettings, fd: int, parent: int) -> None:
    """Run a worker in this fork; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        from imgpro.imaging.worker import main as work

        work(socket.socket(fileno=fd), settings, parent)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
