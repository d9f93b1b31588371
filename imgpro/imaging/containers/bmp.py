"""Windows bitmaps: header, palette, pixels, and a colour profile if there is one. Nothing else stays.

Knows only the layouts that Pillow decodes; it neither decodes pixels nor knows where the bytes come from.
"""

import struct
from typing import Final

import msgspec

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_FILE_HEADER_BYTES: Final = 14
_CORE_BYTES: Final = 12
_OS2_BYTES: Final = 64
_V5_BYTES: Final = 124
_HEADER_BYTES: Final = frozenset({_CORE_BYTES, 40, 52, 56, _OS2_BYTES, 108, _V5_BYTES})
_NONE, _RLE8, _RLE4, _BITFIELDS = range(4)

# Pillow unpacks run-length bitmaps in interpreted code, so time, not memory, is what they cost.
_MAX_RLE_BYTES: Final = 4 * 1024 * 1024
_MAX_RLE_PIXELS: Final = 16_000_000
_MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024

_EMBEDDED: Final = b"DEBM"  # PROFILE_EMBEDDED, little-endian
_LINKED: Final = b"KNIL"  # PROFILE_LINKED: the profile is a path on somebody's disk
_SRGB: Final = b"BGRs"
_COLOR_SPACE_AT, _PROFILE_AT = 56, 112  # offsets inside a V5 header

