"""`index.jsonl` of an export: one picture a line, after a header; enough to have every picture back as it was.

Whoever writes an export and whoever takes one in know it by this module alone. Knows no database and no folder.
"""

import contextlib
from collections.abc import Iterator
from typing import BinaryIO, Final, Literal

import msgspec

from imgpro.errors import Action, DataUnusable
from imgpro.model import OldLink, StoredFormat

INDEX: Final = "index.jsonl"
FORMAT: Final = 1
_ROOM: Final = 64  # bytes of a header that its numbers may grow by until the end is known
_MAX_LINE_BYTES: Final = 4 << 20  # an index that has a longer line is none of ours


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which pictures an export holds. Nothing chosen: all of them. `accounts` are mail addresses.

    Without `addresses` accounts are called by their ids, for an export that strangers are to see.
    """

    accounts: tuple[str, ...] = ()
    public_only: bool = False
    namespace: str | None = None
    tag: str | None = None
    addresses: bool = True


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `instance` is the server that the pictures come from; bytes are those of the pictures."""

    imgpro_export: int = FORMAT
    instance: str
    written_by: str
    written_ms: int
    pictures: int = 0
    bytes: int = 0
    choice: Choice = Choice()


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. `file` is the path of its bytes below the export, with slashes; times are Unix milliseconds.

    `expires_ms` is when the picture ends, `wanted_end_ms` the end that its uploader asked for. `digest` is the BLAKE3
    of the file in lower-case hex; width and height are as displayed. `account` is a mail address; None: uploaded
    without an account. `old_links` are addresses that it had elsewhere and that lead to it.
    """

    id: str
    file: str
    name: str
    description: str = ""
    public: bool
    created_ms: int
    expires_ms: int | None = None
    wanted_end_ms: int | None = None
    display_date: str | None = None
    account: str | None = None
    namespace: str | None = None
    tags: tuple[str, ...] = ()
    digest: str
    format: StoredFormat
    bytes: int
    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False
    origin: Literal["upload", "import"] = "upload"
    metadata_removed: tuple[str, ...] = ()
    old_links: tuple[OldLink, ...] = ()


_as_header: Final = msgspec.json.Decoder(Header)
_as_exported: Final = msgspec.json.Decoder(Exported)
_as_version: Final = msgspec.json.Decoder(dict[str, object])


def line_of(value: Header | Exported) -> bytes:
    """Return a line with its end."""
    return msgspec.json.encode(value) + b"\n"


def header_line(header: Header, length: int = 0) -> bytes:
    """Return the line of a header, filled up with spaces: to `length` bytes, else so that its numbers may grow."""
    text = msgspec.json.encode(header)
    return text.ljust(length - 1 if length else len(text) + _ROOM) + b"\n"


def read_header(line: bytes, where: str) -> Header:
    """Read the first line of an index that lies at `where`. Raises DataUnusable for what is none of ours, or newer."""
    try:
        version = _as_version.decode(line).get("imgpro_export")
        if isinstance(version, int) and version > FORMAT:
            raise DataUnusable(
                f"{where} was written by a newer imgpro (format {version}; this one knows {FORMAT}).",
                Action("fix", label="Use that version of imgpro, or a newer one"),
            )
        return _as_header.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataUnusable(f"{where} does not begin as the index of an export does.") from error


def read_index(file: BinaryIO, where: str) -> tuple[Header, Iterator[Exported]]:
    """Return the header of an index, open for reading, and what gives its pictures one by one.

    Raises DataUnusable, also from the iterator: for a line that cannot be read it names the number.
    """
    return read_header(file.readline(_MAX_LINE_BYTES), where), _pictures(file, where)


def salvage(file: BinaryIO, where: str) -> tuple[Header | None, Iterator[Exported]]:
    """Return the same of a file whose writer may have been killed: what cannot be read is passed over.

    Raises DataUnusable for a newer one.
    """
    line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        return None, iter(())
    return read_header(line, where), _readable(file)


def _readable(file: BinaryIO) -> Iterator[Exported]:
    while line := file.readline(_MAX_LINE_BYTES):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield _as_exported.decode(line)


def _pictures(file: BinaryIO, where: str) -> Iterator[Exported]:
    number = 1
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if not line.strip():
            continue
        try:
            yield _as_exported.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataUnusable(
                f"Line {number} of {where} cannot be read: {error}.",
                Action("fix", label="Copy the file again from where the export was made, or remove the line"),
            ) from error
