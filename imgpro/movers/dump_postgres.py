"""Reads plain dumps of PostgreSQL (`pg_dump`), whose rows stand in COPY blocks. Knows no host.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from imgpro.errors import Action, SourceUnusable
from imgpro.movers.rows import MAX_LINE_BYTES, MAX_VALUE_BYTES, Rows

HEAD: Final = b"-- PostgreSQL database dump"
HEAD_OF_ALL: Final = b"-- PostgreSQL database cluster dump"
_END: Final = HEAD + b" complete"
_NAME: Final = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_COPY: Final = re.compile(rf"COPY (?:({_NAME})\.)?({_NAME}) \((.*)\) FROM stdin;")
_INSERT: Final = re.compile(rf"INSERT INTO (?:{_NAME}\.)?({_NAME}) ")
_ENCODING: Final = re.compile(rb"SET client_encoding = '([^']*)';")
_READ_AS_THEY_ARE: Final = (b"UTF8", b"SQL_ASCII")
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_PIECE: Final = 64 * 1024
_HEX: Final = b"\\\\x"  # how COPY writes the start of a bytea


class PostgresDump:
    """A dump as a file. `wanted` names the tables whose rows are read; the others only tell their names.

    Of a column in `bytes_of` ((table, column), the last of its table) the place is told, for `unhex`.
    """

    def __init__(self, path: Path, wanted: Collection[str], bytes_of: tuple[str, str] = ("", "")) -> None:
        self._path = path
        self._wanted = wanted
        self._bytes_of = bytes_of
        self._line = 0
        self._places: dict[str, str] = {}  # where each wanted table was, with its schema

    def tables(self) -> Iterator[Rows]:
        """Yield the tables. Raises SourceUnusable if the dump is cut short or of another kind."""
        complete = False
        with self._path.open("rb") as file:
            while line := file.readline(_PIECE):
                self._line += 1
                if line.startswith(_END):
                    complete = True
                elif line.startswith(b"COPY ") and (found := _COPY.match(line.decode("utf-8", "replace"))):
                    yield self._block(file, found)
                elif line.startswith(b"INSERT INTO "):
                    self._refuse_inserts(line)
                elif (said := _ENCODING.match(line)) and said[1] not in _READ_AS_THEY_ARE:
                    raise SourceUnusable(
                        f"{self._path} is written in {said[1].decode('ascii', 'replace')}, and is read as UTF-8 only.",
                        Action("fix", label="Make the dump with --encoding=UTF8"),
                    )
                self._finish(file, line)
        if not complete:
            raise SourceUnusable(f"{self._path} is cut short: its last line is not that of a complete dump.")

    def _block(self, file: BinaryIO, head: re.Match[str]) -> Rows:
        schema, name = head[1] or "", head[2]
        table = _bare(name)
        columns = tuple(_bare(name) for name in re.findall(_NAME, head[3]))
        if table not in self._wanted:
            self._skip(file, table)
            return Rows(table, columns, iter(()))
        place = f"{schema}.{name}" if schema else name
        if self._places.setdefault(table, place) != place:
            label = f"Dump the schema of this host alone, as with `pg_dump --schema={schema or 'public'}`"
            raise SourceUnusable(
                f"{self._path} holds both {self._places[table]} and {place}.", Action("fix", label=label)
            )
        if self._bytes_of[0] == table:
            return Rows(table, columns, self._placed(file, table, columns))
        lines = self._lines(file, table)
        return Rows(table, columns, (self._values(line, table, len(columns)) for line in lines))

    def _lines(self, file: BinaryIO, table: str) -> Iterator[bytes]:
        while line := file.readline(MAX_LINE_BYTES):
            self._line += 1
            if line.rstrip(b"\r\n") == b"\\.":
                return
            if not line.endswith(b"\n"):
                self._cut(file, table)
            yield line[:-1].removesuffix(b"\r")
        raise SourceUnusable(f"{self._path} is cut short: it ends within the table {table}.")

    def _skip(self, file: BinaryIO, table: str) -> None:
        while line := file.readline(_PIECE):
            self._line += 1
            if line.rstrip(b"\r\n") == b"\\.":
                return
            self._finish(file, line)
        raise SourceUnusable(f"{self._path} is cut short: it ends within the table {table}.")

    def _placed(self, file: BinaryIO, table: str, columns: tuple[str, ...]) -> Iterator[tuple[str | None, ...]]:
        """Yield rows with "offset:length" in place of their last value, which stays where it is."""
        if columns[-1] != self._bytes_of[1]:
            raise SourceUnusable(f"{self._path}: {self._bytes_of[1]} is not the last column of {table}.")
        while True:
            start = file.tell()
            line = file.readline(_PIECE)
            if not line:
                raise SourceUnusable(f"{self._path} is cut short: it ends within the table {table}.")
            self._line += 1
            if line.rstrip(b"\r\n") == b"\\.":
                return
            *fields, data = line.split(b"\t", len(columns) - 1)
            self._finish(file, line)
            offset = start + len(line) - len(data)
            length = file.tell() - 1 - offset
            values = self._values(b"\t".join((*fields, b"")), table, len(columns))
            yield (*values[:-1], None if data.rstrip(b"\r\n") == b"\\N" else f"{offset}:{length}")

    def _values(self, line: bytes, table: str, width: int) -> tuple[str | None, ...]:
        fields = line.split(b"\t", width)
        if len(fields) != width:
            count = line.count(b"\t") + 1
            raise SourceUnusable(f"{self._path}, line {self._line}: {count} values where {table} has {width} columns.")
        return tuple(_value(field) for field in fields)

    def _finish(self, file: BinaryIO, line: bytes) -> None:
        """Pass over what is left of a line."""
        while line and not line.endswith(b"\n"):
            line = file.readline(_PIECE)

    def _cut(self, file: BinaryIO, table: str) -> None:
        if file.read(1):
            raise SourceUnusable(f"{self._path}, line {self._line}: a row of {table} is longer than 16 MiB.")
        raise SourceUnusable(f"{self._path} is cut short: it ends within the table {table}.")

    def _refuse_inserts(self, line: bytes) -> None:
        found = _INSERT.match(line.decode("utf-8", "replace"))
        if found and _bare(found[1]) in self._wanted:
            raise SourceUnusable(
                f"{self._path} was made with --inserts.", Action("fix", label="Make the dump without that option")
            )


def unhex(path: Path, place: str, pieces: int = 1024 * 1024) -> Iterator[bytes]:
    """Yield the bytes of a bytea at `place`, as `PostgresDump` told it. Raises SourceUnusable."""
    offset, _, length = place.partition(":")
    with path.open("rb") as file:
        file.seek(int(offset))
        left = int(length)
        if left < len(_HEX) or file.read(len(_HEX)) != _HEX:
            raise SourceUnusable("Its bytes are not written as hex.")
        left -= len(_HEX)
        while left > 0:
            piece = file.read(min(2 * pieces, left))
            left -= len(piece)
            try:
                yield bytes.fromhex(piece.decode("ascii"))
            except ValueError:
                raise SourceUnusable("Its bytes are not written as hex.") from None
            if not piece:
                raise SourceUnusable("Its bytes end too early.")


def _bare(name: str) -> str:
    return (name[1:-1].replace('""', '"') if name.startswith('"') else name).lower()


def _value(field: bytes) -> str | None:
    if field == b"\\N":
        return None
    field = field[:MAX_VALUE_BYTES]
    if b"\\" in field:
        field = _ESCAPE.sub(_unescaped, field)
    return field.decode("utf-8", "replace")


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = found.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _LETTERS.get(letter, letter)
