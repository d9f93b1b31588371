"""The journal says what the database says, through every change, failure, restart and renewal."""

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import time
import zlib

import pytest

from imgpro.flows import journal as flow
from imgpro.store import journal_format as form
from imgpro.store import journal_tables, queries, queries_accounts, schema
from imgpro.store.db import Database
from imgpro.store.journal import Journal
from imgpro.store.journal_position import META_KEY
from tests.journals import Hands, Home, add_account, add_image, copied, reopened_header
from tests.samples import NOW_MS


@pytest.fixture
async def home(tmp_path):
    home = await Home(tmp_path / "data").open()
    yield home
    await home.close()


def keyed(home):
    """Return what the tables of this database are called, without those that full text keeps for itself."""
    with contextlib.closing(sqlite3.connect(home.root / "imgpro.db")) as conn:
        rows = conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        inner = re.compile("sqlite_.*|images_text_(data|idx|content|docsize|config)")
        return {name for (name,) in rows if not inner.fullmatch(name)}, journal_tables.shapes(conn)


# What is in it


async def test_every_table_is_kept_or_left_out_for_a_reason(home):
    names, shapes = keyed(home)
    kept = {table.name for table in journal_tables.KEPT}
    assert names == kept | journal_tables.DERIVED | journal_tables.FORGOTTEN
    assert set(shapes) == kept
    quiet = {table.name: table.quiet for table in journal_tables.KEPT if table.quiet}
    assert quiet == {"accounts": ("images", "stored_bytes"), "keys": ("last_used_ms",)}, "all else is worth a line"
    with contextlib.closing(sqlite3.connect(home.root / "imgpro.db")) as conn:
        for name, shape in shapes.items():
            columns = conn.execute(f"PRAGMA table_info({name})").fetchall()
            assert shape.columns == tuple(row[1] for row in columns)
            primary = sorted((row[5], row[1]) for row in columns if row[5])
            assert shape.table.key == tuple(column for _, column in primary)
            assert set(shape.table.quiet) < set(shape.columns)
            parents = {row[2] for row in conn.execute(f"PRAGMA foreign_key_list({name})")}
            before = list(shapes)[: list(shapes).index(name)]
            assert parents <= set(before), "those that others refer to come first"


def fill(conn):
    """Put one row into every table that is kept."""
    owner = add_account(conn, "ann@example.org")
    seq = conn.execute(
        "SELECT seq FROM images WHERE id = ?", (add_image(conn, b"one", owner, tags=("sea",)),)
    ).fetchone()[0]
    queries_accounts.insert_upgrade_request(conn, owner.account.seq, "pro", NOW_MS)
    conn.execute("INSERT INTO old_links (path, image, leads_to) VALUES ('/u/abc.png', ?, 'o')", (seq,))
    conn.execute("INSERT INTO brought_in VALUES ('zipline', 'a\"b', ?)", (seq,))
    conn.execute(
        "INSERT INTO retention_rules (name, older_than_s, created_ms, begins_ms, expected) VALUES ('old', 60, 1, 1, 0)"
    )
    return owner


async def test_a_change_of_any_column_is_written_down(home):
    await home.write(fill)
    _, shapes = keyed(home)
    assert all(f'"put","{name}",'.encode() in home.bytes_of_journal() for name in shapes)
    for name, shape in shapes.items():
        for column in shape.columns:
            size = len(home.bytes_of_journal())
            # Facts that never change are guarded by triggers, of which some look at the statement alone.
            with contextlib.suppress(sqlite3.IntegrityError):
                await home.write(lambda conn, n=name, c=column: conn.execute(f"UPDATE {n} SET {c} = {c}"))
                assert (len(home.bytes_of_journal()) > size) is (column not in shape.table.quiet), (name, column)


async def test_rows_that_go_with_another_are_written_down(home, tmp_path):
    owner = await home.write(fill)
    image_id = await home.write(lambda conn: conn.execute("SELECT id FROM images").fetchone()[0])
    await home.write(lambda conn: queries.delete_image(conn, image_id))
    await home.write(lambda conn: conn.execute("DELETE FROM accounts WHERE seq = ?", (owner.account.seq,)))
    gone = home.bytes_of_journal()
    for name in ("keys", "monthly_uploads", "upgrade_requests", "old_links", "brought_in"):
        assert f'"del","{name}",'.encode() in gone
    assert home.check_rebuilt(tmp_path / "new.db").images == 0


