"""An older copy of the database put back by hand: nothing that came after it is lost, whatever happens next."""

import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from imgpro.store import journal_ahead, journal_format, journal_position, peek
from tests.crash.test_rebuild import ENV, lose_database, rebuild
from tests.law import check_disk
from tests.load import Load, small_png
from tests.servers import ROOT, Server, running

pytestmark = pytest.mark.crash


def copy_of(server, target):
    target.mkdir()
    for ending in ("", "-wal"):
        path = server.data / f"imgpro.db{ending}"
        if path.exists():
            shutil.copy(path, target / path.name)
    return target


def put_back(server, copy):
    lose_database(server.data)
    for path in copy.iterdir():
        shutil.copy(path, server.data / path.name)


def refused(server):
    """Have it start, and return what it says instead."""
    with pytest.raises(AssertionError) as failed:
        server.start()
    assert server.process.wait() == 65
    return str(failed.value)


def command(server, *words):
    done = [sys.executable, "-m", "imgpro", *words, "--data", str(server.data)]
    return subprocess.run(done, capture_output=True, text=True, cwd=ROOT, check=False)


class Life:
    """A server with pictures from before the copy and from after it."""

    def __init__(self, server, tmp_path, *, killed=False):
        self.server, dice = server, random.Random(7)
        self.key = server.new_key("ann@example.org")
        self.kept = {}
        self.add(small_png(dice), "before.png")
        assert server.stop() == 0
        self.copy = copy_of(server, tmp_path / "copy")
        server.start()
        for number in range(3):
            self.add(small_png(dice), f"after {number}.png")
        self.late_key = server.new_key("late@example.org")
        if killed:
            os.kill(server.pid, signal.SIGKILL)
        server.stop()
        self.newest = copy_of(server, tmp_path / "newest")

    def add(self, content, name):
        made = self.server.must_upload(content, name, key=self.key)
        self.kept[made["id"]] = (made, content)

    def check(self, server):
        for made, content in self.kept.values():
            assert server.get(made["src"]).body == content
        listed = server.api("GET", "/v1/media", key=self.key).json()["data"]
        names = {picture["id"]: picture["name"] for picture in listed}
        assert names == {made["id"]: made["name"] for made, _ in self.kept.values()}
        assert server.api("GET", "/v1/media", key=self.late_key).status == 200
        check_disk(server.data)


def test_it_is_refused_and_a_rebuild_brings_everything_back(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        life = Life(server, tmp_path, killed=True)
        put_back(server, life.copy)
        said = refused(server)
        assert "is older than the journal beside it" in said
        assert f"imgpro rebuild --data {server.data}" in said
        done = command(server, "check")
        assert (done.returncode, "older than the journal" in done.stderr) == (65, True), done
        looked = command(server, "doctor")
        assert "the database lacks what it knows up to" in looked.stdout
        done = rebuild(server.data)
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done
        server.start()
        life.check(server)
        [made, _] = life.kept.popitem()[1]
        assert server.request("POST", made["delete_url"].removeprefix(server.base)).status == 200
        assert server.stop() == 0
        assert rebuild(server.data).returncode == 1, "the database is sound again"


def test_with_the_newest_again_all_goes_on(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        life = Life(server, tmp_path)
        put_back(server, life.copy)
        refused(server)
        put_back(server, life.newest)
        server.start()
        life.check(server)
        assert "journal" not in server.log().rpartition("older than the journal")[2]


def test_killed_while_the_journal_is_set_aside(tmp_path):
    """It is put back at the next start, which judges anew; once accepted, a rebuild goes back to it."""
    data = tmp_path / "data"
    with running(data, ENV) as server:
        life = Life(server, tmp_path)
        before = {path.name: path.read_bytes() for path in (data / "journal").iterdir()}
    put_back(server, life.copy)
    again = Server(data, {**ENV, "IMGPRO_CRASH_AT": "journal.aside"}, "--accept-data")
    with pytest.raises(AssertionError):
        again.start()
    assert again.process.wait() == -signal.SIGKILL
    again.close()
    server = Server(data, ENV)
    assert "is older than the journal beside it" in refused(server)
    assert {path.name: path.read_bytes() for path in (data / "journal").iterdir()} == before
    server.close()
    with running(data, ENV, "--accept-data") as server:
        assert server.api("GET", "/v1/media", key=life.key).json()["data"][0]["name"] == "before.png"
        [aside] = journal_ahead.asides(data / "journal")
        assert f"imgpro rebuild --journal {aside} goes back to it" in server.log()
        assert server.stop() == 0
    assert str(aside) in command(server, "doctor").stdout
    assert str(aside) in command(server, "rebuild").stderr
    done = command(server, "rebuild", "--journal", str(aside))
    assert done.returncode == 0, done
    with peek.looking(data / "imgpro.db") as conn:
        assert journal_position.read(conn).behind == journal_format.listed(data / "journal").highest
    with running(data, ENV) as server:
        life.check(server)
        assert "Traceback" not in server.log()


def test_a_kill_under_load_is_never_taken_for_an_older_database(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        for number in range(3):
            load = Load(server, clients=5, seed=90 + number, deletes=0.2).start()
            load.wait_for(6 + number)
            os.kill(server.pid, signal.SIGKILL)
            assert load.wait_until_dead() == -signal.SIGKILL
            server.start()
        assert "older" not in server.log()
