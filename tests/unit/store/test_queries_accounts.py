"""SQL of accounts: sums that hold whatever happens, links that work once, and statements that walk no table."""

import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import NotFound, QuotaExceeded
from imgpro.ids import new_account_id, new_key_id, secret_hash
from imgpro.model import Principal
from imgpro.store import queries, queries_accounts, schema
from imgpro.store.db import Database
from imgpro.store.queries import Allowance, Changes
from imgpro.store.queries_accounts import Link
from tests.law import check_owned
from tests.samples import NOW_MS, sample_image


@pytest.fixture
async def db(tmp_path):
    database = await Database.open(tmp_path / "imgpro.db", tmp_path, "test", "0")
    yield database
    await database.close()


def add_account(conn, email="ann@example.org", *, verified=True, confirmed=True):
    account = queries_accounts.insert_account(conn, new_account_id(), email, "member", NOW_MS, verified=verified)
    key = add_key(conn, account, confirmed=confirmed)
    return Principal(account, key)


def add_key(conn, account, *, confirmed=True):
    return queries_accounts.insert_key(
        conn,
        new_key_id(),
        account.seq,
        secret_hash(new_key_id()),
        "Default",
        ("read", "write"),
        None,
        "192.0.2.1",
        NOW_MS,
        confirmed=confirmed,
    )


def owned(principal, content=b"picture", **changes):
    return sample_image(content, account=principal.account.seq, key=principal.key.seq, **changes)


def memory():
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA trusted_schema = OFF")
    for step in schema.packaged_migrations():
        for statement in schema.statements(step.sql):
            conn.execute(statement)
    return conn


TAGS = st.lists(st.sampled_from(["sea", "früh", "two words", "日本"]), unique=True, max_size=3).map(tuple)
SPACES = st.sampled_from([None, "trip", "work"])
STEPS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 1), TAGS, SPACES, st.text(max_size=8)),
    st.tuples(st.just("update"), st.integers(0, 9), TAGS, SPACES, st.text(max_size=8)),
    st.tuples(st.just("retag"), st.integers(0, 9), TAGS, st.sampled_from(["add", "remove", "replace"]), st.just("")),
    st.tuples(st.just("delete"), st.integers(0, 9), st.just(()), st.none(), st.just("")),
)


@given(st.lists(STEPS, max_size=25))
def test_sums_tags_and_words_agree_whatever_happens(steps):
    conn = memory()
    owners = [add_account(conn), add_account(conn, "bob@example.org")]
    alive = []
    for step, number, tags, extra, text in steps:
        if step == "insert":
            image = owned(owners[number], b"x" * (len(alive) % 3 + 1), tags=tags, namespace=extra, name=text)
            queries.insert_image(conn, image, None)
            alive.append((image.id, owners[number]))
        elif alive and step == "update":
            image_id, owner = alive[number % len(alive)]
            changes = Changes(tags=tags, namespace=extra, name=text, description=text)
            queries.update_image(conn, image_id, owner, changes, NOW_MS, None)
        elif alive and step == "retag":
            image_id, owner = alive[number % len(alive)]
            queries.update_image(conn, image_id, owner, Changes(tags=tags, tag_mode=extra), NOW_MS, None)
        elif alive:
            queries.delete_image(conn, alive.pop(number % len(alive))[0])
        check_owned(conn)
    conn.close()


async def test_a_change_says_what_is_stored(db):
    principal = await db.write(add_account)
    image = owned(principal, tags=("a", "b"), namespace="trip")
    await db.write(lambda conn: queries.insert_image(conn, image, None))
    changes = Changes(name="n", public=False, tags=("b", "c"), tag_mode="add", ttl_s=600, display_date="2026-01-01")
    after = await db.write(lambda conn: queries.update_image(conn, image.id, principal, changes, NOW_MS + 5, 86_400))
    async with db.reader() as conn:
        assert await queries.image_by_id(conn, image.id) == after
    assert after.tags == ("a", "b", "c")
    assert after.expires_ms == after.wanted_end_ms == NOW_MS + 5 + 600_000


async def test_a_change_of_others_pictures_changes_nothing(db):
    ann = await db.write(add_account)
    bob = await db.write(lambda conn: add_account(conn, "bob@example.org"))
    unconfirmed = await db.write(lambda conn: Principal(ann.account, add_key(conn, ann.account, confirmed=False)))
    image = owned(ann)
    await db.write(lambda conn: queries.insert_image(conn, image, None))
    for stranger in (bob, unconfirmed):
        changed = await db.write(
            lambda conn, who=stranger: queries.update_image(conn, image.id, who, Changes(name="x"), NOW_MS, None)
        )
        assert changed is None
        assert await db.write(lambda conn, who=stranger: queries.delete_owned(conn, [image.id], who, NOW_MS)) == []
    operator = Principal(msgspec.structs.replace(bob.account, role="operator"), bob.key)
    assert len(await db.write(lambda conn: queries.delete_owned(conn, [image.id], operator, NOW_MS))) == 1


