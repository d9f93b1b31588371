"""The server's certificate: what browsers are shown, and what is wrong with it. Knows no HTTP."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.errors import Action, ConfigError
from imgpro.settings import Server

log = logging.getLogger(__name__)

SOON_S: Final = 14 * 86_400  # who renews by itself does so earlier
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NOT_YET: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID


class Pair(msgspec.Struct, frozen=True):
    """A certificate with its key, ready for connections; `warning` is what will keep visitors out, or soon will."""

    context: ssl.SSLContext
    pem: bytes
    warning: str = ""


class Certificate:
    """The pair in force. A connection keeps the one that it began with."""

    def __init__(self, settings: Server) -> None:
        """Read the files. Blocking. Raises ConfigError."""
        self._pair = load_pair(settings)
        self._warn()

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection speaks."""
        return self._pair.context

    async def prepare(self, settings: Server) -> Callable[[], None]:
        """Read the files again; return what puts them in force. Raises ConfigError, and nothing has changed then."""
        pair = await asyncio.to_thread(load_pair, settings)

        def apply() -> None:
            if pair.pem != self._pair.pem:
                log.info("the certificate has changed")
            self._pair = pair
            self._warn()

        return apply

    def _warn(self) -> None:
        if self._pair.warning:
            log.warning("%s", self._pair.warning)


def load_pair(settings: Server) -> Pair:
    """Read certificate and key, and prove that they work. Blocking.

    Raises ConfigError for files that cannot be read, are none, do not belong together, or ask for a passphrase.
    """
    cert, key = settings.tls_cert, settings.tls_key or settings.tls_cert
    name = "server.tls_key" if settings.tls_key else "server.tls_cert"
    pem = _read("server.tls_cert", cert)
    if key != cert:
        _read(name, key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except _PassphraseWanted:
        raise ConfigError(
            f"{name}: the key in {key} is encrypted, and nobody is there to type its passphrase.",
            Action("fix", label=f"openssl pkey -in {key} -out key.pem, readable by imgpro alone"),
        ) from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(*_explained(error, cert, key, name)) from None
    return Pair(context, pem, _trouble(context, cert, pem))


class _PassphraseWanted(Exception):
    pass


def _no_passphrase() -> str:
    raise _PassphraseWanted


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{name}: {path} cannot be read: {error.strerror or error}.",
            Action("fix", label="Give the user that runs imgpro the right to read it"),
        ) from None


def _explained(error: OSError, cert: str, key: str, name: str) -> tuple[str, Action]:
    reason = (getattr(error, "reason", None) or "").upper()
    if reason == "KEY_VALUES_MISMATCH":
        words = f"{name}: the key in {key} is not that of the certificate in {cert}."
        return words, Action("fix", label="Name a certificate and the key it was made with")
    if reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        return f"server.tls_cert: browsers refuse the certificate in {cert}: its key or its signature is too weak.", (
            Action("fix", label="Make one with an EC key, or an RSA key of 2048 bits or more")
        )
    which = cert if _holds(cert, b"CERTIFICATE-----") is False else key
    setting, what = ("server.tls_cert", "certificate") if which == cert and which != key else (name, "private key")
    words = f"{setting}: there is no {what} in PEM form in {which}."
    return words, Action("fix", label=f"Name a file with a part -----BEGIN {what.upper()}-----")


def _holds(path: str, mark: bytes) -> bool:
    return mark in Path(path).read_bytes()


def _trouble(context: ssl.SSLContext, cert: str, pem: bytes) -> str:
    """Return what a visitor's browser will mind, "" if nothing: found out by being one, in memory."""
    visitor = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    visitor.check_hostname = False
    visitor.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate vouches for itself here
    try:
        visitor.load_verify_locations(cadata=pem.decode("ascii", "replace"))
        shown = _shake_hands(context, visitor)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return f"the certificate in {cert} has expired: browsers warn of it, programs refuse it"
        if error.verify_code == _NOT_YET:
            return f"the certificate in {cert} is not valid yet: is this machine's clock right?"
        return f"browsers will not like the certificate in {cert}: {error.verify_message}"
    except ssl.SSLError as error:
        return f"a trial with the certificate in {cert} failed: {error.reason}"
    left_s = ssl.cert_time_to_seconds(str(shown.get("notAfter"))) - time.time()
    if left_s < SOON_S:
        return f"the certificate in {cert} ends in {int(left_s / 86_400)} days, on {shown.get('notAfter')}"
    return ""


def _shake_hands(context: ssl.SSLContext, visitor: ssl.SSLContext) -> dict[str, Any]:
    """Carry out a handshake in memory; return what the visitor saw. Raises SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = visitor.wrap_bio(back, there, server_side=False)
    server = context.wrap_bio(there, back, server_side=True)
    for _ in range(8):  # flights; TLS 1.3 takes three
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert() or {}
