"""Reads what another host keeps in a database, from whatever of it is at hand: SQLite's own file, or a dump.

The few columns that matter are staged, so that every host is read by the same SQL whatever database it used.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from imgpro.errors import Action, SourceUnusable
from imgpro.movers import dump_mysql, dump_postgres
from imgpro.movers.dump_mysql import MysqlDump
from imgpro.movers.dump_postgres import PostgresDump
from imgpro.movers.rows import BOM, MAX_VALUE_CHARS, Rows
from imgpro.store import foreign_sqlite
from imgpro.store.staged_rows import StagedRows

Columns = Mapping[str, Sequence[str]]  # by table, all in lower case

_HEAD_BYTES: Final = 4096
_MAX_NAMES: Final = 1_000
_MAX_NAME_CHARS: Final = 80
_SQLITE: Final = b"SQLite format 3\0"
_CUSTOM: Final = b"PGDMP"
_TAR: Final = (257, b"ustar")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_PACKED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd", b"PK\x03\x04")


class Dump(Protocol):
    """Tables, one after the other."""

    def tables(self) -> Iterator[Rows]:
        """Yield rows of one table after the other. Raises SourceUnusable."""
        ...


class HostDatabase:
    """The tables `wanted` of a database, staged. What a table or column that is not there would hold is NULL.

    `needed` are the tables without which it is not this host's. To be closed.
    """

    def __init__(
        self,
        path: Path,
        wanted: Columns,
        needed: Sequence[str],
        *,
        dump: Dump | None = None,
        prefix: str = "",
        bytes_of: tuple[str, str] = ("", ""),
    ) -> None:
        """Read it. Raises SourceUnusable, StorageFault."""
        self.path = path
        self._wanted = wanted
        self._prefix = prefix.lower()
        self._there: dict[str, set[str]] = {}
        self._others: set[str] = set()
        self._staged = StagedRows(wanted)
        try:
            if dump is None and kind_of(path) == "sqlite":
                self._stage_sqlite()
            else:
                self._stage(dump or self._dump(bytes_of))
            self.need(*needed)
        except BaseException:
            self._staged.close()
            raise

    def close(self) -> None:
        """Forget what was staged."""
        self._staged.close()

    def has(self, table: str, *columns: str) -> bool:
        """Tell whether the database has a table, with these columns."""
        return self._there.get(table, set()).issuperset(columns) and table in self._there

    def need(self, *needed: str) -> None:
        """Raise SourceUnusable unless these tables are there."""
        missing = [self._prefix + table for table in needed if table not in self._there]
        if missing:
            others = ", ".join(sorted(self._others)[:12]) or "none"
            raise SourceUnusable(
                f"{self.path} has no table {', '.join(missing)}; the tables in there: {others}.",
                Action(
                    "fix",
                    label="Name a dump of the whole database of this host; of Chevereto, tables may need --prefix",
                ),
            )

    def need_columns(self, table: str, *columns: str) -> None:
        """Raise SourceUnusable unless a table tells these things, without which private pictures would be public."""
        if not self.has(table, *columns):
            raise SourceUnusable(
                f"{self.path}: the table {self._prefix}{table} has no column {' and '.join(columns)}.",
                Action("fix", label="Name a dump of the whole database"),
            )

    def index(self, table: str, *columns: str) -> None:
        """Make look-ups by `columns` quick."""
        self._staged.index(table, *columns)

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return self._staged.count(table)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield rows of a SELECT; all values are text or None."""
        return self._staged.rows(statement, values)

    def _dump(self, bytes_of: tuple[str, str]) -> Dump:
        names = {self._prefix + table for table in self._wanted}
        kind = kind_of(self.path)
        if kind == "json":
            raise SourceUnusable(f"{self.path} is JSON, no dump of a database.")
        return PostgresDump(self.path, names, bytes_of) if kind == "postgres" else MysqlDump(self.path, names)

    def _stage(self, dump: Dump) -> None:
        for found in dump.tables():
            table = found.table.removeprefix(self._prefix)
            if not found.table.startswith(self._prefix) or table not in self._wanted:
                if len(self._others) < _MAX_NAMES:
                    self._others.add(found.table[:_MAX_NAME_CHARS])
                continue
            self._there.setdefault(table, set()).update(found.columns)
            self._staged.add(table, self._picked(table, found.columns, found.rows))

    def _stage_sqlite(self) -> None:
        with foreign_sqlite.opened(self.path) as database:
            there = database.tables()
            self._others = set(there)
            for table, wanted in self._wanted.items():
                columns = there.get(self._prefix + table)
                if columns is None:
                    continue
                self._there[table] = set(columns)
                picked = tuple(name for name in wanted if name in columns)
                names = ", ".join(f'substr("{name}", 1, {MAX_VALUE_CHARS}) AS "{name}"' for name in picked)
                rows = database.rows(f'SELECT {names} FROM "{self._prefix}{table}"')  # noqa: S608
                texts = (tuple(_text(value) for value in row.values()) for row in rows)
                self._staged.add(table, self._picked(table, picked, texts))

    def _picked(
        self, table: str, columns: tuple[str, ...], rows: Iterator[tuple[str | None, ...]]
    ) -> Iterator[tuple[str | None, ...]]:
        places = [columns.index(name) if name in columns else None for name in self._wanted[table]]
        for row in rows:
            yield tuple(None if place is None else _cut(row[place]) for place in places)


def kind_of(path: Path) -> str:
    """Return "sqlite", "postgres", "mysql" or "json". Raises SourceUnusable for anything else."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be read: {error.strerror}.") from None
    if head.startswith(_SQLITE):
        return "sqlite"
    if head.startswith(_CUSTOM) or head[_TAR[0] :].startswith(_TAR[1]):
        raise SourceUnusable(
            f"{path} is a dump in pg_dump's own format, or a tar.",
            Action("fix", label=f"`pg_restore --file=plain.sql {path}`, and name plain.sql instead"),
        )
    if head.startswith(_PACKED):
        raise SourceUnusable(f"{path} is packed.", Action("fix", label="Unpack it, and name what was in there"))
    if head.startswith(_UTF16):
        raise SourceUnusable(
            f"{path} is written in UTF-16, as PowerShell's > does.",
            Action("fix", label="Have the dump program write the file itself: pg_dump --file, mysqldump --result-file"),
        )
    if dump_postgres.HEAD_OF_ALL in head:
        raise SourceUnusable(
            f"{path} is a dump of all databases of a server.", Action("fix", label="Dump the one with pg_dump")
        )
    if dump_postgres.HEAD in head or b"\nSET statement_timeout" in head:
        return "postgres"
    if any(mark in head for mark in dump_mysql.HEADS) or b"\nCREATE TABLE `" in head or b"\nINSERT INTO `" in head:
        return "mysql"
    if head.removeprefix(BOM).lstrip().startswith(b"{"):
        return "json"
    raise SourceUnusable(
        f"{path} is neither a database of SQLite nor a plain dump of PostgreSQL, MariaDB or MySQL.",
        Action("fix", label="Make a dump with pg_dump, mariadb-dump or mysqldump"),
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cut(value: str | None) -> str | None:
    if value is None or (value.isascii() and len(value) <= MAX_VALUE_CHARS):
        return value
    return value[:MAX_VALUE_CHARS].encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates
