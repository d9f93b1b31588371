"""Makes times, truths, texts and addresses of what the databases of other hosts hold. Knows no host."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from imgpro.model import LeadsTo, OldLink

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,9})? ?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_DIGITS: Final = re.compile(r"\d{1,14}", re.ASCII)
_WHOLE: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_LATEST_S: Final = 4_102_444_800  # 2100: larger numbers are milliseconds
_TAG_CHARS: Final = 200
_MOST_TAGS: Final = 500
_KINDS: Final = {"video": "a video", "audio": "a sound", "text": "a text"}


def moment(value: str | None) -> int | None:
    """Return Unix ms of a time as databases write it, without a zone in UTC; None for none, or what is no time."""
    if not value:
        return None
    if _DIGITS.fullmatch(value):
        number = int(value)
        return number if number > _LATEST_S else number * 1000
    found = _TIME.fullmatch(value.strip())
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    if len(zone) == 3:
        zone += ":00"
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{(fraction or '.0')[:7].ljust(7, '0')}{zone}")
    except ValueError:
        return None
    return round(at.timestamp() * 1000)


def iso(value: str | None) -> str:
    """Return a time as an ISO timestamp in UTC, for `display_date`; "" for none."""
    at = moment(value)
    try:
        return "" if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:  # no year that there is
        return ""


def truth(value: str | None) -> bool:
    """Tell whether a boolean of PostgreSQL, MariaDB or SQLite is true."""
    return value is not None and value.lower() in ("1", "t", "true", "y")


def number(value: str | None) -> int:
    """Return a whole number, 0 for none, and for what no database holds."""
    return int(value) if value and _WHOLE.fullmatch(value) else 0


def tags_of(source: str) -> str:
    """Return SQL that joins names with char(31), in their order; `source` is the rest of a SELECT of `name`.

    What is too long or too many to come over is not gathered either.
    """
    names = f"SELECT substr(name, 1, {_TAG_CHARS}) AS name FROM ({source}) ORDER BY name LIMIT {_MOST_TAGS}"  # noqa: S608
    return f"(SELECT group_concat(name, char(31)) FROM ({names}))"  # noqa: S608


def owner_of(row: Mapping[str, str | None], column: str) -> str:
    """Return whose a picture is: by the column that was asked for, else by the user name; "" for nobody's.

    Who is to be known by a mail address and has none is somebody all the same.
    """
    return row[column] or row["user_username" if "user_username" in row else "username"] or ""


def listed(joined: str | None) -> tuple[str, ...]:
    """Return texts that SQL joined with char(31)."""
    return tuple(joined.split("\x1f")) if joined else ()


def links(*found: tuple[str, LeadsTo]) -> tuple[OldLink, ...]:
    """Return old addresses, each once."""
    return tuple(OldLink(path, leads_to) for path, leads_to in dict(found).items())


def segment(text: str) -> str:
    """Return a text as it stands in an address, between slashes."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def path_of(text: str) -> str:
    """Return a path below some folder as it stands in an address."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="/")


def no_picture(mime: str) -> str:
    """Return why a file of this type is left out; "" if it may be a picture."""
    main = mime.lower().partition("/")[0].strip()
    if main in _KINDS:
        return f"It is {_KINDS[main]}, no picture."
    return f"It is no picture ({mime})." if main not in ("image", "") and mime != "application/octet-stream" else ""
