"""Work for a `SideProcess` of the tests: a function of a module, so that the other process finds it."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from imgpro.errors import Action, TargetFault
from imgpro.store.desk import Desk


def add(desk: Desk, one: int, other: int) -> int:
    return one + other


def whoami(desk: Desk) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "policy": os.sched_getscheduler(0),
        "processors": os.sched_getaffinity(0),
        "calls": desk.kept.setdefault("calls", []).append(1) or len(desk.kept["calls"]),
        "modules": [name for name in ("aiohttp", "PIL", "click") if name in __import__("sys").modules],
    }


def refuse(desk: Desk) -> None:
    raise TargetFault("The disk is full.", Action("fix", label="Make room"), {"place": "/mnt"})


def break_down(desk: Desk) -> None:
    raise ZeroDivisionError("nobody thought of this")


class Odd(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def be_odd(desk: Desk) -> None:
    raise Odd(1, 2)


def count(desk: Desk, end: int) -> Iterator[int]:
    desk.tell("counting", end)
    for number in range(end):
        desk.tell("", 1)
        yield number
    logging.getLogger("imgpro.beside").warning("counted to %s", end)


def count_and_break(desk: Desk, end: int) -> Iterator[int]:
    yield from range(end)
    raise TargetFault("It broke off.")


def wait(desk: Desk, began: str) -> str:
    """Wait until it shall end, and tell so by a file."""
    with open(began, "w") as file:
        file.write(str(os.getpid()))
    desk.stop.wait()
    return "ended"


def interrupted(desk: Desk, began: str) -> None:
    """Go on until the interrupt comes, whatever `stop` says."""
    ended = []
    desk.interrupt = lambda: ended.append(1)
    with open(began, "w") as file:
        file.write(str(os.getpid()))
    while not ended:
        time.sleep(0.01)


def slow_to_end(desk: Desk, began: str) -> None:
    """End in an error, some time after it shall."""
    with open(began, "w") as file:
        file.write(str(os.getpid()))
    desk.stop.wait()
    time.sleep(0.5)
    raise TargetFault("It was broken off.")


def hang(desk: Desk, began: str) -> None:
    """Be deaf to everything, as a process is that waits for a disk."""
    with open(began, "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


def die(desk: Desk) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def large(desk: Desk, count: int) -> bytes:
    return bytes(count)
