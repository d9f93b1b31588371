"""Makes PNG of QOI, a format that Picsur keeps pictures in and no browser shows. Knows nothing else.

https://qoiformat.org/qoi-specification.pdf
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

_MAGIC: Final = b"qoif"
_HEADER: Final = struct.Struct(">4sIIBB")
_MAX_PIXELS: Final = 100_000_000
_MAX_BYTES: Final = 256 * 1024 * 1024
_END_BYTES: Final = 8
_MOST_BYTES: Final = 5  # for one pixel
_SUB: Final = b"\1"  # PNG's filter "each byte minus the one a pixel to its left"


class QoiBroken(ValueError):
    """It is no QOI, or not whole."""


def png_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a PNG with the same pixels. The QOI is held in memory, the pixels are not. Raises QoiBroken."""
    data = bytearray()
    limit = _MAX_BYTES
    for piece in pieces:
        begun = len(data) >= _HEADER.size
        data += piece
        if not begun and len(data) >= _HEADER.size:
            limit = min(limit, _longest(data))
        if len(data) > limit:
            raise QoiBroken("It is too large.")
    if len(data) < _HEADER.size + _END_BYTES:
        raise QoiBroken("It ends too early.")
    _, width, height, channels, _ = _HEADER.unpack_from(data)
    yield b"\x89PNG\r\n\x1a\n"
    yield _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0))
    packer = zlib.compressobj(6)
    pixels = _Pixels(data, channels)
    for _ in range(height):
        if packed := packer.compress(_SUB + _differences(pixels.next(width), channels)):
            yield _chunk(b"IDAT", packed)
    yield _chunk(b"IDAT", packer.flush())
    yield _chunk(b"IEND", b"")


def _longest(data: bytearray) -> int:
    """Return how many bytes a QOI with this header has at most. Raises QoiBroken."""
    magic, width, height, channels, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or channels not in (3, 4) or not width or not height:
        raise QoiBroken("It is no QOI.")
    if width * height > _MAX_PIXELS:
        raise QoiBroken("It has too many pixels.")
    return int(_HEADER.size + width * height * _MOST_BYTES + _END_BYTES)


class _Pixels:
    """Unpacks pixels, some at a time."""

    def __init__(self, data: bytearray, channels: int) -> None:
        self._data = data
        self._channels = channels
        self._at = _HEADER.size
        self._seen = [b"\0\0\0\0"] * 64
        self._last = (0, 0, 0, 255)
        self._out = bytearray()

    def next(self, count: int) -> bytes:
        """Return the next pixels. Raises QoiBroken where there are no more."""
        size = count * self._channels
        self._unpack(size)
        found = bytes(self._out[:size])
        del self._out[:size]
        return found

    def _unpack(self, size: int) -> None:
        """Fill `_out` up to `size` bytes. A call for each pixel would take longer than all the rest."""
        data, at, seen, out, channels = self._data, self._at, self._seen, self._out, self._channels
        red, green, blue, alpha = self._last
        stop = len(data) - _END_BYTES  # behind it stand enough bytes that an op which is cut short reads no further
        while len(out) < size:
            if at >= stop:
                raise QoiBroken("It ends too early.")
            op, run = data[at], 1
            at += 1
            if op >= 0xFE:
                red, green, blue = data[at], data[at + 1], data[at + 2]
                alpha = data[at + 3] if op == 0xFF else alpha
                at += op - 0xFB
            elif op >= 0xC0:
                run = (op & 63) + 1
            elif op >= 0x80:
                lead, second = (op & 63) - 32, data[at]
                at += 1
                red = (red + lead + (second >> 4) - 8) & 255
                green = (green + lead) & 255
                blue = (blue + lead + (second & 15) - 8) & 255
            elif op >= 0x40:
                red = (red + ((op >> 4) & 3) - 2) & 255
                green = (green + ((op >> 2) & 3) - 2) & 255
                blue = (blue + (op & 3) - 2) & 255
            else:
                red, green, blue, alpha = seen[op]
            pixel = bytes((red, green, blue, alpha))
            seen[(red * 3 + green * 5 + blue * 7 + alpha * 11) & 63] = pixel
            out += pixel[:channels] * run
        self._at, self._last = at, (red, green, blue, alpha)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _differences(row: bytes, channels: int) -> bytes:
    """Return each byte minus that of the pixel before, all at once as one long number."""
    size = len(row)
    high = int.from_bytes(b"\x80" * size, "little")
    here = int.from_bytes(row, "little")
    before = int.from_bytes(bytes(channels) + row[:-channels], "little")
    return (((here | high) - (before & ~high)) ^ ((here ^ ~before) & high)).to_bytes(size, "little")
