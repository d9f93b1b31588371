"""The rows about lists: pages of an account with a million pictures, asked for over HTTP with a key."""

import asyncio
import bisect
import contextlib
import itertools
import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import blake2s
from pathlib import Path
from urllib.parse import urlencode

from bench import cost, load, servers
from bench.figures import Bench, Figure, noise
from imgpro import ids
from imgpro.flows.browse import Filters, cursor_at, parse_filters
from imgpro.signing import Signer
from imgpro.store import queries_accounts
from imgpro.store.db import Database
from imgpro.store.layout import DataDir

PICTURES = 1_000_000
BLOBS = 100_000
FORMATS = ("jpeg",) * 45 + ("png",) * 40 + ("webp",) * 10 + ("gif",) * 4 + ("avif",)
PAIRS = [first + second for first in ids.BASE62 + "zz" for second in ids.BASE62 + "zz"]
PLACEHOLDER = "data:image/webp;base64," + "A" * 160
TARGET_MS = 10.0
DEEP_RATIO = 1.3
BEGUN_MS = 1_600_000_000_000

THINGS = (
    "sunset beach family holiday garden kitchen invoice receipt diagram chart login settings error dashboard meeting "
    "notes cat dog car house river mountain forest city street portrait wedding birthday recipe menu map ticket"
).split()
RARE = "zephyr quokka obelisk marimba fjord cobalt basilisk".split()
# Two that are everywhere and hardly ever together: the worst that a list of both can meet.
APART = ("day", "night")
TAGS = [*THINGS, *(f"{thing}-{number}" for number in range(2019, 2026) for thing in THINGS)][:198]
# What follows from the pictures: tags, text, and the sums that triggers would have kept.
DERIVED = """
INSERT INTO image_tags (account, tag, created_ms, image, stored_bytes)
SELECT i.account, t.value, i.created_ms, i.seq, i.stored_bytes FROM images i, json_each(i.tags) t ORDER BY 1, 2, 3, 4;
INSERT INTO images_text (rowid, owner, name, description, tags)
SELECT seq, 'a' || account, name, description, tags FROM images ORDER BY seq;
INSERT INTO tag_totals SELECT account, tag, count(*), sum(stored_bytes) FROM image_tags GROUP BY 1, 2;
INSERT INTO namespace_totals
SELECT account, namespace, count(*), sum(stored_bytes) FROM images WHERE namespace IS NOT NULL GROUP BY 1, 2;
UPDATE accounts SET images = (SELECT count(*) FROM images), stored_bytes = (SELECT sum(stored_bytes) FROM images);
UPDATE totals SET value = (SELECT count(*) FROM images) WHERE name = 'images';
UPDATE totals SET value = (SELECT count(*) FROM blobs) WHERE name = 'blobs';
UPDATE totals SET value = (SELECT sum(stored_bytes) FROM blobs) WHERE name = 'blob_bytes'
"""

NAMESPACES = [f"team-{thing}" for thing in THINGS[:30]]


def _skewed(count: int) -> list[float]:
    return list(itertools.accumulate(1 / (place + 1) for place in range(count)))