# It says what the database says


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_a_rebuild_gives_the_same_rows(tmp_path, seed):
    home = await Home(tmp_path / "data").open()
    hands = Hands(home, seed)
    for turn in range(160):
        await hands.change()
        if turn % 40 == 17:
            home.check_rebuilt(tmp_path / "new.db")
        if turn % 31 == 30:
            await home.close()
            await home.open()
            assert not home.status().behind
        if turn % 23 == 22:
            await home.journaling.renew()
            assert len(home.files()) == 2
    home.check_rebuilt(tmp_path / "new.db")
    await home.close()


async def test_renewed_while_others_write_it_lacks_nothing(home, tmp_path):
    hands = Hands(home, 7)
    for _ in range(120):
        await hands.change()
    running = True

    async def write_on():
        while running:
            await hands.change()
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_on())
    for number in range(6):
        await home.journaling.renew()
        # As a kill -9 at this moment leaves it: the rebuild may lack nothing that is in the snapshot's tail.
        done = home.rebuilt(tmp_path / "new.db", journal=copied(home.root / "journal", tmp_path / f"kill{number}"))
        assert (done.gaps, done.broken.count, done.dropped.count) == ([], 0, 0)
    running = False
    await writing
    home.check_rebuilt(tmp_path / "new.db")
    await home.journaling.renew()
    home.check_rebuilt(tmp_path / "new.db")


async def test_rows_that_exchange_what_is_unique_while_a_snapshot_is_read(home, tmp_path):
    """A snapshot may hold a name twice: read once before and once after it went from one row to another."""
    owners = [await home.write(lambda conn, n=n: add_account(conn, f"u{n}@example.org")) for n in range(3)]
    await home.journaling.renew()
    [snapshot] = [path for path in home.files() if "snapshot" in path.name]
    text = snapshot.read_bytes().splitlines()
    for at, line in enumerate(text):
        if b'"put","accounts",[3,' in line:
            text[at] = form.framed(form.opened(line) and line[12:-1].replace(b"u2@", b"u0@")).rstrip(b"\n")
    snapshot.write_bytes(b"\n".join(text) + b"\n")
    for seq, email in ((owners[0].account.seq, "fresh@example.org"), (owners[2].account.seq, "u2@example.org")):
        await home.write(
            lambda conn, s=seq, e=email: conn.execute("UPDATE accounts SET email = ? WHERE seq = ?", (e, s))
        )
    home.check_rebuilt(tmp_path / "new.db")


# Commits that fail, and kills


async def test_a_commit_that_fails_leaves_no_line(home, tmp_path):
    await home.write(lambda conn: add_image(conn, b"one"))
    before = home.bytes_of_journal()

    def fails_at_the_commit(conn):
        conn.execute("PRAGMA defer_foreign_keys = ON")
        add_image(conn, b"two")
        conn.execute("DELETE FROM blobs")

    with pytest.raises(sqlite3.IntegrityError):
        await home.write(fails_at_the_commit)
    assert home.bytes_of_journal() == before
    await home.write(lambda conn: add_image(conn, b"three"))
    home.check_rebuilt(tmp_path / "new.db")


async def test_what_was_never_committed_is_cut_off_at_the_next_start(home, tmp_path):
    await home.write(lambda conn: add_image(conn, b"one"))
    await home.close()
    before = home.bytes_of_journal()
    [tail] = home.files()
    with tail.open("ab") as file:
        file.write(form.put("images", "[99]") + b'["torn')
    (home.root / "journal" / "00000002.jsonl").write_bytes(b"the next one, begun by a commit that never ended\n")
    (home.root / "journal" / "00000002-snapshot.partial").write_bytes(b"half")
    await home.open()
    assert not home.status().behind
    assert home.bytes_of_journal() == before
    await home.write(lambda conn: add_image(conn, b"two"))
    home.check_rebuilt(tmp_path / "new.db")


