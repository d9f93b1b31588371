"""A PNG writer for derivatives: one row filter for the whole picture, chosen by trial, and the fastest deflate.

Pillow's own tries every filter on every row and feeds zlib; on a screenshot this takes a tenth of that time at the
same quality and about the same size, because flat areas compress best unfiltered. Works in strips, so that a
50-megapixel picture needs only a few megabytes besides its pixels. Knows L, LA, RGB and RGBA, nothing of files.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Final, Protocol

from PIL import Image, ImageChops

from imgpro.imaging import engine

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE: Final = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
IGZIP_LEVEL: Final = 2
ZLIB_LEVEL: Final = 3
STRIP_BYTES: Final = 1 << 20
SAMPLES: Final = 4
SAMPLE_ROWS: Final = 12
NO_FILTER: Final = 0

Filter = Callable[[Image.Image, Image.Image], Image.Image]


class Deflater(Protocol):
    """The part of a zlib compressor that is used here."""

    def compress(self, data: bytes | bytearray, /) -> bytes:
        """Take more data and return what is ready of the compressed form."""

    def flush(self) -> bytes:
        """Return the rest."""


def encode(image: Image.Image) -> bytes:
    """Return the picture as a PNG file."""
    width, height = image.size
    kind = choose_filter(image)
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPE[image.mode], 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", header)]
    deflater = _deflater()
    rows = max(1, STRIP_BYTES // (width * len(image.getbands()) + 1))
    for top in range(0, height, rows):
        data = deflater.compress(filtered_rows(image, top, min(height, top + rows), kind))
        if data:
            parts.append(_chunk(b"IDAT", data))
    parts += [_chunk(b"IDAT", deflater.flush()), _chunk(b"IEND", b"")]
    return b"".join(parts)


def choose_filter(image: Image.Image) -> int:
    """Return the number of the filter that compresses a sample of the rows best."""
    height = image.height
    tops = sorted({max(0, height * (2 * i + 1) // (2 * SAMPLES) - SAMPLE_ROWS // 2) for i in range(SAMPLES)})
    cost: list[int] = []
    for kind in range(len(FILTERS)):
        sample = b"".join(filtered_rows(image, top, min(height, top + SAMPLE_ROWS), kind) for top in tops)
        deflater = _deflater()
        cost.append(len(deflater.compress(sample)) + len(deflater.flush()))
    return cost.index(min(cost))


def filtered_rows(image: Image.Image, top: int, bottom: int, kind: int) -> bytearray:
    """Return rows `top` to `bottom` as PNG wants them: the filter's number, then the filtered samples."""
    width = image.width
    stride = width * len(image.getbands()) + 1
    if kind == NO_FILTER:
        strip = image.crop((0, top, width, bottom))
    else:
        # One row and one column of zeros before the strip, or the row above it, are what the filters refer to.
        around = image.crop((-1, top - 1, width, bottom))
        strip = FILTERS[kind](around, around.crop((1, 1, width + 1, bottom - top + 1)))
    # The raw encoder pads each row to the stride with a zero at its end, which is where the next row's filter goes.
    data = bytearray(b"\0")
    data += strip.tobytes("raw", strip.mode, stride, 1)
    data.pop()
    if kind != NO_FILTER:
        data[::stride] = bytes((kind,)) * (bottom - top)
    return data


def _left(around: Image.Image) -> Image.Image:
    return around.crop((0, 1, around.width - 1, around.height))


def _above(around: Image.Image) -> Image.Image:
    return around.crop((1, 0, around.width, around.height - 1))


def _sub(around: Image.Image, strip: Image.Image) -> Image.Image:
    return ImageChops.subtract_modulo(strip, _left(around))


def _up(around: Image.Image, strip: Image.Image) -> Image.Image:
    return ImageChops.subtract_modulo(strip, _above(around))


def _average(around: Image.Image, strip: Image.Image) -> Image.Image:
    return ImageChops.subtract_modulo(strip, ImageChops.add(_left(around), _above(around), scale=2))


def _none(_around: Image.Image, strip: Image.Image) -> Image.Image:
    return strip


FILTERS: Final[tuple[Filter, ...]] = (_none, _sub, _up, _average)
"""By their number in the PNG specification. Paeth cannot be said in whole-image operations."""


def _deflater() -> Deflater:
    if engine.igzip is not None:
        deflater: Deflater = engine.igzip.compressobj(IGZIP_LEVEL)
        return deflater
    return zlib.compressobj(ZLIB_LEVEL)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))
