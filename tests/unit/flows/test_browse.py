"""Pages of lists: stable while pictures come and go, cursors that cannot be forged, queries with every mistake named."""

import asyncio
import contextlib
import itertools
import random
import tempfile
import time
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import ValidationError
from imgpro.flows import browse as module
from imgpro.flows.browse import Browse, Filters, cursor_at, parse_filters
from imgpro.model import Principal
from imgpro.signing import Signer
from imgpro.store import queries, queries_accounts, queries_browse
from imgpro.store.db import Database
from imgpro.store.queries import Changes
from tests.samples import NOW_MS, sample_blob, sample_image

SIGNER = Signer(b"k" * 32)
FUTURE_MS = 4 * 10**12


class Home:
    """A database with two accounts, and a model of what is in it."""

    def __init__(self, db):
        self.db = db
        self.browse = Browse(db, SIGNER)
        self.stored = {}  # pictures by number

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "backups").mkdir()
            home = cls(await Database.open(path / "imgpro.db", path / "backups", "instance", "1.0"))
            try:
                home.mine, home.theirs = await home.account("mine"), await home.account("theirs")
                yield home
            finally:
                await home.db.close()

    async def account(self, name):
        def write(conn):
            account = queries_accounts.insert_account(conn, f"acc_{name}", f"{name}@img.test", "member", NOW_MS)
            keys = [
                queries_accounts.insert_key(
                    conn, f"key_{name}{n}", account.seq, f"{name}{n}".encode().ljust(32), "", ("read",), None, "-",
                    NOW_MS, confirmed=n == 0,
                )
                for n in range(2)
            ]  # fmt: skip
            return Principal(account, keys[0]), Principal(account, keys[1])

        return await self.db.write(write)

    async def add(self, principal, fmt="jpeg", **changes):
        image = sample_image(blob=sample_blob(fmt.encode(), format=fmt), account=principal.account.seq,
                             key=principal.key.seq, **changes)  # fmt: skip

        def write(conn):
            queries.insert_image(conn, image, None)
            return conn.execute("SELECT seq FROM images WHERE id = ?", (image.id,)).fetchone()[0]

        self.stored[await self.db.write(write)] = image
        return image

    async def delete(self, seq):
        image = self.stored.pop(seq)
        await self.db.write(lambda conn: queries.delete_image(conn, image.id))

    async def change(self, seq, **changes):
        image = self.stored[seq]
        owner = next(one for one in (*self.mine, *self.theirs) if one.key.seq == image.key)
        self.stored[seq] = await self.db.write(
            lambda conn: queries.update_image(
                conn, image.id, owner, Changes(**changes), NOW_MS, None
            )
        )  # fmt: skip

    async def pages(self, principal, filters):
        """Return the ids of each page up to the last."""
        pages = []
        while True:
            page = await self.browse.page(principal, filters)
            pages.append([image.id for image in page.images])
            assert page.has_more == (page.next_cursor is not None)
            if not page.has_more:
                return pages
            filters = msgspec.structs.replace(filters, cursor=page.next_cursor)


@pytest.fixture
async def home():
    async with Home.open() as home:
        yield home


def fits(image, principal, filters):
    tags = [tag in image.tags for tag in filters.tags]
    spoken = " ".join((image.name, image.description, *image.tags)).split()
    return (
        principal.owns(image)
        and not image.expired(time.time() * 1000)
        and (not tags or (any(tags) if filters.tag_mode == "any" else all(tags)))
        and filters.namespace in (None, image.namespace)
        and filters.format in (None, image.blob.format)
        and (filters.since_s is None or image.created_ms >= filters.since_s * 1000)
        and (filters.until_s is None or image.created_ms < filters.until_s * 1000)
        and (not filters.ids or image.id in filters.ids)
        and all(any(each.startswith(word) for each in spoken) for word in filters.words)
    )


def model(home, principal, filters, after):
    """Return the places of a page and whether there are more: what fits now, below where the last page ended."""
    places = sorted(
        ((0 if filters.words else image.created_ms, seq) for seq, image in home.stored.items()
         if fits(image, principal, filters)),
        reverse=True,
    )  # fmt: skip
    below = [place for place in places if after is None or place < after]
    return below[: filters.limit], len(below) > filters.limit


