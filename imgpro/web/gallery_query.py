"""What a gallery's address says: which pictures are looked for. The same fields in `gallery.js`.

Days are meant as people mean them, from midnight to midnight: here by the server's clock and time zone, in the script
by the browser's.
"""

import datetime
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from imgpro.errors import ValidationError
from imgpro.flows.browse import Filters, parse_filters

FIELDS: Final = ("q", "namespace", "tags", "tag_mode", "type", "date", "from", "to", "at")
SPANS: Final = (
    ("", "Any time"),
    ("today", "Today"),
    ("7days", "Last 7 days"),
    ("last-week", "Last week"),
    ("month", "This month"),
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY: Final = datetime.timedelta(days=1)


class GalleryQuery:
    """The fields of one address, as they came; empty ones are left out."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.fields = {name: query[name].strip() for name in FIELDS if query.get(name, "").strip()}
        self.tags = [tag for tag in self.fields.get("tags", "").split(",") if tag.strip()]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    def day(self, name: str) -> str:
        """Return a field that is a date as browsers write it, else nothing."""
        return self[name] if _DATE.fullmatch(self[name]) else ""

    @property
    def narrows(self) -> bool:
        """Tell whether anything is looked for: where nothing is found then, it may be there all the same."""
        return bool(self.fields)

    def filters(self, limit: int, cursor: str = "") -> Filters:
        """Return what a list is asked for. Raises ValidationError."""
        asked = {name: self.fields[name] for name in ("q", "namespace", "tags", "tag_mode", "type") if self[name]}
        since, until = self._days()
        for name, day in (("since", since), ("until", until)):
            if day is not None:
                asked[name] = str(max(0, int(_midnight(day).timestamp())))
        return parse_filters(asked | {"limit": str(limit), "cursor": cursor})

    def link(self, **changes: str) -> str:
        """Return the query of the same address with some fields changed; an empty one goes."""
        fields = {name: value for name, value in {**self.fields, **changes}.items() if value}
        if "date" in changes:
            fields = {name: value for name, value in fields.items() if name not in ("from", "to", "at")}
        return "?" + urlencode(fields) if fields else "?"

    def with_tag(self, tag: str) -> str:
        """Return the query with a tag more, or without it where it is there."""
        tags = [one for one in self.tags if one != tag] if tag in self.tags else [*self.tags, tag]
        return self.link(tags=",".join(tags))

    def _days(self) -> tuple[datetime.date | None, datetime.date | None]:
        """Return the first day and the day after the last one; None where there is no bound."""
        today = datetime.datetime.now().astimezone().date()
        monday = today - _DAY * today.weekday()
        spans: dict[str, tuple[datetime.date, datetime.date | None]] = {
            "today": (today, None),
            "7days": (today - 6 * _DAY, None),
            "last-week": (monday - 7 * _DAY, monday),
            "month": (today.replace(day=1), None),
        }
        since, until = spans.get(self["date"], (None, None))
        details = {}
        for name in ("from", "to", "at"):
            try:
                day = datetime.date.fromisoformat(self[name]) if self[name] else None
                if day is not None and not 1970 < day.year < 3000:
                    raise ValueError
            except ValueError:
                details[name] = "Must be a date such as 2026-05-31."
                continue
            if day is not None and name == "from":
                since = day if since is None else max(since, day)
            elif day is not None:
                until = day + _DAY if until is None else min(until, day + _DAY)
        if details:
            raise ValidationError(None, None, details)
        return since, until


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time.min).astimezone()
