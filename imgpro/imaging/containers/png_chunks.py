"""The parts of a PNG: a chunk, the header, the image data of a frame, and what may stay of the ancillary chunks.

Knows no order of chunks; that is the walk's.
"""

import struct
import zlib
from typing import Final, NamedTuple

from imgpro.errors import ImageBroken
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.costs import MAX_ICC_BYTES, usable_icc

# colour type -> samples per pixel, allowed bit depths
_COLOUR_TYPES: Final = {
    0: (1, {1, 2, 4, 8, 16}),
    2: (3, {8, 16}),
    3: (1, {1, 2, 4, 8}),
    4: (2, {8, 16}),
    6: (4, {8, 16}),
}
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_STEP_BYTES: Final = 16 * 1024  # deflate grows this to 16 MB at the very most
_SURPLUS_BYTES: Final = 64 * 1024  # what a picture may inflate to beyond its rows: some old encoders do that
_MAX_TEXT_BYTES: Final = 1024 * 1024  # of compressed text that is looked into

_FIXED_LENGTHS: Final = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"pHYs": 9}
_SBIT_LENGTHS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_BKGD_LENGTHS: Final = {0: 2, 2: 6, 3: 1, 4: 2, 6: 6}
_RAW_PROFILES: Final = {b"exif": "exif", b"app1": "exif", b"iptc": "iptc", b"8bim": "iptc", b"xmp": "xmp"}


class Chunk(NamedTuple):
    """One chunk. `start` and `end` are its offsets in the file, with length and checksum."""

    type: bytes
    start: int
    end: int
    body: memoryview

    @property
    def critical(self) -> bool:
        """Whether a decoder that does not know the chunk has to give up."""
        return not self.type[0] & 0x20

    def check(self, data: memoryview) -> None:
        """Raise ImageBroken if the checksum does not fit."""
        stored = int.from_bytes(data[self.end - 4 : self.end], "big")
        if zlib.crc32(data[self.start + 4 : self.end - 4]) != stored:
            raise ImageBroken("The PNG is damaged: a checksum does not fit.")


def chunk_at(data: memoryview, at: int) -> Chunk:
    """Read the chunk at offset `at`. Its checksum is not looked at. Raises ImageBroken if it is not all there."""
    if at + 12 > len(data):
        raise ImageBroken("The PNG ends too early.")
    length, kind = struct.unpack_from(">I4s", data, at)
    if not kind.isalpha() or at + 12 + length > len(data):
        raise ImageBroken("The PNG ends inside a chunk or is damaged.")
    return Chunk(kind, at, at + 12 + length, data[at + 8 : at + 8 + length])


