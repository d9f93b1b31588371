"""Places for backups that somebody else may write to: what they put there harms neither pictures nor other backups."""

import json
import os
import shutil
import sqlite3

import pytest
from blake3 import blake3

from tests.backups import answer, backup, box, check_box, imgpro_apart
from tests.servers import blobs


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A data directory and its one backup, not to be changed; and what pictures it holds."""
    folder = tmp_path_factory.mktemp("shelf")
    pictures = box(folder / "data", 3)
    backup("create", "--data", folder / "data", "--to", folder / "place")
    return folder, pictures


@pytest.fixture
def data(shelf, tmp_path):
    return shutil.copytree(shelf[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("admin.sock"))


@pytest.fixture
def place(shelf, tmp_path):
    return shutil.copytree(shelf[0] / "place", tmp_path / "place")


def test_a_link_among_its_folders_leads_nowhere(data, place):
    shutil.rmtree(place / "partial")
    aim = data.parent / "aim"
    aim.mkdir()
    (place / "partial").symlink_to(aim)
    changed_ns = aim.stat().st_mtime_ns
    done = backup("create", "--data", data, "--to", place, code=74)
    assert f"{place / 'partial'} is a symbolic link" in done.stderr
    assert aim.stat().st_mtime_ns == changed_ns  # nothing was written through it, not even for a moment
    (place / "partial").unlink()
    # An original of the server that no backup needs.
    later = blake3(b"came after the backup").hexdigest()
    (data / "blobs" / later[:2] / later[2:4]).mkdir(parents=True, exist_ok=True)
    (data / "blobs" / later[:2] / later[2:4] / later).write_bytes(b"came after the backup")
    there = sorted(blobs(data))
    shutil.rmtree(place / "blobs")
    (place / "blobs").symlink_to(data / "blobs")
    done = backup("prune", "--data", data, "--from", place, code=74)
    assert f"{place / 'blobs'} is a symbolic link" in done.stderr
    assert sorted(blobs(data)) == there
    assert backup("create", "--data", data, "--to", place, code=74).stderr
    assert sorted(blobs(data)) == there


def test_names_and_times_that_nobody_would_write(shelf, data, place):
    [whole] = (place / "backups").iterdir()
    for name in ("99999999T999999Z", "\u0661" * 8 + "T" + "\u0661" * 6 + "Z"):
        shutil.copytree(whole, place / "backups" / name)
    future = shutil.copytree(whole, place / "backups" / "20200101T000000Z")
    manifest = json.loads((future / "manifest.json").read_text())
    (future / "manifest.json").chmod(0o600)
    (future / "manifest.json").write_text(json.dumps({**manifest, "created_ms": 10**19}))
    odd = place / "blobs" / "zz" / "zz" / ("z" * 64)
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"?")
    deep = place / "blobs"
    for _ in range(60):
        deep = deep / ("d" * 40)
    deep.mkdir(parents=True)
    states = {row["backup"]: row["state"] for row in answer("list", "--from", place)}
    assert states == {whole.name: "whole", "20200101T000000Z": "damaged"}
    shutil.rmtree(future)
    backup("create", "--data", data, "--to", place)
    assert answer("prune", "--keep", "1", "--data", data, "--from", place)["removed"] == [whole.name]
    assert answer("verify", "--data", data, "--from", place)["bad"] == 0
    assert odd.exists()
    backup("restore", "--from", place, "--data", data.parent / "new")
    check_box(data.parent / "new", shelf[1])


def test_a_pipe_is_not_waited_for(data, place):
    (place / "IMGPRO-BACKUPS").unlink()
    os.mkfifo(place / "IMGPRO-BACKUPS")
    done = imgpro_apart("backup", "list", "--data", data, "--from", place)
    assert (done.returncode, done.stdout) == (65, "")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER later AFTER INSERT ON damaged_blobs BEGIN UPDATE accounts SET role = 'operator'; END",
        "CREATE VIEW endless AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n",
    ],
    ids=["trigger", "view"],
)
def test_a_database_with_code_of_others_is_refused(data, place, statement):
    [whole] = (place / "backups").iterdir()
    database, told = whole / "imgpro.db", whole / "manifest.json"
    for path in (database, told):
        path.chmod(0o600)
    with sqlite3.connect(database) as conn:
        conn.execute(statement)
    conn.close()
    manifest = json.loads(told.read_text())
    manifest["database_blake3"] = blake3(database.read_bytes()).hexdigest()
    manifest["database_bytes"] = database.stat().st_size
    told.write_text(json.dumps(manifest))
    new = data.parent / "new"
    for command in (("restore", "--data", new), ("verify", "--data", data)):
        done = backup(*command, "--from", place, code=65)
        assert "that is none of imgpro's" in done.stderr
    assert not (new / "imgpro.db").exists()


def test_a_database_that_is_longer_than_it_says_does_not_fill_the_disk(data, place):
    [whole] = (place / "backups").iterdir()
    (whole / "imgpro.db").chmod(0o600)
    with (whole / "imgpro.db").open("ab") as file:
        file.truncate(1 << 40)
    done = backup("verify", "--data", data, "--from", place, code=65)
    assert f"imgpro.db of the backup {whole.name}" in done.stderr
