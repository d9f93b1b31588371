"""Lists of what an account has: its pictures with filters, page by page, and its namespaces and tags.

A cursor says where a page ended, as the time and number of a picture, signed together with the account and the
filters. Pictures that come or go meanwhile therefore move nothing: not even the one that the cursor names has to be
there. Knows no HTTP.
"""

import hashlib
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from imgpro.errors import Action, ValidationError
from imgpro.flows.change import parse_ids
from imgpro.flows.options import parse_namespace, parse_tags
from imgpro.model import Image, Principal, StoredFormat
from imgpro.signing import Signer
from imgpro.store import queries_browse
from imgpro.store.db import Database
from imgpro.store.queries_browse import Listed, Placed, Plan, Position, Wanted

__all__ = ["MAX_LIMIT", "Browse", "Filters", "ImagePage", "Listed", "Neighbours", "cursor_at", "parse_filters"]

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 50
MAX_TEXT_CHARS: Final = 200
MAX_WORDS: Final = 16

# Where filters are combined, so many index entries are looked at in one statement: about 2 to 16 ms. Between two, a
# connection is free for others. A page that is not full after `MAX_ENTRIES` is given out as it is, and its cursor goes
# on from there: no request works without end, however badly its filters go together.
FIRST_WINDOW: Final = 2_000
MAX_WINDOW: Final = 16_000
MAX_ENTRIES: Final = 200_000

_FORMATS: Final = frozenset(get_args(StoredFormat))
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_CURSOR: Final = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})-([0-9A-Za-z_.-]{1,64})", re.ASCII)


class Filters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a list shall hold. Every filter that is given must hold; `since_s` is inclusive, `until_s` exclusive."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tag_mode: Literal["any", "all"] = "any"
    namespace: str | None = None
    format: StoredFormat | None = None
    since_s: int | None = None
    until_s: int | None = None
    words: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return what tells these filters from others; how far a list was read and how long pages are is no part."""
        same = msgspec.structs.replace(
            self, limit=DEFAULT_LIMIT, cursor=None, ids=tuple(sorted(self.ids)), tags=tuple(sorted(self.tags))
        )
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()


class ImagePage(msgspec.Struct, frozen=True):
    """Some pictures and how to get the next ones.

    There are more exactly if there is a cursor. A page may be shorter than its limit, even empty, and have more: see
    `MAX_ENTRIES`.
    """

    images: tuple[Image, ...]
    next_cursor: str | None
    has_more: bool


class Neighbours(msgspec.Struct, frozen=True):
    """What stands beside a picture in a list that is newest first; None at its ends."""

    newer: Image | None
    older: Image | None


class Browse:
    """Lists what a principal owns."""

    def __init__(self, db: Database, signer: Signer) -> None:
        self._db = db
        self._signer = signer

    async def page(self, principal: Principal, filters: Filters) -> ImagePage:
        """Return a page of the principal's pictures, newest first; with words, the last that arrived first.

        Raises ValidationError for a cursor that was not made by this server for this account and these filters.
        """
        after = self._position(principal, filters)
        placed, resume = await self._walk(_wanted(principal, filters), after, filters.limit + 1)
        shown = placed[: filters.limit]
        end = shown[-1].position if len(placed) > filters.limit else resume
        cursor = None if end is None else cursor_at(self._signer, principal.account.seq, filters, end)
        return ImagePage(tuple(each.image for each in shown), cursor, cursor is not None)

    async def neighbours(self, principal: Principal, image: Image) -> Neighbours:
        """Return what is beside a picture of the principal's: in its namespace, or without one among all.

        None of a picture of others, and none to a key that reaches only what it brought itself: those may be far apart.
        """
        if principal.own_key_only is not None:
            return Neighbours(None, None)
        async with self._db.reader() as conn:
            wanted = _wanted(principal, Filters(namespace=image.namespace))
            return Neighbours(*await queries_browse.neighbours(conn, wanted, image.id))

    async def namespaces(self, principal: Principal) -> list[Listed]:
        """Return the principal's namespaces by name."""
        async with self._db.reader() as conn:
            return await queries_browse.namespaces(conn, principal, _now_ms())

    async def tags(self, principal: Principal) -> list[Listed]:
        """Return the principal's tags by name."""
        async with self._db.reader() as conn:
            return await queries_browse.tags(conn, principal, _now_ms())

    async def _walk(self, wanted: Wanted, after: Position, count: int) -> tuple[list[Placed], Position | None]:
        """Return up to `count` pictures after a position, and where the walk was given up, if it was."""
        placed: list[Placed] = []
        plan: Plan | None = None
        window, entries = FIRST_WINDOW, 0
        while True:
            async with self._db.reader() as conn:
                plan = plan or await queries_browse.list_plan(conn, wanted)
                step = await queries_browse.images_step(conn, wanted, plan, after, count - len(placed), window)
            placed += step.placed
            entries += window
            if step.resume is None or entries >= MAX_ENTRIES:
                return placed, step.resume
            if entries == FIRST_WINDOW:
                async with self._db.reader() as conn:
                    plan = await queries_browse.narrowed(conn, wanted, plan)
            after, window = step.resume, min(window * 4, MAX_WINDOW)

    def _position(self, principal: Principal, filters: Filters) -> Position:
        if filters.cursor is None:
            return queries_browse.START
        match = _CURSOR.fullmatch(filters.cursor)
        if match:
            end = int(match[1], 16), int(match[2], 16)
            subject = _subject(principal.account.seq, filters, end)
            # Numbers have one spelling, so that a cursor has one too.
            known = f"{end[0]:x}-{end[1]:x}-{match[3]}" == filters.cursor
            if known and self._signer.verify(match[3], "cursor", subject, time.time()):
                return end
        raise ValidationError(
            None,
            Action("fix", label="Start again without a cursor"),
            {"cursor": "Must be the next_cursor of a page of this account with the same filters."},
        )


