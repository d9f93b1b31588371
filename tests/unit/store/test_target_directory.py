"""A directory as a place for backups: whole files or none, in order, and one at a time."""

import os
from pathlib import Path

import pytest

from imgpro.errors import TargetFault
from imgpro.store import durable
from imgpro.store.target import Absent
from imgpro.store.target_directory import DirectoryTarget


@pytest.fixture(params=[False, True], ids=["beside others", "alone"])
def target(tmp_path, request):
    return DirectoryTarget(tmp_path / "place", alone=request.param)


def put(target: DirectoryTarget, *names: str) -> None:
    for name in names:
        target.put(name, [name.encode(), b"!"], len(name) + 1)
    target.flush()


def content(target: DirectoryTarget, name: str) -> bytes:
    return b"".join(target.read(name))


def test_bytes_are_durable_before_their_names_and_names_before_flush_returns(tmp_path, monkeypatch):
    seen: list[str] = []
    flush, rename = durable.sync_file_system, os.rename
    monkeypatch.setattr(durable, "filesystem_type", lambda path: 0xEF53)
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: (seen.append("flush"), flush(fd)))
    monkeypatch.setattr(os, "rename", lambda *args, **more: (seen.append("rename"), rename(*args, **more)))
    target = DirectoryTarget(tmp_path / "place", alone=True)
    put(target, "one", "two")
    assert seen == ["flush", "rename", "rename", "flush"]
    target.flush()
    assert len(seen) == 4
    target.close()


def test_where_a_flush_of_the_whole_says_too_little_each_file_is_flushed(tmp_path, monkeypatch):
    """As on FUSE, which does not pass it on to its file systems."""
    flushed: list[str] = []
    flush = durable.fsync_fd
    monkeypatch.setattr(durable, "filesystem_type", lambda path: 0x65735546)
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: flushed.append("whole"))
    monkeypatch.setattr(durable, "fsync_fd", lambda fd: (flushed.append("file"), flush(fd)))
    target = DirectoryTarget(tmp_path / "place", alone=True)
    put(target, "one", "two")
    assert "whole" not in flushed
    assert flushed.count("file") >= 2
    target.close()


def test_a_flush_that_fails_is_told(tmp_path):
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.sync_file_system(-1)


def test_what_was_put_is_there(target):
    put(target, "blobs/ab/cd/one", "two")
    assert content(target, "blobs/ab/cd/one") == b"blobs/ab/cd/one!"
    assert target.size("two") == 4
    assert target.size("three") is None
    with pytest.raises(Absent):
        content(target, "three")
    put(target, "two")
    assert [item.name for item in target.list("")] == ["blobs/ab/cd/one", "two"]
    assert list((target.root / "partial").iterdir()) == []
    assert {path.stat().st_mode & 0o777 for path in target.root.rglob("*") if path.is_file()} == {0o400}


def test_names_come_in_order_as_an_object_store_has_them(target):
    names = ["a/b", "a.b/c", "a/b.c/d", "a/bc", "b", "a-", "blobs/00/ff/x", "blobs/00/0f/y", "blobs/10/00/z"]
    put(target, *names)
    assert [item.name for item in target.list("")] == sorted(names)
    assert [item.name for item in target.list("blobs/")] == sorted(name for name in names if name.startswith("blobs/"))
    assert [item.name for item in target.list("blobs/00/")] == ["blobs/00/0f/y", "blobs/00/ff/x"]
    assert list(target.list("nothing/")) == []


def test_what_fails_half_way_leaves_nothing(target):
    put(target, "one")

    def chunks():
        yield b"half"
        raise ValueError("bad at the end")

    with pytest.raises(ValueError, match="bad at the end"):
        target.put("one", chunks(), 8)
    target.flush()
    assert content(target, "one") == b"one!"
    assert list((target.root / "partial").iterdir()) == []


def test_nothing_shows_before_it_is_durable(target):
    target.put("one", [b"x"], 1)
    assert not (target.root / "one").exists()
    target.close()
    assert list((target.root / "partial").iterdir()) == []
    target.put("two", [b"x"], 1)
    target.flush()
    assert content(target, "two") == b"x"


def test_links_are_second_names(tmp_path):
    target = DirectoryTarget(tmp_path / "place", links=True)
    put(target, "x")
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    assert target.link("blobs/one", source)
    assert target.link("blobs/one", source)  # again: it is the same file
    target.flush()
    assert target.link("blobs/one", source)
    target.flush()
    assert os.stat(target.root / "blobs/one").st_ino == source.stat().st_ino
    assert list((target.root / "partial").iterdir()) == []
    assert not DirectoryTarget(tmp_path / "place").link("blobs/two", source)


def test_folders_go_with_their_last_file(target):
    put(target, "blobs/ab/cd/one", "blobs/ab/ce/two")
    target.delete("blobs/ab/cd/one")
    target.delete("blobs/ab/cd/one")
    target.flush()
    assert not (target.root / "blobs/ab/cd").exists()
    assert content(target, "blobs/ab/ce/two") == b"blobs/ab/ce/two!"


def test_a_place_of_which_not_even_the_directory_above_is_there(tmp_path):
    target = DirectoryTarget(tmp_path / "not" / "mounted")
    with pytest.raises(TargetFault, match="no directory"):
        put(target, "one")
    assert not (tmp_path / "not").exists()


def test_a_directory_that_is_exchanged_is_written_to_no_more(target):
    put(target, "one")
    target.root.rename(target.root.with_name("unplugged"))
    for make in (lambda: None, target.root.mkdir):
        make()
        with pytest.raises(TargetFault, match="exchanged"):
            target.put("two", [b"x"], 1)
    assert list(target.root.iterdir()) == []


def test_locks(target):
    put(target, "one")
    other = DirectoryTarget(target.root)
    with target.lock("changing"):
        for shared in (True, False):
            with pytest.raises(TargetFault, match="under way"), other.lock("changing", shared=shared):
                pass
        with (
            other.lock("reading", shared=True),
            target.lock("reading", shared=True),
            pytest.raises(TargetFault, match="under way"),
            other.lock("reading"),
        ):
            pass
    with other.lock("changing"), other.lock("reading"):
        pass


def test_what_a_killed_process_was_writing_goes(target):
    put(target, "one")
    (target.root / "partial" / "0123").write_bytes(b"half")
    target.tidy()
    assert list((target.root / "partial").iterdir()) == []
    assert [path.name for path in Path(target.root).iterdir() if path.is_file() and path.suffix != ".lock"] == ["one"]