WORDS = ["cat", "cats", "dog"]
pictures = st.fixed_dictionaries({
    "fmt": st.sampled_from(["jpeg", "png"]),
    "created_ms": st.integers(0, 5).map(lambda n: NOW_MS + n * 500),
    "expires_ms": st.sampled_from([None, None, NOW_MS + 10_000, FUTURE_MS]),
    "name": st.sampled_from(WORDS),
    "description": st.sampled_from(["", *WORDS]),
    "tags": st.lists(st.sampled_from(["red", "blue", "green"]), max_size=3, unique=True).map(tuple),
    "namespace": st.sampled_from([None, "home", "work"]),
    "owner": st.sampled_from([("mine", 0), ("mine", 0), ("mine", 1), ("theirs", 0)]),
})  # fmt: skip
events = st.one_of(
    st.tuples(st.just("add"), pictures),
    st.tuples(st.just("delete"), st.integers(0, 50)),
    st.tuples(st.just("delete last shown"), st.none()),
    st.tuples(
        st.just("change"),
        st.tuples(
            st.integers(0, 50),
            st.fixed_dictionaries(
                {},
                optional={
                    "tags": st.sampled_from([(), ("red",), ("red", "blue")]),
                    "namespace": st.sampled_from([None, "home"]),
                    "name": st.sampled_from(WORDS),
                },
            ),
        ),
    ),
)
seconds = st.none() | st.integers(0, 3).map(lambda n: NOW_MS // 1000 + n)
filters = st.builds(
    Filters,
    limit=st.integers(1, 4),
    tags=st.lists(st.sampled_from(["red", "blue", "absent"]), max_size=2, unique=True).map(tuple),
    tag_mode=st.sampled_from(["any", "all"]),
    namespace=st.sampled_from([None, None, "home"]),
    format=st.sampled_from([None, None, "png"]),
    since_s=seconds,
    until_s=seconds,
    words=st.sampled_from([(), (), ("ca",), ("cat", "do")]),
)


@given(
    st.lists(pictures, max_size=14),
    st.lists(st.lists(events, max_size=3), min_size=1, max_size=8),
    filters,
    st.booleans(),
    st.booleans(),
    st.sampled_from([{"_COUNTED": 0, "_SMALL": 0, "_NARROW": 0}, {"_COUNTED": 3, "_SMALL": 2, "_NARROW": 1}]),
    st.integers(1, 3),
)
def test_pages_are_exact_while_pictures_come_go_and_change(rows, turns, asked, restricted, by_id, rarity, window):
    async def happen(home, event, shown):
        kind, detail = event
        known = list(home.stored)
        if kind == "add":
            owner, key = detail["owner"]
            await home.add(getattr(home, owner)[key], **{k: v for k, v in detail.items() if k != "owner"})
        elif kind == "delete last shown":
            if shown and shown[-1] in home.stored:
                await home.delete(shown[-1])
        elif known and kind == "delete":
            await home.delete(known[detail % len(known)])
        elif known:
            seq = known[detail[0] % len(known)]
            if not home.stored[seq].expired(NOW_MS):
                await home.change(seq, **detail[1])

    async def example():
        async with Home.open() as home:
            for row in rows:
                await happen(home, ("add", row), [])
            principal, after, shown = home.mine[restricted], None, []
            wanted = asked
            if by_id and home.stored:
                wanted = msgspec.structs.replace(asked, ids=tuple(image.id for image in home.stored.values())[:9])
            for turn in turns:
                for event in turn:
                    await happen(home, event, shown)
                places, more = model(home, principal, wanted, after)
                page = await home.browse.page(principal, wanted)
                assert [image.id for image in page.images] == [home.stored[seq].id for _, seq in places]
                assert list(page.images) == [home.stored[seq] for _, seq in places]
                assert (page.has_more, page.next_cursor is not None) == (more, more)
                shown += [seq for _, seq in places]
                assert len(shown) == len(set(shown))
                if not more:
                    break
                after = places[-1]
                # The next page may have another length.
                wanted = msgspec.structs.replace(wanted, cursor=page.next_cursor, limit=wanted.limit % 4 + 1)

    with (
        mock.patch.multiple(queries_browse, **rarity),
        mock.patch.multiple(module, FIRST_WINDOW=window, MAX_WINDOW=window * 2),
    ):
        asyncio.run(example())


async def test_what_expires_between_two_pages_is_not_on_the_second(home):
    for n in range(4):
        await home.add(home.mine[0], created_ms=NOW_MS + n, expires_ms=NOW_MS + 60_000 if n < 2 else None)
    with mock.patch.object(module.time, "time_ns", return_value=(NOW_MS + 59_999) * 1_000_000):
        page = await home.browse.page(home.mine[0], Filters(limit=1))
        assert len(await home.pages(home.mine[0], Filters(limit=1))) == 4
    with mock.patch.object(module.time, "time_ns", return_value=(NOW_MS + 60_000) * 1_000_000):
        page = await home.browse.page(home.mine[0], Filters(limit=9, cursor=page.next_cursor))
    assert [image.created_ms - NOW_MS for image in page.images] == [2]


class Vanishing:
    """A connection on which a picture is deleted between the statement that finds it and the one that reads it."""

    def __init__(self, conn, delete):
        self._conn = conn
        self._delete = delete

    def __getattr__(self, name):
        return getattr(self._conn, name)

    async def execute_fetchall(self, sql, values=()):
        if "b.digest" in sql:
            await self._delete()
        return await self._conn.execute_fetchall(sql, values)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("asked", [{}, {"words": ("ca",)}, {"tags": ("red", "blue")}, {"tags": ("red",)}])
async def test_pictures_that_vanish_while_a_page_is_read_do_not_end_the_list(home, asked, count):
    for n in range(9):
        await home.add(home.mine[0], created_ms=NOW_MS + n, name="cat", tags=("red",))
    doomed = sorted(home.stored)[-count:]

    async def delete():
        while doomed:
            await home.delete(doomed.pop())

    class Db:
        @contextlib.asynccontextmanager
        async def reader(self):
            async with home.db.reader() as conn:
                yield Vanishing(conn, delete)

    with mock.patch.multiple(queries_browse, _SMALL=0):
        page = await Browse(Db(), SIGNER).page(home.mine[0], Filters(limit=3, **asked))
    alive = [home.stored[seq].id for seq in sorted(home.stored, reverse=True)]
    assert not doomed
    assert len(alive) == 9 - count
    assert [image.id for image in page.images] == alive[:3]
    rest = await home.pages(home.mine[0], Filters(limit=3, cursor=page.next_cursor, **asked))
    assert list(itertools.chain(*rest)) == alive[3:]


async def test_a_page_is_given_out_unfinished_rather_than_sought_for_ever(home):
    for n in range(40):
        tags = ("a", "🔥") if n % 10 == 5 else ("a",)
        await home.add(home.mine[0], created_ms=NOW_MS + 2 * n, tags=tags, name="cat")
        await home.add(home.mine[0], created_ms=NOW_MS + 2 * n + 1, tags=("🔥",))
    asked = [
        Filters(limit=3, tags=("a", "🔥"), tag_mode="all", format="jpeg"),
        Filters(limit=3, words=("cat",), tags=("🔥",)),
    ]
    for filters in asked:
        with (
            mock.patch.multiple(module, FIRST_WINDOW=2, MAX_WINDOW=2, MAX_ENTRIES=4),
            mock.patch.multiple(queries_browse, _COUNTED=0, _SMALL=0, _NARROW=0),
        ):
            pages = await home.pages(home.mine[0], filters)
        whole = await home.pages(home.mine[0], msgspec.structs.replace(filters, limit=100))
        assert [list(itertools.chain(*pages))] == whole
        assert len(whole[0]) == 4
        assert min(map(len, pages[:-1])) < 3


async def test_since_counts_and_until_does_not(home):
    images = [await home.add(home.mine[0], created_ms=NOW_MS + n * 500, name="cat") for n in range(-1, 6)]
    since_s, until_s = NOW_MS // 1000, NOW_MS // 1000 + 2
    for words, (small, counted) in itertools.product([(), ("cat",)], [(500, 5_000), (0, 5_000), (0, 0)]):
        with mock.patch.multiple(queries_browse, _SMALL=small, _COUNTED=counted):
            [page] = await home.pages(home.mine[0], Filters(since_s=since_s, until_s=until_s, words=words))
        assert page == [image.id for image in images[4:0:-1]]


# Who sees what


async def test_accounts_and_unconfirmed_keys_see_their_own_only(home):
    mine = await home.add(home.mine[0], name="cat", tags=("red",), namespace="home")
    by_second = await home.add(home.mine[1], name="cat", tags=("red",), namespace="home")
    theirs = await home.add(home.theirs[0], name="cat", tags=("red",), namespace="home")
    session = Principal(home.mine[0].account, None)
    for asked in (
        {},
        {"tags": ("red",)},
        {"namespace": "home"},
        {"format": "jpeg"},
        {"words": ("cat",)},
        {"words": ("cat",), "namespace": "home"},
        {"ids": (mine.id, by_second.id, theirs.id)},
        {"ids": (mine.id, by_second.id, theirs.id), "words": ("cat",)},
    ):
        for small in (0, 500):
            with mock.patch.multiple(queries_browse, _SMALL=small, _COUNTED=small * 10):
                assert await home.pages(home.mine[0], Filters(**asked)) == [[by_second.id, mine.id]]
                assert await home.pages(session, Filters(**asked)) == [[by_second.id, mine.id]]
                assert await home.pages(home.mine[1], Filters(**asked)) == [[by_second.id]]
                assert await home.pages(home.theirs[0], Filters(**asked)) == [[theirs.id]]
                assert await home.pages(home.theirs[1], Filters(**asked)) == [[]]
    counts = [
        [each.images for each in await ask(principal)]
        for ask in (home.browse.namespaces, home.browse.tags)
        for principal in (*home.mine, session, *home.theirs)
    ]
    assert counts == [[2], [1], [2], [1], []] * 2


# Cursors


async def refused(home, cursor, principal=None, **asked):
    with pytest.raises(ValidationError) as caught:
        await home.browse.page(principal or home.mine[0], Filters(cursor=cursor, **asked))
    assert list(caught.value.details) == ["cursor"]


async def test_every_changed_bit_of_a_cursor_is_refused(home):
    await home.add(home.mine[0])
    await home.add(home.mine[0])
    page = await home.browse.page(home.mine[0], Filters(limit=1))
    cursor = page.next_cursor
    assert cursor.isascii()
    assert all(char.isalnum() or char in "-._~" for char in cursor)
    for place, bit in itertools.product(range(len(cursor)), range(8)):
        changed = cursor[:place] + chr(ord(cursor[place]) ^ (1 << bit)) + cursor[place + 1 :]
        await refused(home, changed)
    for changed in (cursor[:-1], cursor + "A", cursor[1:], "0" + cursor, cursor + "\n", cursor.upper(), "x", "-", "🔥"):
        await refused(home, changed)
    assert (await home.browse.page(home.mine[0], Filters(limit=1, cursor=cursor))).images


@given(st.text(max_size=120))
def test_arbitrary_text_is_no_cursor(text):
    browse = Browse(None, SIGNER)
    principal = Principal(mock.Mock(seq=1), None)
    with pytest.raises(ValidationError):
        asyncio.run(browse.page(principal, Filters(cursor=text)))


async def test_a_cursor_is_good_for_its_account_and_filters_alone(home):
    asked = {
        "tags": ("red", "blue"),
        "tag_mode": "all",
        "namespace": "home",
        "format": "jpeg",
        "since_s": 1,
        "until_s": NOW_MS,
        "words": ("cat",),
    }
    for n in range(3):
        await home.add(home.mine[0], tags=("blue", "red"), namespace="home", name="cat", created_ms=NOW_MS + n)
    page = await home.browse.page(home.mine[0], Filters(limit=1, **asked))
    cursor = page.next_cursor
    for same in ({}, {"tags": ("blue", "red")}):
        again = await home.browse.page(home.mine[0], Filters(limit=2, cursor=cursor, **{**asked, **same}))
        assert [image.created_ms - NOW_MS for image in again.images] == [1, 0]
    assert (await home.browse.page(home.mine[1], Filters(cursor=cursor, **asked))).images == ()
    await refused(home, cursor, home.theirs[0], **asked)
    others = {"tags": ("red",), "tag_mode": "any", "namespace": None, "format": "png", "since_s": 2, "until_s": None,
              "words": ("ca",), "ids": (page.images[0].id,)}  # fmt: skip
    for field, value in others.items():
        await refused(home, cursor, **{**asked, field: value})
    for purpose in ("view", "delete"):
        forged = cursor.rpartition("-")[0] + "-" + SIGNER.sign(purpose, "anything")
        await refused(home, forged, **asked)
    await refused(home, cursor_at(Signer(b"x" * 32), 1, Filters(**asked), (NOW_MS, 1)), **asked)


# Queries


ID = "0123456789aB"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Filters()),
        ({"limit": "1"}, Filters(limit=1)),
        ({"limit": " 100 "}, Filters(limit=100)),
        ({"type": "JPG"}, Filters(format="jpeg")),
        ({"type": "png", "unknown": "x", "Q": "x"}, Filters(format="png")),
        ({"tags": " Red, blue ,red,"}, Filters(tags=("red", "blue"))),
        ({"tags": "a", "tag_mode": "ALL"}, Filters(tags=("a",), tag_mode="all")),
        ({"namespace": "my-space"}, Filters(namespace="my-space")),
        ({"since": "0", "until": "1780000000"}, Filters(since_s=0, until_s=1_780_000_000)),
        ({"ids": f"{ID}, {ID},{ID[::-1]}"}, Filters(ids=(ID, ID[::-1]))),
        ({"q": "  two\twords two\0 e\u0301"}, Filters(words=("two", "words", "é"))),
        ({"q": "\ud800x"}, Filters(words=("?x",))),
        (
            dict.fromkeys(("q", "tags", "namespace", "type", "since", "until", "cursor", "limit", "tag_mode"), " "),
            Filters(),
        ),
        ({"q": "\0", "tags": " , ,"}, Filters()),
    ],
)
def test_a_query_becomes_filters(query, expected):
    assert parse_filters(query) == expected


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("limit", ["0", "101", "-1", "1.5", "ten", "1e1", "٣", "9" * 30, "0x10"]),
        ("type", ["tiff", "jpegs", "image/png"]),
        ("tags", ["x" * 51, ",".join(f"t{n}" for n in range(11)), "a\0b"]),
        ("tag_mode", ["both", "any,all"]),
        ("namespace", ["A", "a", "-ab", "ab-", "a b", "x" * 65]),
        ("since", ["yesterday", "-1", "1.5", "1" * 13, "٣"]),
        ("until", ["2026-01-01"]),
        ("ids", ["", " ", ",", "short", f"{ID}x", "../../../etc", ",".join(f"{n:012}" for n in range(101))]),
        ("q", ["x" * 201, " ".join(f"w{n}" for n in range(17))]),
    ],
)
def test_a_mistake_is_named(field, values):
    for value in values:
        with pytest.raises(ValidationError) as caught:
            parse_filters({field: value, "namespace": "good"} | {field: value})
        assert list(caught.value.details) == [field]
        assert caught.value.details[field].endswith(".")


def test_all_mistakes_are_named_at_once():
    bad = {"limit": "0", "type": "x", "tag_mode": "x", "namespace": "-", "since": "x", "until": "x", "ids": "x"}
    with pytest.raises(ValidationError) as caught:
        parse_filters(bad)
    assert set(caught.value.details) == set(bad)


async def test_a_hundred_ids_and_a_limit_of_a_hundred(home):
    images = [await home.add(home.mine[0], created_ms=NOW_MS + n % 7) for n in range(101)]
    random.Random(1).shuffle(images)
    chosen = parse_filters({"ids": ",".join(image.id for image in images[:100]), "limit": "100"})
    [page] = await home.pages(home.mine[0], chosen)
    assert set(page) == {image.id for image in images[:100]}
    pages = await home.pages(home.mine[0], msgspec.structs.replace(chosen, limit=7))
    assert list(itertools.chain(*pages)) == page
