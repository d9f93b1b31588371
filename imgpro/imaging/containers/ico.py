"""Windows icons: a directory of pictures, each PNG or a bitmap without its file header.

Every picture is judged by its own header, because the sizes in the directory are a single byte each and often
wrong. Knows how Pillow chooses the picture it shows; decodes nothing.
"""

import math
import struct
from typing import Final

import msgspec

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers import bmp, png
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_DIRECTORY_BYTES: Final = 6
_ENTRY_BYTES: Final = 16
_MAX_ENTRIES: Final = 64
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_ALPHA_BITS: Final = 32


class _Entry(msgspec.Struct, kw_only=True, frozen=True):
    """One picture of an icon: its true facts, its cleaned bytes, and its 16 bytes in the directory as they were."""

    width: int
    height: int
    bits: int
    offset: int
    end: int  # where the bytes that belong to the picture end; at most the end the directory names
    has_alpha: bool
    has_icc: bool
    removed: tuple[str, ...]
    parts: tuple[bytes | memoryview, ...]
    listed: bytes

    @property
    def directory_bytes(self) -> bytes:
        """The first eight bytes of the directory entry that this picture ought to have."""
        sides = bytes(side if side < 256 else 0 for side in (self.width, self.height))
        return sides + self.listed[2:3] + b"\x00" + self.listed[4:6] + struct.pack("<H", self.bits)


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge an ICO file; see `imgpro.imaging.examine.examine` for what is raised."""
    listed = _directory(data)
    entries: list[_Entry] = []
    seen: dict[tuple[int, int], _Entry] = {}
    pixels = 0
    for line in listed:
        entry = _read_entry(data, line, limits, seen)
        pixels += entry.width * entry.height
        if pixels > limits.max_pixels:
            raise ImageTooLarge("The pictures of the icon are too large together.")
        entries.append(entry)
    removed = _foreign(data, entries)
    shown = _shown(entries)
    probe = Probe(
        format="ico", width=shown.width, height=shown.height, has_alpha=shown.has_alpha, has_icc=shown.has_icc
    )
    truthful = all(entry.directory_bytes == entry.listed[:8] for entry in entries)
    if not removed and truthful:
        return Examined(probe=probe)
    return Examined(probe=probe, removed=removed, parts=_rebuilt(entries))


def _directory(data: memoryview) -> list[bytes]:
    if len(data) < _DIRECTORY_BYTES:
        raise ImageBroken("The icon ends inside its directory.")
    reserved, kind, count = struct.unpack_from("<HHH", data)
    if reserved != 0 or kind != 1:
        raise UnsupportedFormat("This is not a Windows icon.")
    if not count:
        raise ImageBroken("The icon holds no picture.")
    if count > _MAX_ENTRIES:
        raise ImageTooLarge(f"An icon may hold at most {_MAX_ENTRIES} pictures.")
    if len(data) < _DIRECTORY_BYTES + count * _ENTRY_BYTES:
        raise ImageBroken("The icon ends inside its directory.")
    starts = range(_DIRECTORY_BYTES, _DIRECTORY_BYTES + count * _ENTRY_BYTES, _ENTRY_BYTES)
    listed = [bytes(data[start : start + _ENTRY_BYTES]) for start in starts]
    _check_places(listed, starts.stop)
    return listed


def _check_places(listed: list[bytes], at: int) -> None:
    """Refuse pictures that overlap, before any is looked at: reading one 64 times would be no better than a bomb."""
    for offset, length in sorted({struct.unpack_from("<II", line, 8)[::-1] for line in listed}):
        if offset < at:
            raise ImageBroken("The pictures of the icon overlap.")
        at = offset + length


def _read_entry(data: memoryview, listed: bytes, limits: Limits, seen: dict[tuple[int, int], _Entry]) -> _Entry:
    length, offset = struct.unpack_from("<II", listed, 8)
    known = seen.get((offset, length))
    if known is not None:  # two lines of the directory may name the same picture
        return msgspec.structs.replace(known, listed=listed)
    if offset + length > len(data):
        raise ImageBroken("A picture of the icon lies outside the file.")
    body = data[offset : offset + length]
    read = _read_png if bytes(body[:8]) == _PNG_MAGIC else _read_bitmap
    seen[offset, length] = entry = read(body, offset, listed, limits)
    return entry


def _read_png(body: memoryview, offset: int, listed: bytes, limits: Limits) -> _Entry:
    examined = png.examine(body, limits)
    probe = examined.probe
    (bits,) = struct.unpack_from("<H", listed, 6)
    return _Entry(
        width=probe.width,
        height=probe.height,
        bits=bits,
        offset=offset,
        end=offset + len(body),
        has_alpha=probe.has_alpha,
        has_icc=probe.has_icc,
        removed=examined.removed,
        parts=(body,) if examined.parts is None else examined.parts,
        listed=listed,
    )


def _read_bitmap(body: memoryview, offset: int, listed: bytes, limits: Limits) -> _Entry:
    """Read colour rows followed by rows of a one-bit mask; the header counts the rows of both."""
    if len(body) < 40:
        raise ImageBroken("A picture of the icon ends inside its header.")
    if struct.unpack_from("<I", body)[0] != 40:
        raise UnsupportedFormat("The icon holds a picture that is neither PNG nor a plain bitmap.")
    bitmap = bmp.read_header(body)
    if bitmap.compression or bitmap.top_down or bitmap.height % 2:
        raise ImageBroken("A picture of the icon is not a plain bitmap with its mask.")
    width, height = bitmap.width, bitmap.height // 2
    bmp.check_size(width, height, limits)
    colors_end = bitmap.pixels_at + bitmap.row_bytes * height
    end = colors_end + (width + 31) // 32 * 4 * height
    if len(body) < end:
        if bitmap.bits != _ALPHA_BITS or len(body) < colors_end:
            raise ImageBroken("A picture of the icon ends before its last row.")
        end = colors_end  # its own alpha channel makes the mask dispensable
    return _Entry(
        width=width,
        height=height,
        bits=bitmap.bits,
        offset=offset,
        end=offset + end,
        has_alpha=True,
        has_icc=False,
        removed=(),
        parts=(body[:end],),
        listed=listed,
    )


def _foreign(data: memoryview, entries: list[_Entry]) -> tuple[str, ...]:
    """Name what the pictures held and what lies between and behind them."""
    found = [kind for entry in entries for kind in entry.removed]
    at = _DIRECTORY_BYTES + len(entries) * _ENTRY_BYTES
    gaps = False
    for start, end in sorted({(entry.offset, entry.end) for entry in entries}):
        gaps = gaps or start > at
        at = end
    if gaps:
        found.append("unknown_chunks")
    if at < len(data):
        found.append("trailing_data")
    return tuple(dict.fromkeys(found))


def _shown(entries: list[_Entry]) -> _Entry:
    """Return the picture that Pillow shows: the largest listed one, of those the one listed with fewest colours."""

    def rank(entry: _Entry) -> tuple[int, int]:
        line = entry.directory_bytes
        color_count = line[2]
        depth = entry.bits or (math.ceil(math.log2(color_count)) if color_count else 0) or 256
        return -(line[0] or 256) * (line[1] or 256), depth

    return min(entries, key=rank)


def _rebuilt(entries: list[_Entry]) -> tuple[bytes | memoryview, ...]:
    """Lay out directory and pictures without gaps, with a directory that tells the truth."""
    directory = bytearray(struct.pack("<HHH", 0, 1, len(entries)))
    bodies: list[bytes | memoryview] = []
    placed: dict[int, tuple[int, int]] = {}
    at = _DIRECTORY_BYTES + len(entries) * _ENTRY_BYTES
    for entry in entries:
        if entry.offset not in placed:
            length = sum(len(part) for part in entry.parts)
            placed[entry.offset] = (length, at)
            bodies.extend(entry.parts)
            at += length
        directory += entry.directory_bytes + struct.pack("<II", *placed[entry.offset])
    return (bytes(directory), *bodies)
