"""One data directory, one server: what is not there, what is another one, and who else wants it."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpro.cli.options import known_data
from imgpro.errors import DataDirMissing, DataUnusable
from imgpro.store.known import KnownData
from imgpro.store.layout import DataDir
from tests.crash.disks import disk
from tests.law import check_answers, check_disk
from tests.load import Load, small_png
from tests.patience import wait_until
from tests.servers import ROOT, UNLIMITED, Server, held_open, multipart, running

pytestmark = pytest.mark.crash

ENV = {**UNLIMITED, "IMGPRO_IMAGING_WORKERS": "1", "IMGPRO_LOG_ACCESS": "false"}
PNG = small_png(random.Random(1))


@pytest.fixture
def env(tmp_path):
    """Settings, and a state directory of this test alone."""
    return {**ENV, "XDG_STATE_HOME": str(tmp_path / "state")}


def refused(data: Path, env: dict[str, str], *args: str) -> tuple[int, str]:
    """Start a server that ends by itself; return its exit code and its words."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    command = [sys.executable, "-m", "imgpro", "run", "--data", str(data), "--listen", "127.0.0.1:0", *args]
    told = subprocess.run(
        command, env={**clean, **env}, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in told.stderr
    assert "Try: " in told.stderr
    return told.returncode, told.stderr


def used(data: Path, env: dict[str, str], *args: str) -> str:
    """Let a server run on a directory; return the path of a picture in it."""
    with running(data, env, *args) as server:
        path = server.must_upload(PNG, "a.png")["src"].removeprefix(server.base)
        assert server.stop() == 0
    return path


# Gone at the start


def test_a_data_directory_that_was_used_and_is_empty_is_not_begun_anew(tmp_path, env):
    data = tmp_path / "data"
    used(data, env)
    shutil.rmtree(data)
    code, words = refused(data, env)
    assert (code, data.exists()) == (10, False)
    assert f"{data} is not there, but held the data of imgpro" in words
    data.mkdir()
    code, words = refused(data, env)
    assert (code, os.listdir(data)) == (10, [])
    assert f"{data} is empty, but held" in words
    assert "imgpro run --accept-data" in words
    with running(data, env, "--accept-data") as server:
        assert server.upload(PNG).status == 201
        assert server.stop() == 0
    with running(data, env) as server:
        assert server.stop() == 0


def test_a_disk_that_is_not_mounted_at_the_start(tmp_path, env):
    with disk(tmp_path, 320) as small:
        path = used(small.root, env)
        small.unmount()
        assert refused(small.root, env)[0] == 10
        assert os.listdir(small.root) == []
        small.mount()
        with running(small.root, env) as server:
            assert server.get(path).body == PNG
            assert server.stop() == 0


def served(data: Path, *, accept: bool = False) -> DataDir:
    """Do with a data directory what a server does, up to the database."""
    opened = DataDir.open(data, known=KnownData(data.parent / "state", data), accept=accept)
    opened.database.touch()
    opened.remember()
    opened.close()
    return opened


def test_the_memory_of_a_directory_is_a_file_that_can_be_removed(tmp_path):
    data = tmp_path / "data"
    served(data)
    shutil.rmtree(data)
    with pytest.raises(DataDirMissing) as caught:
        served(data)
    (record,) = (tmp_path / "state/known-data").iterdir()
    assert caught.value.action.label.endswith(f", or remove {record}")
    assert json.loads(record.read_text())["path"] == str(data)
    for content in ("{", '{"path": "/other", "instance_id": "x"}', '{"path": 3}', "\xff"):
        record.write_text(content, "latin-1")  # a damaged one is none
        served(data)
        shutil.rmtree(data)
    record.unlink()
    served(data)


def test_another_data_directory_at_the_same_path_is_refused(tmp_path):
    data = tmp_path / "data"
    first = served(data).instance_id
    data.rename(tmp_path / "old")
    (tmp_path / "elsewhere").mkdir()
    second = served(tmp_path / "elsewhere/data").instance_id
    (tmp_path / "elsewhere/data").rename(data)
    with pytest.raises(DataDirMissing, match=f"another data directory .* {second}, not {first}"):
        served(data)
    served(data, accept=True)
    served(data)
    data.rename(tmp_path / "new")
    (tmp_path / "old").rename(data)
    with pytest.raises(DataDirMissing, match=f"{first}, not {second}"):
        served(data)


def test_a_link_that_leads_to_nothing(tmp_path):
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "nas/img")
    with pytest.raises(DataDirMissing, match=r"leads to .*nas/img, which is not there"):
        served(link)
    assert not (tmp_path / "nas").exists()