def cursor_at(signer: Signer, account: int, filters: Filters, end: Position) -> str:
    """Return the cursor of a page of an account (`Account.seq`) that ended at a position."""
    return f"{end[0]:x}-{end[1]:x}-{signer.sign('cursor', _subject(account, filters, end))}"


def _subject(account: int, filters: Filters, end: Position) -> str:
    return f"{account} {end[0]} {end[1]} {filters.fingerprint()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _wanted(principal: Principal, filters: Filters) -> Wanted:
    return Wanted(
        account=principal.account.seq,
        now_ms=_now_ms(),
        key=principal.own_key_only,
        tags=filters.tags,
        tag_mode=filters.tag_mode,
        namespace=filters.namespace,
        format=filters.format,
        since_ms=None if filters.since_s is None else filters.since_s * 1000,
        until_ms=None if filters.until_s is None else filters.until_s * 1000,
        ids=filters.ids,
        words=filters.words,
    )


# Reading the query


def parse_filters(query: Mapping[str, str]) -> Filters:
    """Check the query of a list. Unknown fields are ignored, and empty ones count as absent, except `ids`.

    Raises ValidationError whose `details` has one sentence for each bad field.
    """
    details: dict[str, str] = {}
    values: dict[str, Any] = {}
    for field, parse in _PARSERS.items():
        raw = query.get(field)
        if raw is None or (raw.strip() == "" and field != "ids"):
            continue
        try:
            values[_TARGETS.get(field, field)] = parse(raw)
        except ValueError as error:
            details[field] = str(error)
        except ValidationError as error:
            details.update(error.details)
    if details:
        raise ValidationError(None, None, details)
    return Filters(**values)


def _parse_limit(raw: str) -> int:
    if not _SECONDS.fullmatch(raw.strip()) or not 1 <= int(raw) <= MAX_LIMIT:
        raise ValueError(f"Must be a whole number from 1 to {MAX_LIMIT}.")
    return int(raw)


def _parse_seconds(raw: str) -> int:
    if not _SECONDS.fullmatch(raw.strip()):
        raise ValueError("Must be a time in Unix seconds, for example 1780000000.")
    return int(raw)


def _parse_mode(raw: str) -> str:
    mode = raw.strip().lower()
    if mode not in ("any", "all"):
        raise ValueError("Must be any or all.")
    return mode


def _parse_format(raw: str) -> str:
    name = raw.strip().lower()
    name = {"jpg": "jpeg"}.get(name, name)
    if name not in _FORMATS:
        raise ValueError(f"Must be one of {', '.join(sorted(_FORMATS))}.")
    return name


def _parse_words(raw: str) -> tuple[str, ...]:
    text = unicodedata.normalize("NFC", raw).encode("utf-8", "replace").decode()
    words = tuple(dict.fromkeys(text.replace("\0", " ").split()))
    if len(text) > MAX_TEXT_CHARS or len(words) > MAX_WORDS:
        raise ValueError(f"A search has at most {MAX_WORDS} words and {MAX_TEXT_CHARS} characters.")
    return words


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "limit": _parse_limit,
    "cursor": str,
    "ids": parse_ids,
    "tags": parse_tags,
    "tag_mode": _parse_mode,
    "namespace": parse_namespace,
    "type": _parse_format,
    "since": _parse_seconds,
    "until": _parse_seconds,
    "q": _parse_words,
}
_TARGETS: Final = {"type": "format", "since": "since_s", "until": "until_s", "q": "words"}
