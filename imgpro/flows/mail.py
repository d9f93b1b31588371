"""Mail over SMTP: a queue in the database and one task that empties it, so that no request waits for a mail server.

A letter is queued by the transaction that made its link and taken out once the mail server has accepted it: a crash can
make it go out twice, never not at all. Without a mail server letters wait until they end, and the operator is told the
links. Nothing here logs a letter's text, a password, or (where there is a mail server) a link.
"""

import asyncio
import base64
import contextlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiosmtplib

from imgpro.errors import ImgproError
from imgpro.flows.email_address import parse_email
from imgpro.flows.letters import message_bytes
from imgpro.flows.mail_server import Way, greeting, sender_of, way_of
from imgpro.model import MailLetter, WaitingMail
from imgpro.settings import Mail as MailSettings
from imgpro.store import queries_mail
from imgpro.store.db import Database

log = logging.getLogger(__name__)

PAUSES_S: Final = (30.0, 120.0, 600.0, 1_800.0, 3_600.0)
BATCH: Final = 50  # letters over one connection; mail servers allow about a hundred
LOOK_S: Final = 3_600.0  # how long letters that have ended may lie in the queue
STOP_GRACE_S: Final = 2.0
QUIT_DEADLINE_S: Final = 5.0

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_SECRET_RUN: Final = re.compile(r"[A-Za-z0-9+/_=-]{8,}")
_MAX_REASON_CHARS: Final = 200
_SERVER_FAULTS: Final = (503, 530)  # "log in first": said to a recipient, and no fault of theirs


