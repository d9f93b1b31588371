"""The letters imgpro writes, each as plain text and as HTML with the same words, and their form on the wire.

Names of keys come from strangers, who may ask for a key under anybody's address only to have their words delivered: a
name is shown as one short quoted line in which nothing is a link. Knows no mail server and no templates.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime, localtime
from html import escape
from typing import Any, Final

import msgspec

from imgpro.model import Account, MailLetter, WaitingMail

MAX_NAME_CHARS: Final = 60
_MAX_SUBJECT_NAME_CHARS: Final = 80
_QUOTES: Final = re.compile(r'["“”„‟«»″‶〝〞]')
# What mail programs make a link of, in text as in HTML: scheme:rest, //host, name@host, word.word. A space after the
# sign that joins the two is what no program sees through.
_JOINTS: Final = re.compile(r"[.。](?=[^\W\d_])|(?<=[^\W\d_]):(?=\S)|:(?=[/\\])|(?<=[/\\])[/\\](?=\S)|@(?=\S)")
_UNFOLDED: Final = SMTP.clone(max_line_length=998)  # as long as lines may be
_STYLE: Final = "font-family:system-ui,sans-serif;font-size:16px;line-height:1.5;max-width:36em"


class _Headers(EmailPolicy):
    """Folds nothing but a subject beyond ASCII, and that by the older way of the library.

    The newer one makes of a long address what is none, and loses spaces of a subject.
    """

    def fold_binary(self, name: str, value: Any) -> bytes:
        """Return a header as it goes over the wire."""
        if name == "Subject" and not value.isascii():
            folded = Header(str(value), "utf-8", maxlinelen=75, header_name=name).encode(linesep=self.linesep)
            return f"{name}: {folded}{self.linesep}".encode("ascii")
        return _UNFOLDED.fold_binary(name, value)


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """What a letter says, before it is text or HTML. `facts` are label and value; `action` introduces the link."""

    opening: str
    facts: Sequence[tuple[str, str]]
    action: str
    link: str
    closing: Sequence[str]


def verification_letter(
    *,
    site_name: str,
    account: Account,
    key_name: str | None,
    network: str | None,
    link: str,
    created_ms: int,
    expires_ms: int,
) -> MailLetter:
    """Return the letter that proves an address, or on a verified account makes the key it is about usable.

    `key_name` and `network` say which key was asked for and from where; None where that is not known. Times are
    Unix milliseconds; the link works until `expires_ms`.
    """
    site = _site(site_name)
    if account.verified:
        subject = f"Confirm a new API key for {site}"
        opening = f"Somebody asked for a new API key for your account at {site}. It is not usable yet."
        action = "If that was you, open this page and confirm it:"
    else:
        subject = f"Confirm your address for {site}"
        opening = f"Somebody signed up at {site} with this address, {account.email}."
        action = "If that was you, open this page and confirm that the address is yours:"
    facts = [] if key_name is None else [("API key", shown_name(key_name))]
    facts.append(("Asked for", _time(created_ms)))
    if network is not None:
        facts.append(("From the network address", _plain(network)))
    closing = (
        f"The link works until {_time(expires_ms)}, once.",
        "If it was not you, ignore this mail. Nothing happens then.",
    )
    words = _Words(opening=opening, facts=facts, action=action, link=link, closing=closing)
    return _letter(account, subject, words, created_ms, expires_ms)


def sign_in_letter(
    *, site_name: str, account: Account, network: str, link: str, created_ms: int, expires_ms: int
) -> MailLetter:
    """Return the letter that signs the owner of an address in; `network` says from where it was asked for.

    Times are Unix milliseconds; the link works until `expires_ms`.
    """
    site = _site(site_name)
    words = _Words(
        opening=f"Somebody, most likely you, asked for a link that signs in at {site}.",
        facts=[
            ("Account", account.email),
            ("Asked for", _time(created_ms)),
            ("From the network address", _plain(network)),
        ],
        action="To sign in on this device, open this page:",
        link=link,
        closing=(
            f"The link works until {_time(expires_ms)}, once.",
            "If it was not you, ignore this mail, and give the link to nobody: it opens your account.",
        ),
    )
    return _letter(account, f"Sign in at {site}", words, created_ms, expires_ms)


def upgrade_approved_letter(
    *, site_name: str, account: Account, plan: str, link: str, created_ms: int, expires_ms: int
) -> MailLetter:
    """Return the letter to an owner whose account was put on `plan` (its label); `link` is the dashboard.

    It is not worth sending after `expires_ms`.
    """
    site, plan = _site(site_name), _plain(plan)
    words = _Words(
        opening=f"Your account at {site} is on the plan {plan} now. There is nothing left to do.",
        facts=[("Account", account.email), ("Plan", plan), ("Since", _time(created_ms))],
        action="Your pictures, keys and what you have used are on the dashboard:",
        link=link,
        closing=(),
    )
    return _letter(account, f"Your plan at {site} is {plan} now", words, created_ms, expires_ms)


def upgrade_requested_letter(
    *, site_name: str, operator: Account, account: Account, plan: str, link: str, created_ms: int, expires_ms: int
) -> MailLetter:
    """Return the letter to `operator` about an `account` that asks for `plan` (its label); `link` is the dashboard.

    It is not worth sending after `expires_ms`.
    """
    site, plan = _site(site_name), _plain(plan)
    words = _Words(
        opening=f"An account at {site} asks for a larger plan. You decide.",
        facts=[
            ("Account", account.email),
            ("Plan now", account.plan.capitalize()),
            ("Plan asked for", plan),
            ("Asked for", _time(created_ms)),
        ],
        action="Approve it or turn it down on the dashboard:",
        link=link,
        closing=("Nothing changes until you do.",),
    )
    return _letter(operator, f"{site}: a request for the plan {plan}", words, created_ms, expires_ms)


def message_bytes(mail: WaitingMail, sender: str) -> bytes:
    """Return a letter from `sender` as it goes over the wire. Raises ValueError for what cannot stand in a header."""
    letter, message = mail.letter, EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = letter.recipient
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(localtime())
    # The same at every attempt, so that mailboxes can tell a letter that came twice.
    message["Message-ID"] = f"<imgpro.{letter.created_ms}.{mail.seq}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body_text, cte="quoted-printable")
    message.add_alternative(letter.body_html, subtype="html", cte="quoted-printable")
    return message.as_bytes(policy=_Headers(linesep=SMTP.linesep))


def shown_name(name: str) -> str:
    """Return a stranger's words as at most 60 characters in quotes: one line, no further quotes, nothing to click."""
    plain = _QUOTES.sub("'", _plain(unicodedata.normalize("NFKC", name)))
    plain = " ".join(_JOINTS.sub(lambda found: f"{found[0]} ", plain).split())
    return f'"{_cut(plain, MAX_NAME_CHARS) or "(no name)"}"'