def build(kind: bytes, body: bytes) -> bytes:
    """Return a whole chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


class Header(NamedTuple):
    """IHDR. Sizes in pixels, `depth` in bits per sample."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    @property
    def has_palette(self) -> bool:
        """Whether pixels are indices into PLTE."""
        return self.colour_type == 3

    def inflated_bytes(self, width: int, height: int) -> int:
        """Length of the inflated data of a frame of that size: each row has a filter byte."""
        bits = self.depth * _COLOUR_TYPES[self.colour_type][0]
        if not self.interlaced:
            return height * (1 + -(-width * bits // 8))
        total = 0
        for left, top, across, down in _ADAM7:
            columns, rows = -(-(width - left) // across), -(-(height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * bits // 8))
        return total


def header(body: memoryview) -> Header:
    """Read IHDR. Raises ImageBroken for combinations that the format does not have."""
    if len(body) != 13:
        raise ImageBroken("The PNG's header is not valid.")
    width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    known = colour_type in _COLOUR_TYPES and depth in _COLOUR_TYPES[colour_type][1]
    if not known or compression or filtering or interlace > 1:
        raise ImageBroken("The PNG's header is not valid.")
    return Header(width, height, depth, colour_type, interlace == 1)


class Rows:
    """The inflated bytes of one frame, counted as they come and not kept."""

    def __init__(self, expected_bytes: int) -> None:
        self._expected = expected_bytes
        self._count = 0
        self._stream = zlib.decompressobj()

    @property
    def ended(self) -> bool:
        """Whether the compressed stream has come to its end, wherever that was."""
        return self._stream.eof

    def feed(self, body: memoryview) -> int:
        """Inflate `body`; return how many bytes of it belong to the stream, which may end inside."""
        for at in range(0, len(body), _STEP_BYTES):
            step = body[at : at + _STEP_BYTES]
            try:
                self._count += len(self._stream.decompress(step))
            except zlib.error:
                raise ImageBroken("The PNG's image data is damaged.") from None
            if self._count > self._expected + _SURPLUS_BYTES:
                raise ImageBroken("The PNG holds more image data than its size says.")
            if self._stream.eof:
                return at + len(step) - len(self._stream.unused_data)
        return len(body)

    def check_whole(self) -> None:
        """Raise ImageBroken if rows are missing or the stream has no end."""
        if not self._stream.eof or self._count < self._expected:
            raise ImageBroken("The PNG is cut off: rows are missing.")


def ancillary(chunk: Chunk, ihdr: Header, palette_entries: int) -> bytes | memoryview | None:
    """Return what stays of an ancillary chunk's body: all of it, a shortened copy, or None if it has to go."""
    length = len(chunk.body)
    if chunk.type == b"iCCP":
        return _profile(chunk.body)
    if chunk.type == b"tRNS":
        fits = {0: length == 2, 2: length == 6, 3: 0 < length <= palette_entries}.get(ihdr.colour_type, False)
    elif chunk.type == b"hIST":
        fits = ihdr.has_palette and 0 < length == 2 * palette_entries
    elif chunk.type == b"sBIT":
        fits = length == _SBIT_LENGTHS[ihdr.colour_type]
    elif chunk.type == b"bKGD":
        fits = length == _BKGD_LENGTHS[ihdr.colour_type]
    else:
        fits = length == _FIXED_LENGTHS.get(chunk.type)
    return chunk.body if fits else None


def _profile(body: memoryview) -> bytes | memoryview | None:
    """Check an ICC profile by inflating it, within bounds; cut off what stands behind its compressed stream."""
    head = bytes(body[:81])
    start = head.find(b"\0") + 2
    if not 3 <= start <= 81 or head[start - 1 : start] != b"\0":
        return None
    profile, rest = _inflate(body[start:], MAX_ICC_BYTES)
    if profile is None or not usable_icc(profile):
        return None
    return body if not rest else bytes(body[: len(body) - rest])


def _inflate(stream: bytes | memoryview, most_bytes: int) -> tuple[bytes | None, int]:
    """Inflate a whole stream of at most `most_bytes`, else None; and the number of bytes behind its end."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(stream, most_bytes + 1)
    except zlib.error:
        return None, 0
    if not inflater.eof or len(plain) > most_bytes:
        return None, 0
    return plain, len(inflater.unused_data)


def text_kinds(chunk: Chunk, inflating: bool) -> tuple[str, ...]:
    """Name what a tEXt, zTXt or iTXt chunk holds: plain text, or one of the profiles that are hidden in such.

    Without `inflating` a compressed profile is named and not looked into.
    """
    keyword, _, rest = bytes(chunk.body).partition(b"\0")
    if keyword == b"XML:com.adobe.xmp":
        packet = rest[2:].split(b"\0", 2)[-1]
        if rest[:1] == b"\1":
            packet = (_inflate(packet, _MAX_TEXT_BYTES)[0] if inflating else None) or b""
        return ("xmp", "gps") if exif.xmp_has_gps(packet) else ("xmp",)
    kind = _RAW_PROFILES.get(keyword.lower().removeprefix(b"raw profile type "), "text")
    if kind == "exif":
        if not inflating:
            return ("exif",)
        text = rest if chunk.type == b"tEXt" else _inflate(rest[1:], _MAX_TEXT_BYTES)[0] or b""
        return exif.read(_unhex(text)).kinds
    return (kind,)


def _unhex(text: bytes) -> bytes:
    """Decode a raw profile: a name and a length on lines of their own, then hexadecimal digits."""
    try:
        return bytes.fromhex(text.split(b"\n", 3)[-1].decode("ascii"))
    except ValueError:
        return b""
