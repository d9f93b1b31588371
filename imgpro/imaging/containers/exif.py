"""Reads the few facts that matter from an EXIF block, and writes the smallest one that keeps the orientation.

Knows nothing of the container that carries the block. Never raises: an EXIF block that cannot be read has
nothing to say.
"""

import struct
from typing import Final, NamedTuple

_ORIENTATION: Final = 0x0112
_THUMBNAIL_OFFSET: Final = 0x0201
_EXIF_IFD: Final = 0x8769
_GPS_IFD: Final = 0x8825
_MAKER_NOTE: Final = 0x927C
_GPS_VERSION: Final = 0x0000
_MAX_ENTRIES: Final = 1_000
_ORIGINAL, _ORIGINAL_OFFSET, _TIME_BYTES, _OFFSET_BYTES = 0x9003, 0x9011, 19, 6
_DIGITIZED, _DIGITIZED_OFFSET = 0x9004, 0x9012

_Entries = dict[int, tuple[int, int]]  # tag -> TIFF type, offset of its value field


class ExifFacts(NamedTuple):
    """What an EXIF block holds. `orientation` is 1-8; anything else that stood there counts as 1."""

    orientation: int = 1
    has_gps: bool = False
    has_thumbnail: bool = False
    has_maker_note: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of private data that go when this block goes."""
        found = (("gps", self.has_gps), ("thumbnail", self.has_thumbnail), ("maker_data", self.has_maker_note))
        return ("exif", *(kind for kind, there in found if there))


def read(tiff: bytes | memoryview) -> ExifFacts:
    """Read a TIFF block, with or without the `Exif\\0\\0` that some writers put before it."""
    if bytes(tiff[:6]) == b"Exif\0\0":
        tiff = tiff[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None or len(tiff) < 8:
        return ExifFacts()
    main, next_ifd = _entries(tiff, order, _u32(tiff, order, 4))
    exif, _ = _entries(tiff, order, _pointer(tiff, order, main, _EXIF_IFD))
    gps, _ = _entries(tiff, order, _pointer(tiff, order, main, _GPS_IFD))
    thumbnail, _ = _entries(tiff, order, next_ifd)
    return ExifFacts(
        orientation=_orientation(tiff, order, main),
        has_gps=bool(gps.keys() - {_GPS_VERSION}),  # cameras without a fix write the version alone
        has_thumbnail=_THUMBNAIL_OFFSET in thumbnail,
        has_maker_note=_MAKER_NOTE in exif or _MAKER_NOTE in main,
    )


def taken(tiff: bytes | memoryview) -> str:
    """Return when the picture was taken, as "2024:05:01 12:30:10", with "+02:00" behind it where that is known.

    "" where the block does not say.
    """
    if bytes(tiff[:6]) == b"Exif\0\0":
        tiff = tiff[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None:
        return ""
    main, _ = _entries(tiff, order, _u32(tiff, order, 4))
    found, _ = _entries(tiff, order, _pointer(tiff, order, main, _EXIF_IFD))
    for time, offset in ((_ORIGINAL, _ORIGINAL_OFFSET), (_DIGITIZED, _DIGITIZED_OFFSET)):
        if text := _ascii(tiff, order, found, time, _TIME_BYTES):
            return text + _ascii(tiff, order, found, offset, _OFFSET_BYTES)
    return ""


def minimal(orientation: int) -> bytes:
    """Return the TIFF block (26 bytes) that holds `orientation` (1-8) and nothing else."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def xmp_has_gps(packet: bytes | memoryview) -> bool:
    """Tell whether an XMP packet names a position."""
    return b"GPSLatitude" in bytes(packet)


def _u32(tiff: bytes | memoryview, order: str, at: int) -> int:
    return int(struct.unpack_from(f"{order}I", tiff, at)[0]) if 0 <= at <= len(tiff) - 4 else 0


def _entries(tiff: bytes | memoryview, order: str, at: int) -> tuple[_Entries, int]:
    """Read the directory at `at`: its entries, the first of each tag, and the offset of the next directory."""
    if not 8 <= at <= len(tiff) - 2:
        return {}, 0
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    found: _Entries = {}
    for entry in range(at + 2, at + 2 + 12 * min(count, _MAX_ENTRIES), 12):
        if entry + 12 > len(tiff):
            break
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        found.setdefault(tag, (kind, entry + 8))
    return found, _u32(tiff, order, at + 2 + 12 * count)


def _pointer(tiff: bytes | memoryview, order: str, entries: _Entries, tag: int) -> int:
    return _u32(tiff, order, entries[tag][1]) if tag in entries else 0


def _orientation(tiff: bytes | memoryview, order: str, entries: _Entries) -> int:
    kind, at = entries.get(_ORIENTATION, (0, 0))
    if kind == 3:  # SHORT, as the standard has it
        (value,) = struct.unpack_from(f"{order}H", tiff, at)
    else:
        value = _u32(tiff, order, at) if kind == 4 else 1  # LONG: seen from careless writers, honoured by viewers
    return value if 1 <= value <= 8 else 1


def _ascii(tiff: bytes | memoryview, order: str, entries: _Entries, tag: int, length: int) -> str:
    """Return the first characters of a text that does not fit into its field."""
    at = _pointer(tiff, order, entries, tag)
    kind, _ = entries.get(tag, (0, 0))
    text = bytes(tiff[at : at + length]) if kind == 2 and 0 < at <= len(tiff) - length else b""
    return text.decode("ascii", "replace").strip("\0 ")
