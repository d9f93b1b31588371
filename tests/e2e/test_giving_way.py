"""Who gives way to visitors: commands beside a server that serves, and the workers of an import while somebody looks."""

import contextlib
import os
import subprocess
import threading
import time

import pytest

from imgpro.processors import NICE, half
from tests.crash.test_server import workers
from tests.moving import command, dots
from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running

ALL = os.sched_getaffinity(0)
AMONG_EQUALS = (0, frozenset(ALL))
BACK = (NICE, frozenset(half(ALL)))

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="there is one processor for all")


def standing(pid):
    return os.getpriority(os.PRIO_PROCESS, pid), frozenset(os.sched_getaffinity(pid))


def seen_while(line, env, look):
    """Run a command to its good end and return all that `look(its pid)` returned meanwhile."""
    seen = set()
    with subprocess.Popen(line, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                seen |= look(process.pid)
            time.sleep(0.002)
        assert process.returncode == 0, process.stdout.read()
    return seen


@contextlib.contextmanager
def visited(server):
    """Have somebody look all the time."""
    ended = threading.Event()

    def look():
        while not ended.wait(0.02):
            server.get("/healthz")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def importing(data, folder):
    return command(data, "folder", folder, "--nobody")


def exporting(data, folder):
    line, env = command(data)
    return [*line[:3], "export", str(folder.parent / "out"), "--data", str(data)], env


@pytest.mark.parametrize("work", [importing, exporting])
def test_a_command_gives_way_where_a_server_serves_and_nowhere_else(tmp_path, work):
    dots(tmp_path / "in", 20)
    with running(tmp_path / "data", UNLIMITED) as server:
        assert BACK in seen_while(*work(server.data, tmp_path / "in"), lambda pid: {standing(pid)})
    dots(tmp_path / "in", 20, begin=20)
    assert seen_while(*work(tmp_path / "data", tmp_path / "in"), lambda pid: {standing(pid)}) == {AMONG_EQUALS}


def test_workers_leave_processors_to_visitors_while_an_import_goes_on_and_have_them_all_again_after_it(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:

        def brought(folder, width):
            folder.mkdir()
            for number in range(8):
                photo = encoded(make_image("RGB", (width, 700 + number)), "JPEG")
                (folder / f"{number}.jpg").write_bytes(photo)
            line = importing(server.data, folder)
            return seen_while(*line, lambda _: {standing(pid)[1] for pid in workers(server)})

        assert brought(tmp_path / "unseen", 900) == {frozenset(ALL)}
        with visited(server):
            assert frozenset(half(ALL)) in brought(tmp_path / "seen", 901)
        wait_until(lambda: {standing(pid)[1] for pid in workers(server)} == {frozenset(ALL)})