@pytest.mark.parametrize("lost", ["secret.key", "imgpro.db", "blobs"])
def test_a_part_that_is_lost_is_not_made_anew(tmp_path, lost):
    data = tmp_path / "data"
    secret = served(data).secret
    if lost == "blobs":
        (data / lost).rmdir()
    else:
        (data / lost).unlink()
    before = sorted(os.listdir(data))
    with pytest.raises(DataDirMissing if lost == "blobs" else DataUnusable, match=f"{data / lost} is missing"):
        served(data)
    assert sorted(os.listdir(data)) == before
    if lost != "blobs":
        assert (served(data, accept=True).secret != secret) is (lost == "secret.key"), "the operator said so"
        served(data)


def test_where_it_is_remembered(tmp_path, monkeypatch):
    data, state, cache, home = (tmp_path / name for name in ("data", "state", "cache", "home"))
    for name in ("STATE_DIRECTORY", "CACHE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    assert known_data(data) is None, "a home that is not there is not made"
    home.mkdir()
    assert known_data(data).path.is_relative_to(home / ".local/state/imgpro")
    monkeypatch.setenv("STATE_DIRECTORY", f"{state}:{tmp_path / 'second'}")
    assert known_data(data).path.is_relative_to(state)
    assert known_data(state) is None, "what is remembered would be lost with what it is about"
    monkeypatch.setenv("CACHE_DIRECTORY", str(cache))
    assert known_data(state).path.is_relative_to(cache)
    assert known_data(tmp_path) is None
    # What lies in the state directory does not make that a foreign one.
    known_data(data).remember("x")
    assert used(state, {**ENV, "STATE_DIRECTORY": str(state), "CACHE_DIRECTORY": str(cache)})


# Gone while the server runs


def wants_disk_again(server: Server) -> None:
    answer = server.upload(small_png(random.Random(3)), "x.png")
    assert answer.status == 500
    assert answer.json()["message"] == "The disk that holds the pictures is not there."
    wait_until(lambda: server.get("/readyz").status == 503)
    assert '"disk":"ok"' not in server.get("/readyz").body.decode()
    assert server.get("/healthz").status == 200


def test_a_disk_that_is_unmounted_under_the_server(tmp_path, env):
    with disk(tmp_path, 320) as small, running(small.root / "data", env) as server:
        large = small_png(random.Random(2), 1100)
        kept = [server.must_upload(body, "x.png") for body in (PNG, large)]
        subprocess.run(["umount", "-l", str(small.root)], check=True)
        wants_disk_again(server)
        for found in kept:
            assert server.get(found["src"]).status in (200, 500), "404 would be believed"
        assert server.get(kept[1]["src"]).status == 500
        assert server.get(f"/t/{kept[1]['id']}.avif?size=m").status == 500
        assert server.get("/").status == 200
        time.sleep(2.5)
        assert os.listdir(small.root) == [], "nothing is written into the mount point"
        small.mount()
        wait_until(lambda: server.get("/readyz").status == 200)
        for found, body in zip(kept, (PNG, large), strict=True):
            assert server.get(found["src"]).body == body
        assert server.upload(small_png(random.Random(4)), "x.png").status == 201
        assert server.get("/readyz").status == 200
        assert server.stop() == 0
        assert "is gone" in server.log()
        assert "Traceback" not in server.log()
        assert check_disk(server.data) == 0
        server.start()
        assert server.get(f"/t/{kept[1]['id']}.png").body == large
        assert server.stop() == 0
        small.unmount()
        small.check()


def test_a_directory_that_is_moved_away_and_comes_back_or_is_exchanged(tmp_path, env):
    data, away = tmp_path / "data", tmp_path / "away"
    with running(data, env) as server:
        found = server.must_upload(PNG, "a.png")
        data.rename(away)
        wants_disk_again(server)
        assert not data.exists()
        data.mkdir()
        wants_disk_again(server)
        assert os.listdir(data) == []
        data.rmdir()
        away.rename(data)
        wait_until(lambda: server.upload(small_png(random.Random(5)), "x.png").status == 201)
        # A copy in its place, say a restored one: what is open belongs to the old one.
        subprocess.run(["cp", "-a", str(data), str(away)], check=True)
        data.rename(tmp_path / "old")
        away.rename(data)
        copied = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
        wants_disk_again(server)
        assert server.process.wait(20) == 74
        assert "Another data directory took the place" in server.log()
        # The name of its own socket may go; nothing else of the new one is touched.
        assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == copied
        server.start()
        assert server.get(f"/t/{found['id']}.png").body == PNG
        assert server.stop() == 0
        assert check_disk(data) == 0


def test_a_database_that_is_exchanged_under_the_server(tmp_path, env):
    database = tmp_path / "database"
    with running(tmp_path / "data", env, "--db-dir", str(database)) as server:
        found = server.must_upload(PNG, "a.png")
        subprocess.run(["cp", "-a", str(database), str(tmp_path / "restored")], check=True)
        database.rename(tmp_path / "old")
        wants_disk_again(server)
        (tmp_path / "restored").rename(database)
        wants_disk_again(server)
        assert server.process.wait(20) == 74
        server.start()
        assert server.get(f"/t/{found['id']}.png").body == PNG
        assert server.stop() == 0


# Two of them


@contextlib.contextmanager
def bound(source: Path, target: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    target.mkdir()
    if subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, check=False).returncode:
        pytest.skip("no mounts here")
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", str(target)], check=False)


def test_two_servers_by_whatever_path(tmp_path, env):
    data = tmp_path / "data"
    with running(data, env) as server:
        link = tmp_path / "link"
        link.symlink_to(data)
        with bound(data, tmp_path / "bound") as mounted:
            for path in (link, mounted):
                code, words = refused(path, env)
                assert (code, f"in use by process {server.pid}" in words) == (11, True), (path, words)
        code, words = refused(data, env, "--db-dir", str(tmp_path / "elsewhere"))
        assert (code, f"process {server.pid}" in words) == (11, True)
        assert server.upload(PNG).status == 201
        assert server.stop() == 0


def test_one_database_for_two_data_directories(tmp_path, env):
    database = str(tmp_path / "database")
    used(tmp_path / "second", env)
    with running(tmp_path / "first", env, "--db-dir", database) as server:
        code, words = refused(tmp_path / "second", env, "--db-dir", database)
        assert (code, f"{database} is in use by process {server.pid}" in words) == (11, True)
        assert server.upload(PNG).status == 201
        assert server.stop() == 0
    code, words = refused(tmp_path / "second", env, "--db-dir", database)
    assert (code, "belongs to another data directory" in words) == (65, True)
    assert refused(tmp_path / "third", env, "--db-dir", database)[0] == 10
    assert not (tmp_path / "third").exists()


def command(data: Path, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imgpro", *args, "--data", str(data)],
        env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_commands_beside_a_server_and_after_its_sudden_end(tmp_path, env):
    with running(tmp_path / "data", env) as server:
        server.new_key("ann@example.org")
        told = command(server.data, env, "accounts", "list")
        assert (told.returncode, "ann@example.org" in told.stdout) == (0, True), told.stderr
        server.stop(signal.SIGKILL)
        assert (server.data / "admin.sock").exists()
        told = command(server.data, env, "accounts", "list")
        assert (told.returncode, "ann@example.org" in told.stdout) == (0, True), told.stderr
        # While a server starts or stops, its directory is locked and nobody listens yet.
        server.start()
        os.kill(server.pid, signal.SIGSTOP)
        (server.data / "admin.sock").unlink()
        told = command(server.data, env, "accounts", "list")
        os.kill(server.pid, signal.SIGCONT)
        assert (told.returncode, f"process {server.pid}" in told.stderr) == (11, True)
        assert server.stop() == 0


def test_a_start_right_after_a_kill(tmp_path, env):
    """Nothing that a killed server leaves is in the way: lock, sockets, files in the middle of something."""
    path = tmp_path / "http.sock"
    server = Server(tmp_path / "data", env, "--listen", f"unix:{path}")
    try:
        server.start()
        for number in range(2):
            load = Load(server, clients=3, seed=number).start()
            load.wait_for(3)
            os.kill(server.pid, signal.SIGKILL)
            # Not even waiting until it is gone: its lock is, or the next start says who holds it.
            again = Server(server.data, env, "--listen", f"unix:{path}")
            try:
                with contextlib.suppress(AssertionError):
                    again.start()
                load.wait_until_dead()
                if again.process.poll() is not None:
                    assert again.process.returncode in (11, 74)
                    again.start()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                check_answers(again, load)
                assert again.stop() == 0
            finally:
                again.close()
            server.start()
        assert server.stop() == 0
        assert check_disk(server.data) <= 8 * 2
    finally:
        server.close()


def test_a_start_while_the_first_one_stops(tmp_path, env):
    with running(tmp_path / "data", env) as first:
        content, kind = multipart([("file", "slow.png", PNG)])
        with held_open(first, "POST", "/v1/upload", content, {"Content-Type": kind}) as rest:
            first.process.send_signal(signal.SIGTERM)
            code, words = refused(first.data, env)
            assert (code, f"process {first.pid}" in words) == (11, True)
            answer = rest()
            assert answer.status == 201
        second = Server(first.data, env)
        try:
            for _ in range(50):
                with contextlib.suppress(AssertionError):
                    second.start()
                    break
                assert second.process.returncode == 11
            assert second.get(f"/t/{answer.json()['id']}.png").body == PNG
            assert first.process.wait(10) == 0
            assert second.stop() == 0
            assert check_disk(first.data) == 0
        finally:
            second.close()