async def test_an_expired_picture_is_nobodys(db):
    ann = await db.write(add_account)
    image = owned(ann, expires_ms=NOW_MS + 10, wanted_end_ms=NOW_MS + 10)
    await db.write(lambda conn: queries.insert_image(conn, image, None))
    late = NOW_MS + 10
    assert await db.write(lambda conn: queries.update_image(conn, image.id, ann, Changes(name="x"), late, None)) is None
    assert await db.write(lambda conn: queries.delete_owned(conn, [image.id], ann, late)) == []


async def test_the_allowance_is_exact(db):
    ann = await db.write(add_account)
    allowance = Allowance("2026-11", 2, None)
    for content in (b"a", b"b"):
        await db.write(lambda conn, c=content: queries.insert_image(conn, owned(ann, c), None, allowance=allowance))
    with pytest.raises(QuotaExceeded):
        await db.write(lambda conn: queries.insert_image(conn, owned(ann, b"c"), None, allowance=allowance))
    async with db.reader() as conn:
        assert await queries_accounts.uploads_in_month(conn, ann.account.seq, "2026-11") == 2
        assert await queries_accounts.uploads_in_month(conn, ann.account.seq, "2026-12") == 0
    await db.write(
        lambda conn: queries.insert_image(conn, owned(ann, b"c"), None, allowance=Allowance("2026-12", 2, None))
    )
    full = Allowance("2026-12", None, 3)
    with pytest.raises(QuotaExceeded):
        await db.write(lambda conn: queries.insert_image(conn, owned(ann, b"d"), None, allowance=full))
    await db.write(
        lambda conn: queries.insert_image(conn, owned(ann, b"d"), None, allowance=Allowance("2026-12", None, 4))
    )


async def test_a_ticket_is_used_up_by_the_picture_it_brings_and_by_nothing_else(db):
    ann = await db.write(add_account)
    ticket = Link(hash=secret_hash("t"), purpose="ticket", account=ann.account.seq, expires_ms=NOW_MS + 10)
    await db.write(lambda conn: queries_accounts.insert_link(conn, ticket, NOW_MS))
    none = Allowance("2026-11", 0, None)
    with pytest.raises(QuotaExceeded):
        await db.write(lambda conn: queries.insert_image(conn, owned(ann), None, allowance=none, ticket=ticket.hash))
    await db.write(lambda conn: queries.insert_image(conn, owned(ann), None, ticket=ticket.hash))
    with pytest.raises(NotFound):
        await db.write(lambda conn: queries.insert_image(conn, owned(ann), None, ticket=ticket.hash))


async def test_a_link_works_once_for_its_purpose_until_it_ends(db):
    link = Link(hash=secret_hash("x"), purpose="invite", email="a@b", details="{}", expires_ms=NOW_MS + 10)

    def use(purpose, at_ms):
        return lambda conn: queries_accounts.use_link(conn, link.hash, purpose, at_ms)

    await db.write(lambda conn: queries_accounts.insert_link(conn, link, NOW_MS))
    assert await db.write(use("setup", NOW_MS)) is None
    assert await db.write(use("invite", NOW_MS + 9)) == link
    assert await db.write(use("invite", NOW_MS + 9)) is None
    await db.write(lambda conn: queries_accounts.insert_link(conn, link, NOW_MS))
    assert await db.write(use("invite", NOW_MS + 10)) is None
    await db.write(lambda conn: queries_accounts.insert_link(conn, link, NOW_MS))
    assert await db.write(lambda conn: queries_accounts.prune_links(conn, NOW_MS + 10)) == 1


async def test_pictures_of_confirmed_keys_alone_become_permanent(db):
    mine = await db.write(lambda conn: add_account(conn, verified=False, confirmed=False))
    other = await db.write(lambda conn: Principal(mine.account, add_key(conn, mine.account, confirmed=False)))
    ends = {"expires_ms": NOW_MS + 1_000}
    kept, wanted, theirs = (
        owned(mine, b"a", **ends),
        owned(mine, b"b", expires_ms=NOW_MS + 500, wanted_end_ms=NOW_MS + 500),
        owned(other, b"c", **ends),
    )
    for image in (kept, wanted, theirs):
        await db.write(lambda conn, i=image: queries.insert_image(conn, i, None))
    assert await db.write(lambda conn: queries_accounts.make_permanent(conn, mine.account.seq, [mine.key.seq])) == 1
    async with db.reader() as conn:
        found = [(await queries.image_by_id(conn, image.id)).expires_ms for image in (kept, wanted, theirs)]
    assert found == [None, NOW_MS + 500, NOW_MS + 1_000]


async def test_keys_nobody_confirmed_go_after_a_while(db):
    verified = await db.write(lambda conn: add_account(conn, confirmed=False))
    unverified = await db.write(lambda conn: add_account(conn, "bob@example.org", verified=False, confirmed=False))
    assert await db.write(lambda conn: queries_accounts.revoke_pending(conn, NOW_MS - 1, NOW_MS)) == 0
    assert await db.write(lambda conn: queries_accounts.revoke_pending(conn, NOW_MS, NOW_MS)) == 1
    left = [
        await db.write(lambda conn, a=p.account.seq: queries_accounts.keys_of_account(conn, a))
        for p in (verified, unverified)
    ]
    assert [len(keys) for keys in left] == [0, 1]


