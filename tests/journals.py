"""A database with its journal, without a server: random changes, and what a rebuild makes of the files."""

import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from imgpro.flows.journal import Journaling
from imgpro.ids import new_account_id, new_key_id, secret_hash
from imgpro.model import Principal
from imgpro.store import journal_ahead, journal_reading, journal_tables, queries, queries_accounts, rebuilding, schema
from imgpro.store.db import Database
from imgpro.store.journal import Journal, JournalStatus
from imgpro.store.layout import DataDir
from imgpro.store.queries import Allowance, Changes
from imgpro.store.rebuilding import Rebuilt
from tests.law import check_owned
from tests.samples import NOW_MS, sample_image

# Kept by triggers while pictures come and go, and made from what is there after a rebuild.
UNLIKE = {"damaged_blobs", "daily_growth", "images_text"}


class Home:
    """A data directory, its database and its journal, opened and closed at will."""

    def __init__(self, root: Path, migrations: Any = None) -> None:
        self.root = root
        self.migrations = migrations
        self.data: DataDir
        self.db: Database
        self.journal: Journal
        self.journaling: Journaling

    async def open(self, *, accept: bool = False) -> "Home":
        self.data = DataDir.open(self.root)
        try:
            journal_ahead.settle(self.data.database, self.data.journal, self.data.instance_id, accept=accept)
        except BaseException:
            self.data.close()
            raise
        self.journal = Journal(self.data.journal, self.data.instance_id)
        self.db = await Database.open(
            self.data.database, self.data.backups, self.data.instance_id, "1", self.migrations, self.journal
        )
        self.journaling = Journaling(self.db, self.data, self.journal)
        return self

    async def close(self) -> None:
        await self.db.close()
        self.data.close()

    async def write(self, work: Any) -> Any:
        return await self.db.write(work)

    def status(self) -> JournalStatus:
        return self.journal.status()

    def files(self) -> list[Path]:
        return sorted((self.root / "journal").glob("0*"))

    def bytes_of_journal(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.files())

    def keep_blob(self, content: bytes) -> None:
        """Put an original where it belongs."""
        digest = blake3(content).hexdigest()
        path = self.root / "blobs" / digest[:2] / digest[2:4] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def rebuilt(self, target: Path, *, journal: Path | None = None, quarantine: Path | None = None) -> Rebuilt:
        """Make a database at `target` from the journal's files, and return what came of it."""
        plan = journal_reading.plan(journal or self.root / "journal", self.data.instance_id)
        steps = schema.packaged_migrations()
        target.unlink(missing_ok=True)
        blobs = self.root / "blobs"
        return rebuilding.build(target, plan, self.data.instance_id, steps, blobs, quarantine, lambda *_: None)

    def check_rebuilt(self, target: Path) -> Rebuilt:
        """Make a database and hold it against the one that is there, row by row."""
        done = self.rebuilt(target)
        assert (done.gaps, done.broken.names, done.dropped.names) == ([], [], [])
        expected, found = contents(self.root / "imgpro.db"), contents(target)
        for name in expected:
            assert found[name] == expected[name], (name, found[name], expected[name])
        return done


def contents(database: Path) -> dict[str, list[tuple]]:
    """Return all rows that a rebuild has to bring back, by table."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as conn:
        found = {}
        for name, shape in journal_tables.shapes(conn).items():
            columns = ", ".join(column for column in shape.columns if column != "last_used_ms")
            found[name] = sorted(conn.execute(f"SELECT {columns} FROM {name}").fetchall(), key=repr)
        for name in journal_tables.DERIVED - UNLIKE:
            rows = conn.execute(f"SELECT * FROM {name}").fetchall()
            found[name] = sorted((row for row in rows if row[0] != "traces"), key=repr)
        kept = [table.name for table in journal_tables.KEPT]
        numbers = conn.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        found["numbers"] = sorted((name, seq) for name, seq in numbers if name in kept)
        check_owned(conn)
    conn.close()
    return found


def add_account(conn: sqlite3.Connection, email: str) -> Principal:
    """Make an account with one key."""
    account = queries_accounts.insert_account(conn, new_account_id(), email, "member", NOW_MS, verified=True)
    key = queries_accounts.insert_key(
        conn,
        *(new_key_id(), account.seq, secret_hash(new_key_id()), "Default", ("read", "write"), None, "192.0.2.1"),
        NOW_MS,
        confirmed=True,
    )
    return Principal(account, key)


def add_image(conn: sqlite3.Connection, content: bytes, owner: Principal | None = None, **changes: Any) -> str:
    """Store a picture's rows and return its id."""
    if owner is not None:
        changes = {"account": owner.account.seq, "key": owner.key.seq, **changes}
    image = sample_image(content, **changes)
    network = None if owner is not None else "192.0.2.7"
    allowance = Allowance("2026-11", None, None) if owner is not None else None
    queries.insert_image(conn, image, network, allowance=allowance)
    return image.id


