"""A database that is older than its journal is noticed; what a crash leaves at the journal's end is not taken for that."""

import contextlib
import os
import shutil
import sqlite3

import pytest

from imgpro.cli import rebuild_work
from imgpro.errors import DataUnusable
from imgpro.store import journal_ahead, journal_position
from imgpro.store import journal_format as form
from tests.journals import Home, add_image


@pytest.fixture
async def home(tmp_path):
    home = await Home(tmp_path / "data").open()
    yield home
    with contextlib.suppress(Exception):
        await home.close()


def database(home):
    return home.root / "imgpro.db"


async def add(home, content):
    home.keep_blob(content)
    return await home.write(lambda conn: add_image(conn, content))


async def kept_and_gone_on(home, tmp_path, between=None):
    """Copy the database at a stop, go on, stop, and put the copy back."""
    await add(home, b"one")
    await home.close()
    shutil.copy(database(home), tmp_path / "earlier.db")
    await home.open()
    await add(home, b"two")
    if between is not None:
        await between()
    await home.close()
    shutil.copy(database(home), tmp_path / "newest.db")
    shutil.copy(tmp_path / "earlier.db", database(home))


async def test_an_older_database_is_refused_and_nothing_is_changed(home, tmp_path):
    await kept_and_gone_on(home, tmp_path)
    before = home.bytes_of_journal()
    with pytest.raises(DataUnusable, match="older than the journal beside it") as refused:
        await home.open()
    assert refused.value.exit_code == 65
    assert f"imgpro rebuild --data {home.root}" in refused.value.action.label
    assert home.bytes_of_journal() == before
    assert not journal_ahead.asides(home.root / "journal")
    assert home.rebuilt(tmp_path / "new.db").images == 2
    shutil.copy(tmp_path / "newest.db", database(home))
    await home.open()
    assert not home.status().behind, "with the right one all is as it was"


async def test_also_when_a_snapshot_took_the_place_of_what_it_knew(home, tmp_path):
    await kept_and_gone_on(home, tmp_path, lambda: home.journaling.renew())
    with pytest.raises(DataUnusable, match="older"):
        await home.open()


async def test_also_when_it_is_from_before_there_was_a_journal(home, tmp_path):
    await add(home, b"one")
    await home.close()
    with contextlib.closing(sqlite3.connect(database(home))) as conn, conn:
        conn.execute("DELETE FROM meta WHERE key = 'journal'")
    with pytest.raises(DataUnusable, match="older"):
        await home.open()


async def test_also_when_its_own_journal_had_failed(home, tmp_path):
    await add(home, b"one")
    await home.write(lambda conn: journal_position.note_behind(conn, 1))
    await home.close()
    await home.open()  # as a journal that is made anew leaves it
    assert home.status().behind
    shutil.copy(database(home), tmp_path / "earlier.db")
    await add(home, b"two")
    await home.journaling.renew()
    await home.close()
    with contextlib.closing(sqlite3.connect(database(home))) as conn, conn:
        journal_position.note_behind(conn, 1)
    with pytest.raises(DataUnusable, match="older"):
        await home.open()


def uncommitted(home):
    with home.files()[-1].open("ab") as file:
        file.write(form.put("images", "[99]") + b'["torn')


def uncommitted_with_a_new_tail(home):
    uncommitted(home)
    (home.root / "journal" / "00000009.jsonl").write_bytes(form.put("images", "[99]"))


def no_word_of_it(home):
    uncommitted(home)
    (home.root / "journal" / journal_ahead.LAST_COMMIT).unlink()


def torn_word(home):
    uncommitted(home)
    os.truncate(home.root / "journal" / journal_ahead.LAST_COMMIT, 20)


def lost_end(home):
    """As a power cut may leave it: the database has what the journal lost."""
    os.truncate(home.files()[-1], home.files()[-1].stat().st_size - 10)


def lost_files(home):
    for path in home.files():
        path.unlink()


def of_another_server(home):
    path = home.root / "journal" / journal_ahead.LAST_COMMIT
    last = journal_ahead.last_commit(path.parent)
    witness = journal_ahead.Witness(path.parent, "another")
    witness.note(last.number + 5, last.end)
    witness.close()


def behind(home):
    uncommitted(home)
    with contextlib.closing(sqlite3.connect(database(home))) as conn, conn:
        journal_position.note_behind(conn, 1)


def behind_without_a_number(home):
    with contextlib.closing(sqlite3.connect(database(home))) as conn, conn:
        journal_position.note_behind(conn, None)


@pytest.mark.parametrize(
    "leave",
    [
        *(uncommitted, uncommitted_with_a_new_tail, no_word_of_it, torn_word, lost_end, lost_files),
        *(of_another_server, behind, behind_without_a_number),
    ],
)
async def test_what_a_crash_leaves_is_nothing_to_ask_about(home, leave):
    await add(home, b"one")
    await home.write(lambda conn: conn.execute("UPDATE images SET description = 'x'"))
    await home.close()
    leave(home)
    await home.open()
    await home.journaling.renew()
    assert not home.status().behind
    await home.close()
    await home.open()


