"""Real mail servers on loopback for tests: one that takes letters by aiosmtpd, ones that follow a script; letters."""

import asyncio
import contextlib
import email
import email.policy
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from imgpro.model import MailLetter
from imgpro.settings import Mail as MailSettings

HERE = "127.0.0.1"
CLOSE_S = 2.0
USER, PASSWORD = "imgpro", "correct-horse-battery"
TOKEN = "Zm9vYmFyYmF6cXV4"
LINK = f"https://img.example.org/verify?t={TOKEN}&exp=77&sig=c2lnbmF0dXJl"


class Tls(msgspec.Struct, frozen=True):
    """A self-signed certificate of loopback, as a file for clients and as a context for servers."""

    ca_file: str
    context: ssl.SSLContext


def make_tls(folder: Path) -> Tls:
    """Make a key and a certificate in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HERE))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = folder / "certificate.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return Tls(str(public), context)


class Postman:
    """What the server does with commands: takes all mail, unless `refuse` or `data` answers something else."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.envelopes: list[Any] = []
        self.mails: list[EmailMessage] = []
        self.refuse: Callable[[str], str | None] = lambda address: None
        self.data: Callable[[str], str | None] = lambda address: None
        self.slowly: Callable[[], Awaitable[None]] | None = None

    @property
    def recipients(self) -> list[str]:
        """Whom the letters that were taken are for."""
        return [mail["To"] for mail in self.mails]

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        """Know one user; tell everybody else their own password, as careless servers do."""
        self.commands.append(f"AUTH {mechanism}")
        if (data.login, data.password) == (USER.encode(), PASSWORD.encode()):
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 {data.password.decode()} is wrong")

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        self.commands.append(f"MAIL {address}")
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        self.commands.append(f"RCPT {address}")
        answer = self.refuse(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.commands.append("DATA")
        if self.slowly is not None:
            await self.slowly()
        answer = self.data(envelope.rcpt_tos[0])
        if answer is None:
            self.envelopes.append(envelope)
            message = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            self.mails.append(message)
        return answer or "250 OK"


class MailServer(Controller):
    """aiosmtpd in a thread of its own, on a free port or on `port`. `connections` counts those of its clients."""

    def __init__(self, postman: Postman, port: int = 0, **parameters: Any) -> None:
        self._protocols: list[Any] = []
        super().__init__(postman, hostname=HERE, port=port, server_hostname="mail.test", **parameters)

    @property
    def connections(self) -> int:
        return len(self._protocols) - 1  # the controller connects once itself, to see whether it works

    def factory(self) -> Any:
        protocol = super().factory()
        self._protocols.append(protocol)
        return protocol

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    def stop(self, no_assert: bool = False) -> None:
        """End; connections first, because those that outlive their loop are warned of."""
        deadline = time.monotonic() + CLOSE_S
        while any(protocol.transport is not None for protocol in self._protocols) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.loop.call_soon_threadsafe(self._abort)
        super().stop(no_assert)

    def _abort(self) -> None:
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol.transport.abort()


@contextlib.contextmanager
def serving(postman: Postman, port: int = 0, **parameters: Any) -> Iterator[MailServer]:
    """Run a mail server; the parameters are those of aiosmtpd."""
    server = MailServer(postman, port, **parameters)
    server.start()
    try:
        yield server
    finally:
        server.stop()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(talk: Talk) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """Run a server that does `talk` with each connection; yield its port and a function that counts connections."""
    talks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1], lambda: len(talks)
    finally:
        server.close()
        await server.wait_closed()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def at(port: int, **changes: Any) -> MailSettings:
    """Settings that reach a server on loopback, unprotected unless changed."""
    return MailSettings(**{"host": HERE, "port": port, "security": "none", "sender": "imgpro@img.test", **changes})


def sample_letter(recipient: str = "ann@nas.local", **changes: Any) -> MailLetter:
    """Return a letter, written now, with all that is hard to send."""
    now_ms = time.time_ns() // 1_000_000
    letter = MailLetter(
        account=None,
        recipient=recipient,
        subject="Confirm your address",
        body_text=f"Open this:\n\n{LINK}\n\n.\n.leading dots\nschön\n",
        body_html=f'<p>Schön: <a href="{LINK}">{"x" * 1200}</a></p>\n',
        link=LINK,
        created_ms=now_ms,
        expires_ms=now_ms + 86_400_000,
    )
    return msgspec.structs.replace(letter, **changes)
