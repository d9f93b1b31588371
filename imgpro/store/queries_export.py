"""The pictures of an export, page by page, read from a database that a server may be writing to.

Each page is a short look of its own: nothing keeps the server from checkpoints, and nothing is made beside it.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from imgpro.errors import Action, DataUnusable, OperatorError
from imgpro.model import Image, OldLink
from imgpro.store import peek, schema
from imgpro.store.queries import IMAGE_COLUMNS, image_of

_FIX: Final = Action("fix", label="`imgpro check` says what is wrong with it")


class Wanted(msgspec.Struct, frozen=True):
    """Which pictures. `accounts` are rows; None: of anybody."""

    accounts: tuple[int, ...] | None = None
    public_only: bool = False
    namespace: str | None = None
    tag: str | None = None


class Place(msgspec.Struct, frozen=True):
    """Where in the order of pictures, the oldest first, a page ends."""

    created_ms: int = 0
    seq: int = 0


class Row(msgspec.Struct, frozen=True):
    """A picture, the id and mail address of its account, and the paths that it had elsewhere."""

    place: Place
    image: Image
    account_id: str | None
    email: str | None
    old_links: tuple[OldLink, ...]


class Pictures:
    """Reads the pictures of a database. Its methods block."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def check(self) -> None:
        """Raise DataUnusable where this program does not know the schema, StorageFault where it cannot be read."""
        supported = schema.packaged_migrations()[-1].version
        found = int(self._look("PRAGMA user_version", ())[0][0])
        if found > supported:
            raise DataUnusable(
                f"{self._database} was written by a newer imgpro (schema {found}; this one knows {supported}).",
                Action("fix", label="Use that version of imgpro, or a newer one"),
            )
        if found < supported:
            raise DataUnusable(
                f"{self._database} was written by an older imgpro (schema {found}; this one needs {supported}).",
                Action("fix", label="Start the server of this version once: it migrates the database"),
            )

    def account(self, email: str) -> int:
        """Return the row of an account. Raises OperatorError where there is none such."""
        rows = self._look("SELECT seq FROM accounts WHERE email = ? AND leaving_ms IS NULL", (email,))
        if not rows:
            raise OperatorError(
                f"There is no account {email}.", Action("fix", label="`imgpro accounts list` shows all of them")
            )
        return int(rows[0][0])

    def page(self, wanted: Wanted, after: Place, limit: int) -> list[Row]:
        """Return the next pictures after a place, the oldest first; not those that have ended or are being deleted."""
        where, values = _condition(wanted)
        sql = (
            f"SELECT i.seq, a.id, a.email, {IMAGE_COLUMNS} FROM images i JOIN blobs b ON b.seq = i.blob "
            "LEFT JOIN accounts a ON a.seq = i.account "
            f"WHERE (i.created_ms, i.seq) > (?, ?) AND (i.expires_ms IS NULL OR i.expires_ms > ?) "
            f"AND a.leaving_ms IS NULL {where} "
            "ORDER BY i.created_ms, i.seq LIMIT ?"
        )
        now_ms = int(time.time() * 1000)
        rows = self._look(sql, (after.created_ms, after.seq, now_ms, *values, limit))
        links = self._links([row[0] for row in rows])
        return [
            Row(Place(image.created_ms, row[0]), image, row[1], row[2], tuple(links.get(row[0], ())))
            for row, image in ((row, image_of(tuple(row[3:]))) for row in rows)
        ]

    def has(self, image_id: str) -> bool:
        """Tell whether a picture is still there."""
        return bool(self._look("SELECT 1 FROM images WHERE id = ?", (image_id,)))

    def _links(self, seqs: Sequence[int]) -> dict[int, list[OldLink]]:
        if not seqs:
            return {}
        found: dict[int, list[OldLink]] = {}
        marks = ", ".join("?" * len(seqs))
        sql = f"SELECT image, path, leads_to FROM old_links WHERE image IN ({marks}) ORDER BY path"
        for image, path, leads_to in self._look(sql, tuple(seqs)):
            found.setdefault(image, []).append(OldLink(path, leads_to))
        return found

    def _look(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with peek.looking(self._database) as conn:
                return conn.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise DataUnusable(f"{self._database} cannot be read: {error}.", _FIX) from error
        except OSError as error:
            raise DataUnusable(f"{self._database} cannot be read: {error.strerror or error}.", _FIX) from error


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    if wanted.accounts is not None:
        parts.append(f"AND i.account IN ({', '.join('?' * len(wanted.accounts))})")
        values += wanted.accounts
    if wanted.public_only:
        parts.append("AND i.public = 1")
    if wanted.namespace is not None:
        parts.append("AND i.namespace = ?")
        values.append(wanted.namespace)
    if wanted.tag is not None:
        parts.append("AND EXISTS (SELECT 1 FROM image_tags t WHERE t.image = i.seq AND t.tag = ?)")
        values.append(wanted.tag)
    return " ".join(parts), values
