"""Mail over a real SMTP server on loopback: protected or not sent, tried again, never lost, nothing secret in a log."""

import asyncio
import contextlib
import functools
import logging
import socket
import threading
import time
from email.utils import parsedate_to_datetime

import msgspec
import pytest
import uvloop

from imgpro.errors import ConfigError, NotFound, StorageFull
from imgpro.flows import mail as module
from imgpro.flows.letters import verification_letter
from imgpro.flows.mail import Mail
from imgpro.settings import Mail as Settings
from imgpro.store import queries_accounts, queries_mail
from imgpro.store.db import Database
from tests.smtp import HERE, LINK, PASSWORD, TOKEN, USER, Postman, at, make_tls, sample_letter, scripted, serving

PATIENCE_S = 20.0
QUICK = (0.02,)
NEVER = (3_600.0,)


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def postman():
    return Postman()


@pytest.fixture
def server(postman):
    with serving(postman) as server:
        yield server


async def open_db(folder):
    (folder / "backups").mkdir(exist_ok=True)
    return await Database.open(folder / "imgpro.db", folder / "backups", "instance", "1.0")


@pytest.fixture
async def db(tmp_path):
    db = await open_db(tmp_path)
    yield db
    await db.close()


async def put(db, mail, *letters):
    def write(conn):
        for letter in letters:
            mail.put(conn, letter)

    await db.write(write)
    mail.wake()


@contextlib.asynccontextmanager
async def sending(settings, db, pauses_s=QUICK):
    mail = Mail(settings, db, pauses_s)
    await mail.start()
    try:
        yield mail
    finally:
        await mail.stop()
        await asyncio.sleep(0)  # sockets close at the next turn of the loop


