"""An import that is killed, or whose server is: begun again it goes on, all is there in the end, and nothing twice."""

import contextlib
import signal
import subprocess
import time

import pytest

from tests.law import check_disk
from tests.moving import brought, command, dots, rows
from tests.servers import ROOT, UNLIMITED, Server, running

COUNT = 300
SOME = 30


@contextlib.contextmanager
def under_way(data, folder, report):
    """Begin an import, and lend its process once it has brought some of the pictures."""
    line, env = command(data, "folder", folder, "--nobody", "--report", report)
    process = subprocess.Popen(line, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not report.exists() or len(report.read_bytes().splitlines()) < SOME:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.communicate()


def check_all_there(data, names):
    """Check that each file is a picture once, and that the disk agrees with the database."""
    assert sorted(row[0] for row in rows(data, "SELECT name FROM images")) == names
    assert rows(data, "SELECT count(*), count(DISTINCT item), count(DISTINCT image) FROM brought_in") == [(COUNT,) * 3]
    assert check_disk(data) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl+C"])
def test_the_command_is_broken_off(tmp_path, number):
    names = dots(tmp_path / "in", COUNT)
    with running(tmp_path / "data", UNLIMITED) as server:
        with under_way(server.data, tmp_path / "in", tmp_path / "report") as process:
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert b"goes on where it was" in said
        some = rows(server.data, "SELECT count(*) FROM images")[0][0]
        assert some >= SOME
        again = brought(server.data, "folder", tmp_path / "in", "--nobody")
        assert len(again.outcomes("there")) >= some
        check_all_there(server.data, names)


def test_the_server_is_killed_and_comes_back(tmp_path):
    names = dots(tmp_path / "in", COUNT)
    first, second = Server(tmp_path / "data", UNLIMITED), Server(tmp_path / "data", UNLIMITED)
    try:
        first.start()
        with under_way(first.data, tmp_path / "in", tmp_path / "report") as process:
            first.stop(signal.SIGKILL)
            second.start()
            _, said = process.communicate(timeout=120)
        # On a slow machine it may have lost its patience before the server was back.
        assert process.returncode in (0, 69), said
        brought(second.data, "folder", tmp_path / "in", "--nobody")
        check_all_there(second.data, names)
    finally:
        first.close()
        second.close()


def test_the_server_is_killed_and_stays_away(tmp_path):
    dots(tmp_path / "in", COUNT)
    server = Server(tmp_path / "data", UNLIMITED)
    try:
        server.start()
        with under_way(server.data, tmp_path / "in", tmp_path / "report") as process:
            server.stop(signal.SIGKILL)
            _, said = process.communicate(timeout=120)
        assert process.returncode == 69
        assert b"the same command" in said
    finally:
        server.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl+C"])
def test_without_a_server_it_is_broken_off(tmp_path, number):
    names = dots(tmp_path / "in", COUNT)
    data = tmp_path / "data"
    with running(data, UNLIMITED):
        pass
    with under_way(data, tmp_path / "in", tmp_path / "report") as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130, said
    brought(data, "folder", tmp_path / "in", "--nobody")
    check_all_there(data, names)
