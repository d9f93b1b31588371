"""The way to the mail server: who sends, what we call ourselves, whose certificates count. Sends nothing."""

import socket
import ssl
from typing import NamedTuple

from imgpro.errors import Action, ConfigError
from imgpro.flows.email_address import parse_email
from imgpro.settings import Mail


class Way(NamedTuple):
    """A `mail` section and what was made from it."""

    settings: Mail
    sender: str
    tls: ssl.SSLContext | None


def way_of(settings: Mail) -> Way:
    """Read all that sending needs. Blocking. Raises ConfigError for a `sender` or a `ca_file` that cannot be used."""
    secure = bool(settings.host) and settings.security != "none"
    return Way(settings, sender_of(settings), _tls_context(settings.ca_file) if secure else None)


def sender_of(settings: Mail) -> str:
    """Return the address that mail comes from. Raises ConfigError for one that is none."""
    try:
        return parse_email(settings.sender or f"imgpro@{_machine()}")
    except ValueError as error:
        raise ConfigError(
            f"mail.sender is {settings.sender!r}. {error}", Action("fix", label='mail.sender = "imgpro@example.org"')
        ) from None


def _machine() -> str:
    """Return this machine's name, if it can stand in a mail address: that of a container may be a number."""
    name = socket.gethostname()
    try:
        return parse_email(f"imgpro@{name}").rpartition("@")[2]
    except ValueError:
        return "localhost"


def greeting(sender: str) -> str:
    """Return what to call ourselves: without asking DNS, and with a dot if there is a name with one."""
    domain = sender.rpartition("@")[2]
    return next((name for name in (_machine(), domain) if "." in name), domain)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigError(
            f"mail.ca_file is {ca_file!r} and cannot be used: {error}.",
            Action("fix", label="Name a readable PEM file with the authority's certificate"),
        ) from None