def _plain(text: str) -> str:
    """Return `text` as one line of printable characters: no line breaks, no marks that turn text around."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def _site(name: str) -> str:
    return _cut(_plain(name), _MAX_SUBJECT_NAME_CHARS) or "imgpro"


def _time(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _letter(to: Account, subject: str, words: _Words, created_ms: int, expires_ms: int) -> MailLetter:
    if words.link != _plain(words.link) or " " in words.link:
        raise ValueError("a link in a letter is one word")
    return MailLetter(
        account=to.seq,
        recipient=to.email,
        subject=subject,
        body_text=_text(words),
        body_html=_html(subject, words),
        link=words.link,
        created_ms=created_ms,
        expires_ms=expires_ms,
    )


def _text(words: _Words) -> str:
    facts = "\n".join(f"{label}: {value}" for label, value in words.facts)
    return "\n\n".join((words.opening, facts, words.action, words.link, *words.closing)) + "\n"


def _html(subject: str, words: _Words) -> str:
    facts = "<br>\n".join(f"{escape(label)}: <b>{escape(value)}</b>" for label, value in words.facts)
    link = escape(words.link)
    paragraphs = (
        escape(words.opening),
        facts,
        escape(words.action),
        f'<a href="{link}" style="overflow-wrap:anywhere">{link}</a>',
        *map(escape, words.closing),
    )
    body = "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Phones make links of numbers and dates otherwise, those in a stranger's words too.
        '<meta name="format-detection" content="telephone=no,date=no,address=no,email=no,url=no">\n'
        f'<title>{escape(subject)}</title>\n</head>\n<body style="{_STYLE}">\n{body}\n</body>\n</html>\n'
    )
