"""Turn the text fields of an upload or import into checked options, naming every mistake at once.

Knows no HTTP: fields arrive as a mapping of strings, whether they came from multipart or JSON.
"""

import datetime
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from imgpro.errors import ValidationError
from imgpro.model import UploadOptions

MAX_NAME_CHARS: Final = 255
MAX_DESCRIPTION_CHARS: Final = 2_000
MIN_TTL_S: Final = 300
MAX_TTL_S: Final = 90 * 86_400

_TTL = re.compile(r"(\d{1,12})([mhd]?)", re.ASCII)
_TTL_UNITS: Final = {"": 1, "m": 60, "h": 3_600, "d": 86_400}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})
# Format characters that reorder text: a name shown with them can look like another name.
_REORDERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def parse_options(fields: Mapping[str, str]) -> UploadOptions:
    """Check the fields that an upload without an account may carry.

    Unknown fields are ignored, as are `tags` and `namespace`, which need an account. Raises ValidationError
    whose `details` has one sentence for each bad field.
    """
    details: dict[str, str] = {}
    values: dict[str, object] = {}
    for field, parse in _PARSERS.items():
        if field not in fields:
            continue
        try:
            values[_TARGETS.get(field, field)] = parse(fields[field])
        except ValueError as error:
            details[field] = str(error)
    if details:
        raise ValidationError(None, None, details)
    return UploadOptions(**values)  # type: ignore[arg-type]  # the keys are those of _PARSERS


def clean_name(raw: str) -> str:
    """Return a file name without path parts, control or reordering characters; may be empty."""
    last = re.split(r"[/\\]", raw)[-1]
    kept = "".join(char for char in last if _printable(char))
    return unicodedata.normalize("NFC", kept).strip().strip(".").strip()


def shorten_name(name: str) -> str:
    """Cut a name that a client sent along unasked to `MAX_NAME_CHARS`, keeping its extension."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 10:
        return name[:MAX_NAME_CHARS]
    return stem[: MAX_NAME_CHARS - len(extension) - 1] + "." + extension


def _printable(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp", "Cn", "Co") and char not in _REORDERING


def _parse_name(raw: str) -> str | None:
    if len(raw) > MAX_NAME_CHARS:
        raise ValueError(f"A name has at most {MAX_NAME_CHARS} characters.")
    return clean_name(raw) or None


def _parse_description(raw: str) -> str:
    if len(raw) > MAX_DESCRIPTION_CHARS:
        raise ValueError(f"A description has at most {MAX_DESCRIPTION_CHARS} characters.")
    return "".join(char for char in raw if char in "\n\t" or _printable(char)).strip()


def _parse_public(raw: str) -> bool:
    word = raw.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("Must be true or false.")


def _parse_ttl(raw: str) -> int:
    match = _TTL.fullmatch(raw.strip().lower())
    seconds = int(match[1]) * _TTL_UNITS[match[2]] if match else 0
    if not MIN_TTL_S <= seconds <= MAX_TTL_S:
        raise ValueError("Must be at least 300 seconds and at most 90 days, for example 3600, 30m, 12h or 7d.")
    return seconds


def _parse_date(raw: str) -> str:
    text = raw.strip()
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("Must be a date such as 2026-05-31 or a timestamp such as 2026-05-31T18:30:00Z.") from None
    return text


_PARSERS = {
    "name": _parse_name,
    "description": _parse_description,
    "public": _parse_public,
    "ttl": _parse_ttl,
    "date": _parse_date,
}
_TARGETS: Final = {"ttl": "ttl_s", "date": "display_date"}
