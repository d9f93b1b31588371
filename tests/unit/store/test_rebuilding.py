"""A rebuild from a journal that was spoiled: everything that can be read is there again, the rest is named."""

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys

import pytest
from blake3 import blake3

from imgpro.store import journal_format as form
from imgpro.store import journal_reading, layout, queries, rebuilding, schema
from tests.journals import Hands, Home, add_account, add_image, contents, copied
from tests.servers import ROOT


@pytest.fixture
async def home(tmp_path):
    home = await Home(tmp_path / "data").open()
    yield home
    with contextlib.suppress(Exception):
        await home.close()


async def add(home, content, owner=None, **changes):
    home.keep_blob(content)
    return await home.write(lambda conn: add_image(conn, content, owner, **changes))


def line_of(path, text):
    """Return the number of the last line with this text."""
    return max(number for number, line in enumerate(path.read_bytes().split(b"\n")) if text in line)


def break_line(path, text):
    lines = path.read_bytes().split(b"\n")
    number = line_of(path, text)
    lines[number] = lines[number].replace(b"0", b"1", 1) if b"0" in lines[number] else lines[number] + b" "
    path.write_bytes(b"\n".join(lines))
    return f"{path.name}, line {number + 1}"


def rows(database, sql):
    with contextlib.closing(sqlite3.connect(database)) as conn:
        return conn.execute(sql).fetchall()


# Spoiled files


@pytest.mark.parametrize("seed", [1, 2])
async def test_flipped_bits_lose_their_own_lines_and_are_named(home, tmp_path, seed):
    hands = Hands(home, seed)
    for _ in range(50):
        await hands.change()
    await home.journaling.renew()
    for _ in range(50):
        await hands.change()
    await home.close()
    whole = contents(home.root / "imgpro.db")
    dice = random.Random(seed)
    for number in range(12):
        folder = copied(home.root / "journal", tmp_path / f"spoiled{number}")
        spoiled = set()
        for _ in range(dice.randrange(1, 5)):
            path = dice.choice(sorted(folder.glob("0*")))
            content = bytearray(path.read_bytes())
            at = dice.randrange(content.index(b"\n") + 1, len(content))
            content[at] ^= 1 << dice.randrange(8)
            spoiled.add((path.name, content[:at].count(b"\n") + 1))
            path.write_bytes(content)
        done = home.rebuilt(tmp_path / "new.db", journal=folder)
        # A flip of a line's end breaks the one after it as well, or makes two of one.
        assert done.broken.count <= 2 * len(spoiled) + 1
        named = " ".join(done.broken.names)
        assert any(f"{name}, line {line}" in named for name, line in spoiled) or done.broken.count == 0
        found = contents(tmp_path / "new.db")
        lost = sum(len(set(whole[name]) - set(found[name])) for name in ("images", "accounts", "keys", "blobs"))
        assert lost <= 40, "a line takes with it what referred to it, no more"
        assert not lost or not done.whole


async def test_a_torn_end_loses_what_was_torn(home, tmp_path):
    for number in range(6):
        await add(home, b"%d" % number)
    await home.close()
    [tail] = home.files()
    content = tail.read_bytes()
    for cut in range(len(content) - 1, len(content) - 700, -37):
        folder = tmp_path / "torn"
        copied(home.root / "journal", folder)
        (folder / tail.name).write_bytes(content[:cut])
        done = home.rebuilt(tmp_path / "new.db", journal=folder)
        proved = [found for line in content[:cut].split(b"\n") if (found := form.opened(line)) is not None]
        assert done.images == sum(found[:2] == ["put", "images"] for found in proved)
        assert done.unknown.count == 6 - done.images, "what nobody knows any more is named"


async def test_zeros_where_a_power_cut_left_a_hole(home, tmp_path):
    for number in range(4):
        await add(home, b"%d" % number)
    await home.close()
    [tail] = home.files()
    with tail.open("ab") as file:
        file.write(bytes(9_000_000))
    done = home.rebuilt(tmp_path / "new.db")
    assert done.images == 4
    assert 1 <= done.broken.count <= 3