def other_history(home, tmp_path):
    shutil.copy(tmp_path / "other.db", home.root / "imgpro.db")


def changed_by_hand(home, _):
    with contextlib.closing(sqlite3.connect(home.root / "imgpro.db")) as conn, conn:
        conn.execute("DELETE FROM images WHERE seq = 1")
        conn.execute("DELETE FROM blobs WHERE seq = 1")


def cut_off(home, _):
    path = home.files()[-1]
    os.truncate(path, path.stat().st_size - 1)


def other_bytes(home, _):
    path = home.files()[-1]
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def gone(home, _):
    for path in home.files():
        path.unlink()


def snapshot_gone(home, _):
    next(path for path in home.files() if "snapshot" in path.name).unlink()


def of_another_server(home, _):
    path = home.files()[-1]
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(form.framed(first[12:-1].replace(home.data.instance_id.encode(), b"x" * 36)) + rest)


@pytest.mark.parametrize(
    "spoil", [other_history, changed_by_hand, cut_off, other_bytes, gone, snapshot_gone, of_another_server]
)
async def test_a_journal_that_is_not_the_databases_is_made_anew(home, tmp_path, spoil):
    await home.write(lambda conn: add_image(conn, b"one"))
    await home.journaling.renew()
    await home.close()
    shutil.copy(home.root / "imgpro.db", tmp_path / "earlier.db")
    shutil.copytree(home.root / "journal", tmp_path / "earlier")
    # Two histories that part: the other one was as long.
    await home.open()
    await home.write(lambda conn: add_image(conn, b"aaa"))
    await home.close()
    shutil.copy(home.root / "imgpro.db", tmp_path / "other.db")
    shutil.copy(tmp_path / "earlier.db", home.root / "imgpro.db")
    copied(tmp_path / "earlier", home.root / "journal")
    await home.open()
    assert not home.status().behind
    await home.write(lambda conn: add_image(conn, b"bbb"))
    await home.close()
    spoil(home, tmp_path)
    await home.open()
    assert home.status().behind
    assert home.journaling.due()
    await home.write(lambda conn: add_image(conn, b"later"))
    meanwhile = home.rebuilt(tmp_path / "new.db")
    assert meanwhile.gaps, "nobody is told that this is everything"
    await home.journaling.tend()
    assert not home.status().behind
    home.check_rebuilt(tmp_path / "new.db")


# Disks that fail


def full(journal: Journal) -> None:
    """Have every further write to the tail fail for want of room."""
    fd = os.open("/dev/full", os.O_WRONLY)
    os.dup2(fd, journal._tail._fd)
    os.close(fd)


async def test_a_journal_without_room_stops_nothing_says_so_once_and_is_made_anew(home, tmp_path, caplog):
    await home.write(lambda conn: add_image(conn, b"one"))
    full(home.journal)
    for number in range(5):
        await home.write(lambda conn, n=number: add_image(conn, b"%d" % n))
    assert home.status().behind
    assert "No space left" in home.status().reason
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    assert home.journaling.due()
    await home.journaling.tend()
    assert not home.status().behind
    await home.write(lambda conn: add_image(conn, b"after"))
    home.check_rebuilt(tmp_path / "new.db")


async def test_a_start_after_lines_were_lost_knows_of_it(home, tmp_path):
    await home.write(lambda conn: add_image(conn, b"one"))
    full(home.journal)
    await home.write(lambda conn: conn.execute("UPDATE images SET description = 'lost'"))
    await home.close()
    await home.open()
    assert home.status().behind
    assert home.rebuilt(tmp_path / "new.db").gaps
    await home.journaling.tend()
    home.check_rebuilt(tmp_path / "new.db")


