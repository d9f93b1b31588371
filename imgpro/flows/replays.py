"""Requests that may come twice: the same Idempotency-Key and the same request give the first answer again.

The answer is stored in the transaction that stores the picture, so that there is no moment in which one is there
without the other. Only answers that stored something are kept: a request that failed may simply be tried again.
"""

import hashlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import msgspec

from imgpro.errors import IdempotencyKeyConflict, IdempotencyKeyInProgress, ValidationError
from imgpro.model import Caller, Image
from imgpro.store import queries
from imgpro.store.db import Database
from imgpro.store.queries import Replay

MAX_KEY_CHARS: Final = 255


class Replays:
    """Keeps track of the idempotency keys of all callers."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._under_way: set[tuple[str, str]] = set()

    async def begin(self, caller: Caller, key: str | None, render: Callable[[Image], bytes]) -> "Attempt":
        """Start a request, to be entered with `with`; `render` makes its answer of the picture it stores.

        Raises ValidationError for a key that is none, IdempotencyKeyInProgress while the first one is under way.
        """
        name = _caller_name(caller)
        if key is None:
            return Attempt(self._under_way, name, None, render, None)
        if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable() or not key.isascii():
            sentence = f"Must be 1 to {MAX_KEY_CHARS} printable ASCII characters."
            raise ValidationError("The Idempotency-Key is not valid.", None, {"Idempotency-Key": sentence})
        if (name, key) in self._under_way:
            raise IdempotencyKeyInProgress()
        self._under_way.add((name, key))
        try:
            async with self._db.reader() as conn:
                first = await queries.replay_by_key(conn, name, key, time.time_ns() // 1_000_000)
        except BaseException:
            self._under_way.discard((name, key))
            raise
        return Attempt(self._under_way, name, key, render, first)


class Attempt:
    """One request with, or without, an idempotency key."""

    def __init__(
        self,
        under_way: set[tuple[str, str]],
        caller: str,
        key: str | None,
        render: Callable[[Image], bytes],
        first: Replay | None,
    ) -> None:
        self._under_way = under_way
        self._caller = caller
        self._key = key
        self._render = render
        self._first = first
        self.answer: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._key is not None:
            self._under_way.discard((self._caller, self._key))

    @property
    def repeated(self) -> bool:
        """Tell whether a request with this key was answered already."""
        return self._first is not None

    def first_answer(self, *parts: object) -> bytes | None:
        """Return the answer to the first request if this one, told by `parts`, is the same; None if there was none.

        Raises IdempotencyKeyConflict for another request.
        """
        if self._first is None:
            return None
        if self._first.fingerprint != fingerprint(*parts):
            raise IdempotencyKeyConflict()
        return self._first.answer

    def to_store(self, image: Image, *parts: object) -> Replay | None:
        """Render the answer for a picture that is about to be stored; return what to store with it, if anything."""
        self.answer = self._render(image)
        if self._key is None:
            return None
        return Replay(self._caller, self._key, fingerprint(*parts), image.id, self.answer)


def fingerprint(*parts: object) -> bytes:
    """Return 32 bytes that two requests share only if all their parts are equal."""
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


def _caller_name(caller: Caller) -> str:
    principal = caller.principal
    if principal is None:
        return f"n{caller.network}"
    return f"a{principal.account.seq}" if principal.key is None else f"k{principal.key.seq}"
