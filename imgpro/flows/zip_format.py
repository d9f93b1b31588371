"""The bytes of a ZIP file around stored files (PKWARE APPNOTE 6.3.10), without compression.

Sizes and checksum stand before each file, where every unpacker finds them, and no data descriptor follows it: some
unpackers that read a stream refuse those with stored files. Names are UTF-8 and say so. ZIP64 fields appear where
offsets or the number of files need them; a single file is below 4 GiB.
"""

import struct
import time
from typing import Final

import msgspec

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64: Final = struct.Struct("<4sLQL")
_TIME: Final = struct.Struct("<2HBl")  # "UT": the time in UTC, which the field of MS-DOS does not say

_NEEDS: Final = 20  # version 2.0: folders
_NEEDS_64: Final = 45
_MADE_BY: Final = 3 << 8 | _NEEDS_64  # Unix: the mode below is understood
_UTF_8: Final = 1 << 11
_MODE: Final = 0o100644 << 16
_MAX_16: Final = 0xFFFF
_MAX_32: Final = 0xFFFF_FFFF
_FIRST_S: Final = 315_619_200  # 2 January 1980: within MS-DOS's years in every time zone
_LAST_S: Final = 2_147_000_000


class Stored(msgspec.Struct, frozen=True):
    """One file: its path within the archive, its bytes, CRC-32 and time (Unix seconds)."""

    path: str
    size: int
    crc: int
    at_s: int


def local_header(file: Stored) -> bytes:
    """Return what stands before the bytes of a file."""
    name = file.path.encode()
    sizes = (file.crc, file.size, file.size)
    day, moment = _dos_time(file.at_s)
    head = _LOCAL.pack(b"PK\3\4", _NEEDS, _UTF_8, 0, moment, day, *sizes, len(name), _TIME.size)
    return head + name + _time(file.at_s)


def directory_entry(file: Stored, offset: int) -> bytes:
    """Return a file's line in the directory; `offset` is where its local header begins."""
    name = file.path.encode()
    sizes = (file.crc, file.size, file.size)
    day, moment = _dos_time(file.at_s)
    far = struct.pack("<2HQ", 1, 8, offset) if offset >= _MAX_32 else b""
    extra = far + _time(file.at_s)
    needs = _NEEDS_64 if far else _NEEDS
    head = _CENTRAL.pack(
        *(b"PK\1\2", _MADE_BY, needs, _UTF_8, 0, moment, day, *sizes, len(name), len(extra)),
        *(0, 0, 0, _MODE, min(offset, _MAX_32)),
    )
    return head + name + extra


def end(files: int, offset: int, size: int, *, wide: bool) -> bytes:
    """Return what ends an archive of so many files, whose directory begins at `offset` and has `size` bytes.

    `wide` as `is_wide` said of the whole.
    """
    records = b""
    if wide:
        head = (b"PK\6\6", _END_64.size - 12, _MADE_BY, _NEEDS_64, 0, 0)
        records = _END_64.pack(*head, files, files, size, offset) + _LOCATOR_64.pack(b"PK\6\7", 0, offset + size, 1)
    count = min(files, _MAX_16)
    return records + _END.pack(b"PK\5\6", 0, 0, count, count, min(size, _MAX_32), min(offset, _MAX_32), 0)


def is_wide(files: int, length: int) -> bool:
    """Tell whether an archive of so many files and bytes needs the fields of ZIP64 at its end."""
    return files >= _MAX_16 or length >= _MAX_32


def local_bytes(path: str, size: int) -> int:
    """Return how long a file with its local header is."""
    return _LOCAL.size + len(path.encode()) + _TIME.size + size


def entry_bytes(path: str, offset: int) -> int:
    """Return how long a file's line in the directory is."""
    return _CENTRAL.size + len(path.encode()) + _TIME.size + (12 if offset >= _MAX_32 else 0)


def _time(at_s: int) -> bytes:
    return _TIME.pack(0x5455, 5, 1, _within(at_s))


def _dos_time(at_s: int) -> tuple[int, int]:
    """Return the date and time fields: local time, as programs that know only these show it."""
    at = time.localtime(_within(at_s))
    return (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday, at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2


def _within(at_s: int) -> int:
    return min(max(at_s, _FIRST_S), _LAST_S)