class _Maker:
    """Makes rows that look like an archive of screenshots and photographs."""

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared
        self._random = random.Random(7)
        self._tag_weights, self._namespace_weights = _skewed(len(TAGS)), _skewed(len(NAMESPACES))
        self._created_ms = BEGUN_MS

    def rows(self, count: int, account: int, key: int) -> Iterator[tuple[object, ...]]:
        draw = self._random.random
        for seq in range(1, count + 1):
            self._created_ms += 1 + int(draw() * 200_000)
            blob = int(draw() * BLOBS) if self._shared else seq - 1
            kind = FORMATS[blob % len(FORMATS)]
            tags = json.dumps(self._tags(seq))
            namespace = None
            if draw() < 0.6:
                namespace = NAMESPACES[bisect.bisect(self._namespace_weights, draw() * self._namespace_weights[-1])]
            yield (
                *(seq, self._id(), blob + 1, kind, 100_000 + blob, self._name(seq, kind), self._description()),
                *(draw() < 0.9, self._created_ms, account, key, namespace, tags),
            )

    def _id(self) -> str:
        bits = self._random.getrandbits(72)
        return "".join([PAIRS[bits >> shift & 0xFFF] for shift in range(0, 72, 12)])

    def _name(self, seq: int, kind: str) -> str:
        draw = self._random.random()
        day = f"{2019 + seq * 6 // PICTURES}-{seq % 12 + 1:02}-{seq % 28 + 1:02}"
        if draw < 0.45:
            return f"Screenshot {day} {seq % 24:02}.{seq % 60:02}.{seq % 59:02}.{kind}"
        if draw < 0.8:
            return f"IMG_{day.replace('-', '')}_{seq % 1_000_000:06}.{kind}"
        return "-".join(self._random.choices(THINGS, k=2)) + f"-{seq % 977}.{kind}"

    def _description(self) -> str:
        draw = self._random.random()
        if draw < 0.8:
            return ""
        words = self._random.choices(THINGS, k=8)
        return " ".join([*words, self._random.choice(RARE)] if draw > 0.9999 else words)

    def _tags(self, seq: int) -> list[str]:
        chosen = self._random.choices(TAGS, cum_weights=self._tag_weights, k=int(self._random.random() * 4))
        draw = self._random.random()
        if draw < 0.24:
            chosen.append(APART[draw < 0.12])
        if seq % (PICTURES // 30) == 0:
            chosen += APART
        return list(dict.fromkeys(chosen))


class Archive:
    """A data directory with one account that has very many pictures, without their bytes.

    `shared`: ten pictures have the same bytes; else each has its own.
    """

    def __init__(self, data: Path, *, shared: bool = True) -> None:
        self.data = data
        self.shared = shared
        self.key = ids.new_key()
        self.account = 0
        self.signer = Signer(b"-" * 32)
        self.made_in_s = 0.0

    def make(self) -> None:
        begun = time.perf_counter()
        layout = DataDir.open(self.data)
        try:
            self.signer = Signer(layout.secret)
            key = asyncio.run(self._begin(layout))
            self._fill(layout.database, key)
        finally:
            layout.close()
        self.made_in_s = time.perf_counter() - begun

    async def _begin(self, layout: DataDir) -> int:
        database = await Database.open(layout.database, layout.backups, layout.instance_id, "bench")

        def begin(conn: sqlite3.Connection) -> tuple[int, int]:
            account = queries_accounts.insert_account(
                conn, ids.new_account_id(), "bench@img.test", "operator", BEGUN_MS, plan="max", verified=True
            )
            key = queries_accounts.insert_key(
                conn,
                ids.new_key_id(),
                account.seq,
                ids.secret_hash(self.key),
                "bench",
                ("read", "write"),
                None,
                "127.0.0.1",
                BEGUN_MS,
                confirmed=True,
            )
            return account.seq, key.seq

        self.account, key = await database.write(begin)
        await database.close()
        return key

    def _fill(self, path: Path, key: int) -> None:
        """Write what a million uploads would have written, without what makes one upload durable."""
        conn = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous = OFF", "cache_size = -400000", "temp_store = MEMORY", "journal_mode = OFF"):
            conn.execute(f"PRAGMA {pragma}").fetchall()
        conn.execute("BEGIN IMMEDIATE")
        # Sorted once at the end is much faster than one by one.
        later = _set_aside(conn)
        _insert_blobs(conn, BLOBS if self.shared else PICTURES)
        conn.executemany(
            "INSERT INTO images (seq, id, blob, format, stored_bytes, name, description, public, created_ms, account, "
            "key, namespace, tags, origin, metadata_removed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'upload', '[]')",
            _Maker(shared=self.shared).rows(PICTURES, self.account, key),
        )
        for sql in DERIVED.split(";"):
            conn.execute(sql)
        for sql in later:
            conn.execute(sql)
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode = WAL").fetchall()
        conn.close()

    def ask(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(f"{self.data.as_uri()}/imgpro.db?mode=ro", uri=True)) as conn:
            return conn.execute(sql, values).fetchall()

    def cursor(self, limit: int, before: int) -> str:
        """Return the cursor of a page that ended with the picture that has `before - 1` newer ones."""
        sql = (
            "SELECT created_ms, seq FROM images INDEXED BY images_by_account WHERE account = ? "
            "ORDER BY created_ms DESC, seq DESC LIMIT 1 OFFSET ?"
        )
        [(created_ms, seq)] = self.ask(sql, self.account, before - 1)
        assert isinstance(created_ms, int)
        assert isinstance(seq, int)
        return cursor_at(self.signer, self.account, Filters(limit=limit), (created_ms, seq))


def _set_aside(conn: sqlite3.Connection) -> list[str]:
    """Drop triggers and indexes of what is filled; return the statements that make them again."""
    rows = conn.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND (type = 'trigger' OR type = 'index') "
        "AND tbl_name IN ('images', 'image_tags', 'blobs') ORDER BY type"
    ).fetchall()
    for kind, name, _ in rows:
        conn.execute(f"DROP {kind} {name}")
    return [sql for _, _, sql in rows]


