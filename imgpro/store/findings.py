"""What a long look at the data has found: any number of lines in a file, so that memory does not grow with them."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from imgpro.ids import random_base62
from imgpro.store import durable

_BATCH: Final = 256


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One disagreement: of what kind, where, and what it is. `done` says what was done about it, `todo` what is to do.

    `pictures` are ids and names of some pictures that it is about, `count` how many those are.
    """

    kind: str
    where: str
    what: str
    done: str = ""
    todo: str = ""
    count: int = 0
    pictures: tuple[tuple[str, str], ...] = ()

    @property
    def left(self) -> bool:
        """Tell whether it is still there."""
        return not self.done


class Findings:
    """Writes lines to a file in `tmp/`, for the length of an `async with`. Whoever asked reads and removes it; a start
    removes what is left over."""

    def __init__(self, tmp: Path) -> None:
        self.path = tmp / f"findings-{random_base62(12)}"
        self.kinds: Counter[str] = Counter()
        self.left = 0
        self._lines: list[bytes] = []

    async def __aenter__(self) -> Self:
        await self._write()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await asyncio.to_thread(self.path.unlink, missing_ok=True)

    async def add(self, finding: Finding) -> None:
        """Write one down. Raises StorageFault, StorageFull."""
        self.kinds[finding.kind] += 1
        self.left += finding.left
        self._lines.append(msgspec.json.encode(finding) + b"\n")
        if len(self._lines) >= _BATCH:
            await self._write()

    async def result(self, **more: Any) -> dict[str, Any]:
        """Return what an errand answers: how many there are, how many are left, and where the lines are."""
        await self._write()
        return {"findings": str(self.path), "found": self.kinds.total(), "left": self.left, "kinds": self.kinds, **more}

    async def _write(self) -> None:
        lines, self._lines = self._lines, []
        try:
            await asyncio.to_thread(_append, self.path, b"".join(lines))
        except OSError as error:
            raise durable.write_fault(error, "writing down what was found") from error


def _append(path: Path, lines: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        durable.write_all(fd, lines)
    finally:
        os.close(fd)


def read_findings(path: Path) -> Iterator[Finding]:
    """Yield what was written down, and remove the file in the end. Raises OSError."""
    try:
        with path.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=Finding)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