async def until(met):
    """Wait until a condition holds; a coroutine function may ask for it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = met()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def until_empty(mail):
    async def empty():
        return not await mail.waiting()

    await until(empty)


async def until_tried(mail, attempts=1):
    async def tried():
        return all(found.attempts >= attempts for found in await mail.waiting())

    await until(tried)
    return await mail.waiting()


# A letter on its way


async def deliver(folder, tls, security, postman):
    """Send one letter over a protected connection with a login."""
    parameters = {"authenticator": postman.authenticate, "auth_required": True}
    if security == "tls":
        parameters |= {"ssl_context": tls.context, "auth_require_tls": False}
    else:
        parameters |= {"tls_context": tls.context, "require_starttls": True}
    db = await open_db(folder)
    try:
        with serving(postman, **parameters) as server:
            settings = at(server.port, security=security, ca_file=tls.ca_file, username=USER, password=PASSWORD)
            async with sending(settings, db) as mail:
                await put(db, mail, sample_letter())
                await until_empty(mail)
    finally:
        await db.close()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # aiosmtpd sees no TLS that wraps it
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_letter_goes_out_protected_and_whole(tmp_path, tls, postman, caplog, security, run):
    caplog.set_level(logging.DEBUG, "imgpro")
    run(deliver(tmp_path, tls, security, postman))
    (message,), (envelope,) = postman.mails, postman.envelopes
    assert "AUTH PLAIN" in postman.commands
    assert (envelope.mail_from, envelope.rcpt_tos) == ("imgpro@img.test", ["ann@nas.local"])
    assert (message["From"], message["To"]) == ("imgpro@img.test", "ann@nas.local")
    assert message["Subject"] == "Confirm your address"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@img.test>")
    assert parsedate_to_datetime(message["Date"]).tzinfo is not None
    assert message.get_content_type() == "multipart/alternative"
    assert message.get_body(("plain",)).get_content().splitlines() == sample_letter().body_text.splitlines()
    assert message.get_body(("html",)).get_content().splitlines() == sample_letter().body_html.splitlines()
    assert max(map(len, envelope.content.split(b"\r\n"))) < 200
    assert "a letter to nas.local was sent" in caplog.text
    assert not [word for word in (TOKEN, PASSWORD, "ann@") if word in caplog.text]


async def test_letters_leave_in_order_over_few_connections(db, server, postman, monkeypatch):
    async with sending(at(server.port), db) as mail:
        wanted = [f"a{number}@nas.local" for number in range(20)]
        await put(db, mail, *map(sample_letter, wanted))
        await until_empty(mail)
        assert postman.recipients == wanted
        assert server.connections == 1
        monkeypatch.setattr(module, "BATCH", 8)
        await put(db, mail, *map(sample_letter, wanted))
        await until_empty(mail)
    assert postman.recipients == wanted * 2
    assert server.connections == 1 + 3
    assert len({message["Message-ID"] for message in postman.mails}) == 40


async def test_a_letter_of_a_transaction_that_failed_is_none(db, server, postman):
    async with sending(at(server.port), db) as mail:

        def write(conn):
            mail.put(conn, sample_letter("never@nas.local"))
            raise NotFound

        with pytest.raises(NotFound):
            await db.write(write)
        mail.wake()
        await put(db, mail, sample_letter())
        await until_empty(mail)
    assert postman.recipients == ["ann@nas.local"]


async def test_the_queue_outlives_the_database_that_holds_it(tmp_path, server, postman):
    db = await open_db(tmp_path)
    mail = Mail(at(server.port), db)
    await put(db, mail, sample_letter())
    await db.close()
    db = await open_db(tmp_path)
    try:
        async with sending(at(server.port), db) as mail:
            await until_empty(mail)
    finally:
        await db.close()
    assert postman.recipients == ["ann@nas.local"]


# What must not happen


@pytest.mark.parametrize("login", [{}, {"username": USER, "password": PASSWORD}])
async def test_without_starttls_nothing_is_sent_in_the_clear(db, postman, login):
    with serving(postman, authenticator=postman.authenticate, auth_require_tls=False) as server:
        async with sending(at(server.port, security="starttls", **login), db) as mail:
            await put(db, mail, sample_letter())
            (waiting,) = await until_tried(mail, 2)
    assert "STARTTLS" in waiting.last_error
    assert postman.commands == []


async def test_a_server_that_thinks_better_of_starttls_gets_nothing(db):
    heard = []

    async def coax(reader, writer):
        writer.write(b"220 mail.test\r\n")
        while line := await reader.readline():
            heard.append(line.split()[0])
            writer.write(b"250-mail.test\r\n250 STARTTLS\r\n" if heard[-1] == b"EHLO" else b"454 not now\r\n")

    async with scripted(coax) as (port, _), sending(at(port, security="starttls"), db, NEVER) as mail:
        await put(db, mail, sample_letter())
        (waiting,) = await until_tried(mail)
    assert waiting.last_error == "The mail server cannot be used: 454 not now"
    assert heard == [b"EHLO", b"STARTTLS"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_server_with_the_certificate_of_another_gets_nothing(tmp_path, db, tls, postman, security):
    other = make_tls(tmp_path)
    parameters = {"tls_context": tls.context} if security == "starttls" else {"ssl_context": tls.context}
    with serving(postman, **parameters) as server:
        for ca_file in (other.ca_file, ""):
            settings = at(server.port, security=security, ca_file=ca_file, username=USER, password=PASSWORD)
            async with sending(settings, db) as mail:
                await put(db, mail, sample_letter())
                assert "certificate" in (await until_tried(mail, 2))[0].last_error
    assert postman.commands == []


@pytest.mark.parametrize(
    "target", ["ann@nas.local\r\nBcc: bob@nas.local", "ann@nas.local,bob@nas.local", "Ann@nas.local"]
)
async def test_an_address_cannot_become_two_lines_or_two_addresses(db, server, postman, target):
    async with sending(at(server.port), db) as mail:
        with pytest.raises(ValueError):
            await put(db, mail, sample_letter(target))
        with pytest.raises(ValueError):
            await put(db, mail, sample_letter(subject="Hello\r\nBcc: bob@nas.local"))
        assert await mail.waiting() == []


async def test_the_name_of_a_key_stays_within_its_line(db, server, postman):
    account = await db.write(lambda conn: queries_accounts.insert_account(conn, "acc", "ann@nas.local", "member", 1))
    blank = sample_letter()
    letter = verification_letter(
        site_name="Böx\r\nX-Site: 1",
        account=account,
        key_name="x\r\nBcc: bob@nas.local\r\n\r\n.\r\nRSET\r\n<a href=https://evil.example>",
        network="192.0.2.7",
        link=LINK,
        created_ms=blank.created_ms,
        expires_ms=blank.expires_ms,
    )
    async with sending(at(server.port), db) as mail:
        await put(db, mail, letter)
        await until_empty(mail)
    (message,) = postman.mails
    assert postman.commands == ["MAIL imgpro@img.test", "RCPT ann@nas.local", "DATA"]
    assert message["Subject"] == "Confirm your address for Böx X-Site: 1"
    assert message.keys() == [
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type")
    ]
    html = message.get_body(("html",)).get_content()
    assert html.count("<a ") == 1


# Failures


async def test_a_refused_recipient_ends_at_once_and_holds_up_nobody(db, server, postman, caplog):
    postman.refuse = lambda address: f"550 5.1.1 no {address} here, see {LINK}" if address == "bob@box" else None
    async with sending(at(server.port), db, NEVER) as mail:
        await put(db, mail, *map(sample_letter, ("ann@nas.local", "bob@box", "cat@nas.local")))
        await until_empty(mail)
    assert postman.recipients == ["ann@nas.local", "cat@nas.local"]
    assert server.connections == 1
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING and "imgpro" in record.name]
    assert "a letter to box was refused for good: 550 5.1.1 no" in warning.getMessage()
    assert TOKEN not in caplog.text


async def test_a_letter_refused_for_its_text_ends_too(db, server, postman):
    postman.data = lambda address: "554 5.7.1 looks like spam"
    async with sending(at(server.port), db, NEVER) as mail:
        await put(db, mail, sample_letter())
        await until_empty(mail)
    assert postman.mails == []


@pytest.mark.parametrize("command", ["refuse", "data"])
async def test_a_busy_server_is_asked_again(db, server, postman, command):
    def asked_more_than(commands):
        return len(postman.commands) > commands

    answers = iter([f"451 4.7.1 greylisted: {LINK}", "451 later"])
    setattr(postman, command, lambda _: next(answers, None))
    async with sending(at(server.port), db, NEVER) as mail:
        await put(db, mail, sample_letter())
        (waiting,) = await until_tried(mail)
        assert waiting.last_error.startswith("451 4.7.1 greylisted: ")
        assert not [word for word in (TOKEN, "c2lnbmF0dXJl") if word in waiting.last_error]
    for _ in range(2):  # a new start does not wait for the hour to pass
        async with sending(at(server.port), db, NEVER) as mail:
            await until(functools.partial(asked_more_than, len(postman.commands)))
    assert await mail.waiting() == []
    assert postman.recipients == ["ann@nas.local"]
    assert sum("RCPT" in line for line in postman.commands) == 3


@pytest.mark.parametrize("answer", ["530 5.7.0 authentication required", "503 AUTH first"])
async def test_a_server_that_wants_a_login_is_no_fault_of_the_recipient(db, server, postman, answer):
    postman.refuse = lambda address: answer
    async with sending(at(server.port), db, NEVER) as mail:
        await put(db, mail, sample_letter())
        (waiting,) = await until_tried(mail)
    assert waiting.last_error == answer


async def test_a_wrong_password_is_told_without_the_password(db, tls, postman, caplog):
    wrong = "hunter2-of-the-operator"
    with serving(postman, authenticator=postman.authenticate, tls_context=tls.context) as server:
        settings = at(server.port, security="starttls", ca_file=tls.ca_file, username=USER, password=wrong)
        async with sending(settings, db, NEVER) as mail:
            await put(db, mail, sample_letter())
            (waiting,) = await until_tried(mail)
    assert waiting.last_error.startswith("The mail server cannot be used: 535 5.7.8 [...] is wrong")
    assert wrong not in caplog.text
    assert "535 5.7.8" in caplog.text
    assert not postman.mails


async def test_a_server_that_is_down_is_not_beset_and_gets_all_when_it_is_back(db, postman):
    with socket.socket() as holder, contextlib.ExitStack() as later:
        holder.bind((HERE, 0))  # and not listening: connections are refused, and nobody else takes the port
        port = holder.getsockname()[1]
        async with sending(at(port), db, (0.3, 3_600.0)) as mail:
            await put(db, mail, sample_letter("old@nas.local"))
            (waiting,) = await until_tried(mail, 2)
            assert "The mail server cannot be used: " in waiting.last_error
            holder.close()
            server = later.enter_context(serving(postman, port))
            # The old letter's turn is in an hour; the new one finds the server back, and both go.
            await put(db, mail, sample_letter("new@nas.local"))
            await until_empty(mail)
            assert server.connections == 1
    assert postman.recipients == ["old@nas.local", "new@nas.local"]


async def test_waking_often_does_not_mean_connecting_often(db):
    async def slam(reader, writer):
        writer.close()

    async with scripted(slam) as (port, connections), sending(at(port), db, NEVER) as mail:
        for number in range(20):
            await put(db, mail, sample_letter(f"a{number}@nas.local"))
            await asyncio.sleep(0.005)
        await until(connections)
        assert connections() == 1


@pytest.mark.parametrize("slow", [False, True])
async def test_a_server_that_fails_in_the_middle_is_not_beset(db, slow):
    async def fail(reader, writer):
        writer.write(b"220 mail.test\r\n")
        while line := await reader.readline():
            if slow:
                await asyncio.sleep(0.4)  # each answer comes in time, all together do not
            elif line.startswith(b"RCPT"):
                return
            writer.write(b"250 OK\r\n")

    async def tried():
        return [found.attempts for found in await mail.waiting()] == [1, 0, 0]

    async with scripted(fail) as (port, connections), sending(at(port, timeout_s=1), db, NEVER) as mail:
        await put(db, mail, *map(sample_letter, ("one@box", "two@box", "three@box")))
        await until(tried)
        await asyncio.sleep(0.1)
        assert await tried()
        assert connections() == 1


async def test_a_server_that_hangs_up_after_some_letters_is_met_again(db, postman):
    taken = []

    async def three_only(reader, writer):
        writer.write(b"220 mail.test\r\n")
        for _ in range(3):
            while not (line := await reader.readline()).startswith(b"DATA"):
                if not line or line.startswith(b"QUIT"):
                    return
                writer.write(b"250 OK\r\n")
                recipient = line[9:-3].decode() if line.startswith(b"RCPT") else None
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            taken.append(recipient)
            writer.write(b"250 OK\r\n")
        writer.write(b"421 enough\r\n")

    wanted = [f"a{number}@nas.local" for number in range(10)]
    async with scripted(three_only) as (port, connections), sending(at(port), db, NEVER) as mail:
        await put(db, mail, *map(sample_letter, wanted))
        await until_empty(mail)
        assert connections() == 4
    assert taken == wanted


@pytest.mark.parametrize(
    "greeting", [b"", b"220-and", b"220 mail.test\r\n", b"what?\r\n", b"554 no\r\n", b"\x00\xff\r\n" * 9]
)
async def test_a_server_that_talks_nonsense_or_nothing_is_given_up(db, greeting):
    async def mutter(reader, writer):
        writer.write(greeting)
        await reader.read()

    async with scripted(mutter) as (port, _), sending(at(port, timeout_s=0.2), db, NEVER) as mail:
        await put(db, mail, sample_letter())
        (waiting,) = await until_tried(mail)
    assert waiting.last_error
    assert waiting.last_error.isprintable()


async def test_what_was_sent_is_not_sent_again_because_the_disk_is_full(db, server, postman, monkeypatch):
    tries, room = [], threading.Event()

    def delete(conn, seq):
        tries.append(seq)
        if not room.is_set():
            raise StorageFull
        real(conn, seq)

    real = queries_mail.delete_mail
    monkeypatch.setattr(queries_mail, "delete_mail", delete)
    async with sending(at(server.port), db) as mail:
        await put(db, mail, sample_letter())
        await until(lambda: len(tries) >= 4)
        room.set()
        await until_empty(mail)
    assert postman.recipients == ["ann@nas.local"]
    assert not mail._sent


# Time


async def test_a_letter_that_has_ended_is_not_sent(db, server, postman, caplog):
    async with sending(at(server.port), db) as mail:
        ended = sample_letter("late@box")
        await put(db, mail, msgspec.structs.replace(ended, expires_ms=ended.created_ms), sample_letter())
        await until_empty(mail)
    assert postman.recipients == ["ann@nas.local"]
    assert "a letter to box has ended before it could be sent" in caplog.text


async def test_a_clock_that_went_back_holds_up_no_letter(db, server, postman, monkeypatch):
    postman.refuse = lambda address: "451 later"
    real = module._now_ms
    monkeypatch.setattr(module, "_now_ms", lambda: real() + 30 * 86_400_000)
    month = 60 * 86_400_000
    async with sending(at(server.port), db, NEVER) as mail:
        letter = sample_letter()
        await put(db, mail, msgspec.structs.replace(letter, expires_ms=letter.created_ms + month))
        await until_tried(mail)
        postman.refuse = lambda address: None
        monkeypatch.setattr(module, "_now_ms", real)
        mail.wake()
        await until_empty(mail)
    assert postman.recipients == ["ann@nas.local"]


async def test_pauses_grow_and_the_last_one_repeats(db, monkeypatch):
    now_ms = module._now_ms()
    monkeypatch.setattr(module, "_now_ms", lambda: now_ms)
    mail = Mail(Settings(host=HERE), db)
    await put(db, mail, sample_letter())
    waits = []
    for _ in range(6):
        await mail._note_failures(await mail.waiting(), "no")
        waits.append(((await mail.waiting())[0].next_ms - now_ms) // 1000)
    assert waits == [30, 120, 600, 1_800, 3_600, 3_600]


# Stopping


async def test_stopping_lets_a_letter_under_way_arrive(db, server, postman, monkeypatch):
    monkeypatch.setattr(module, "STOP_GRACE_S", PATIENCE_S)
    reached = threading.Event()

    async def slowly():
        reached.set()
        await asyncio.sleep(0.3)

    postman.slowly = slowly
    async with sending(at(server.port), db) as mail:
        await put(db, mail, sample_letter("one@box"), sample_letter("two@box"))
        await until(reached.is_set)
    assert postman.recipients == ["one@box"]
    assert [found.letter.recipient for found in await mail.waiting()] == ["two@box"]


async def test_stopping_leaves_a_letter_that_hangs_in_the_queue(tmp_path, postman, monkeypatch):
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.1)
    reached = asyncio.Event()

    async def hang(reader, writer):
        writer.write(b"220 mail.test\r\n")
        while not (await reader.readline()).startswith(b"DATA"):
            writer.write(b"250 OK\r\n")
        writer.write(b"354 go on\r\n")
        reached.set()
        await reader.read()

    db = await open_db(tmp_path)
    async with scripted(hang) as (port, _), sending(at(port, timeout_s=3_600), db) as mail:
        await put(db, mail, sample_letter())
        await reached.wait()
        async with asyncio.timeout(PATIENCE_S):
            await mail.stop()
    await db.close()
    db = await open_db(tmp_path)
    try:
        with serving(postman) as server:
            async with sending(at(server.port), db) as mail:
                await until_empty(mail)
    finally:
        await db.close()
    assert postman.recipients == ["ann@nas.local"]


# Without a mail server


async def test_without_a_server_links_are_told_once_and_sent_when_there_is_one(db, server, postman, caplog):
    def told():
        return [record.getMessage() for record in caplog.records if "no mail server" in record.getMessage()]

    async with sending(Settings(), db) as mail:
        assert not mail.enabled
        for number in range(2):
            await put(db, mail, sample_letter(f"a{number}@box", link=f"{LINK}{number}"))
            await until(lambda number=number: len(told()) > number)
        mail.wake()
        await asyncio.sleep(0.05)
        lines = [f"no mail server is set; hand this link to a{number}@box: {LINK}{number}" for number in range(2)]
        assert told() == lines
        assert [(found.letter.link, found.attempts) for found in await mail.waiting()] == [
            (f"{LINK}0", 0),
            (f"{LINK}1", 0),
        ]
    async with sending(Settings(), db) as mail:
        mail.wake()
        await asyncio.sleep(0.05)
        assert told() == lines
    async with sending(at(server.port), db) as mail:
        assert mail.enabled
        await until_empty(mail)
    assert postman.recipients == ["a0@box", "a1@box"]
    assert told() == lines


async def test_what_waits_is_told_by_account(db):
    mail = Mail(Settings(), db)
    account = await db.write(lambda conn: queries_accounts.insert_account(conn, "acc", "ann@nas.local", "member", 1))
    mine = sample_letter(account=account.seq)
    await put(db, mail, mine, sample_letter("bob@box"), sample_letter("old@box", expires_ms=1))
    assert [found.letter for found in await mail.waiting(account.seq)] == [mine]
    assert len(await mail.waiting()) == 2


# Settings


@pytest.mark.parametrize("sender", ["imgpro", "imgpro <a@b.c>", "a@b.c\r\nBcc: x@y.z"])
async def test_a_sender_that_is_no_address_is_refused(db, sender):
    with pytest.raises(ConfigError, match=r"mail\.sender"):
        Mail(Settings(host=HERE, sender=sender), db)


async def test_an_authority_that_cannot_be_read_is_refused(db, tmp_path):
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=r"mail\.ca_file"):
            await Mail(Settings(host=HERE, ca_file=str(tmp_path / name)), db).start()


@pytest.mark.parametrize(
    ("machine", "sender"),
    [("Box.lan", "imgpro@box.lan"), ("my_box", "imgpro@localhost"), ("123456", "imgpro@localhost")],
)
async def test_mail_comes_from_this_machine_unless_said_otherwise(db, monkeypatch, postman, server, machine, sender):
    monkeypatch.setattr("imgpro.flows.mail_server.socket.gethostname", lambda: machine)
    async with sending(at(server.port, sender=""), db) as mail:
        await put(db, mail, sample_letter())
        await until_empty(mail)
    assert postman.mails[0]["From"] == sender