def _insert_blobs(conn: sqlite3.Connection, count: int) -> None:
    conn.executemany(
        "INSERT INTO blobs (seq, digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, phash, "
        f"created_ms) VALUES (?, ?, ?, ?, 1920, 1080, 1, 0, '{PLACEHOLDER}', ?, {BEGUN_MS})",
        (
            (n + 1, blake2s(b"%d" % n).digest(), FORMATS[n % len(FORMATS)], 100_000 + n, n * 0x9E3779B97F4A7C15 % 2**62)
            for n in range(count)
        ),
    )


WEEK_S = BEGUN_MS // 1000 + 60_000_000  # a good way into the archive
WEEK: dict[str, object] = {"since": WEEK_S, "until": WEEK_S + 7 * 86_400}
# A query's `page` becomes cursors of such pages, `some` that many ids.
CASES: dict[str, dict[str, object]] = {
    "page-1": {},
    "page-10000": {"page": 10_000},
    "page-1-limit-100": {"limit": 100},
    "page-10000-limit-100": {"limit": 100, "page": 10_000},
    "namespace": {"namespace": NAMESPACES[0]},
    "namespace-small": {"namespace": NAMESPACES[-1]},
    "type-common": {"type": "jpeg"},
    "type-rare": {"type": "avif"},
    "week": WEEK,
    "tag-popular": {"tags": TAGS[0]},
    "tag-rare": {"tags": TAGS[-1]},
    "tags-any-2": {"tags": f"{TAGS[0]},{TAGS[1]}"},
    "tags-any-10-limit-100": {"tags": ",".join(TAGS[:10]), "limit": 100},
    "tags-all-2": {"tags": f"{TAGS[0]},{TAGS[1]}", "tag_mode": "all"},
    "tags-all-popular-and-rare": {"tags": f"{TAGS[0]},{TAGS[-1]}", "tag_mode": "all"},
    "tag-namespace-type": {"tags": TAGS[0], "namespace": NAMESPACES[0], "type": "png"},
    "ids-100": {"some": 100, "limit": 100},
    "q-common": {"q": "screenshot"},
    "q-beginning": {"q": "scr"},
    "q-rare": {"q": RARE[0]},
    "q-2-words": {"q": "sunset beach"},
    "q-date": {"q": "screenshot 2021-05"},
    "q-and-namespace": {"q": "beach", "namespace": NAMESPACES[0]},
    "q-and-rare-tag": {"q": "screenshot", "tags": TAGS[-1]},
    "q-and-week": {"q": "screenshot", **WEEK},
    "tags-all-apart": {"tags": ",".join(APART), "tag_mode": "all"},
    "q-apart": {"q": "screenshot img"},
}
# To know that nothing is in both of two large sets takes looking through one of them. Measured, without a target.
APART_CASES = ("tags-all-apart", "q-apart")


def _paths(archive: Archive, name: str) -> list[str]:
    if name in ("namespaces", "tags"):
        return [f"/v1/{name}"]
    query = {field: str(value) for field, value in CASES[name].items()}
    page, some, limit = int(query.pop("page", "0")), int(query.pop("some", "0")), int(query.get("limit", "50"))
    queries = [query]
    if some:
        seqs = random.Random(some).sample(range(1, PICTURES), some)
        found = [str(archive.ask("SELECT id FROM images WHERE seq = ?", seq)[0][0]) for seq in seqs]
        queries = [{**query, "ids": ",".join(found)}]
    if page:
        # Spread a little, so that what is measured is not one page of the disk's cache.
        draw = random.Random(page)
        ends = [(page - 1) * limit - draw.randrange(PICTURES // 20) for _ in range(50)]
        queries = [{**query, "cursor": archive.cursor(limit, end)} for end in ends]
    for each in queries:
        parse_filters(each)
    return [f"/v1/media?{urlencode(each)}" for each in queries]


async def _measured(server: servers.Server, archive: Archive, paths: list[str], seconds: float) -> load.Sample:
    """Ask one at a time, as a person who turns pages does."""
    headers = f"Authorization: Bearer {archive.key}\r\n"
    connection = load.Connection(server.port)
    latencies: list[float] = []
    size = 0

    async def ask(path: str) -> None:
        nonlocal size
        begun = time.perf_counter()
        answer = await connection.ask(path, headers=headers)
        latencies.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {answer.body[:300]!r}")
        size = len(answer.body)

    turn = itertools.cycle(paths)
    for path in paths[:3] * 3:
        await ask(path)
    latencies.clear()
    with cost.Watch(server.pid, memory=False) as watch:
        end = time.perf_counter() + seconds
        while len(latencies) < 30 or (time.perf_counter() < end and len(latencies) < 1_000):
            await ask(next(turn))
    connection.close()
    return load.Sample(
        len(latencies), watch.wall_s, watch.cpu_s, latencies_s=latencies, body_bytes=size, elsewhere=watch.elsewhere
    )


def lists(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """Pages of lists of a million pictures."""
    names = [name for name in (*CASES, "namespaces", "tags") if wanted(f"list-{name}")]
    if not names or not bench.with_imgpro:
        return
    server = servers.Imgpro(bench.folder, bench.scratch("lists"))
    archive = Archive(server.work / "data")
    print(f"making an archive of {PICTURES:,} pictures", file=sys.stderr)
    archive.make()
    print(f"made in {archive.made_in_s:.0f} s", file=sys.stderr)
    server.start()
    p50_ms: dict[str, float] = {}
    try:
        for name in names:
            paths = _paths(archive, name)
            sample = asyncio.run(_measured(server, archive, paths, bench.seconds))
            p50_ms[name] = sample.quantile_ms(0.5)
            yield _figure(name, sample, p50_ms.get(name.replace("page-10000", "page-1")) if "10000" in name else None)
    finally:
        server.stop()


def _figure(name: str, sample: load.Sample, page_1_ms: float | None) -> Figure:
    p50_ms, p99_ms = sample.quantile_ms(0.5), sample.quantile_ms(0.99)
    values: dict[str, float | str] = {
        "p50 ms": p50_ms,
        "p99 ms": p99_ms,
        "CPU ms": sample.cpu_ms,
        "KB": sample.body_bytes / 1024,
        **noise(sample),
    }
    figure = Figure(f"list-{name}", "imgpro", values)
    if name not in APART_CASES:
        figure.target, figure.met = f"p99 < {TARGET_MS:.0f} ms", p99_ms < TARGET_MS
    if page_1_ms is not None:
        values["of page 1"] = p50_ms / page_1_ms
        figure.target += f", <= {DEEP_RATIO}x of page 1"
        figure.met = bool(figure.met) and p50_ms <= DEEP_RATIO * page_1_ms
    return figure
