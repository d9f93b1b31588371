"""Reads a large JSON file element by element. Knows no host."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from imgpro.errors import SourceUnusable

_CHUNK: Final = 256 * 1024
_MAX_ELEMENT: Final = 128 * 1024 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


def elements(path: Path, opened: Collection[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield (where, key, value) of a JSON object's values, in their order.

    Objects and arrays at the places in `opened` ("", "data", "data.files") are taken apart; anything else comes as a
    value of its own. `key` is "" in an array. Raises SourceUnusable.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        reader = _Reader(path, file)
        yield from _container(reader, "", opened)


class _Reader:
    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._buffer = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no white space."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            self._more()

    def take(self, characters: str) -> str:
        found = self.peek()
        if found not in characters:
            raise self._odd()
        self._at += 1
        return found

    def value(self) -> Any:
        """Return the next value whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise self._odd() from None
            except ValueError:
                value, end = None, len(self._buffer)
            if end < len(self._buffer):  # a number at the end may go on
                self._at = end
                return value
            if len(self._buffer) - self._at > _MAX_ELEMENT:
                raise self._odd()
            self._more()

    def _more(self) -> None:
        waiting = self._buffer[self._at :]
        more = self._file.read(max(_CHUNK, len(waiting)))
        if not more:
            raise self._odd()
        self._buffer, self._at = waiting + more, 0

    def _odd(self) -> SourceUnusable:
        return SourceUnusable(
            f"{self._path} is cut short, or no JSON: it goes wrong at {self._buffer[self._at :][:40]!r}."
        )


def _container(reader: _Reader, where: str, opened: Collection[str]) -> Iterator[tuple[str, str, Any]]:
    end = "}" if reader.take("{[") == "{" else "]"
    if reader.peek() == end:
        reader.take(end)
        return
    while True:
        key = ""
        if end == "}":
            key = str(reader.value())
            reader.take(":")
        place = f"{where}.{key}" if where else key
        if key and place in opened and reader.peek() in "{[":
            yield from _container(reader, place, opened)
        else:
            yield where, key, reader.value()
        if reader.take("," + end) == end:
            return
