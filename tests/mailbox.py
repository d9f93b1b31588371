"""The mail server of `smtp` for tests of a whole server: settings that lead to it, and what arrived."""

import contextlib
import re
import time
from collections.abc import Iterator
from email.message import EmailMessage

from tests.smtp import Postman, serving


class Mailbox:
    """What arrived, in order."""

    def __init__(self, postman: Postman, port: int) -> None:
        self._postman = postman
        self._port = port

    @property
    def letters(self) -> list[EmailMessage]:
        """The letters that were taken."""
        return self._postman.mails

    @property
    def recipients(self) -> list[list[str]]:
        """The addresses on each letter's envelope."""
        return [envelope.rcpt_tos for envelope in self._postman.envelopes]

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
            "IMGPRO_MAIL_PORT": str(self._port),
            "IMGPRO_MAIL_SECURITY": "none",
            "IMGPRO_MAIL_SENDER": "imgpro@img.example",
            **more,
        }


@contextlib.contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Run a mail server on a free port; yield what it keeps."""
    postman = Postman()
    with serving(postman) as server:
        yield Mailbox(postman, server.port)


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
