"""Lists as SQL: every combination of filters against a model, and the plan that SQLite makes of each statement."""

import itertools
import re
import unicodedata
from unittest import mock

import msgspec
import pytest

from imgpro.model import Principal
from imgpro.store import queries, queries_accounts, queries_browse
from imgpro.store.db import Database
from imgpro.store.queries import Changes
from imgpro.store.queries_browse import START, Listed, Wanted, images_step, list_plan, narrowed
from tests.samples import NOW_MS, sample_blob, sample_image

LATER_MS = NOW_MS + 10**9
NEVER_MS = 4 * 10**12


@pytest.fixture
async def db(tmp_path):
    (tmp_path / "backups").mkdir()
    db = await Database.open(tmp_path / "imgpro.db", tmp_path / "backups", "instance", "1.0")
    yield db
    await db.close()


async def add_account(db, name):
    return await db.write(
        lambda conn: queries_accounts.insert_account(conn, f"acc_{name}", f"{name}@img.test", "member", NOW_MS)
    )


async def add_key(db, account, name, confirmed=True):
    return await db.write(
        lambda conn: queries_accounts.insert_key(
            conn, f"key_{name}", account.seq, name.encode().ljust(32), name, ("read", "write"), None, "-", NOW_MS,
            confirmed=confirmed,
        )
    )  # fmt: skip


def rarity(**limits):
    """Change what counts as rare, which decides which way is taken."""
    return mock.patch.multiple(queries_browse, **{"_NARROW": 1_000, **limits})


def owned(account, content=b"picture", fmt="jpeg", **changes):
    return sample_image(content, blob=sample_blob(content + fmt.encode(), format=fmt), account=account.seq, **changes)


async def add(db, image):
    """Store a picture; return its number."""

    def write(conn):
        queries.insert_image(conn, image, None)
        return conn.execute("SELECT seq FROM images WHERE id = ?", (image.id,)).fetchone()[0]

    return await db.write(write)


async def add_all(db, images):
    """Store pictures in one transaction; return them by number."""

    def write(conn):
        for image in images:
            queries.insert_image(conn, image, None)
        return dict(conn.execute("SELECT id, seq FROM images"))

    seqs = await db.write(write)
    return {seqs[image.id]: image for image in images}


async def walk(db, wanted, limit=1_000, window=1_000, after=START):
    """Return what a list shows from a position on, step by step."""
    placed = []
    async with db.reader() as conn:
        plan = await list_plan(conn, wanted)
        while True:
            step = await images_step(conn, wanted, plan, after, limit - len(placed), window)
            placed += step.placed
            if step.resume is None:
                return placed
            assert step.resume < after
            after, plan = step.resume, await narrowed(conn, wanted, plan)


async def ids_of(db, wanted, **options):
    return [each.image.id for each in await walk(db, wanted, **options)]


# The model


def words_of(text):
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.lower())


def says(image, words):
    spoken = words_of(" ".join((image.name, image.description, *image.tags)))
    wanted = [words_of(word)[-1] for word in words if words_of(word)]
    alone = [len(word) == 1 and word.isascii() for word in wanted]
    return bool(wanted) and all(
        any(each == word if exact else each.startswith(word) for each in spoken)
        for word, exact in zip(wanted, alone, strict=True)
    )


def fits(image, wanted):
    tags = {tag in image.tags for tag in wanted.tags}
    return (
        image.account == wanted.account
        and not image.expired(wanted.now_ms)
        and (wanted.key is None or image.key == wanted.key)
        and (not wanted.tags or (any(tags) if wanted.tag_mode == "any" else all(tags)))
        and wanted.namespace in (None, image.namespace)
        and wanted.format in (None, image.blob.format)
        and (wanted.since_ms is None or image.created_ms >= wanted.since_ms)
        and (wanted.until_ms is None or image.created_ms < wanted.until_ms)
        and (not wanted.ids or image.id in wanted.ids)
        and (not wanted.words or says(image, wanted.words))
    )


def model(stored, wanted):
    """Return the ids that a list must show: `stored` are pictures by number."""
    found = [(image.created_ms if not wanted.words else 0, seq) for seq, image in stored.items() if fits(image, wanted)]
    return [stored[seq].id for _, seq in sorted(found, reverse=True)]


