"""Restoring by command: what is put in place, what is kept, and what a kill in the middle leaves."""

import os
import shutil
import signal
import sqlite3
import tempfile
import time
from pathlib import Path
from random import Random

import pytest

from imgpro.errors import DataUnusable
from imgpro.store.durable import BACKUP_POINTS
from imgpro.store.layout import DataDir
from tests.backups import answer, backup, box, check_box, flip, imgpro_apart, stored
from tests.crash.disks import disk
from tests.law import check_disk
from tests.load import small_png
from tests.servers import UNLIMITED, blobs, running

POINTS = [point for point in BACKUP_POINTS if point.startswith("restore.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A box with a backup of it, which tests take copies of."""
    folder = tmp_path_factory.mktemp("model")
    pictures = box(folder / "data")
    backup("create", "--data", folder / "data", "--to", folder / "nas")
    return folder, pictures


@pytest.fixture
def drill(tmp_path, model):
    """A box, the place of its backup, and the pictures."""
    for name in ("data", "nas"):
        shutil.copytree(model[0] / name, tmp_path / name)
    return tmp_path / "data", tmp_path / "nas", dict(model[1])


def harm(data: Path) -> None:
    """Lose the database, flip bits in one picture and lose another."""
    (data / "imgpro.db").unlink()
    flipped, lost = blobs(data)[:2]
    flip(flipped)
    lost.unlink()


def test_what_is_there_is_kept(drill):
    data, nas, pictures = drill
    with running(data, UNLIMITED) as server:
        later = server.must_upload(small_png(Random(5)), "later.png")
        assert server.stop() == 0
    was = {path.name for path in blobs(data)}
    refused = backup("restore", "--data", data, "--from", nas, code=1)
    assert "--force" in refused.stderr
    done = answer("restore", "--data", data, "--from", nas, "--force")
    assert (done["here"], done["fetched"], done["missing_blobs"]) == (6, 0, 0)
    (aside,) = done["replaced"]
    check_box(data, pictures)
    # As it was: whoever restored by mistake moves it back.
    assert {path.name for path in blobs(Path(aside))} == was
    with sqlite3.connect(f"{aside}/imgpro.db") as conn:
        assert conn.execute("SELECT count(*) FROM images WHERE id = ?", (later["id"],)).fetchone() == (1,)
    assert sorted(path.name for path in data.iterdir() if path.name.startswith(("restor", "RESTOR"))) == []


def test_two_in_one_second_are_kept_apart(drill, monkeypatch):
    data, nas, pictures = drill
    monkeypatch.setattr(time, "strftime", lambda *_: "20261128T030405Z")
    aside = [answer("restore", "--data", data, "--from", nas, "--force")["replaced"] for _ in range(2)]
    monkeypatch.undo()
    assert [[Path(path).name for path in paths] for paths in aside] == [
        ["replaced-20261128T030405Z"],
        ["replaced-20261128T030405Z-2"],
    ]
    assert {len(blobs(path)) for path in data.glob("replaced-*")} == {len(pictures)}
    check_box(data, pictures)


def test_a_harmed_box_is_whole_again(drill):
    data, nas, pictures = drill
    harm(data)
    Path(data, "imgpro.db-wal").write_bytes(b"of another database")
    Path(data, "imgpro.db-shm").write_bytes(b"of another database")
    done = answer("restore", "--data", data, "--from", nas, "--force")
    assert (done["here"], done["fetched"]) == (4, 2)
    assert {path.name for path in Path(done["replaced"][0]).glob("imgpro.db*")} == {"imgpro.db-wal", "imgpro.db-shm"}
    check_box(data, pictures)


@pytest.mark.parametrize("fast", [[], ["--fast"]], ids=["proven", "fast"])
def test_into_nothing(tmp_path, drill, fast):
    _, nas, pictures = drill
    shutil.rmtree(tmp_path / "data")
    backup("restore", "--data", tmp_path / "other" / "box", "--from", nas, *fast)
    new = tmp_path / "other" / "box"
    assert {path.name: path.stat().st_mode & 0o777 for path in new.iterdir() if path.is_file()} == {
        "FORMAT": 0o640,
        "imgpro.db": 0o640,
        "secret.key": 0o600,
        "imgpro.lock": 0o640,
    }
    check_box(new, pictures)


def test_with_a_database_on_another_disk(tmp_path, drill):
    data, nas, pictures = drill
    with disk(tmp_path / "mount", 48) as other:
        home = other.root / "db"
        backup("restore", "--data", tmp_path / "new", "--db-dir", home, "--from", nas)
        check_box(tmp_path / "new", pictures, home)
        (home / "imgpro.db").write_bytes(b"ruined")
        done = answer("restore", "--data", tmp_path / "new", "--db-dir", home, "--from", nas, "--force")
        assert len(done["replaced"]) == 2
        assert (Path(done["replaced"][1]) / "imgpro.db").read_bytes() == b"ruined"
        check_box(tmp_path / "new", pictures, home)
    assert not (data / "RESTORING").exists()


def test_a_rehearsal_changes_nothing(tmp_path, drill):
    data, nas, _ = drill
    harm(data)
    before = {path: path.stat().st_mtime_ns for path in sorted(data.rglob("*"))}
    done = answer("restore", "--data", data, "--from", nas, "--dry-run")
    assert (done["replaces"], done["here"], done["fetched"]) == (True, 5, 1)  # the flipped one has its size
    assert {path: path.stat().st_mtime_ns for path in sorted(data.rglob("*"))} == before
    answer("restore", "--data", tmp_path / "new", "--from", nas, "--dry-run")
    assert not (tmp_path / "new").exists()


def test_what_is_lost_is_named(drill):
    data, nas, pictures = drill
    gone, flipped, here = stored(nas)[:3]
    gone.unlink()
    flip(flipped)
    flip(here)
    for name in (gone.name, flipped.name):
        next(path for path in blobs(data) if path.name == name).unlink()
    done = backup("restore", "--data", data, "--from", nas, "--force", code=3)
    assert "LOST: 2 originals of 2 pictures" in done.stdout
    assert f"missing  {gone.name}" in done.stdout
    assert f"missing  {flipped.name}" in done.stdout
    with running(data, UNLIMITED) as server:
        statuses = sorted(server.get(path).status for path, _ in pictures.values())
        assert statuses == [200] * 4 + [503] * 2


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_in_the_middle_loses_neither(drill, point):
    data, nas, pictures = drill
    harm(data)
    args = ("backup", "restore", "--data", data, "--from", nas, "--force")
    killed = imgpro_apart(*args, env={"IMGPRO_CRASH_AT": point})
    assert killed.returncode == -signal.SIGKILL, killed
    if point == "restore.staged":
        assert answer("restore", "--data", data, "--from", nas, "--force")["fetched"] == 0
    elif point != "restore.unmarked":
        with pytest.raises(DataUnusable, match="broken off") as refused:
            DataDir.open(data)
        assert "imgpro backup restore" in str(refused.value.action.label)
        # Without the place: what is staged needs it no more.
        backup("restore", "--data", data)
    assert check_disk(data) == 0
    assert len(blobs(data)) == len(pictures)
    (aside,) = data.glob("replaced-*")
    assert len(blobs(aside)) == 5
    assert not (data / "RESTORING").exists()
    DataDir.open(data).close()


def test_a_kill_while_pictures_are_fetched_costs_what_was_not_fetched(tmp_path, drill):
    """Into an empty directory, which is then neither empty nor a data directory."""
    _, nas, pictures = drill
    new = tmp_path / "new"
    (new / "restoring" / "blobs").mkdir(parents=True)
    for path in stored(nas)[:2]:
        target = new / "restoring" / path.relative_to(nas)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
        target.chmod(0o440)
    foreign = new / "restoring" / "blobs" / "00" / "00" / ("0" * 64)
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(b"of another backup")
    refused = imgpro_apart("run", "--data", new, "--listen", "127.0.0.1:0")
    assert (refused.returncode, "imgpro backup restore" in refused.stderr) == (65, True), refused
    assert answer("restore", "--data", new, "--from", nas)["fetched"] == 4
    check_box(new, pictures)


def test_a_disk_without_room_stays_as_it_was(tmp_path, drill):
    data, nas, pictures = drill
    with disk(tmp_path / "mount", 48) as small:
        new = small.root / "box"
        shutil.copytree(data, new)
        with small.filled(leave_bytes=2_000_000):
            refused = backup("restore", "--data", new, "--from", nas, "--force", code=74)
            assert "no room" in refused.stderr
        assert not (new / "restoring").exists()
        check_box(new, pictures)


def test_a_server_that_runs_is_left_alone(drill):
    data, nas, pictures = drill
    with running(data, UNLIMITED) as server:
        refused = backup("restore", "--data", data, "--from", nas, "--force", code=11)
        assert str(server.pid) in refused.stderr
        assert {server.get(path).status for path, _ in pictures.values()} == {200}


def test_another_instance_and_what_is_not_ours(tmp_path, drill):
    data, nas, pictures = drill
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    other = tmp_path / "other"
    with running(other, {**UNLIMITED, **state}) as server:
        assert server.stop() == 0
    done = imgpro_apart("backup", "restore", "--data", other, "--from", nas, "--force", env=state)
    assert done.returncode == 0, done
    # Remembered by the machine as the other one, it would be refused now.
    with running(other, {**UNLIMITED, **state}) as server:
        assert {server.get(path).status for path, _ in pictures.values()} == {200}
        assert server.stop() == 0
    assert check_disk(other) == 0
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "beach.jpg").write_bytes(b"mine")
    backup("restore", "--data", holiday, "--from", nas, "--force", code=10)
    assert [path.name for path in holiday.iterdir()] == ["beach.jpg"]
    assert data.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for others")
def test_root_restores_for_the_service(drill):
    data, nas, _ = drill
    with tempfile.TemporaryDirectory(prefix="imgpro-") as folder:
        os.chmod(folder, 0o755)
        ours, place = Path(folder, "data"), Path(folder, "nas")
        shutil.copytree(data, ours)
        shutil.copytree(nas, place)
        for path in [ours, *ours.rglob("*"), place, *place.rglob("*")]:
            os.chown(path, 65534, 65534)
        harm(ours)
        done = imgpro_apart("backup", "restore", "--data", ours, "--from", place, "--force")
        assert done.returncode == 0, done
        assert {path.stat().st_uid for path in [ours, *ours.rglob("*")]} == {65534}
        # And one that is not there yet, in a folder of somebody's.
        theirs = Path(folder, "theirs")
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
        done = imgpro_apart("backup", "restore", "--data", theirs / "img" / "new", "--from", place)
        assert done.returncode == 0, done
        assert {path.stat().st_uid for path in [theirs, *theirs.rglob("*")]} == {65534}
        for path in place.rglob("*"):
            os.chown(path, 0, 0)
        done = imgpro_apart("backup", "restore", "--data", theirs / "other", "--from", place)
        assert (done.returncode, "was nobody who was not allowed" in done.stderr) == (74, True), done
