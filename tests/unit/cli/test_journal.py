"""What a watched folder's journal remembers, for how long, and of which files."""

import json

import pytest

from imgpro.cli import journal as module
from imgpro.cli.journal import Entry, Journal, Look
from imgpro.errors import OperatorError


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shots").mkdir()
    return str(tmp_path / "shots")


def files(tmp_path):
    return sorted((tmp_path / "state" / "imgpro" / "watch").glob("*.jsonl"))


def opened(folder, **options):
    journal = Journal.open(folder, **options)
    journal.start((), {})
    return journal


def test_what_is_written_is_there_again(folder):
    journal = opened(folder)
    assert journal.fresh is False
    names = ["a.png", "two\nlines.png", "bad\udcff.png", "日本.png"]
    for number, name in enumerate(names):
        journal.add(Entry(name, number, 5, "sent", f"d{number}"))
    journal.close()
    again = Journal.open(folder)
    assert (again.id, again.fresh) == (journal.id, False)
    for number, name in enumerate(names):
        assert again.knows(name, Look(number, 5))
        assert not again.knows(name, Look(number, 6))
    again.close()


def test_a_first_watch_is_fresh_until_it_started(folder, tmp_path):
    journal = Journal.open(folder)
    assert journal.fresh
    assert files(tmp_path) == []
    journal.start([Entry("a", 1, 1, "old")], {"a": Look(1, 1)})
    assert len(files(tmp_path)) == 1
    journal.close()


def test_old_files_may_be_touched_and_moved(folder):
    journal = Journal.open(folder)
    journal.start([Entry.of("a", Look(10, 1, 77), "old")], {"a": Look(10, 1, 77)})
    assert journal.knows("b", Look(10, 1, 77)), "moved"
    assert not journal.knows("b", Look(10, 1, 78)), "another one of that size and moment"
    assert journal.knows("a", Look(10, 1, 79)), "numbered anew by a mount"
    journal.note_touched({"a": Look(10, 2, 77)})
    assert journal.knows("a", Look(10, 2, 77))
    assert journal.knows("c", Look(10, 2, 77)), "touched, then moved"
    assert not journal.knows("a", Look(11, 2)), "another picture under the same name"
    journal.close()
    journal = Journal.open(folder)
    assert journal.knows("a", Look(10, 2))
    journal.close()
    journal = Journal.open(folder, with_old=False)
    assert not journal.knows("a", Look(10, 2))
    journal.close()


def test_the_same_bytes_under_another_name_or_time(folder):
    journal = opened(folder)
    journal.add(Entry("a", 10, 1, "sent", "digest"))
    assert journal.same("a", Look(10, 2), "digest"), "touched"
    assert journal.same("b", Look(10, 1), "digest"), "moved"
    assert not journal.same("b", Look(10, 2), "digest"), "saved a second time"
    assert not journal.same("b", Look(10, 1), "other")
    assert not journal.knows("b", Look(10, 1)), "only reading it can tell"
    journal.close()


def test_damage_costs_what_is_damaged(folder, tmp_path):
    journal = opened(folder)
    journal.add(Entry("a", 1, 1, "sent", "d"), Entry("b", 1, 1, "refused", "e"))
    journal.close()
    path = files(tmp_path)[0]
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"\xff\x00", b'{"path": 5}', b"[]", lines[2], lines[1][:20]]))
    again = Journal.open(folder)
    assert not again.fresh
    assert again.knows("b", Look(1, 1))
    assert not again.knows("a", Look(1, 1))
    again.close()


def test_it_does_not_grow_for_ever(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_GONE", 3)
    monkeypatch.setattr(module, "TIDY_AFTER", 10)
    journal = Journal.open(folder)
    journal.start([Entry("old", 1, 1, "old")], {"old": Look(1, 1)})
    for number in range(10):
        assert not journal.worn
        journal.add(Entry(f"{number}", number, 7, "sent", "d"))
    assert journal.worn
    # An empty folder may be a disk that is not mounted: nothing is forgotten then.
    journal.start((), {})
    assert all(journal.knows(f"{number}", Look(number, 7)) for number in range(10))
    journal.start((), {"2": Look(2, 7)})
    kept = [number for number in range(10) if journal.knows(f"{number}", Look(number, 7))]
    assert kept == [2, 7, 8, 9]
    assert journal.knows("old", Look(1, 1)), "what was never to be published is never forgotten"
    assert len(files(tmp_path)[0].read_text().splitlines()) == 6
    journal.add(Entry("more", 1, 2, "sent", "d"))
    assert json.loads(files(tmp_path)[0].read_text().splitlines()[-1])["path"] == "more"
    journal.close()


def test_one_watcher_for_each_folder(folder, tmp_path):
    first = Journal.open(folder)
    (tmp_path / "link").symlink_to(folder)
    for name in (folder, str(tmp_path / "link"), f"{folder}/../shots"):
        with pytest.raises(OperatorError, match="is watched by process"):
            Journal.open(name)
    (tmp_path / "other").mkdir()
    Journal.open(str(tmp_path / "other")).close()
    first.close()
    Journal.open(folder).close()