async def test_a_start_knows_of_it_though_the_commit_that_should_have_noted_it_failed_too(home, tmp_path):
    """On one full disk both fail; what comes later is not in the journal either."""
    await home.write(lambda conn: add_image(conn, b"one"))
    full(home.journal)

    def fails_at_the_commit(conn):
        conn.execute("PRAGMA defer_foreign_keys = ON")
        conn.execute("DELETE FROM blobs")

    with pytest.raises(sqlite3.IntegrityError):
        await home.write(fails_at_the_commit)
    await home.write(lambda conn: conn.execute("UPDATE images SET description = 'lost'"))
    await home.close()
    await home.open()
    assert home.status().behind
    await home.journaling.tend()
    home.check_rebuilt(tmp_path / "new.db")


async def test_a_journal_that_cannot_be_begun_stops_nothing(home, tmp_path):
    await home.close()
    shutil.rmtree(home.root / "journal")
    home.data = None
    (tmp_path / "elsewhere").mkdir()
    (home.root / "journal").symlink_to(tmp_path / "nowhere" / "at-all")
    data_journal = Journal(home.root / "journal", "x")
    db = await Database.open(home.root / "imgpro.db", tmp_path, _instance(home.root), "1", None, data_journal)
    await db.write(lambda conn: add_image(conn, b"one"))
    assert data_journal.status().behind
    await db.close()
    (home.root / "journal").unlink()
    await home.open()
    assert home.status().behind
    await home.journaling.tend()
    home.check_rebuilt(tmp_path / "new.db")


def _instance(root):
    with contextlib.closing(sqlite3.connect(root / "imgpro.db")) as conn:
        return conn.execute("SELECT value FROM meta WHERE key = 'instance_id'").fetchone()[0]


async def test_a_snapshot_that_is_broken_off_leaves_what_was_there(home, tmp_path):
    hands = Hands(home, 3)
    for _ in range(60):
        await hands.change()
    await home.write(lambda conn: [add_image(conn, b"%d" % n) for n in range(1200)])
    before = {path.name for path in home.files()}
    renewing = asyncio.create_task(home.journaling.renew())
    while not list((home.root / "journal").glob("*.partial")):
        await asyncio.sleep(0)
    renewing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renewing
    assert before <= {path.name for path in home.files()}
    assert not list((home.root / "journal").glob("*.partial"))
    assert home.status().overtaken, "what should go has not gone"
    assert home.rebuilt(tmp_path / "new.db").gaps == []


# It forgets


async def test_what_was_deleted_or_changed_is_in_no_file_after_a_renewal(home):
    owner = await home.write(lambda conn: add_account(conn, "secret-address@example.org"))
    kept = await home.write(lambda conn: add_image(conn, b"kept", owner, description="secret-before"))
    image = await home.write(lambda conn: add_image(conn, b"secret-bytes", owner, name="secret-name.png"))
    await home.write(
        lambda conn: queries.update_image(conn, kept, owner, queries.Changes(description="now"), NOW_MS, None)
    )
    await home.journaling.renew()
    digest = await home.write(lambda conn: queries.delete_image(conn, image).digest)
    assert b"secret-name" in home.bytes_of_journal()
    assert home.status().overtaken
    await home.journaling.renew()
    assert not home.status().overtaken
    assert b"secret-name" not in home.bytes_of_journal()
    assert digest.encode().upper() not in home.bytes_of_journal().upper()
    assert b"secret-before" not in home.bytes_of_journal()
    await home.write(lambda conn: queries.delete_image(conn, kept))
    await home.write(lambda conn: conn.execute("DELETE FROM accounts"))
    await home.journaling.renew()
    assert b"secret-" not in home.bytes_of_journal()


async def test_when_it_is_due(home):
    journaling = home.journaling
    await home.write(lambda conn: add_image(conn, b"one"))
    assert not journaling.due(), "a picture more is no reason"
    await home.write(lambda conn: conn.execute("UPDATE images SET name = 'x'"))
    assert not journaling.due(), "not at once"
    journaling._ended_s -= flow.FORGET_S
    assert journaling.due()
    await home.close()
    await home.open()
    assert home.status().overtaken, "a restart forgets nothing of it"
    await home.journaling.renew()
    await home.close()
    await home.open()
    assert not home.status().overtaken
    home.journal._snapshot_bytes, home.journal._older_bytes = 10_000_000, 9_000_000
    assert not home.journaling.due()
    home.journal._older_bytes = 10_000_000
    assert home.journaling.due()