class Hands:
    """Somebody who changes things at random, always in a way that the tables allow."""

    def __init__(self, home: Home, seed: int) -> None:
        self.home = home
        self.dice = random.Random(seed)
        self.owners: list[Principal] = []
        self.images: dict[str, Principal | None] = {}
        self._count = 0

    async def change(self) -> None:
        """Do one thing in one transaction."""
        work = self.dice.choices(
            [self._add, self._account, self._change, self._delete, self._leave, self._rest, self._swap, self._give_up],
            [10, 2, 5, 4, 1, 3, 1, 2],
        )[0]
        self._count += 1
        await self.home.write(work)

    def _add(self, conn: sqlite3.Connection) -> None:
        content = b"%d" % self.dice.randrange(200)
        owner = self.dice.choice([None, *self.owners])
        tags = tuple(self.dice.sample(["sea", "früh", 'a "quoted"\ttag', "x"], self.dice.randrange(3)))
        about = {"name": f"{self._count} \u2028 é \x00.png", "description": "d" * self.dice.randrange(30)}
        if owner is not None:
            about |= {"tags": tags, "namespace": self.dice.choice([None, "trip", "work"])}
        image_id = add_image(conn, content, owner, **about)
        self.home.keep_blob(content)
        self.images[image_id] = owner
        seq = conn.execute("SELECT seq FROM images WHERE id = ?", (image_id,)).fetchone()[0]
        if self.dice.random() < 0.3:
            conn.execute("INSERT INTO brought_in VALUES ('zipline', ?, ?)", (image_id, seq))

    def _account(self, conn: sqlite3.Connection) -> None:
        self.owners.append(add_account(conn, f"u{self._count}@example.org"))

    def _change(self, conn: sqlite3.Connection) -> None:
        owned = [image_id for image_id, owner in self.images.items() if owner is not None]
        if owned:
            image_id = self.dice.choice(owned)
            changes = Changes(name=f"renamed {self._count}", tags=("late",), tag_mode="add", namespace="other")
            assert queries.update_image(conn, image_id, self.images[image_id], changes, NOW_MS, None)

    def _delete(self, conn: sqlite3.Connection) -> None:
        if self.images:
            image_id = self.dice.choice(list(self.images))
            gone = queries.delete_image(conn, image_id)
            del self.images[image_id]
            if gone.last:
                (self.home.root / "blobs" / gone.digest[:2] / gone.digest[2:4] / gone.digest).unlink()

    def _leave(self, conn: sqlite3.Connection) -> None:
        """Delete an account with everything that is its own; others refer to it, and go as well."""
        if not self.owners:
            return
        owner = self.owners.pop(self.dice.randrange(len(self.owners)))
        for image_id in [each for each, whose in self.images.items() if whose is owner]:
            gone = queries.delete_image(conn, image_id)
            del self.images[image_id]
            if gone.last:
                (self.home.root / "blobs" / gone.digest[:2] / gone.digest[2:4] / gone.digest).unlink()
        conn.execute("DELETE FROM accounts WHERE seq = ?", (owner.account.seq,))

    def _rest(self, conn: sqlite3.Connection) -> None:
        if not self.owners:
            return
        account = self.dice.choice(self.owners).account.seq
        queries_accounts.insert_upgrade_request(conn, account, "pro", NOW_MS)
        queries_accounts.set_plan(conn, account, self.dice.choice(["pro", "max"]))
        queries_accounts.note_key_uses(conn, [(1, NOW_MS + self._count)])
        conn.execute(
            "INSERT INTO retention_rules (name, account, older_than_s, created_ms, begins_ms, expected) VALUES (?, ?, 60, 1, 1, 0)",
            (f"rule {self._count}", account),
        )

    def _swap(self, conn: sqlite3.Connection) -> None:
        """Let two accounts exchange what is unique."""
        if len(self.owners) >= 2:
            one, two = (each.account.seq for each in self.dice.sample(self.owners, 2))
            (first,) = conn.execute("SELECT email FROM accounts WHERE seq = ?", (one,)).fetchone()
            (second,) = conn.execute("SELECT email FROM accounts WHERE seq = ?", (two,)).fetchone()
            for email, seq in ((f"{self._count}@meanwhile", one), (first, two), (second, one)):
                conn.execute("UPDATE accounts SET email = ? WHERE seq = ?", (email, seq))

    def _give_up(self, conn: sqlite3.Connection) -> None:
        """Store something and think better of it, within the transaction."""
        add_image(conn, b"never %d" % self._count)
        conn.execute("ROLLBACK TO one")


def copied(source: Path, target: Path) -> Path:
    """Return a copy of a folder as it is now."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def reopened_header(path: Path) -> dict[str, Any]:
    """Return what the first line of a file of the journal says."""
    found = msgspec.json.decode(path.read_bytes().split(b"\n", 1)[0])
    header: dict[str, Any] = found[2]
    return header
