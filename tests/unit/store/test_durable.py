"""The moves that survive a power cut, the crash points, and the start-up proof of the disk."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgpro.errors import Busy, StorageFault, StorageFull
from imgpro.store import durable

ROOT = Path(__file__).resolve().parents[3]


def failing(code: int):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_point_does_nothing_unless_asked():
    for name in durable.POINTS:
        durable.point(name)


@pytest.mark.parametrize(("plan", "survived"), [("row.inserted", 0), ("row.inserted:3", 2), ("blob.renamed", 5)])
def test_a_point_kills_at_the_nth_pass(plan, survived):
    code = (
        "from imgpro.store import durable\nfor i in range(5):\n print(i, flush=True)\n durable.point('row.inserted')\n"
    )
    env = {**os.environ, "IMGPRO_CRASH_AT": plan, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if survived == 5:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == -signal.SIGKILL
        assert done.stdout.split() == [str(i) for i in range(survived + 1)]


def test_an_unknown_point_is_refused():
    env = {**os.environ, "IMGPRO_CRASH_AT": "no.such.point", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "import imgpro.store.durable"], env=env, capture_output=True, check=False
    )
    assert b"names no crash point" in done.stderr


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_fsync_is_tolerated(monkeypatch, tmp_path, code):
    monkeypatch.setattr(os, "fsync", failing(code))
    durable.fsync_directory(tmp_path)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_failed_fsync_is_never_ignored(monkeypatch, tmp_path, code):
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(OSError, match=r".") as caught:
        durable.fsync_directory(tmp_path)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (errno.ENOSPC, StorageFull, 507),
        (errno.EDQUOT, StorageFull, 507),
        (errno.EMFILE, Busy, 503),
        (errno.EIO, StorageFault, 500),
        (errno.EROFS, StorageFault, 500),
    ],
)
def test_what_the_system_says_becomes_one_of_our_errors(code, kind, status):
    error = durable.fault(OSError(code, os.strerror(code)), "testing")
    assert type(error) is kind
    assert error.status == status


def test_write_all_survives_short_writes(monkeypatch, tmp_path):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    durable.write_all(fd, b"0123456789")
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == b"0123456789"


def test_a_small_file_is_replaced_whole_or_not_at_all(monkeypatch, tmp_path):
    path = tmp_path / "FORMAT"
    old = os.umask(0)
    try:
        durable.write_file(path, b"one", 0o600)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match=r"."):
            durable.write_file(path, b"two", 0o600)
    assert path.read_bytes() == b"one"
    durable.write_file(path, b"three", 0o600)
    assert path.read_bytes() == b"three"


def test_new_directories_are_flushed_in_their_parents(monkeypatch, tmp_path):
    flushed = []
    monkeypatch.setattr(durable, "fsync_directory", flushed.append)
    durable.make_directories(tmp_path / "a" / "b")
    assert flushed == [tmp_path, tmp_path / "a"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o750
    durable.make_directories(tmp_path / "a" / "b")
    assert len(flushed) == 2


def two_directories(tmp_path):
    source, target = tmp_path / "tmp", tmp_path / "blobs"
    source.mkdir()
    target.mkdir()
    return source, target


def test_a_sound_disk_passes_and_nothing_is_left(tmp_path):
    source, target = two_directories(tmp_path)
    durable.self_test(source, target)
    assert [*source.iterdir(), *target.iterdir()] == []


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("fsync", errno.EIO, "does not hold what is written"),
        ("rename", errno.EXDEV, "different file systems"),
        ("write", errno.ENOSPC, "No space left"),
        ("open", errno.EROFS, "Read-only"),
        ("unlink", errno.EPERM, "not permitted"),
    ],
)
def test_a_disk_that_breaks_its_promise_is_refused(monkeypatch, tmp_path, call, code, words):
    source, target = two_directories(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        # Removing leftovers is not what is tested here, and `Path.unlink` goes through the patched call.
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(StorageFault, match=words) as caught:
            durable.self_test(source, target)
    assert caught.value.exit_code == 74
    assert caught.value.action.label


def test_bytes_that_come_back_wrong_are_noticed(monkeypatch, tmp_path):
    source, target = two_directories(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"other")
    with pytest.raises(StorageFault, match="other bytes"):
        durable.self_test(source, target)


def test_the_database_is_kept_off_network_file_systems(monkeypatch, tmp_path):
    durable.check_database_directory(tmp_path)
    assert durable.filesystem_type(tmp_path) is not None
    for kind, name in [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0x12345, "unknown file system")]:
        monkeypatch.setattr(durable, "filesystem_type", lambda path, kind=kind: kind)
        with pytest.raises(StorageFault, match=name) as caught:
            durable.check_database_directory(tmp_path)
        assert "--db-dir" in (caught.value.action.label or "")
    monkeypatch.setattr(durable, "filesystem_type", lambda path: None)
    durable.check_database_directory(tmp_path)