async def test_a_failing_renewal_waits_longer_each_time(home, tmp_path):
    await home.close()
    await home.open()
    (home.root / "FORMAT").rename(tmp_path / "FORMAT")
    home.root.rename(tmp_path / "away")
    home.journal._behind = True
    waits = []
    for _ in range(4):
        await home.journaling.tend()
        assert not home.journaling.due()
        behind_s = next(s for s in (30, 60, 120, 240) if _due_after(home.journaling, s))
        waits.append(behind_s)
        home.journaling._ended_s = time.monotonic() - behind_s
    assert waits == [30, 60, 120, 240]
    (tmp_path / "away").rename(home.root)
    (tmp_path / "FORMAT").rename(home.root / "FORMAT")


def _due_after(journaling, seconds):
    before, journaling._ended_s = journaling._ended_s, time.monotonic() - seconds
    found = journaling.due()
    journaling._ended_s = before
    return found


# Older schemas


async def test_the_journal_goes_on_through_a_migration(tmp_path):
    home = await Home(tmp_path / "data", schema.packaged_migrations()[:3]).open()
    await home.write(fill_at_three)
    before = len(home.files())
    await home.close()
    home.migrations = None
    await home.open()
    assert not home.status().behind
    assert len(home.files()) == before + 1
    assert [reopened_header(path)["schema"] for path in home.files()] == [3, schema.packaged_migrations()[-1].version]
    await home.write(lambda conn: add_image(conn, b"new"))
    home.check_rebuilt(tmp_path / "new.db")
    await home.journaling.renew()
    home.check_rebuilt(tmp_path / "new.db")
    await home.close()


def fill_at_three(conn):
    conn.execute(
        "INSERT INTO accounts (id, email, role, plan, created_ms) VALUES ('acc_1', 'a@example.org', 'member', 'free', 1)"
    )
    conn.execute(
        "INSERT INTO blobs VALUES (1, zeroblob(32), 'png', 9, 1, 1, 1, 0, '', NULL, 1)",
    )
    conn.execute(
        "INSERT INTO images (id, blob, format, stored_bytes, name, description, public, created_ms, origin, "
        "metadata_removed, account, namespace, tags) "
        "VALUES ('abcdefghijkl', 1, 'png', 9, 'old', '', 1, 1, 'upload', '[]', 1, 'trip', '[]')"
    )
    conn.execute("INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (1, 'a1', 'old', '', '[]')")


async def test_data_from_before_there_was_a_journal_gets_one(home, tmp_path):
    await home.write(lambda conn: add_image(conn, b"one"))
    await home.write(lambda conn: conn.execute("DELETE FROM meta WHERE key = ?", (META_KEY,)))
    await home.close()
    shutil.rmtree(home.root / "journal")
    await home.open()
    assert home.status().behind
    await home.journaling.tend()
    home.check_rebuilt(tmp_path / "new.db")


# Lines


def test_no_line_survives_a_flipped_bit():
    line = form.put("images", '[1,"Ab3","ü \\"x\\" \\n",null,-5]')
    assert form.opened(line.rstrip(b"\n")) == ["put", "images", [1, "Ab3", 'ü "x" \n', None, -5]]
    for at in range(len(line) - 1):
        for bit in range(8):
            spoiled = bytearray(line.rstrip(b"\n"))
            spoiled[at] ^= 1 << bit
            # Upper-case digits of the checksum would be the same number, and are refused all the same.
            assert form.opened(bytes(spoiled)) is None, (at, bit)


def test_a_line_with_a_checksum_of_something_else_is_none():
    for payload in (b"{", b'1,2,"', b""):
        line = b'["%08x",%b]' % (zlib.crc32(payload), payload)
        assert form.opened(line) in (None, [])
    assert form.header_of(["imgpro-journal", {"format": 2}]) is None
    assert form.header_of(None) is None


async def test_its_files_are_nobody_elses_business(home):
    await home.journaling.renew()
    assert {path.stat().st_mode & 0o777 for path in home.files()} == {0o640}
