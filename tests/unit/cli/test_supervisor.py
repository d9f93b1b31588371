"""What a service manager hears: over real sockets, of both kinds of names, in the order in which it happens."""

import asyncio
import os
import re
import socket
import time

import pytest

from imgpro.cli.supervisor import Supervisor
from imgpro.errors import Busy, StorageFull

SOON_S = 5.0


class Listener:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, name):
        self.name = name
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self._sock.settimeout(SOON_S)

    def next(self):
        return self._sock.recv(4096).decode().split("\n")

    def listen(self, heard):
        """Put what comes from here on into `heard`; a queue that nobody reads makes speakers wait."""
        asyncio.get_running_loop().add_reader(self._sock, lambda: heard.extend(self.next()))

    def close(self):
        self._sock.close()


@pytest.fixture
def listener(tmp_path):
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.close()


def supervisor(listener, **more):
    return Supervisor({"NOTIFY_SOCKET": listener.name, **more})


def test_it_says_ready_reloading_stopping(listener):
    speaks = supervisor(listener)
    speaks.ready("Answering on http://192.0.2.7:8080")
    assert listener.next() == ["READY=1", "STATUS=Answering on http://192.0.2.7:8080"]
    before = time.monotonic_ns() // 1000
    speaks.reloading()
    reloading, moment, status = listener.next()
    assert (reloading, status) == ("RELOADING=1", "STATUS=Reading the settings again")
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    speaks.ready()
    assert listener.next() == ["READY=1", "STATUS=Answering on http://192.0.2.7:8080"]
    speaks.stopping(25)
    stopping, _, extension = listener.next()
    assert stopping == "STOPPING=1"
    assert int(extension.removeprefix("EXTEND_TIMEOUT_USEC=")) > 25_000_000


def test_the_socket_may_have_an_abstract_name():
    listener = Listener(f"@imgpro-{os.getpid()}-{time.time_ns()}")
    supervisor(listener).tell("STATUS=heard")
    assert listener.next() == ["STATUS=heard"]
    listener.close()


def test_what_it_starts_cannot_speak_in_its_name(listener):
    environment = {"NOTIFY_SOCKET": listener.name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "HOME": "/x"}
    assert Supervisor(environment).is_there
    assert environment == {"HOME": "/x"}


def test_a_long_start_asks_for_more_time(listener):
    async def start():
        async with supervisor(listener).starting("Opening /srv/img"):
            await asyncio.sleep(0.1)

    asyncio.run(start())
    assert listener.next() == ["STATUS=Opening /srv/img"]
    assert re.fullmatch(r"EXTEND_TIMEOUT_USEC=\d{7,9}", listener.next()[0])


def beats(listener, ping, seconds, **more):
    """Return how often the watchdog was told that all is well while `ping` was asked again and again."""

    heard = []

    async def watch():
        listener.listen(heard)
        speaks = supervisor(listener, WATCHDOG_USEC="20000", **more)
        task = asyncio.create_task(speaks.watch(ping))
        await asyncio.sleep(seconds)
        task.cancel()

    asyncio.run(watch())
    return heard.count("WATCHDOG=1")


async def well():
    pass


async def hangs():
    await asyncio.sleep(60)


async def busy():
    raise Busy


async def full():
    raise StorageFull


def test_each_sign_of_life_follows_a_ping_that_came_back(listener):
    assert beats(listener, well, 0.2) >= 2
    assert beats(listener, hangs, 0.1) == 0
    assert beats(listener, busy, 0.1) == 0


def test_a_full_disk_is_no_reason_to_be_killed(listener):
    assert beats(listener, full, 0.2) >= 2


def test_a_ping_that_fails_is_soon_tried_again(listener):
    outcomes = iter([Busy(), Busy()])

    async def recovers():
        problem = next(outcomes, None)
        if problem is not None:
            raise problem

    assert beats(listener, recovers, 0.3) >= 1


@pytest.mark.parametrize(
    ("pid", "ours"), [(os.getpid(), True), (os.getppid(), True), (1, False)], ids=["own", "loader", "other"]
)
def test_the_watchdog_may_wait_for_the_loader(listener, pid, ours):
    assert (beats(listener, well, 0.2, WATCHDOG_PID=str(pid)) > 0) == ours


def test_without_a_manager_nothing_happens():
    speaks = Supervisor({})
    speaks.ready("x")
    speaks.stopping()
    assert not speaks.is_there
    asyncio.run(speaks.watch(busy))  # returns at once
    Supervisor({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("x")