async def test_a_broken_header_takes_its_neighbours_word(home, tmp_path):
    await add(home, b"one")
    await home.journaling.renew()
    await add(home, b"two")
    await home.close()
    for path in home.files():
        before = path.read_bytes()
        named = break_line(path, b"imgpro-journal")
        done = home.rebuilt(tmp_path / "new.db")
        assert (done.images, done.broken.names) == (2, [named])
        path.write_bytes(before)
    for path in home.files():
        break_line(path, b"imgpro-journal")

    assert journal_reading.plan(home.root / "journal", home.data.instance_id).segments == ()


async def test_files_that_are_missing_are_named(home, tmp_path):
    await add(home, b"one")
    await home.journaling.renew()
    await add(home, b"two")
    await home.write(home.journal.begin_tail)
    await add(home, b"three")
    await home.write(home.journal.begin_tail)
    await add(home, b"four")
    await home.close()
    snapshot, first, second, third = sorted(home.files(), key=lambda path: ("snapshot" not in path.name, path.name))
    kept = {path: path.read_bytes() for path in home.files()}

    def without(*paths):
        for path in paths:
            path.unlink()
        done = home.rebuilt(tmp_path / "new.db")
        for path in paths:
            path.write_bytes(kept[path])
        return done.images, done.gaps

    assert without() == (4, [])
    assert without(second) == (3, [f"{second.name} is missing"])
    assert without(third) == (3, []), "nothing tells that there was another one; its originals do"
    assert without(first)[1] == [f"{first.name} is missing"]
    assert "there is no snapshot" in without(snapshot)[1][0]
    os.truncate(second, len(kept[second]) - 900)
    assert f"the end of {second.name} is missing" in without()[1]
    second.write_bytes(kept[second])
    third.write_bytes(
        form.framed(kept[third].split(b"\n")[0][12:-1].replace(home.data.instance_id.encode(), b"y" * 36))
    )
    assert without() == (3, [f"{third.name} belongs to another server and is left out"])


async def test_the_end_of_a_snapshot_that_is_missing_is_named(home, tmp_path):
    for number in range(5):
        await add(home, b"%d" % number)
    await home.journaling.renew()
    await home.close()
    [snapshot] = [path for path in home.files() if "snapshot" in path.name]
    lines = snapshot.read_bytes().splitlines(keepends=True)
    snapshot.write_bytes(b"".join(lines[:-1]))
    assert home.rebuilt(tmp_path / "new.db").broken.names == [f"{snapshot.name}: its end is missing"]


# What hangs together


async def test_pictures_outlive_their_account(home, tmp_path):
    owner = await home.write(lambda conn: add_account(conn, "ann@example.org"))
    image = await add(home, b"one", owner, tags=("sea",), namespace="trip")
    await home.journaling.renew()
    await home.close()
    broken = break_line(home.files()[0], b'"put","accounts"')
    done = home.rebuilt(tmp_path / "new.db")
    assert done.broken.names == [broken]
    assert f"the account of picture {image}: the picture belongs to nobody now" in done.dropped.names
    assert rows(tmp_path / "new.db", "SELECT id, account, key, namespace, tags FROM images") == [
        (image, None, None, None, "[]")
    ]
    assert (done.accounts, done.keys) == (0, 0)
    contents(tmp_path / "new.db")  # sums and words agree


async def test_rules_wait_where_pictures_belong_to_nobody_now(home, tmp_path):
    owner = await home.write(lambda conn: add_account(conn, "ann@example.org"))
    await add(home, b"one", owner)
    await home.write(
        lambda conn: conn.execute(
            "INSERT INTO retention_rules (name, anonymous, older_than_s, created_ms, begins_ms, expected) "
            "VALUES ('strangers', 1, 60, 1, 1, 0)"
        )
    )
    await home.close()
    home.rebuilt(tmp_path / "whole.db")
    assert rows(tmp_path / "whole.db", "SELECT held_ms FROM retention_rules") == [(None,)]
    break_line(home.files()[0], b'"put","accounts"')
    home.rebuilt(tmp_path / "new.db")
    assert rows(tmp_path / "new.db", "SELECT held_ms > 0 FROM retention_rules") == [(1,)]


async def test_a_picture_whose_originals_line_is_broken_is_named(home, tmp_path):
    image = await add(home, b"one")
    await home.close()
    break_line(home.files()[0], b'"put","blobs"')
    done = home.rebuilt(tmp_path / "new.db")
    assert done.dropped.names == [f"picture {image}"]
    assert done.unknown.names == [blake3(b"one").hexdigest()]