# Red, green, blue and alpha masks that Pillow can unpack, by bits per pixel.
_MASKS: Final[dict[int, frozenset[tuple[int, int, int, int]]]] = {
    32: frozenset(
        {
            (0xFF0000, 0xFF00, 0xFF, 0x0),
            (0xFF000000, 0xFF0000, 0xFF00, 0x0),
            (0xFF000000, 0xFF00, 0xFF, 0x0),
            (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
            (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
            (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
            (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
        }
    ),
    24: frozenset({(0xFF0000, 0xFF00, 0xFF, 0)}),
    16: frozenset({(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)}),
}


class Bitmap(msgspec.Struct, frozen=True, kw_only=True):
    """A device independent bitmap's header. Sizes in pixels, lengths in bytes, `palette_at` from the header's start."""

    header_bytes: int
    width: int
    height: int  # always positive
    top_down: bool
    bits: int
    compression: int
    colors: int  # palette entries; 0 above 8 bits
    palette_at: int
    palette_bytes: int
    has_alpha: bool

    @property
    def row_bytes(self) -> int:
        """Length of one uncompressed row, padded to 32 bits."""
        return (self.width * self.bits + 31) // 32 * 4

    @property
    def pixels_at(self) -> int:
        """Where pixels start when nothing stands between palette and pixels, from the header's start."""
        return self.palette_at + self.palette_bytes


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge a BMP file; see `imgpro.imaging.examine.examine` for what is raised."""
    if len(data) < _FILE_HEADER_BYTES + 4:
        raise ImageBroken("The bitmap ends inside its header.")
    bitmap = read_header(data[_FILE_HEADER_BYTES:])
    check_size(bitmap.width, bitmap.height, limits)
    pixels_at = _pixels_at(data, bitmap)
    end = pixels_at + _pixel_bytes(data[pixels_at:], bitmap)
    profile = _profile(data, bitmap)
    removed = _foreign(data, bitmap, pixels_at, end, profile)
    probe = Probe(format="bmp", width=bitmap.width, height=bitmap.height, has_alpha=bitmap.has_alpha)
    if not removed and struct.unpack_from("<I", data, 10)[0] == pixels_at:
        return Examined(probe=probe)
    return Examined(probe=probe, removed=removed, parts=_rebuilt(data, bitmap, pixels_at, end, profile))


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise ImageBroken for an empty picture and ImageTooLarge for one beyond `limits`."""
    if width < 1 or height < 1:
        raise ImageBroken("The picture has no pixels.")
    if max(width, height) > limits.max_side_px or width * height > limits.max_pixels:
        raise ImageTooLarge(f"A picture of {width} x {height} pixels is too large.")


def read_header(dib: memoryview) -> Bitmap:
    """Read the bitmap header that `dib` starts with. Raises ImageBroken or UnsupportedFormat."""
    (header_bytes,) = struct.unpack_from("<I", dib)
    if header_bytes not in _HEADER_BYTES:
        raise UnsupportedFormat("This kind of bitmap header is not supported.")
    if len(dib) < header_bytes:
        raise ImageBroken("The bitmap ends inside its header.")
    if header_bytes == _CORE_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", dib, 4)
        compression, used = _NONE, 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", dib, 4)
        (used,) = struct.unpack_from("<I", dib, 32)
    _check_kind(header_bytes, bits, compression, height)
    masks = _read_masks(dib, header_bytes, bits) if compression == _BITFIELDS else None
    palette_at = header_bytes + (12 if masks and header_bytes == 40 else 0)
    colors = (used or 1 << bits) if bits <= 8 else 0
    if colors > 256 or colors > 1 << bits:
        raise ImageBroken("The palette of the bitmap has more colours than its pixels can name.")
    return Bitmap(
        header_bytes=header_bytes,
        width=width,
        height=abs(height),
        top_down=height < 0,
        bits=bits,
        compression=compression,
        colors=colors,
        palette_at=palette_at,
        palette_bytes=colors * (3 if header_bytes == _CORE_BYTES else 4),
        has_alpha=masks is not None and masks[3] != 0,
    )


def _check_kind(header_bytes: int, bits: int, compression: int, height: int) -> None:
    if bits not in (1, 4, 8, 16, 24, 32):
        raise UnsupportedFormat(f"Bitmaps with {bits} bits a pixel are not supported.")
    if header_bytes == _OS2_BYTES and compression == _BITFIELDS:
        raise UnsupportedFormat("This bitmap compression is not supported.")  # Huffman there
    fits = {_NONE: True, _RLE8: bits == 8, _RLE4: bits == 4, _BITFIELDS: bits in _MASKS}
    if not fits.get(compression, False):
        raise UnsupportedFormat("This bitmap compression is not supported.")
    if height < 0 and compression in (_RLE8, _RLE4):
        raise ImageBroken("A run-length bitmap cannot be stored top-down.")


def _read_masks(dib: memoryview, header_bytes: int, bits: int) -> tuple[int, int, int, int]:
    with_alpha = header_bytes >= 56
    if len(dib) < 40 + (16 if with_alpha else 12):
        raise ImageBroken("The bitmap ends inside its header.")
    red, green, blue = struct.unpack_from("<III", dib, 40)
    alpha = struct.unpack_from("<I", dib, 52)[0] if with_alpha else 0
    masks = (red, green, blue, alpha if bits == 32 else 0)
    if masks not in _MASKS[bits]:
        raise UnsupportedFormat("This layout of bitmap colour masks is not supported.")
    return masks


def _pixels_at(data: memoryview, bitmap: Bitmap) -> int:
    """Return where pixels start in the file, which must be behind header and palette."""
    (declared,) = struct.unpack_from("<I", data, 10)
    least = _FILE_HEADER_BYTES + bitmap.pixels_at
    if declared == _FILE_HEADER_BYTES + bitmap.header_bytes and bitmap.bits <= 8 and bitmap.header_bytes != _CORE_BYTES:
        return least  # a writer that forgot its palette; Pillow forgives it too
    if declared < least:
        raise ImageBroken("The pixels of the bitmap overlap its header.")
    if declared > len(data):
        raise ImageBroken("The bitmap ends before its pixels.")
    return int(declared)


def _pixel_bytes(pixels: memoryview, bitmap: Bitmap) -> int:
    if bitmap.compression in (_RLE8, _RLE4):
        return _rle_bytes(pixels, bitmap)
    wanted = bitmap.row_bytes * bitmap.height
    if len(pixels) < wanted:
        raise ImageBroken("The bitmap ends before its last row.")
    return wanted


def _rle_bytes(pixels: memoryview, bitmap: Bitmap) -> int:
    """Follow the runs to their end mark and return how many bytes they take."""
    if bitmap.width * bitmap.height > _MAX_RLE_PIXELS:
        raise ImageTooLarge("A run-length bitmap may have at most 16 million pixels.")
    runs = bytes(pixels[: _MAX_RLE_BYTES + 2])
    at = row = 0
    while at + 2 <= len(runs):
        count, code = runs[at], runs[at + 1]
        at += 2
        if count:
            continue
        if code == 0:
            row += 1
        elif code == 1:
            return at
        elif code == 2:
            row += runs[at + 1] if at + 2 <= len(runs) else 0
            at += 2
        else:
            length = (code + 1) // 2 if bitmap.compression == _RLE4 else code
            at += length + (length & 1)
        if row > bitmap.height:
            raise ImageBroken("The bitmap has more rows than it says.")
    if len(runs) > _MAX_RLE_BYTES:
        raise ImageTooLarge("A run-length bitmap may hold at most 4 MB of pixel data.")
    raise ImageBroken("The bitmap ends before its last row.")


def _profile(data: memoryview, bitmap: Bitmap) -> memoryview | None:
    """Return the embedded colour profile of a V5 bitmap, or None if there is none that can be one."""
    if bitmap.header_bytes != _V5_BYTES or _color_space(data) != _EMBEDDED:
        return None
    start, length = struct.unpack_from("<II", data, _FILE_HEADER_BYTES + _PROFILE_AT)
    start += _FILE_HEADER_BYTES
    if not 128 <= length <= _MAX_PROFILE_BYTES or start + length > len(data):
        return None
    profile = data[start : start + length]
    return profile if bytes(profile[36:40]) == b"acsp" else None


def _color_space(data: memoryview) -> bytes:
    at = _FILE_HEADER_BYTES + _COLOR_SPACE_AT
    return bytes(data[at : at + 4])


def _foreign(data: memoryview, bitmap: Bitmap, pixels_at: int, end: int, profile: memoryview | None) -> tuple[str, ...]:
    """Name what stands in the file besides header, palette, pixels and profile."""
    found = []
    gap = pixels_at != _FILE_HEADER_BYTES + bitmap.pixels_at or any(data[6:10])
    profile_lost = profile is None and bitmap.header_bytes == _V5_BYTES and _color_space(data) in (_EMBEDDED, _LINKED)
    profile_elsewhere = profile is not None and data[end : end + len(profile)] != profile
    if gap or profile_lost or profile_elsewhere:
        found.append("unknown_chunks")
    if len(data) > end + (len(profile) if profile is not None else 0):
        found.append("trailing_data")
    return tuple(found)


def _rebuilt(
    data: memoryview, bitmap: Bitmap, pixels_at: int, end: int, profile: memoryview | None
) -> tuple[bytes | memoryview, ...]:
    head = bytearray(data[: _FILE_HEADER_BYTES + bitmap.pixels_at])
    pixel_bytes = end - pixels_at
    size = len(head) + pixel_bytes + (len(profile) if profile is not None else 0)
    struct.pack_into("<IHHI", head, 2, size, 0, 0, len(head))
    if bitmap.bits > 8 and bitmap.header_bytes != _CORE_BYTES:
        struct.pack_into("<II", head, _FILE_HEADER_BYTES + 32, 0, 0)  # a palette hint went with the gap
    if bitmap.header_bytes == _V5_BYTES and _color_space(data) in (_EMBEDDED, _LINKED):
        place = (bitmap.pixels_at + pixel_bytes, len(profile)) if profile is not None else (0, 0)
        struct.pack_into("<II", head, _FILE_HEADER_BYTES + _PROFILE_AT, *place)
        struct.pack_into("4s", head, _FILE_HEADER_BYTES + _COLOR_SPACE_AT, _EMBEDDED if place[0] else _SRGB)
    pixels = data[pixels_at:end]
    return (bytes(head), pixels) if profile is None else (bytes(head), pixels, profile)