async def test_no_statement_of_a_request_walks_a_table(db):
    """Ask SQLite how it would answer each statement that the functions really send."""
    sent = []
    ann = await db.write(add_account)
    image = owned(ann, tags=("a",), namespace="trip")
    link = Link(hash=secret_hash("t"), purpose="verify", account=ann.account.seq, key=ann.key.seq, expires_ms=NOW_MS)
    seq, hashed = ann.account.seq, secret_hash("s")

    def write_all(conn):
        conn.set_trace_callback(sent.append)
        queries.insert_image(conn, image, None, allowance=Allowance("2026-11", 9, 10**9))
        queries.update_image(conn, image.id, ann, Changes(tags=("b",), namespace=None, ttl_s=600), NOW_MS, None)
        queries.delete_owned(conn, [image.id], ann, NOW_MS)
        queries.prune_replays(conn, NOW_MS)
        queries_accounts.account_by_email(conn, "ann@example.org")
        queries_accounts.keys_of_account(conn, seq)
        queries_accounts.insert_link(conn, link, NOW_MS)
        queries_accounts.use_link(conn, link.hash, "verify", NOW_MS)
        queries_accounts.make_permanent(conn, seq, [1, 2])
        queries_accounts.confirm_keys(conn, seq, [1], NOW_MS)
        queries_accounts.revoke_keys(conn, seq, [99], NOW_MS)
        queries_accounts.insert_session(conn, hashed, seq, ann.key.seq, NOW_MS, NOW_MS + 1)
        queries_accounts.note_session_uses(conn, [(hashed, NOW_MS)], 1, 2)
        queries_accounts.delete_session(conn, secret_hash("other"))
        queries_accounts.delete_sessions(conn, seq, hashed)
        queries_accounts.prune_links(conn, NOW_MS)
        queries_accounts.operator_exists(conn)
        queries_accounts.set_plan(conn, seq, "pro")
        queries_accounts.note_key_uses(conn, [(1, NOW_MS)])
        conn.set_trace_callback(None)

    await db.write(write_all)
    async with db.reader() as conn:
        await conn.set_trace_callback(sent.append)
        await queries_accounts.principal_by_key_hash(conn, hashed)
        await queries_accounts.account_by_session(conn, hashed, NOW_MS)
        await queries_accounts.account_by_id(conn, ann.account.id)
        await queries_accounts.account_facts(conn, seq)
        await queries_accounts.uploads_in_month(conn, seq, "2026-11")
        await queries_accounts.keys_listed(conn, seq)
        await queries_accounts.operators(conn)
        await queries_accounts.link_works(conn, hashed, "ticket", NOW_MS)
        await queries_accounts.sessions_of_account(conn, seq, NOW_MS)
        await queries_accounts.upgrade_request_of(conn, seq)
        await queries_accounts.image_ids_of_account(conn, seq, 10)
        await queries.replay_by_key(conn, "a1", "k", NOW_MS)
        await conn.set_trace_callback(None)

    def plans(conn):
        asked = [sql for sql in sent if sql.lstrip().split()[0] in ("SELECT", "INSERT", "DELETE", "UPDATE")]
        asked = [sql for sql in asked if "images_text_config" not in sql]  # read once, when the index is opened
        return {sql: [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked}

    found = await db.write(plans)
    assert len(found) >= 30
    for sql, plan in found.items():
        for line in plan:
            assert "SCAN" not in line or "VIRTUAL TABLE" in line or "CONSTANT ROW" in line, (sql, plan)
            # The sessions of one account are some fifty rows at most.
            assert "TEMP B-TREE" not in line or sql.startswith("DELETE FROM sessions WHERE hash IN"), (sql, plan)


async def test_an_end_is_set_though_the_clock_was_set_back(db):
    ann = await db.write(add_account)
    image = owned(ann, created_ms=NOW_MS + 3 * 86_400_000)
    await db.write(lambda conn: queries.insert_image(conn, image, None))
    after = await db.write(lambda conn: queries.update_image(conn, image.id, ann, Changes(ttl_s=3_600), NOW_MS, None))
    assert after.expires_ms == image.created_ms + 3_600_000


async def test_revoked_keys_without_pictures_are_forgotten(db):
    ann = await db.write(add_account)
    used, unused = [await db.write(lambda conn: add_key(conn, ann.account)) for _ in range(2)]
    await db.write(lambda conn: queries.insert_image(conn, owned(Principal(ann.account, used)), None))
    for key in (used, unused):
        await db.write(lambda conn, k=key: queries_accounts.revoke_keys(conn, ann.account.seq, [k.seq], NOW_MS))
    assert await db.write(queries_accounts.prune_keys) == 1
    seqs = await db.write(lambda conn: [row[0] for row in conn.execute("SELECT seq FROM keys ORDER BY seq")])
    assert seqs == [ann.key.seq, used.seq]