TAGS = [(), ("red",), ("blue",), ("red", "blue"), ("dark blue", "🔥"), ('a"b\\c', "red", "🔥")]
TEXTS = ["cat", "catalogue", "dog", "Übel x", "日本語", "red_dog", ""]
SOUGHT = [("cat",), ("CATA",), ("d",), ("x", "ube"), ("日",), ("red", "do"), ("🔥",), ("og",)]


async def fill_with_all_kinds(db, mine, theirs):
    """Store pictures of many combinations of everything; return them by number."""
    keys = [await add_key(db, mine, "one"), await add_key(db, mine, "two")]
    images = [
        owned(
            theirs if number % 11 == 10 else mine,
            key=keys[number % 5 == 0].seq,
            fmt=("jpeg", "png", "gif")[number % 7 % 3],
            created_ms=NOW_MS + number * 7 % 30,
            expires_ms=(None, LATER_MS - 1, LATER_MS, LATER_MS + 1)[number % 9 % 4],
            name=TEXTS[number % 7],
            description=TEXTS[number % 13 % 7],
            tags=TAGS[number % 6],
            namespace=(None, "home", "work")[number % 17 % 3],
        )
        for number in range(130)
    ]
    return await add_all(db, images)


@pytest.mark.parametrize(
    "limits",
    [{}, {"_SMALL": 0}, {"_SMALL": 0, "_COUNTED": 0, "_NARROW": 0}, {"_SMALL": 9, "_COUNTED": 12, "_NARROW": 3}],
    ids=["few", "lists", "many", "mixed"],
)
async def test_every_combination_is_what_the_model_says(db, limits):
    mine, theirs = await add_account(db, "mine"), await add_account(db, "theirs")
    stored = await fill_with_all_kinds(db, mine, theirs)
    found = 0
    for (tags, mode), namespace, fmt, times, key, words in itertools.product(
        [((), "any"), (("red",), "any"), (("red", "🔥"), "any"), (("red", "blue"), "any"), (("red", "blue"), "all"),
         (("🔥", 'a"b\\c'), "all"), (("absent", "red"), "any")],
        (None, "home"), (None, "png"), ((None, None), (NOW_MS + 4, NOW_MS + 22)), (None, 1), [(), *SOUGHT],
    ):  # fmt: skip
        wanted = Wanted(
            account=mine.seq,
            now_ms=LATER_MS,
            key=key,
            tags=tags,
            tag_mode=mode,
            namespace=namespace,
            format=fmt,
            since_ms=times[0],
            until_ms=times[1],
            words=words,
        )
        with rarity(**limits):
            ids = await ids_of(db, wanted, window=7)
        assert ids == model(stored, wanted), wanted
        found += bool(ids)
    assert found > 300


@pytest.mark.parametrize("words", [(), ("cat",), ("red", "dog")])
async def test_given_ids_are_filtered_like_everything(db, words):
    mine, theirs = await add_account(db, "mine"), await add_account(db, "theirs")
    stored = await fill_with_all_kinds(db, mine, theirs)
    ids = (*(image.id for image in list(stored.values())[::2]), "0" * 12)
    for other in (
        {},
        {"tags": ("red",)},
        {"namespace": "home"},
        {"format": "png"},
        {"key": 1},
        {"until_ms": NOW_MS + 9},
    ):
        wanted = Wanted(account=mine.seq, now_ms=LATER_MS, ids=ids, words=words, **other)
        expected = model(stored, wanted)
        assert await ids_of(db, wanted) == expected
        assert await ids_of(db, wanted, limit=2) == expected[:2]


# Text


HOSTILE = [
    '"', '""', "'", "cat OR dog", "NOT cat", "cat NOT dog", "cat*", "*", "^cat", "name:cat", "owner:a1", "owner : a1",
    "a1", "a2", "{name}:cat", "cat AND", "(cat", "cat)", "NEAR(cat dog)", "cat+dog", "cat\0dog", "\0", "\0cat", "-cat",
    "🔥", "cat 🔥", "🔥🔥 '", "cat;DROP TABLE images", "\\", "%", "?", ":x", "--", "/*", "日 *", "co_l", "ca t",
    "c", "T", "D", "ca-t", 'cat" OR owner : "a2', "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "c" * 200, "é", "e\u0301",
]  # fmt: skip


