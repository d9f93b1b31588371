"""The data directory: what is made, what is recognised, what is refused."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgpro.errors import DataDirLocked, DataDirMissing, DataUnusable
from imgpro.store.layout import DataDir, _empty
from tests.patience import wait_until

ROOT = Path(__file__).resolve().parents[3]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_and_close(path: Path, database_dir: Path | None = None) -> DataDir:
    data = DataDir.open(path, database_dir)
    data.close()
    return data


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_directory_is_made_whatever_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        data = open_and_close(tmp_path / "not" / "there")
    finally:
        os.umask(old)
    assert {p.name for p in data.root.iterdir()} == {
        "FORMAT", "backups", "blobs", "cache", "imgpro.lock", "journal", "quarantine", "secret.key", "tmp",
    }  # fmt: skip
    assert {mode(data.root / name) for name in ("", "backups", "blobs", "cache", "tmp")} == {0o750}
    assert mode(data.root / "secret.key") == 0o600
    assert len(data.secret) == 32
    assert data.secret_was_made
    assert (data.cache / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    marker = json.loads((data.root / "FORMAT").read_bytes())
    assert marker == {"layout": 1, "hash": "blake3", "instance_id": data.instance_id}


def test_it_is_recognised_again_with_the_same_secret(tmp_path):
    first = open_and_close(tmp_path)
    second = open_and_close(tmp_path)
    assert (first.instance_id, first.secret) == (second.instance_id, second.secret)
    assert not second.secret_was_made


def test_lost_and_found_and_a_killed_first_start_are_new(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "imgpro.lock").touch()
    (tmp_path / "FORMAT.new").write_bytes(b'{"lay')
    assert open_and_close(tmp_path).instance_id


def test_a_start_killed_after_the_marker_is_continued(tmp_path):
    data = open_and_close(tmp_path)
    (tmp_path / "secret.key").unlink()
    (tmp_path / "cache" / "CACHEDIR.TAG").unlink()
    for name in ("backups", "blobs", "cache", "tmp"):
        (tmp_path / name).rmdir()
    assert open_and_close(tmp_path).instance_id == data.instance_id


def test_tmp_is_emptied_at_start_and_links_are_not_followed(tmp_path):
    data = open_and_close(tmp_path / "data")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (data.tmp / "half").write_bytes(b"x")
    (data.tmp / "deep" / "er").mkdir(parents=True)
    (data.tmp / "link").symlink_to(precious)
    open_and_close(tmp_path / "data")
    assert list(data.tmp.iterdir()) == []
    assert (precious / "file").exists()


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(DataDirMissing, match="was not made by imgpro") as caught:
        DataDir.open(tmp_path)
    assert caught.value.exit_code == 10
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]
    with pytest.raises(DataDirMissing, match="not a directory"):
        DataDir.open(tmp_path / "holiday.txt")


def test_a_newer_layout_is_refused(tmp_path):
    open_and_close(tmp_path)
    (tmp_path / "FORMAT").write_text('{"layout": 2, "something": "else"}')
    with pytest.raises(DataUnusable, match="layout is 2, not 1") as caught:
        DataDir.open(tmp_path)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"layout": "one"}', '{"layout": 1}', "\x00", '{"layout": 1, "hash": 3}']
)
def test_a_damaged_marker_is_refused(tmp_path, text):
    open_and_close(tmp_path)
    (tmp_path / "FORMAT").write_text(text)
    with pytest.raises(DataUnusable):
        DataDir.open(tmp_path)


@pytest.mark.parametrize("left", ["imgpro.db", "secret.key"])
def test_a_lost_marker_is_told_from_a_foreign_directory(tmp_path, left):
    (tmp_path / left).touch()
    with pytest.raises(DataUnusable, match="FORMAT file is missing"):
        DataDir.open(tmp_path)


def test_pictures_without_their_database_are_not_swept_away(tmp_path):
    data = open_and_close(tmp_path)
    (data.blobs / "ab").mkdir()
    with pytest.raises(DataUnusable, match="holds pictures"):
        DataDir.open(tmp_path)


def test_a_database_without_its_pictures_asks_for_the_disk(tmp_path):
    data = open_and_close(tmp_path / "nas", tmp_path / "ssd")
    data.database.touch()
    assert open_and_close(tmp_path / "nas", tmp_path / "ssd").database == tmp_path / "ssd" / "imgpro.db"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataDirMissing, match="there should be pictures"):
        DataDir.open(tmp_path / "empty", tmp_path / "ssd")
    data.blobs.rmdir()
    with pytest.raises(DataDirMissing, match="is missing, but the database is there"):
        DataDir.open(tmp_path / "nas", tmp_path / "ssd")


def test_a_damaged_secret_is_refused_and_a_wide_open_one_is_closed(tmp_path):
    open_and_close(tmp_path)
    key = tmp_path / "secret.key"
    key.chmod(0o644)
    open_and_close(tmp_path)
    assert mode(key) == 0o600
    for text in ("", "abcd", "zz" * 32):
        key.write_text(text)
        with pytest.raises(DataUnusable, match="damaged"):
            DataDir.open(tmp_path)


def test_a_second_server_is_refused_with_the_pid_of_the_first(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from imgpro.store.layout import DataDir\n"
        "data = DataDir.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DataDirLocked, match=f"process {holder.pid}") as caught:
            DataDir.open(tmp_path)
        assert caught.value.exit_code == 11
        holder.kill()
    open_and_close(tmp_path)


def test_close_gives_the_lock_back_and_a_failed_start_keeps_none(tmp_path):
    data = DataDir.open(tmp_path)
    with pytest.raises(DataDirLocked):
        DataDir.open(tmp_path)
    data.close()
    data.close()
    key = tmp_path / "secret.key"
    good = key.read_text()
    key.write_text("bad")
    with pytest.raises(DataUnusable):
        DataDir.open(tmp_path)
    key.write_text(good)
    open_and_close(tmp_path)


def test_free_space_is_what_the_file_system_says(tmp_path, monkeypatch):
    data = open_and_close(tmp_path)
    free = data.free_space()
    assert free.free_bytes > 0
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[5] = 0  # f_files: file systems without an inode table say 0
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    assert data.free_space().free_inodes is None


def test_what_an_orphan_writes_while_a_start_clears_up_keeps_no_server_away(tmp_path):
    """The process beside a server that was killed ends as well, a moment later."""
    open_and_close(tmp_path)
    program = """
import os, sys
while True:
    try:
        os.makedirs(sys.argv[1], exist_ok=True)
        for number in range(9):
            open(f"{sys.argv[1]}/{number}", "w").close()
        for number in range(9):
            os.unlink(f"{sys.argv[1]}/{number}")
    except OSError:
        pass
"""
    work = tmp_path / "tmp" / "work"
    with subprocess.Popen([sys.executable, "-c", program, str(work)]) as orphan:
        try:
            wait_until(work.is_dir)
            rounds, until_s = 0, time.monotonic() + 5
            while rounds < 2_000 and time.monotonic() < until_s:
                rounds += work.is_dir()
                _empty(tmp_path / "tmp")
        finally:
            orphan.kill()
    open_and_close(tmp_path)
    assert not work.exists()