async def test_a_rule_whose_account_is_gone_is_not_a_rule_for_all(home, tmp_path):
    owner = await home.write(lambda conn: add_account(conn, "ann@example.org"))
    await home.write(
        lambda conn: conn.execute(
            "INSERT INTO retention_rules (name, account, older_than_s, created_ms, begins_ms, expected) "
            "VALUES ('old', ?, 60, 1, 1, 0)",
            (owner.account.seq,),
        )
    )
    await home.close()
    break_line(home.files()[0], b'"put","accounts"')
    home.rebuilt(tmp_path / "new.db")
    assert rows(tmp_path / "new.db", "SELECT * FROM retention_rules") == []


async def test_numbers_of_what_was_deleted_are_not_given_again(home, tmp_path):
    await home.write(lambda conn: add_account(conn, "a@example.org"))
    await home.write(lambda conn: conn.execute("DELETE FROM accounts"))
    await home.journaling.renew()
    await home.close()
    home.rebuilt(tmp_path / "new.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as conn:
        assert add_account(conn, "b@example.org").account.seq == 2


# Originals


async def test_originals_are_held_against_the_rows(home, tmp_path):
    contents_ = [b"there", b"missing", b"short", b"deleted", b"unknown"]
    ids = {}
    for content in contents_[:4]:
        ids[content] = await add(home, content)
    await home.write(lambda conn: queries.delete_image(conn, ids[b"deleted"]))
    home.keep_blob(b"unknown")
    (litter := home.root / "blobs" / "ab" / "notes.txt").parent.mkdir(exist_ok=True)
    litter.write_text("not ours")
    for content in (b"missing", b"short"):
        digest = blake3(content).hexdigest()
        path = home.root / "blobs" / digest[:2] / digest[2:4] / digest
        path.unlink()
        if content == b"short":
            path.write_bytes(b"sh")
    await home.close()
    done = home.rebuilt(tmp_path / "new.db", quarantine=home.root / "quarantine")
    assert sorted(done.lost.names) == sorted(
        [
            f"{ids[b'missing']} a picture.jpg: its original is not there",
            f"{ids[b'short']} a picture.jpg: its original has 2 bytes, not 5",
        ]
    )
    found = rows(tmp_path / "new.db", "SELECT digest, damage FROM damaged_blobs")
    assert {(digest.hex(), damage) for digest, damage in found} == {
        (blake3(b"missing").hexdigest(), "missing"),
        (blake3(b"short").hexdigest(), "altered"),
    }
    aside = home.root / "quarantine" / "unknown" / blake3(b"unknown").hexdigest()
    assert aside.read_bytes() == b"unknown"
    assert (done.unknown.names, done.unknown_bytes) == ([aside.name], 7)
    digest = blake3(b"deleted").hexdigest()
    assert (home.root / "blobs" / digest[:2] / digest[2:4] / digest).exists(), "left to the sweep: it was deleted"
    assert not done.whole


async def test_what_lay_there_is_kept_beside_the_new_one(home, tmp_path):
    await add(home, b"one")
    await home.close()
    database = home.root / "imgpro.db"
    for number in range(2):
        database.write_bytes(b"damaged %d" % number)
        (home.root / "imgpro.db-wal").write_bytes(b"its log")
        home.rebuilt(tmp_path / "new.db")
        aside = rebuilding.install(tmp_path / "new.db", database)
        assert aside.read_bytes() == b"damaged %d" % number
        assert (aside.parent / f"{aside.name}-wal").read_bytes() == b"its log"
        assert not (home.root / "imgpro.db-wal").exists()
        assert database.read_bytes().startswith(b"SQLite format 3")
    await home.open()
    assert not home.status().behind, "the journal goes on where the database that was made from it ends"
    await add(home, b"two")
    home.check_rebuilt(tmp_path / "again.db")


# The command


def rebuild(home, *args, **env):
    done = subprocess.run(
        [sys.executable, "-m", "imgpro", "rebuild", "--data", str(home.root), *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_command_does_it_once_and_says_what_came_of_it(home):
    owner = await home.write(lambda conn: add_account(conn, "ann@example.org"))
    await add(home, b"one", owner)
    code, _, said = rebuild(home)
    assert (code, "is in use" in said) == (11, True)
    await home.close()
    whole = contents(home.root / "imgpro.db")
    code, out, said = rebuild(home)
    assert (code, out, "is sound" in said, "--force" in said) == (1, "", True, True)
    (home.root / "imgpro.db").unlink()
    before = sorted(path.name for path in home.root.rglob("*"))
    code, out, said = rebuild(home, "--dry-run", "--json")
    report = json.loads(out)
    assert (code, said, report["whole"], report["images"], report["accounts"]) == (0, "", True, 1, 1)
    assert sorted(path.name for path in home.root.rglob("*")) == before, "a rehearsal leaves nothing"
    assert rebuild(home) == (0, "", "")
    assert contents(home.root / "imgpro.db") == whole
    code, out, said = rebuild(home, "--force")
    assert (code, said) == (0, "")
    assert out.startswith("the old database is kept: ")
    assert contents(home.root / "imgpro.db") == whole


async def test_the_command_names_what_is_lost(home):
    for number in range(25):
        await add(home, b"%d" % number)
        digest = blake3(b"%d" % number).hexdigest()
        (home.root / "blobs" / digest[:2] / digest[2:4] / digest).unlink()
    home.keep_blob(b"unknown")
    await home.close()
    (home.root / "imgpro.db").write_bytes(b"this is no database")
    code, out, said = rebuild(home)
    assert code == 3
    assert out.count("lost picture: ") == 25
    assert f"original of no picture: {blake3(b'unknown').hexdigest()}" in out
    assert "There are 25 pictures, 0 accounts and 0 keys" in said
    assert "imgpro import" in said
    assert (home.root / "imgpro.db").read_bytes().startswith(b"SQLite")


async def test_the_command_refuses_what_it_cannot_do_well(home, tmp_path):
    await add(home, b"one")
    await home.close()
    code, _, said = rebuild(home, "--data", str(tmp_path / "nowhere"))
    assert (code, "There is no data directory" in said) == (10, True)
    with contextlib.closing(sqlite3.connect(home.root / "imgpro.db")) as conn:
        conn.execute(f"PRAGMA user_version = {len(schema.packaged_migrations()) + 1}")
    code, _, said = rebuild(home)
    assert (code, "newer" in said) == (65, True)
    (home.root / "imgpro.db").unlink()
    (home.root / "secret.key").rename(tmp_path / "secret.key")
    code, _, said = rebuild(home)
    assert (code, "secret.key is missing" in said, (home.root / "secret.key").exists()) == (65, True, False)
    (tmp_path / "secret.key").rename(home.root / "secret.key")
    (home.root / "blobs").rename(tmp_path / "blobs")
    code, _, said = rebuild(home)
    assert (code, "Mount the disk" in said) == (10, True)
    (tmp_path / "blobs").rename(home.root / "blobs")
    (home.root / "journal").rename(tmp_path / "journal")
    code, _, said = rebuild(home)
    assert (code, "no journal of this server" in said, "imgpro backup restore" in said) == (65, True, True)
    (tmp_path / "journal").rename(home.root / "journal")
    [tail] = home.files()
    first, rest = tail.read_bytes().split(b"\n", 1)
    header = form.header_of(form.opened(first))
    newer = form.framed(first[12:-1].replace(b'"schema":%d' % header.schema, b'"schema":99'))
    tail.write_bytes(newer + rest)
    code, _, said = rebuild(home)
    assert (code, "schema 99" in said) == (65, True)
    assert not list(home.root.glob("imgpro.db*")), "nothing half is left"


async def test_the_database_may_lie_elsewhere(home, tmp_path):
    await add(home, b"one")
    await home.close()
    elsewhere = tmp_path / "fast"
    elsewhere.mkdir()
    (home.root / "imgpro.db").unlink()
    assert rebuild(home, "--db-dir", str(elsewhere)) == (0, "", "")
    assert rows(elsewhere / "imgpro.db", "SELECT count(*) FROM images") == [(1,)]
    assert not (home.root / "imgpro.db").exists()


async def test_what_is_missing_is_said_at_the_start(home):
    await add(home, b"one")
    await home.close()
    (home.root / "imgpro.db").unlink()
    with pytest.raises(Exception, match="is missing") as problem:
        layout.DataDir.open(home.root)
    assert f"imgpro rebuild --data {home.root}" in problem.value.action.label