@pytest.mark.parametrize("ways", [{}, {"_SMALL": 1_000}], ids=["index", "memory"])
@pytest.mark.parametrize("query", HOSTILE)
async def test_nothing_in_a_text_is_an_operator(db, query, ways):
    mine, theirs = await add_account(db, "mine"), await add_account(db, "theirs")
    texts = ["cat", "dog", "cat dog", "cart or not", "x", "é", "t", "drop table images", "日本"]
    stored = {}
    for owner, text in itertools.product((mine, theirs), texts):
        image = owned(owner, name=text, tags=("all",))
        stored[await add(db, image)] = image
    wanted = Wanted(account=mine.seq, now_ms=LATER_MS, words=tuple(query.split()), tags=("all",))
    with rarity(**{"_SMALL": 0, "_COUNTED": 0, **ways}):
        found = [each.image.name for each in await walk(db, wanted)]

    def phrase(word):
        """A word with signs in it is a phrase: its parts follow each other, the last may go on."""
        *whole, last = words_of(word)
        end = "" if len(last) == 1 and last.isascii() else r"\w*"
        return re.compile(rf"(?<!\w){' '.join(map(re.escape, [*whole, last]))}{end}(?!\w)")

    phrases = [phrase(word) for word in query.split() if words_of(word)]
    expected = [
        text for text in texts if phrases and all(each.search(" ".join(words_of(text + " all"))) for each in phrases)
    ]
    assert found == expected[::-1]


async def test_a_changed_text_is_found_and_the_old_one_is_not(db):
    mine = await add_account(db, "mine")
    principal = Principal(mine, None)
    image = owned(mine, name="old.jpg", tags=("one",))
    await add(db, image)
    await db.write(
        lambda conn: queries.update_image(
            conn, image.id, principal, Changes(name="new.jpg", description="word", tags=("two",)), NOW_MS, None
        )
    )
    for word, there in [("old", False), ("one", False), ("new", True), ("word", True), ("two", True)]:
        assert bool(await ids_of(db, Wanted(account=mine.seq, now_ms=NOW_MS, words=(word,)))) == there
    for tag, there in [("one", False), ("two", True)]:
        assert bool(await ids_of(db, Wanted(account=mine.seq, now_ms=NOW_MS, tags=(tag,)))) == there


