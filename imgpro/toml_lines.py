"""In which line of a TOML file each key stands: the parser of the standard library tells values, not places.

Reads only text that the parser has accepted. Where the two do not agree on what is there, no line is told at all.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

Path = tuple[str | int, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]+")
_VOID: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")
# Three quotes may be followed by up to two more that belong to the text.
_STRINGS: Final = (
    re.compile(r'"""(?:[^\\"]|\\.|"(?!""))*"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^\\"\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


def lines_of(text: str, document: Mapping[str, Any]) -> dict[Path, int]:
    """Return the line, counted from 1, of each key and each item of a list of `document`, which `text` was read as.

    A path is the names that lead to a key, and for an item of a list its number.
    """
    scan = _Scan(text.replace("\r\n", "\n"))
    try:
        scan.document()
    except (_Lost, RecursionError):
        return {}
    return scan.found if _paths(document) == set(scan.found) - scan.tables else {}


class _Lost(Exception):
    """The scan met what it does not know."""


class _Scan:
    """One walk through a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.tables: set[Path] = set()  # paths of tables, which are told apart from keys with a value
        self._counts: dict[Path, int] = {}

    def document(self) -> None:
        """Walk through everything."""
        section: Path = ()
        while self._skip(_VOID) or self.at < len(self.text):
            if self.at >= len(self.text):
                return
            if self.text.startswith("[[", self.at):
                section = self._item(self._header("[[", "]]"))
            elif self.text.startswith("[", self.at):
                section = self._inside(self._header("[", "]"))
                self._note(section, table=True)
            else:
                self._pair(section)

    def _header(self, opening: str, closing: str) -> Path:
        self.at += len(opening)
        path = self._key()
        self._expect(closing)
        return path

    def _item(self, path: Path) -> Path:
        """Return the path of the next item of an array of tables."""
        path = self._inside(path[:-1]) + path[-1:]
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        self._note(path, table=True)
        self._note((*path, number), table=True)
        return (*path, number)

    def _inside(self, path: Path) -> Path:
        """Return the path with the number of the newest item after each array of tables."""
        whole: Path = ()
        for name in path:
            whole = (*whole, name)
            if whole in self._counts:
                whole = (*whole, self._counts[whole] - 1)
        return whole

    def _pair(self, section: Path) -> None:
        start = self.at
        names = self._key()
        self._expect("=")
        self._skip(_BLANK)
        for length in range(1, len(names)):
            self._note(section + names[:length], table=True, at=start)
        self._value(section + names, start)

    def _value(self, path: Path, start: int) -> None:
        if self.text.startswith("{", self.at):
            self._note(path, table=True, at=start)
            if isinstance(path[-1], int):
                self.tables.add(path[:-1])  # a list of tables, like one of [[headers]]
            self._several("}", lambda _: self._pair(path))
        elif self.text.startswith("[", self.at):
            self._note(path, at=start)
            self._several("]", lambda number: self._value((*path, number), self.at))
        else:
            self._note(path, at=start)
            if not self._string() and not self._skip(_SCALAR):
                raise _Lost

    def _several(self, closing: str, one: Any) -> None:
        self.at += 1
        number = 0
        self._skip(_VOID)
        while not self.text.startswith(closing, self.at):
            one(number)
            number += 1
            self._skip(_VOID)
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip(_VOID)
            elif not self.text.startswith(closing, self.at):
                raise _Lost
        self.at += 1

    def _key(self) -> Path:
        names: list[str] = []
        while True:
            self._skip(_BLANK)
            begin = self.at
            if self._skip(_BARE):
                names.append(self.text[begin : self.at])
            elif self._string():
                names.append(tomllib.loads(f"x = {self.text[begin : self.at]}")["x"])
            else:
                raise _Lost
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return tuple(names)
            self.at += 1

    def _string(self) -> bool:
        return any(self._skip(pattern) for pattern in _STRINGS)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.at)
        if match is None:
            return False
        self.at = match.end()
        return True

    def _expect(self, word: str) -> None:
        self._skip(_BLANK)
        if not self.text.startswith(word, self.at):
            raise _Lost
        self.at += len(word)

    def _note(self, path: Path, *, table: bool = False, at: int | None = None) -> None:
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        self.found.setdefault(path, line)
        if table:
            self.tables.add(path)


def _paths(value: Any, path: Path = ()) -> set[Path]:
    """Return the paths of everything that is no table."""
    if isinstance(value, Mapping):
        return {found for name, inner in value.items() for found in _paths(inner, (*path, name))}
    if isinstance(value, list) and not any(isinstance(item, Mapping) for item in value):
        return {path} | {found for number, item in enumerate(value) for found in _paths(item, (*path, number))}
    if isinstance(value, list):
        return {found for number, item in enumerate(value) for found in _paths(item, (*path, number))}
    return {path}