async def test_every_commit_is_noted_and_no_other(home, tmp_path):
    """After each commit the database and the note agree; after one that fails, they do as well."""
    for number in range(5):
        await add(home, b"%d" % number)
        last = journal_ahead.last_commit(home.root / "journal")
        assert (last.number, last.end) == (1, home.files()[-1].stat().st_size)
        shutil.copytree(home.root, tmp_path / "killed", dirs_exist_ok=True)
        assert (
            journal_ahead.ahead(tmp_path / "killed" / "imgpro.db", tmp_path / "killed" / "journal", last.instance)
            is None
        )

    def fails_at_the_commit(conn):
        conn.execute("PRAGMA defer_foreign_keys = ON")
        add_image(conn, b"never")
        conn.execute("DELETE FROM blobs")

    with pytest.raises(sqlite3.IntegrityError):
        await home.write(fails_at_the_commit)
    assert journal_ahead.last_commit(home.root / "journal") == last


async def test_accepted_it_is_set_aside_whole_and_forgotten_with_the_next_deletion(home, tmp_path, caplog):
    await kept_and_gone_on(home, tmp_path)
    before = home.bytes_of_journal()
    await home.open(accept=True)
    [aside] = journal_ahead.asides(home.root / "journal")
    assert f"imgpro rebuild --journal {aside}" in caplog.text
    assert b"".join(path.read_bytes() for path in sorted(aside.glob("0*"))) == before
    assert home.rebuilt(tmp_path / "new.db", journal=aside).images == 2
    await home.journaling.tend()
    assert journal_ahead.asides(home.root / "journal") == [aside], "a journal that is made anew forgets nothing"
    image = await add(home, b"three")
    home.check_rebuilt(tmp_path / "new.db")
    # The newer database again: now it lacks what came since.
    await home.close()
    shutil.copy(database(home), tmp_path / "since.db")
    shutil.copy(tmp_path / "newest.db", database(home))
    with pytest.raises(DataUnusable, match="older"):
        await home.open()
    shutil.copy(tmp_path / "since.db", database(home))
    await home.open()
    await home.write(lambda conn: conn.execute("DELETE FROM images WHERE id = ?", (image,)))
    await home.journaling.renew()
    assert not journal_ahead.asides(home.root / "journal")


async def test_how_many_are_kept_and_how_long(home):
    folder = home.root / "journal"
    names = [f"aside-2026010{number}T000000Z" for number in range(1, 6)]
    for name in names:
        (folder / name).mkdir()
    old = folder / names[3]
    when = old.stat().st_mtime
    os.utime(old, (when, when - journal_ahead.KEPT_S - 60))
    journal_ahead.drop_asides(folder, now_s=when)
    assert [path.name for path in journal_ahead.asides(folder)] == [names[2], names[4]]
    assert len(home.files()) == 1


async def test_a_note_that_cannot_be_read_keeps_no_server_away(home, caplog):
    await add(home, b"one")
    await home.close()
    note = home.root / "journal" / journal_ahead.LAST_COMMIT
    note.unlink()
    note.mkdir()
    await home.open()
    assert "could not be told" in caplog.text
    await add(home, b"two")
    assert not home.status().behind


def higher_note(home):
    """Note more than the journal has, as what is left of one that somebody took away."""
    last = journal_ahead.last_commit(home.root / "journal")
    witness = journal_ahead.Witness(home.root / "journal", last.instance)
    witness.note(last.number, last.end + 50)
    witness.close()


async def test_a_note_of_a_journal_that_is_no_more_ends_with_the_next_start(home):
    await add(home, b"one")
    await home.close()
    higher_note(home)
    await home.open()
    last = journal_ahead.last_commit(home.root / "journal")
    assert last.end == home.files()[-1].stat().st_size, "a commit that is broken off now would look like more"
    higher_note(home)
    note = home.root / "journal" / journal_ahead.LAST_COMMIT
    witness = journal_ahead.Witness(home.root / "journal", last.instance)
    witness._fd = os.open("/dev/full", os.O_WRONLY)
    witness.note(last.number, last.end)
    assert not note.exists(), "where it cannot be corrected it goes"


async def test_what_comes_of_a_journal_with_a_broken_beginning_is_not_asked_about_again(home):
    """The file that the last commit went to cannot be read: what is made of the rest is all there is."""
    await add(home, b"one")
    await home.journaling.renew()
    await add(home, b"two")
    await home.write(home.journal.begin_tail)
    await add(home, b"three")
    newest = home.files()[-1]
    await home.close()
    with newest.open("r+b") as file:
        file.write(b"?" * 20)
    rebuilt = home.root / "new.db"
    assert home.rebuilt(rebuilt).broken.count == 1
    os.replace(rebuilt, database(home))
    await home.open()
    await home.journaling.renew()
    assert not home.status().behind


async def test_a_rebuild_after_a_broken_off_setting_aside_has_the_whole_journal(home, tmp_path):
    """Killed in the middle of it, half of the journal lies in an unfinished folder."""
    await kept_and_gone_on(home, tmp_path)
    folder = home.root / "journal"
    unfinished = folder / "aside-20260101T000000Z.unfinished"
    unfinished.mkdir()
    home.files()[0].rename(unfinished / home.files()[0].name)
    done = rebuild_work.rebuild(home.root, home.root, lambda *_: None, dry_run=False, force=False)
    assert (done.images, done.whole) == (2, True)
    assert not unfinished.exists()
    await home.open()
