"""Taking out of a text what is nobody else's business: secrets, and whatever tells who people are.

The same thing gets the same stand-in throughout one bundle, so that what happened to whom can still be followed.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

_LEAST_CHARS: Final = 4  # shorter names are no names but parts of every word
_PICTURES: Final = r"(?:jpe?g|png|gif|webp|avif|hei[cf]|svg|bmp|ico|tiff?)"
_MAIL: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*")
_URL: Final = re.compile(
    r"\b(https?|smtps?)://(?:[^\s/@\"'<>]*@)?(\[[0-9a-f:.]+\]|[^\s/?#\"'<>,;:()\[\]]+)(:\d+)?([/?#][^\s\"'<>]*)?",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"\b(?:img_live|img_test|key|acc|ticket)_[0-9A-Za-z]+")
_PARAMETER: Final = re.compile(r"([?&;](?:t|sig|token|key|csrf|code|state)=)[^&\s\"'<>]+")
_QUOTED_FILE: Final = re.compile(rf"([\"'])(?:(?!\1).)*\.{_PICTURES}\1", re.IGNORECASE)
_FILE: Final = re.compile(rf"[^\s\"'/\\=(:]+\.{_PICTURES}\b", re.IGNORECASE)
_SIGNATURE: Final = re.compile(r"(?<!\w)[0-9a-f]{1,16}\.[\w-]{20,}")
_LONG: Final = re.compile(r"(?<![\w/.-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}(?![\w/.])|\b[0-9a-f]{32,}\b")
_ID: Final = re.compile(r"(?<![\w.<])(?=[0-9A-Za-z]{0,11}[0-9A-Z])(?=[0-9A-Za-z]*[a-z])[0-9A-Za-z]{12}(?![\w>])")
_V4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_V6: Final = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?:\.\d+){0,3}(?![\w:])")
_HOME: Final = re.compile(r"(/home|/Users|/var/home|/export/home)/[^/\s\"':]+")


class Redactor:
    """Rewrites texts. Make one for all texts of a bundle."""

    def __init__(self, secrets: Iterable[str] = (), people: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        """`secrets` go wherever they stand, `people` (users, this host) where they are words of their own.

        `names` are what strangers chose and may be any word: they go only from texts that may quote them.
        """
        self._secrets = _longest_first(secrets)
        self._people = _longest_first(people)
        self._names = _longest_first(names)
        self._known: dict[str, dict[str, str]] = {}

    def text(self, text: str) -> str:
        """Return a text of ours without anything that is secret or personal."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        text = _KEY.sub("<key>", text)
        text = _URL.sub(self._url, text)
        text = _PARAMETER.sub(r"\1<secret>", text)
        text = _MAIL.sub(lambda match: self._stand_in("mail", match[0]), text)
        text = _QUOTED_FILE.sub("<file>", text)
        text = _FILE.sub("<file>", text)
        text = _SIGNATURE.sub("<token>", text)
        text = _LONG.sub("<token>", text)
        text = _ID.sub(lambda match: self._stand_in("id", match[0]), text)
        text = _V6.sub(lambda match: self._address(match[0]), text)
        text = _V4.sub(lambda match: self._address(match[0]), text)
        text = _HOME.sub(r"\1/<user>", text)
        return _without_words(text, self._people, "<name>")

    def quoting(self, text: str) -> str:
        """Return a text that may quote what people wrote, such as the log, without it."""
        return self.text(_without_words(text, self._names, "<name>"))

    def _url(self, match: re.Match[str]) -> str:
        """Keep what kind of address it is; a path may hold ids and names."""
        scheme, host, port, path = match.groups(default="")
        name = host.strip("[]").lower()
        if _is_address(name):
            host = host.replace(host.strip("[]"), self._address(name))
        elif name != "localhost":
            host = self._stand_in("host", name)
        return f"{scheme}://{host}{port}{'/...' if len(path) > 1 else path}"

    def _address(self, text: str) -> str:
        """Return what stands for an address; those that every machine has say nothing."""
        if text.endswith(":") and not text.endswith("::"):  # a sentence goes on after it
            return f"{self._address(text[:-1])}:"
        if not _is_address(text):
            return text
        address = ipaddress.ip_address(text)
        if address.is_loopback or address.is_unspecified:
            return text
        return self._stand_in("private address" if address.is_private else "address", address.compressed)

    def _stand_in(self, kind: str, what: str) -> str:
        known = self._known.setdefault(kind, {})
        return known.setdefault(what, f"<{kind} {len(known) + 1}>")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _longest_first(words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if len(word) >= _LEAST_CHARS}, key=lambda word: (-len(word), word))


def _without_words(text: str, words: Iterable[str], stand_in: str) -> str:
    for word in words:
        if word in text:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", stand_in, text)
    return text
