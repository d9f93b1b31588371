"""What a look at the data takes for wrong, before anybody has looked a second time; and the connection it uses."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from imgpro.store.layout import blob_path
from imgpro.store.pragmas import READER_PRAGMAS

Mend = Literal[
    "",  # nothing that this program could do
    "reindex",
    "object",  # of the schema: make it again
    "rows",  # that refer to nothing: delete them
    "blob_row",
    "tags",
    "totals",
    "account",
    "namespace",
    "tag",
    "growth",
    "unfindable",
    "text",
    "blob",
    "orphan",
    "mode",
    "stray",
    "derivative",
    "note",
    "quarantine",
    "journal",
    "litter",  # ours, and of no use any more
]
_STEPS: Final = 200_000  # of SQLite between two looks at whether to go on


class Doubt(msgspec.Struct, frozen=True):
    """Something that seems wrong: its kind, where, and what. `mend` names what can be done, `subject` to whom."""

    kind: str
    where: str
    what: str
    mend: Mend = ""
    subject: tuple[Any, ...] = ()
    todo: str = ""  # where neither mending nor a new database is the way


Looked = Iterator[Doubt | int]
"""What a look yields: doubts, and between them how many things it has looked at since it said so last."""


def place_of(digest: str) -> str:
    """Return where a blob lies, as people are told."""
    return f"blobs/{blob_path(digest)}"


def connect(path: Path, stop: threading.Event) -> sqlite3.Connection:
    """Open a database for a long look from one thread; statements end with an error once `stop` is set.

    Like the readers of `Database` it cannot checkpoint, and has to be closed before the writer. Raises sqlite3.Error.
    """
    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    for pragma in READER_PRAGMAS:
        conn.execute(pragma).fetchall()
    conn.set_progress_handler(stop.is_set, _STEPS)
    return conn