async def test_a_text_within_times_survives_a_wrong_clock(db):
    mine, hour_ms = await add_account(db, "mine"), 3_600_000
    since_ms, until_ms = NOW_MS + 10 * hour_ms, NOW_MS + 40 * hour_ms

    def taken(created_ms):
        return owned(mine, name="cat", created_ms=created_ms)

    # One in ten came while the clock was hours behind. Of two the time is wrong by days, and they lie just where the
    # span of numbers is looked up.
    behind = [20 * hour_ms if number % 10 == 9 else 0 for number in range(600)]
    images = [taken(NOW_MS + number * hour_ms // 10 - wrong_ms) for number, wrong_ms in enumerate(behind)]
    early, late = taken(until_ms + 24 * hour_ms), taken(since_ms - 24 * hour_ms - 1)
    wrong = {early.id, late.id}
    after = [taken(NOW_MS + hour_ms * 70 + n) for n in range(120)]
    stored = await add_all(db, [early, *images, late, *after])
    with rarity(_COUNTED=3, _SMALL=1):
        for since, until in itertools.product((None, since_ms), (None, until_ms)):
            wanted = Wanted(account=mine.seq, now_ms=NOW_MS, words=("cat",), since_ms=since, until_ms=until)
            expected = [each for each in model(stored, wanted) if each not in wrong]
            assert [each for each in await ids_of(db, wanted) if each not in wrong] == expected
            async with db.reader() as conn:
                plan = await list_plan(conn, wanted)
            # It is a span, not everything.
            assert (plan.high[1] < max(stored)) == (until is not None)


async def test_the_owner_is_looked_at_where_nearly_all_is_theirs(db):
    mine, theirs = await add_account(db, "mine"), await add_account(db, "theirs")
    ours = await add_all(db, [owned(mine, name="cat", tags=("a", "b"), created_ms=NOW_MS + n) for n in range(40)])
    await add(db, owned(theirs, name="cat", tags=("a", "b")))
    for asked in ({"words": ("cat",)}, {"tags": ("a", "b"), "tag_mode": "all", "format": "jpeg"}):
        with rarity(_COUNTED=0, _SMALL=0):
            wanted = Wanted(account=mine.seq, now_ms=NOW_MS, **asked)
            async with db.reader() as conn:
                match = (await list_plan(conn, wanted)).match
            assert "owner" not in match
            assert len(await ids_of(db, wanted, window=3)) == len(ours)
            others = msgspec.structs.replace(wanted, account=theirs.seq)
            assert len(await ids_of(db, others, window=3)) == 1


# Namespaces and tags


async def test_namespaces_and_tags_are_counted(db):
    mine, theirs = await add_account(db, "mine"), await add_account(db, "theirs")
    old, new = await add_key(db, mine, "old"), await add_key(db, mine, "new", confirmed=False)
    await add(db, owned(theirs, namespace="their-own", tags=("theirs",)))
    await add(db, owned(mine, b"12345", namespace="bb", tags=("x", "y"), key=old.seq))
    gone = owned(mine, b"123", namespace="aa", tags=("x", "z"), key=new.seq)
    await add(db, gone)
    await add(db, owned(mine, b"1234567", namespace="aa", tags=("x",), key=new.seq))
    await add(db, owned(mine, b"12", namespace="ended", tags=("old",), key=new.seq, expires_ms=NOW_MS + 1))

    async def both(key):
        async with db.reader() as conn:
            principal = Principal(mine, key)
            return [await ask(conn, principal, LATER_MS) for ask in (queries_browse.namespaces, queries_browse.tags)]

    # jpeg's four letters are part of the sample's content
    assert await both(None) == [
        [Listed("aa", 2, 7 + 11), Listed("bb", 1, 9), Listed("ended", 1, 6)],
        [Listed("old", 1, 6), Listed("x", 3, 9 + 7 + 11), Listed("y", 1, 9), Listed("z", 1, 7)],
    ]
    assert await both(old) == await both(None)
    assert await both(new) == [
        [Listed("aa", 2, 18)],
        [Listed("x", 2, 18), Listed("z", 1, 7)],
    ]
    await db.write(lambda conn: queries.delete_image(conn, gone.id))
    assert await both(new) == [[Listed("aa", 1, 11)], [Listed("x", 1, 11)]]
    assert [[each.name for each in found] for found in await both(None)] == [["aa", "bb", "ended"], ["old", "x", "y"]]


# Plans


COMBINATIONS = [
    dict(zip(("tags", "tag_mode", "namespace", "format", "since_ms", "key", "ids", "words"), values, strict=True))
    for values in [
        (tags, mode, namespace, fmt, since, key, ids, words)
        for (tags, mode), namespace, fmt, since, key, ids, words in itertools.product(
            [((), "any"), (("t0",), "any"), (("t0", "t1", "t2"), "any"), (("t0", "t1", "t2"), "all")],
            (None, "n0"),
            (None, "png"),
            (None, NOW_MS + 5),
            (None, 1),
            ((), ("0" * 12,)),
            ((), ("cat", "dog")),
        )
    ]
]


async def fill(db):
    """Store what makes the planner's statistics as misleading as possible: nearly everything is the same.

    Every index has entries: without statistics for all of them the planner does not believe that a table is small.
    """
    mine = await add_account(db, "mine")
    await add_key(db, mine, "one")

    def write(conn):
        for number in range(60):
            rare = number % 20 == 0
            queries.insert_image(
                conn,
                owned(
                    mine,
                    fmt="png" if not rare else "gif",
                    created_ms=NOW_MS + number // 3,
                    tags=("t0", "t1", "t2") if not rare else (),
                    namespace="n0" if not rare else None,
                    name="cat dog",
                    expires_ms=NEVER_MS if rare else None,
                    key=1,
                ),
                None,
            )

    await db.write(write)
    return mine


async def sent_by(db, wanted, limits):
    """Return the statements that a list sends."""
    sent = []
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        with rarity(**limits):
            plan = await list_plan(conn, wanted)
            step = await images_step(conn, wanted, plan, START, 5, 10)
            await narrowed(conn, wanted, plan)
            await images_step(conn, wanted, plan, step.resume or (NOW_MS + 9, 30), 5, 10)
        await conn.set_trace_callback(None)
    return plan.way, ours(sent)


def ours(sent):
    """Leave out what the full-text index asks its own tables."""
    return [sql for sql in dict.fromkeys(sent) if sql.startswith("SELECT") and "images_text_" not in sql]


async def explained(db, statements):
    def explain(conn):
        return {sql: [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements}

    return await db.write(explain)


async def pretend(db, rows):
    """Let the planner believe that every table has so many rows, and that every key is found once."""

    def write(conn):
        conn.execute("ANALYZE")
        for number, stat in conn.execute("SELECT rowid, stat FROM sqlite_stat1").fetchall():
            believed = " ".join([str(rows), *["1"] * (len(stat.split()) - 1)])
            conn.execute("UPDATE sqlite_stat1 SET stat = ? WHERE rowid = ?", (believed, number))
        conn.execute("ANALYZE sqlite_schema")

    await db.write(write)


# Walks of the index for text, of what was put together, of the numbers asked for, and of the list of tables.
INNOCENT = re.compile(
    r"SCAN (images_text VIRTUAL TABLE INDEX \d+:\S*M\S*|\(subquery-\d+\)|n VIRTUAL TABLE INDEX 1:|sqlite_schema)"
)


@pytest.mark.parametrize("limits", [{}, {"_COUNTED": 0, "_SMALL": 0}, {"_SMALL": 0}], ids=["few", "many", "lists"])
async def test_every_statement_walks_the_index_it_should_whatever_analyze_found(db, limits):
    mine = await fill(db)
    ways, statements = set(), dict[str, None]()
    for combination in COMBINATIONS:
        until_ms = NOW_MS + 50 if combination["since_ms"] else None
        way, sent = await sent_by(
            db, Wanted(account=mine.seq, now_ms=LATER_MS, until_ms=until_ms, **combination), limits
        )
        ways.add(way)
        statements.update(dict.fromkeys(sent))
    assert ways >= ({"scan", "set"} if not limits else {"scan", "set", "text"})
    plans = await explained(db, statements)
    assert len(plans) > 100
    for sql, plan in plans.items():
        for line in plan:
            assert "TEMP B-TREE" not in line, (sql, plan)
            assert not line.startswith("SCAN") or INNOCENT.fullmatch(line), (sql, plan)
        for table, index in re.findall(r"(\w+) \w+ INDEXED BY (\w+)", sql):
            index = "PRIMARY KEY" if index == "sqlite_autoindex_image_tags_1" else index
            assert any(index in line for line in plan), (table, sql, plan)
    await db.write(lambda conn: conn.execute("ANALYZE"))
    assert await explained(db, statements) == plans
    for rows in (2, 10, 1_000_000):
        await pretend(db, rows)
        assert await explained(db, statements) == plans


SEARCH = {
    "account": "SEARCH i USING INDEX images_by_account (account=? AND created_ms>? AND created_ms<?)",
    "namespace": "SEARCH i USING INDEX images_by_namespace (account=? AND namespace=? AND created_ms>? AND created_ms<?)",
    "format": "SEARCH i USING INDEX images_by_format (account=? AND format=? AND created_ms>? AND created_ms<?)",
    "tag": "SEARCH t USING PRIMARY KEY (account=? AND tag=? AND (created_ms,image)>(?,?) AND (created_ms,image)<(?,?))",
    "text": "SCAN images_text VIRTUAL TABLE INDEX 192:M4><",
    "picture": "SEARCH i USING INTEGER PRIMARY KEY (rowid=?)",
    "its tag": "SEARCH o USING COVERING INDEX image_tags_by_image (image=? AND account=? AND tag=?)",
    "namespace's numbers": "SEARCH i USING COVERING INDEX images_by_namespace (account=? AND namespace=?)",
    "tag's numbers": "SEARCH t USING PRIMARY KEY (account=? AND tag=?)",
}


@pytest.mark.parametrize(
    ("combination", "walked"),
    [
        ({}, ["account"]),
        ({"key": 1}, ["account"]),
        ({"namespace": "n0"}, ["namespace"]),
        ({"format": "png"}, ["format"]),
        ({"tags": ("t0",)}, ["tag", "picture"]),
        ({"tags": ("t0",), "since_ms": NOW_MS + 3}, ["tag", "picture"]),
        ({"tags": ("t0", "t1")}, ["tag", "picture", "tag", "picture"]),
        ({"tags": ("t0", "t1"), "tag_mode": "all"}, ["tag", "its tag", "picture"]),
        ({"namespace": "n0", "format": "gif"}, ["format"]),
        ({"namespace": "n0", "format": "png"}, ["namespace"]),
        ({"tags": ("t0",), "namespace": "n1"}, ["namespace", "its tag"]),
        ({"tags": ("rare", "t0"), "tag_mode": "all", "namespace": "n0"}, ["tag", "its tag", "picture"]),
        ({"words": ("cat",)}, ["text", "picture"]),
        ({"words": ("cat",), "since_ms": NOW_MS + 3}, ["text", "picture"]),
        ({"words": ("cat",), "namespace": "n0"}, ["text", "namespace's numbers", "picture"]),
        ({"words": ("cat",), "tags": ("t0",)}, ["text", "tag's numbers", "picture"]),
    ],
)
async def test_the_rarest_filter_is_walked(db, combination, walked):
    mine = await fill(db)
    await add(db, owned(mine, namespace="n1", tags=("t0", "rare"), fmt="gif"))
    _, sent = await sent_by(db, Wanted(account=mine.seq, now_ms=LATER_MS, **combination), {"_SMALL": 0})
    pages = [sql for sql in sent if "DESC LIMIT" in sql and "expires_ms" in sql]
    plans = await explained(db, pages)
    assert plans
    for plan in plans.values():
        assert [line for line in plan if line in SEARCH.values()] == [SEARCH[each] for each in walked]


async def test_namespaces_and_tags_walk_their_index(db):
    mine, sent = await fill(db), []
    key = await add_key(db, mine, "two", confirmed=False)
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        for principal in (Principal(mine, None), Principal(mine, key)):
            await queries_browse.namespaces(conn, principal, LATER_MS)
            await queries_browse.tags(conn, principal, LATER_MS)
        await conn.set_trace_callback(None)
    plans = await explained(db, sent)
    assert list(plans.values()) == [
        ["SEARCH namespace_totals USING PRIMARY KEY (account=?)"],
        ["SEARCH tag_totals USING PRIMARY KEY (account=?)"],
        ["SEARCH i USING INDEX images_by_namespace (account=? AND namespace>?)"],
        ["SEARCH t USING PRIMARY KEY (account=?)", "CORRELATED SCALAR SUBQUERY 1", SEARCH["picture"]],
    ]
    await db.write(lambda conn: conn.execute("ANALYZE"))
    assert await explained(db, sent) == plans


async def test_the_rarest_of_all_tags_drives_and_the_others_are_probed(db):
    mine = await fill(db)
    await add(db, owned(mine, tags=("t0", "rare")))
    async with db.reader() as conn:
        for tags in itertools.permutations(("t0", "t1", "rare")):
            plan = await list_plan(conn, Wanted(account=mine.seq, now_ms=NOW_MS, tags=tags, tag_mode="all"))
            assert [posting.equal.values[1] for posting in plan.postings] == ["rare"]
            assert len(plan.tests) == 2


async def test_tags_that_are_hardly_ever_together_are_found_by_their_words(db):
    mine = await add_account(db, "mine")
    both = [owned(mine, tags=("day", "night", "x-y"), created_ms=NOW_MS + at) for at in (1, 40)]
    for number in range(50):
        await add(db, owned(mine, tags=("day",) if number % 2 else ("night",), created_ms=NOW_MS + number))
    await add(db, owned(mine, tags=("day night",)))
    for image in both:
        await add(db, image)
    wanted = Wanted(account=mine.seq, now_ms=NOW_MS, tags=("day", "night"), tag_mode="all")
    async with db.reader() as conn:
        plan = await list_plan(conn, wanted)
        better = await narrowed(conn, wanted, plan)
        assert (plan.way, better.way) == ("scan", "set")
        step = await images_step(conn, wanted, better, START, 10, 1)
        assert [each.image.id for each in step.placed] == [both[1].id, both[0].id]
        step = await images_step(conn, wanted, better, step.placed[0].position, 10, 1)
        assert [each.image.id for each in step.placed] == [both[0].id]
        for mode, tags in (("any", ("day", "night")), ("all", ("day",)), ("all", ("day", "🔥"))):
            other = msgspec.structs.replace(wanted, tags=tags, tag_mode=mode)
            plan = await list_plan(conn, other)
            assert await narrowed(conn, other, plan) is plan
