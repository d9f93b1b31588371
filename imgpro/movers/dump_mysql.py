"""Reads dumps of MariaDB and MySQL as `mariadb-dump`, `mysqldump` and phpMyAdmin write them. Knows no host.

Strict: what is not written as these programs write it is refused with its place, not guessed at.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from imgpro.errors import Action, SourceUnusable
from imgpro.movers.rows import BOM, MAX_LINE_BYTES, MAX_VALUE_BYTES, Rows

HEADS: Final = (b"-- MariaDB dump", b"-- MySQL dump", b"/*M!", b"-- phpMyAdmin SQL Dump")
_SAYS_WHEN_COMPLETE: Final = HEADS[:2]
_END: Final = b"-- Dump completed"
# phpMyAdmin says it otherwise, unless it was told not to.
_BEGIN_TRANSACTION: Final = b"START TRANSACTION;"
_COMMIT: Final = b"COMMIT;"
_PIECE: Final = 64 * 1024
_CHUNK: Final = 1024 * 1024

_NAMES: Final = re.compile(rb"(?:/\*!\d+ )?SET NAMES '?([A-Za-z0-9]+)")
_READ_AS_THEY_ARE: Final = (b"utf8", b"utf8mb3", b"utf8mb4", b"binary", b"ascii")
_ANSI: Final = re.compile(rb'(?:CREATE TABLE|INSERT INTO) (?:IF NOT EXISTS )?"')
_USE: Final = re.compile(rb"USE `([^`]+)`;")
_CREATE: Final = re.compile(rb"CREATE TABLE (?:IF NOT EXISTS )?(?:`[^`]+`\.)?`([^`]+)` \(")
_COLUMN: Final = re.compile(rb"\s*`([^`]+)` ")
_INSERT: Final = re.compile(
    rb"(?:INSERT|REPLACE)(?: IGNORE)? INTO (?:`[^`]+`\.)?`([^`]+)` (?:\(((?:`[^`]+`[, ]*)+)\) )?VALUES"
)
_ROW: Final = re.compile(rb"\s*\(")
# Possessive: a value full of escapes would have its places to go back to remembered, a hundred bytes for each.
_VALUE: Final = re.compile(
    rb"\s*(?:(NULL)|(?:_[a-z0-9]+ ?)?'([^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+)'"
    rb"|(?:_[a-z0-9]+ )?(?:0x([0-9A-Fa-f]+)|[xX]'([0-9A-Fa-f]*)'|b'([01]{1,64})')|([-+]?[0-9][0-9.eE+-]*))"
    rb"\s*([,)])",
    re.DOTALL,
)
_AFTER_ROW: Final = re.compile(rb"\s*([,;])")
_ESCAPE: Final = re.compile(rb"\\(.)|''", re.DOTALL)
_LETTERS: Final = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}


class MysqlDump:
    """A dump as a file. `wanted` names the tables whose rows are read; the others only tell their names."""

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self._path = path
        self._wanted = wanted

    def tables(self) -> Iterator[Rows]:
        """Yield the tables, a large one in several parts. Raises SourceUnusable if the dump is cut short or odd."""
        columns: dict[str, tuple[str, ...]] = {}
        schema, schemas = b"", dict[str, bytes]()
        complete = True
        with self._path.open("rb") as file:
            while line := file.readline(_PIECE):
                self._refuse(line)
                if line.removeprefix(BOM).startswith(_SAYS_WHEN_COMPLETE) or line.startswith(_BEGIN_TRANSACTION):
                    complete = False
                elif line.startswith((_END, _COMMIT)):
                    complete = True
                elif used := _USE.match(line):
                    schema = used[1]
                elif line.startswith(b"CREATE TABLE ") and (created := _CREATE.match(line)):
                    table = _text(created[1]).lower()
                    self._place(schemas, table, schema)
                    columns[table] = self._columns(file, table)
                    yield Rows(table, columns[table], iter(()))
                elif inserted := _INSERT.match(line):
                    table = _text(inserted[1]).lower()
                    named = inserted[2] and tuple(
                        _text(name).lower() for name in re.findall(rb"`([^`]+)`", inserted[2])
                    )
                    self._place(schemas, table, schema)
                    if table in self._wanted:
                        file.seek(inserted.end() - len(line), 1)
                        yield Rows(table, *self._inserted(file, table, named or columns.get(table, ())))
                        continue
                while line and not line.endswith(b"\n"):
                    line = file.readline(_PIECE)
        if not complete:
            raise SourceUnusable(f"{self._path} is cut short: its last line is not that of a complete dump.")

    def _refuse(self, line: bytes) -> None:
        """Raise SourceUnusable for what cannot be read, though MariaDB or MySQL may write it."""
        if (said := _NAMES.match(line)) and said[1].lower() not in _READ_AS_THEY_ARE:
            raise SourceUnusable(
                f"{self._path} is written in {_text(said[1])}, and is read as UTF-8 only.",
                Action("fix", label="Make the dump with --default-character-set=utf8mb4"),
            )
        if _ANSI.match(line):
            raise SourceUnusable(
                f"{self._path} was made with --compatible=ansi.",
                Action("fix", label="Make the dump without that option"),
            )

    def _place(self, schemas: dict[str, bytes], table: str, schema: bytes) -> None:
        """Take note of the database that a table is in. Raises SourceUnusable where it is in another, too."""
        if table in self._wanted and schemas.setdefault(table, schema) != schema:
            raise SourceUnusable(
                f"{self._path} holds several databases, and {table} is in {_text(schemas[table])} and {_text(schema)}.",
                Action("fix", label="Dump the one database of this host alone"),
            )

    def _columns(self, file: BinaryIO, table: str) -> tuple[str, ...]:
        names: list[str] = []
        while line := file.readline(_PIECE):
            if line.startswith(b")"):
                return tuple(names)
            if found := _COLUMN.match(line):
                names.append(_text(found[1]).lower())
        raise SourceUnusable(f"{self._path} is cut short: it ends within the table {table}.")

    def _inserted(
        self, file: BinaryIO, table: str, columns: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Iterator[tuple[str | None, ...]]]:
        if not columns:
            raise SourceUnusable(
                f"{self._path} does not say which columns {table} has: it is a dump without structure."
            )
        return columns, _Scanner(self._path, file, table, len(columns)).rows()


class _Scanner:
    """Reads the rows of one INSERT, from where the file stands to behind its semicolon."""

    def __init__(self, path: Path, file: BinaryIO, table: str, width: int) -> None:
        self._path = path
        self._file = file
        self._table = table
        self._width = width
        self._buffer = b""
        self._at = 0

    def rows(self) -> Iterator[tuple[str | None, ...]]:
        while True:
            self._match(_ROW)
            yield self._row()
            if self._match(_AFTER_ROW)[1] == b";":
                break
            if self._at > _CHUNK:
                self._buffer, self._at = self._buffer[self._at :], 0
        self._file.seek(self._at - len(self._buffer), 1)

    def _row(self) -> tuple[str | None, ...]:
        values: list[str | None] = []
        while True:
            found = self._match(_VALUE)
            values.append(_value(found))
            if found[7] == b")":
                break
        if len(values) != self._width:
            raise SourceUnusable(
                f"{self._path}: a row of {self._table} has {len(values)} values for {self._width} columns."
            )
        return tuple(values)

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        """Return what stands next, reading on as long as it may be that only its end is missing."""
        while (found := pattern.match(self._buffer, self._at)) is None:
            waiting = len(self._buffer) - self._at
            more = self._file.read(max(_CHUNK, waiting)) if waiting <= MAX_LINE_BYTES else b""
            if not more:
                where = self._file.tell() - waiting
                reason = f"a row of {self._table} is not as a dump writes it, or cut short, near byte {where}."
                raise SourceUnusable(f"{self._path}: {reason}")
            self._buffer, self._at = self._buffer[self._at :] + more, 0
        self._at = found.end()
        return found


def _value(found: re.Match[bytes]) -> str | None:
    if found[1]:
        return None
    if found[2] is not None:
        raw = found[2][:MAX_VALUE_BYTES]
        return _text(_ESCAPE.sub(_unescaped, raw) if b"\\" in raw or b"'" in raw else raw)
    if (digits := found[3] or found[4]) is not None:
        digits = digits[:MAX_VALUE_BYTES]
        return _text(bytes.fromhex(digits.decode("ascii").zfill(len(digits) + len(digits) % 2)))
    if found[5] is not None:
        return str(int(found[5], 2))
    return _text(found[6])


def _unescaped(found: re.Match[bytes]) -> bytes:
    letter = found[1]
    return b"'" if letter is None else _LETTERS.get(letter, letter)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
