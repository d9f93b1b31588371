"""The queue of mail as a table: letters come back as they were, in order, when they are due, until they end."""

import msgspec
import pytest

from imgpro.model import MailLetter, WaitingMail
from imgpro.store import queries_accounts, queries_mail
from imgpro.store.db import Database
from tests.samples import NOW_MS

HOUR_MS = 3_600_000
FAR_MS = NOW_MS + 2 * HOUR_MS


@pytest.fixture
async def db(tmp_path):
    (tmp_path / "backups").mkdir()
    db = await Database.open(tmp_path / "imgpro.db", tmp_path / "backups", "instance", "1.0")
    yield db
    await db.close()


def sample_letter(recipient="ann@nas.local", **changes):
    letter = MailLetter(
        account=None,
        recipient=recipient,
        subject="Grüße",
        body_text="text\nmore\n",
        body_html="<p>html</p>",
        link="https://img.example.org/verify?t=1",
        created_ms=NOW_MS,
        expires_ms=NOW_MS + 24 * HOUR_MS,
    )
    return msgspec.structs.replace(letter, **changes)


async def insert(db, *letters):
    return [await db.write(lambda conn, letter=letter: queries_mail.insert_mail(conn, letter)) for letter in letters]


async def ask(db, query, *args):
    async with db.reader() as conn:
        return await query(conn, *args)


async def due(db, now_ms=NOW_MS, far_ms=FAR_MS, limit=100):
    return [mail.seq for mail in await ask(db, queries_mail.mail_due, now_ms, far_ms, limit)]


async def fail(db, seq, next_ms, error="no"):
    await db.write(lambda conn: queries_mail.note_mail_failure(conn, seq, error, next_ms))


async def test_a_letter_comes_back_as_it_was(db):
    account = await db.write(lambda conn: queries_accounts.insert_account(conn, "a", "ann@nas.local", "member", NOW_MS))
    letter = sample_letter(account=account.seq)
    (seq,) = await insert(db, letter)
    expected = WaitingMail(seq=seq, letter=letter, attempts=0, last_error=None, next_ms=NOW_MS)
    assert await ask(db, queries_mail.mail_waiting, None, NOW_MS) == [expected]
    assert await ask(db, queries_mail.mail_due, NOW_MS, FAR_MS, 1) == [expected]


async def test_letters_are_due_in_order_when_their_time_comes(db):
    seqs = await insert(db, *(sample_letter(f"a{number}@box") for number in range(4)))
    assert seqs == sorted(seqs)
    assert await due(db) == seqs
    assert await due(db, limit=2) == seqs[:2]
    await fail(db, seqs[0], NOW_MS + HOUR_MS)
    assert await due(db) == seqs[1:]
    assert await due(db, NOW_MS + HOUR_MS - 1) == seqs[1:]
    assert await due(db, NOW_MS + HOUR_MS) == seqs
    assert await due(db, NOW_MS - 1) == []


async def test_a_turn_in_the_far_future_means_that_the_clock_went_back(db):
    near, far = await insert(db, sample_letter(), sample_letter())
    await fail(db, near, FAR_MS)
    await fail(db, far, FAR_MS + 1)
    assert await due(db) == [far]


async def test_a_failure_is_counted_and_kept(db):
    (seq,) = await insert(db, sample_letter())
    await fail(db, seq, NOW_MS + 1, "451 later")
    await fail(db, seq, NOW_MS + 2, "452 später")
    (mail,) = await ask(db, queries_mail.mail_waiting, None, NOW_MS)
    assert (mail.attempts, mail.last_error, mail.next_ms) == (2, "452 später", NOW_MS + 2)


async def test_hastening_makes_all_due_and_nothing_later(db):
    seqs = await insert(db, *(sample_letter() for _ in range(3)))
    await fail(db, seqs[1], NOW_MS + HOUR_MS)
    assert await db.write(lambda conn: queries_mail.hasten_mail(conn, NOW_MS + 5)) == 1
    assert await due(db, NOW_MS) == [seqs[0], seqs[2]]
    assert await due(db, NOW_MS + 5) == seqs


async def test_when_to_look_again(db):
    assert await ask(db, queries_mail.next_mail_ms) is None
    first, second = await insert(db, sample_letter(), sample_letter(expires_ms=NOW_MS + 10))
    assert await ask(db, queries_mail.next_mail_ms) == NOW_MS
    await fail(db, first, NOW_MS + 7)
    await fail(db, second, NOW_MS + 20)
    assert await ask(db, queries_mail.next_mail_ms) == NOW_MS + 7
    await fail(db, first, NOW_MS + 30)
    assert await ask(db, queries_mail.next_mail_ms) == NOW_MS + 10


async def test_what_has_ended_is_neither_due_nor_waiting_and_goes(db):
    ended, fresh = await insert(db, sample_letter("old@box", expires_ms=NOW_MS + 5), sample_letter())
    assert await due(db, NOW_MS + 4) == [ended, fresh]
    assert await due(db, NOW_MS + 5) == [fresh]
    waiting = await ask(db, queries_mail.mail_waiting, None, NOW_MS + 5)
    assert [mail.seq for mail in waiting] == [fresh]
    assert await db.write(lambda conn: queries_mail.delete_ended_mail(conn, NOW_MS + 4)) == []
    gone = await db.write(lambda conn: queries_mail.delete_ended_mail(conn, NOW_MS + 5))
    assert [(mail.seq, mail.letter.recipient) for mail in gone] == [(ended, "old@box")]
    assert await ask(db, queries_mail.last_mail_seq) == fresh


async def test_a_letter_that_was_sent_goes_and_its_number_is_not_given_again(db):
    first, second = await insert(db, sample_letter(), sample_letter())
    await db.write(lambda conn: queries_mail.delete_mail(conn, second))
    assert await due(db) == [first]
    (third,) = await insert(db, sample_letter())
    assert third > second
    assert await ask(db, queries_mail.last_mail_seq) == third


async def test_letters_after_a_number(db):
    assert await ask(db, queries_mail.last_mail_seq) == 0
    seqs = await insert(db, sample_letter(), sample_letter(), sample_letter(expires_ms=NOW_MS + 1), sample_letter())
    after = await ask(db, queries_mail.mail_after, seqs[0], NOW_MS + 1)
    assert [mail.seq for mail in after] == [seqs[1], seqs[3]]


async def test_mail_of_one_account_ends_with_it(db):
    def make(conn):
        return [queries_accounts.insert_account(conn, name, f"{name}@box", "member", NOW_MS).seq for name in "ab"]

    ann, bob = await db.write(make)
    seqs = await insert(db, sample_letter(account=ann), sample_letter(account=bob), sample_letter(account=ann))
    of_ann = await ask(db, queries_mail.mail_waiting, ann, NOW_MS)
    assert [mail.seq for mail in of_ann] == [seqs[0], seqs[2]]
    await db.write(lambda conn: conn.execute("DELETE FROM accounts WHERE seq = ?", (ann,)))
    assert await due(db) == [seqs[1]]


async def test_a_letter_of_nobody_is_refused(db):
    with pytest.raises(Exception, match="FOREIGN KEY"):
        await insert(db, sample_letter(account=99))
