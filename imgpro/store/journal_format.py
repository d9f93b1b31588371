"""How the journal of metadata lies on the disk: names of its files, their first lines, and lines that prove themselves.

A line is a JSON array whose first element is the CRC-32 of the rest as it is written:
`["5e3b0c7a","put","images",[17,"Ab3…",…]]`, `["…","del","images",[17]]`. Knows neither tables nor the database.
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

FORMAT: Final = 1
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
_NAME: Final = re.compile(r"(\d{8})(-snapshot)?\.jsonl")
_FRAME: Final = re.compile(rb'\["([0-9a-f]{8})",(.*)\]', re.DOTALL)

# How a file follows what came before it: after nothing, right after the file before, or after changes that were not
# written down.
Begins = Literal["empty", "next", "gap"]


class Header(msgspec.Struct, frozen=True):
    """The first line of a file. `number` is that of the tail, or of the tail that a snapshot is followed by.

    `columns` are those of each table's rows. `sequences` are the highest numbers that were ever given, `meta` is what
    the database said of itself. `before_bytes` is how long the tail before this one was when it ended.
    """

    format: int
    kind: Literal["snapshot", "tail"]
    number: int
    schema: int
    instance: str
    written_ms: int
    begins: Begins
    columns: dict[str, tuple[str, ...]]
    sequences: dict[str, int]
    meta: dict[str, str]
    before_bytes: int = 0


class Files(msgspec.Struct, frozen=True):
    """What lies in a journal's directory: complete snapshots and tails by number, and what broken-off work left."""

    snapshots: dict[int, Path]
    tails: dict[int, Path]
    partial: tuple[Path, ...]

    @property
    def highest(self) -> int:
        """The highest number in use; 0 if there is none."""
        return max((*self.snapshots, *self.tails), default=0)

    def numbered(self, low: int, high: int) -> list[Path]:
        """Return the files numbered from `low` to below `high`."""
        every = [*self.snapshots.items(), *self.tails.items()]
        return [path for number, path in every if low <= number < high]


def tail_name(number: int) -> str:
    """Return the name of a tail."""
    return f"{number:08}.jsonl"


def snapshot_name(number: int) -> str:
    """Return the name of the snapshot that the tail of this number follows."""
    return f"{number:08}-snapshot.jsonl"


def listed(folder: Path) -> Files:
    """Look into a journal's directory. Raises OSError."""
    snapshots: dict[int, Path] = {}
    tails: dict[int, Path] = {}
    partial: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            (snapshots if match[2] else tails)[int(match[1])] = path
        elif path.name.endswith(".partial"):
            partial.append(path)
    return Files(snapshots, tails, tuple(partial))


def is_there(folder: Path) -> bool:
    """Tell whether there is anything to rebuild from. Raises OSError."""
    found = listed(folder)
    return bool(found.snapshots or found.tails)


def framed(payload: bytes) -> bytes:
    """Return the line for a payload, which is the inside of a JSON array."""
    return b'["%08x",%b]\n' % (zlib.crc32(payload), payload)


def header_line(header: Header) -> bytes:
    """Return a file's first line."""
    return framed(b'"imgpro-journal",' + msgspec.json.encode(header))


def put(table: str, row: str) -> bytes:
    """Return the line for a row, given as a JSON array."""
    return framed(f'"put","{table}",{row}'.encode())


def removed(table: str, key: tuple[Any, ...]) -> bytes:
    """Return the line for a row that is gone."""
    return framed(f'"del","{table}",'.encode() + msgspec.json.encode(key))


def ended(lines: int) -> bytes:
    """Return the last line of a snapshot, which says how many rows there are before it."""
    return framed(b'"end",%d' % lines)


def opened(line: bytes) -> list[Any] | None:
    """Return what a line says without its checksum; None if it is not what was written."""
    match = _FRAME.fullmatch(line)
    if match is None or int(match[1], 16) != zlib.crc32(match[2]):
        return None
    try:
        found = msgspec.json.decode(b"[" + match[2] + b"]")
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, list) else None


def header_of(content: list[Any] | None) -> Header | None:
    """Return the header that a first line holds; None if it holds none of this format."""
    if content is None or len(content) != 2 or content[0] != "imgpro-journal":
        return None
    try:
        header = msgspec.convert(content[1], Header)
    except msgspec.ValidationError:
        return None
    return header if header.format == FORMAT else None


def read_header(path: Path) -> Header | None:
    """Return a file's header; None if it is broken or of another format. Raises OSError."""
    with path.open("rb") as file:
        return header_of(opened(file.readline(MAX_LINE_BYTES).rstrip(b"\n")))


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, from 1. What no end of line follows is yielded as well; it will not prove itself
    if it was torn.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        yield number, line.rstrip(b"\n")
