"""Turn the text fields of an upload or import into checked options, naming every mistake at once.

Knows no HTTP: fields arrive as a mapping of strings, whether they came from multipart or JSON.
"""

import datetime
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from imgpro.errors import Action, ValidationError
from imgpro.model import UploadOptions
from imgpro.store.queries import MAX_TAGS, Changes

MAX_NAME_CHARS: Final = 255
MAX_DESCRIPTION_CHARS: Final = 2_000
MAX_TAG_CHARS: Final = 50
MIN_TTL_S: Final = 300
MAX_TTL_S: Final = 90 * 86_400

_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])", re.ASCII)
_TTL = re.compile(r"(\d{1,12})([mhd]?)", re.ASCII)
_TTL_UNITS: Final = {"": 1, "m": 60, "h": 3_600, "d": 86_400}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})
# Format characters that reorder text: a name shown with them can look like another name.
_REORDERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def parse_options(fields: Mapping[str, str], *, owned: bool = False) -> UploadOptions:
    """Check the fields that an upload may carry; `owned` says whether it will belong to an account.

    Unknown fields are ignored, as are `tags` and `namespace` of an upload that belongs to nobody. Raises
    ValidationError whose `details` has one sentence for each bad field.
    """
    details: dict[str, str] = {}
    values: dict[str, object] = {}
    for field, parse in (_PARSERS | _OWNED_PARSERS if owned else _PARSERS).items():
        if field not in fields:
            continue
        try:
            values[_TARGETS.get(field, field)] = parse(fields[field])
        except ValueError as error:
            details[field] = str(error)
    if details:
        raise ValidationError(None, None, details)
    return UploadOptions(**values)  # type: ignore[arg-type]  # the keys are those of the parsers


def parse_changes(body: Mapping[str, Any]) -> Changes:
    """Check what a PATCH may change. Values are JSON's; null clears what can be absent.

    Raises ValidationError whose `details` has one sentence for each bad field.
    """
    details: dict[str, str] = {}
    values: dict[str, Any] = {}
    for field, parse in _CHANGE_PARSERS.items():
        if field not in body:
            continue
        try:
            values[_TARGETS.get(field, field)] = parse(body[field])
        except ValueError as error:
            details[field] = str(error)
    mode = body.get("tag_mode", "replace")
    if mode not in ("replace", "add", "remove"):
        details["tag_mode"] = "Must be replace, add or remove."
    if details:
        raise ValidationError(None, None, details)
    if not values:
        known = ", ".join(_CHANGE_PARSERS)
        raise ValidationError("Nothing is to be changed.", Action("fix", label=f"Send one or more of {known}"))
    return Changes(**values, tag_mode=mode)


def parse_tags(raw: object) -> tuple[str, ...]:
    """Return tags from a comma list or a list: trimmed, in lower case, each once. Raises ValueError."""
    if isinstance(raw, str):
        pieces = raw.split(",")
    elif isinstance(raw, list) and all(isinstance(item, str) for item in raw):
        pieces = [piece for item in raw for piece in item.split(",")]
    else:
        raise ValueError("Must be a comma list or a list of texts.")
    found = dict.fromkeys(_fold(piece) for piece in pieces)
    found.pop("", None)
    if len(found) > MAX_TAGS:
        raise ValueError(f"A picture has at most {MAX_TAGS} tags.")
    for tag in found:
        if len(tag) > MAX_TAG_CHARS:
            raise ValueError(f"A tag has at most {MAX_TAG_CHARS} characters.")
        if not all(_printable(char) for char in tag):
            raise ValueError("A tag must not hold control characters.")
    return tuple(found)


def _fold(tag: str) -> str:
    # Folding may take characters apart that composing puts together again, hence in this order.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", tag).lower()).strip()


def parse_namespace(raw: object) -> str | None:
    """Return a namespace, None for an empty one. Raises ValueError."""
    if raw is None or raw == "":
        return None
    if not isinstance(raw, str) or not _NAMESPACE.fullmatch(raw):
        raise ValueError("Must be 2 to 64 of a-z, 0-9 and hyphens, with no hyphen first or last.")
    return raw


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


def clean_line(raw: str) -> str:
    """Return text for one line: runs of white space are one space. Raises ValueError for other control characters."""
    line = unicodedata.normalize("NFC", " ".join(raw.split()))
    if not all(_printable(char) for char in line):
        raise ValueError("Must not hold control characters.")
    return line


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


def _as_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def parse_json(raw: Any) -> Any:
        if not isinstance(raw, str):
            raise ValueError("Must be text.")
        return parse(raw)

    return parse_json


def _change_name(raw: str) -> str:
    name = _parse_name(raw)
    if name is None:
        raise ValueError("A name must have at least one character besides path parts and control characters.")
    return name


def _change_description(raw: Any) -> str:
    text: str = _as_text(_parse_description)("" if raw is None else raw)
    return text


def _change_public(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str | int):
        return _parse_public(str(raw))
    raise ValueError("Must be true or false.")


def _change_ttl(raw: Any) -> int | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise ValueError("Must be seconds or a span such as 7d, or null for no end.")
    return _parse_ttl(str(raw))


def _change_date(raw: Any) -> str | None:
    return None if raw is None or raw == "" else _as_text(_parse_date)(raw)


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "name": _parse_name,
    "description": _parse_description,
    "public": _parse_public,
    "ttl": _parse_ttl,
    "date": _parse_date,
}
_OWNED_PARSERS: Final[dict[str, Callable[[str], Any]]] = {"tags": parse_tags, "namespace": parse_namespace}
_CHANGE_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "name": _as_text(_change_name),
    "description": _change_description,
    "tags": parse_tags,
    "public": _change_public,
    "namespace": parse_namespace,
    "date": _change_date,
    "ttl": _change_ttl,
}
_TARGETS: Final = {"ttl": "ttl_s", "date": "display_date"}