class Mail:
    """The queue and its sender. `pauses_s` are the seconds between attempts; the last one repeats.

    The first pause is also the least time between two attempts to reach a mail server that is out of reach. Raises
    ConfigError for a `sender` that is no address.
    """

    def __init__(self, settings: MailSettings, db: Database, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._settings = settings
        self._db = db
        self._pauses_s = pauses_s
        self._sender = sender_of(settings)
        self._tls: ssl.SSLContext | None = None
        self._next: Way | None = None  # not taken yet: a letter under way goes as it began
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._announced = 0  # links of letters up to this number need no announcement
        self._sent: set[int] = set()  # not to be sent again, but not taken out of the queue yet
        self._unreachable = False
        self._connect_from = 0.0  # monotonic; no connection is tried before

    @property
    def enabled(self) -> bool:
        """Tell whether there is a mail server."""
        return bool((self._next.settings if self._next else self._settings).host)

    def put(self, conn: Any, letter: MailLetter) -> None:
        """Queue a letter in the transaction of `conn`, a connection inside `Database.write`; then call `wake`.

        Raises ValueError for a recipient or a subject that could become more than one line of a header.
        """
        if parse_email(letter.recipient) != letter.recipient or not letter.subject.isprintable():
            raise ValueError("a letter needs one address in canonical form and a subject of one line")
        queries_mail.insert_mail(conn, letter)

    def wake(self) -> None:
        """Tell the sender that letters may have come; call it after the commit, on the loop. Never fails."""
        self._woken.set()

    async def start(self) -> None:
        """Begin to send; all that waits is due, because whoever restarts may have mended something.

        Raises ConfigError for a `ca_file` that cannot be used.
        """
        (await self.prepare(self._settings))()
        async with self._db.reader() as conn:
            self._announced = await queries_mail.last_mail_seq(conn)
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="mail")

    async def prepare(self, settings: MailSettings) -> Callable[[], None]:
        """Return what puts another section in force for the next letter. Raises ConfigError as the start does."""
        way = await asyncio.to_thread(way_of, settings)

        def apply() -> None:
            self._next = way
            self.wake()

        return apply

    async def stop(self) -> None:
        """End within seconds; a letter under way is finished, or stays in the queue. Idempotent."""
        self._stopping = True
        self._woken.set()
        task, wait_s = self._task, STOP_GRACE_S
        while task is not None and not task.done():
            await asyncio.wait({task}, timeout=wait_s)
            # More than once: until Python 3.12 `asyncio.wait_for`, inside the library, can swallow a cancellation.
            task.cancel()
            wait_s = 0.5

    async def waiting(self, account: int | None = None) -> list[WaitingMail]:
        """Return the letters that wait, of one account or of all, oldest first; each holds its link."""
        async with self._db.reader() as conn:
            return await queries_mail.mail_waiting(conn, account, _now_ms())

    # The task

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            pause_s = self._pauses_s[0]
            try:
                pause_s = await self._pass()
            except ImgproError as problem:
                log.warning("mail has to wait: %s", problem)
                self._hold()
            except Exception:
                log.exception("mail has to wait")
                self._hold()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()

    async def _pass(self) -> float:
        """Do all there is to do now; return in how many seconds to look again, unless woken."""
        await self._take_next()
        await self._tidy()
        if not self.enabled:
            await self._announce()
            return LOOK_S
        while not self._stopping and self._held_s() <= 0 and (due := await self._due()):
            await self._send(due)
        async with self._db.reader() as conn:
            next_ms = await queries_mail.next_mail_ms(conn)
        wait_s = LOOK_S if next_ms is None else (next_ms - _now_ms()) / 1000
        return min(max(wait_s, self._held_s(), 0.01), LOOK_S)

    async def _take_next(self) -> None:
        """Send another way from now on; all that waits is due, because whoever changed it may have mended something."""
        if self._next is None:
            return
        self._settings, self._sender, self._tls = self._next.settings, self._next.sender, self._next.tls
        self._next, self._connect_from, now_ms = None, 0.0, _now_ms()
        if self.enabled:
            await self._db.write(lambda conn: queries_mail.hasten_mail(conn, now_ms))

    async def _tidy(self) -> None:
        """Take out letters that have ended, and those that were sent when nothing could be written, on a full disk."""
        sent, now_ms = tuple(self._sent), _now_ms()

        def write(conn: Any) -> list[WaitingMail]:
            for seq in sent:
                queries_mail.delete_mail(conn, seq)
            return queries_mail.delete_ended_mail(conn, now_ms)

        ended = await self._db.write(write)
        self._sent.difference_update(sent)
        for mail in ended if self.enabled else ():
            reason = mail.last_error or "the mail server was not reached"
            log.warning("a letter to %s has ended before it could be sent: %s", _domain(mail), reason)

    async def _announce(self) -> None:
        async with self._db.reader() as conn:
            fresh = await queries_mail.mail_after(conn, self._announced, _now_ms())
        for mail in fresh:
            self._announced = mail.seq
            recipient, link = mail.letter.recipient, mail.letter.link
            if "/sign-in?" in link:  # whoever reads it is that account
                log.warning("no mail server is set; a sign-in link for %s is in `imgpro accounts list`", recipient)
            else:
                log.warning("no mail server is set; hand this link to %s: %s", recipient, link)

    async def _due(self) -> list[WaitingMail]:
        now_ms = _now_ms()
        far_ms = now_ms + int(max(self._pauses_s) * 2_000)
        async with self._db.reader() as conn:
            return await queries_mail.mail_due(conn, now_ms, far_ms, BATCH)

    def _hold(self) -> None:
        self._connect_from = time.monotonic() + self._pauses_s[0]

    def _held_s(self) -> float:
        return self._connect_from - time.monotonic()

    # Sending

    async def _send(self, due: list[WaitingMail]) -> None:
        """Send letters over one connection, in order, as far as it goes."""
        try:
            client = await self._connect()
        except Exception as error:  # noqa: BLE001 - noted and logged; tried again after a pause
            await self._note_unreachable(due, error)
            return
        try:
            if self._unreachable:
                self._unreachable = False
                log.info("the mail server %s can be used again", self._settings.host)
                now_ms = _now_ms()
                await self._db.write(lambda conn: queries_mail.hasten_mail(conn, now_ms))
                due = await self._due()
            for position, mail in enumerate(due):
                if self._stopping or not await self._hand_over(client, mail, first=position == 0):
                    break
        except BaseException:
            _drop(client)  # in the middle of a command there is nothing polite to say
            raise
        await _hang_up(client)

    async def _connect(self) -> aiosmtplib.SMTP:
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port or _PORTS[settings.security],
            username=settings.username or None,
            password=settings.password if settings.username else None,
            local_hostname=greeting(self._sender),
            timeout=settings.timeout_s,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",  # never None, which would mean "if the server likes"
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(settings.timeout_s):
                await client.connect()
        except BaseException:
            _drop(client)
            raise
        return client

    async def _note_unreachable(self, due: list[WaitingMail], error: BaseException) -> None:
        reason = self._reason(error)
        log.warning("the mail server %s cannot be used, %d letters wait: %s", self._settings.host, len(due), reason)
        self._unreachable = True
        self._hold()
        await self._note_failures(due, f"The mail server cannot be used: {reason}")

    async def _hand_over(self, client: aiosmtplib.SMTP, mail: WaitingMail, *, first: bool) -> bool:
        """Send one letter and settle its row; return whether the connection can carry another one.

        A server that hangs up after some letters is met again at once; one that does so at the first is held back.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await client.sendmail(self._sender, [mail.letter.recipient], message_bytes(mail, self._sender))
        except Exception as error:  # noqa: BLE001 - whatever it is, the letters behind this one must go out
            return await self._settle_failure(client, mail, error, first=first)
        log.info("a letter to %s was sent", _domain(mail))
        self._sent.add(mail.seq)
        await self._db.write(lambda conn: queries_mail.delete_mail(conn, mail.seq))
        self._sent.discard(mail.seq)
        return True

    async def _settle_failure(
        self, client: aiosmtplib.SMTP, mail: WaitingMail, error: Exception, *, first: bool
    ) -> bool:
        reason = self._reason(error, mail.letter.link)
        if _final(error):
            log.warning("a letter to %s was refused for good: %s", _domain(mail), reason)
            await self._db.write(lambda conn: queries_mail.delete_mail(conn, mail.seq))
            return client.is_connected
        if isinstance(error, TimeoutError):
            _drop(client)  # an answer that comes late would be taken for that to the next command
        connected = client.is_connected
        if not connected and not first:
            return False
        if not connected:
            self._hold()
        log.warning("a letter to %s could not be sent and will be tried again: %s", _domain(mail), reason)
        await self._note_failures([mail], reason)
        return connected

    async def _note_failures(self, mails: Sequence[WaitingMail], reason: str) -> None:
        now_ms = _now_ms()

        def write(conn: Any) -> None:
            for mail in mails:
                pause_s = self._pauses_s[min(mail.attempts, len(self._pauses_s) - 1)]
                queries_mail.note_mail_failure(conn, mail.seq, reason, now_ms + int(pause_s * 1000))

        await self._db.write(write)

    def _reason(self, error: BaseException, link: str = "") -> str:
        """Say why in one line without secrets: servers repeat what they were sent, a link that they mistrust too."""
        username, password = self._settings.username, self._settings.password
        said = _said(error)
        secrets = [link.split("/", 3)[-1].lower()]
        if password:
            said = said.replace(password, "[...]")
            # The forms in which it goes over the wire.
            wire = (password, f"\0{username}\0{password}")
            secrets += [base64.b64encode(text.encode()).decode().lower() for text in wire]

        def hide(run: re.Match[str]) -> str:
            return "[...]" if any(run[0].lower() in secret for secret in secrets) else run[0]

        return _SECRET_RUN.sub(hide, said)[:_MAX_REASON_CHARS]


def _final(error: Exception) -> bool:
    """Tell whether trying again is no use: the recipient or the letter itself was refused with a 5xx."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [refusal.code for refusal in error.recipients]
    elif isinstance(error, aiosmtplib.SMTPDataError):
        codes = [error.code]
    else:
        return False
    return all(500 <= code < 600 and code not in _SERVER_FAULTS for code in codes)


def _said(error: BaseException) -> str:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{error.code} {error.message}"
    elif isinstance(error, TimeoutError):
        text = "it did not answer in time"
    elif isinstance(error, aiosmtplib.SMTPException | OSError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _domain(mail: WaitingMail) -> str:
    return mail.letter.recipient.rpartition("@")[2]


async def _hang_up(client: aiosmtplib.SMTP) -> None:
    """Say goodbye, for as long as it takes a polite server, and let go of the connection in any case."""
    try:
        if client.is_connected:
            async with asyncio.timeout(QUIT_DEADLINE_S):
                await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        pass  # all letters are settled
    finally:
        _drop(client)


def _drop(client: aiosmtplib.SMTP) -> None:
    transport = client.transport
    client.close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
