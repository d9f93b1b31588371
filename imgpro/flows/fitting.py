"""Makes what other hosts called things fit the forms they have here, and says in words what was changed.

Knows neither where the texts come from nor where they go.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from imgpro.errors import ValidationError
from imgpro.flows.options import (
    MAX_DESCRIPTION_CHARS,
    MAX_TAG_CHARS,
    clean_name,
    parse_namespace,
    parse_options,
    parse_tags,
    shorten_name,
)
from imgpro.store.queries import MAX_TAGS

MAX_NAMESPACE_CHARS: Final = 64
MAX_REMOVED: Final = 32
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SHOWN_CHARS: Final = 40
# What taking the accents off leaves as it is, and what people write for it.
_LETTERS: Final = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "đ": "d", "ł": "l", "ı": "i", "þ": "th"})


def fit_namespace(text: str) -> str | None:
    """Return the namespace that comes nearest to a text; None where nothing of it can be one."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    found = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_NAMESPACE_CHARS].strip("-")
    try:
        return parse_namespace(found)
    except ValueError:
        return None


def fit_tags(texts: Iterable[str], notes: list[str]) -> tuple[str, ...]:
    """Return texts as tags, at most as many as a picture may have."""
    found: dict[str, None] = {}
    for text in texts:
        kept = "".join(char for char in " ".join(text.replace(",", " ").split()) if char.isprintable())
        try:
            tags = parse_tags(kept[:MAX_TAG_CHARS])
        except ValueError:
            tags = ()
        if len(kept) > MAX_TAG_CHARS:
            notes.append(f"The tag {_shown(kept)} was cut to {MAX_TAG_CHARS} characters.")
        if not tags and text.strip():
            notes.append(f"{_shown(text)} cannot be a tag.")
        found.update(dict.fromkeys(tags))
    if len(found) > MAX_TAGS:
        notes.append(f"It has {len(found)} tags, and keeps {MAX_TAGS}.")
    return tuple(found)[:MAX_TAGS]


def fit_album(namespace: str, tags: Iterable[str], notes: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return namespace and tags; what can be no namespace becomes a tag."""
    if not namespace.strip():
        return None, fit_tags(tags, notes)
    fitted = fit_namespace(namespace)
    if fitted is None:
        notes.append(f"{_shown(namespace)} cannot be a namespace, and became a tag.")
        return None, fit_tags((namespace, *tags), notes)
    if fitted != namespace:
        notes.append(f"The namespace {_shown(namespace)} became {fitted}.")
    return fitted, fit_tags(tags, notes)


def fit_name(text: str, notes: list[str]) -> str:
    """Return a file name; "" where nothing of it is left."""
    name = shorten_name(clean_name(text.encode("utf-8", "replace").decode()))
    if name != text:
        notes.append(f"The name {_shown(text)} became {_shown(name)}.")
    return name


def fit_description(text: str, notes: list[str]) -> str:
    """Return a description."""
    if len(text) > MAX_DESCRIPTION_CHARS:
        notes.append(f"The description was cut to {MAX_DESCRIPTION_CHARS} characters.")
    cut = text.encode("utf-8", "replace").decode()[:MAX_DESCRIPTION_CHARS]
    return parse_options({"description": cut}).description


def fit_removed(kinds: Iterable[str], notes: list[str]) -> tuple[str, ...]:
    """Return which kinds of private data were taken out of a file before: words such as an export of ours has."""
    told = tuple(dict.fromkeys(kinds))
    found = tuple(kind for kind in told if _KIND.fullmatch(kind))[:MAX_REMOVED]
    if len(found) < len(told):
        notes.append(f"Of {len(told)} kinds of removed data that it names, {len(told) - len(found)} were dropped.")
    return found


def fit_date(text: str, notes: list[str]) -> str | None:
    """Return a date to be shown, as it is given or not at all."""
    if not text:
        return None
    try:
        return parse_options({"date": text}).display_date
    except ValidationError:
        notes.append(f"{_shown(text)} is not a date.")
        return None


def _shown(text: str) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return f"'{plain if len(plain) <= _SHOWN_CHARS else plain[: _SHOWN_CHARS - 1] + '…'}'"
