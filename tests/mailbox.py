"""A real SMTP server on loopback that keeps what it is sent."""

import contextlib
import email
import email.policy
import re
import socket
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller


class Mailbox:
    """What arrived, in order."""

    def __init__(self) -> None:
        self.port = 0
        self.letters: list[EmailMessage] = []
        self.recipients: list[list[str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.recipients.append(list(envelope.rcpt_tos))
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.letters.append(message)
        return "250 OK"

    def wait(self, count: int, patience_s: float = 20.0) -> list[EmailMessage]:
        """Return the letters once there are `count` of them."""
        deadline = time.monotonic() + patience_s
        while len(self.letters) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.letters) >= count, f"{len(self.letters)} of {count} letters came"
        return self.letters

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings with which a server sends here."""
        return {
            "IMGPRO_MAIL_HOST": "127.0.0.1",
            "IMGPRO_MAIL_PORT": str(self.port),
            "IMGPRO_MAIL_SECURITY": "none",
            "IMGPRO_MAIL_SENDER": "imgpro@img.example",
            **more,
        }


@contextlib.contextmanager
def mailbox(port: int = 0) -> Iterator[Mailbox]:
    """Run a mail server; yield what it keeps."""
    box = Mailbox()
    box.port = port or free_port()  # aiosmtpd cannot be told to choose one
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def text_of(letter: EmailMessage) -> str:
    """Return the plain text of a letter."""
    part = letter.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def html_of(letter: EmailMessage) -> str:
    """Return the HTML of a letter."""
    part = letter.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def link_in(letter: EmailMessage) -> str:
    """Return the first link of a letter's text."""
    found = re.search(r"https?://\S+", text_of(letter))
    assert found is not None, text_of(letter)
    return found[0]
