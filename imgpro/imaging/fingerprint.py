"""What is remembered of a picture's look: a perceptual hash and a tiny placeholder.

Takes pixels that are upright and in sRGB. Knows nothing of files or formats.
"""

from base64 import b64encode
from io import BytesIO
from typing import Final

from PIL import Image

from imgpro.imaging import steps
from imgpro.imaging.encode import bare

PLACEHOLDER_SIDE_PX: Final = 16
PLACEHOLDER_MAX_CHARS: Final = 400
PLACEHOLDER_QUALITY: Final = 30
PREFIX: Final = "data:image/webp;base64,"


def phash(image: Image.Image) -> int:
    """Return the 64-bit difference hash of a picture on white, as a signed integer.

    Each bit tells whether a cell of a 9 x 8 grid is brighter than its right neighbour; like pictures differ in
    few bits.
    """
    grid = _small(steps.flatten(image), (9, 8)).convert("L").tobytes()
    bits = 0
    for row in range(0, 72, 9):
        for cell in range(row, row + 8):
            bits = bits << 1 | (grid[cell] > grid[cell + 1])
    return bits - (1 << 64) if bits >> 63 else bits


def placeholder(image: Image.Image) -> str:
    """Return a data URI under 400 characters that looks like the picture from afar, in its proportions."""
    width, height = image.size
    longest = max(width, height)
    size = (
        max(1, round(width * PLACEHOLDER_SIDE_PX / longest)),
        max(1, round(height * PLACEHOLDER_SIDE_PX / longest)),
    )
    tiny = bare(_small(image, size).convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB"))
    for quality in (PLACEHOLDER_QUALITY, 0):
        file = BytesIO()
        tiny.save(file, "WEBP", quality=quality, alpha_quality=quality, method=4)
        uri = PREFIX + b64encode(file.getvalue()).decode("ascii")
        if len(uri) < PLACEHOLDER_MAX_CHARS:
            return uri
    return ""


def _small(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the picture at a few pixels; averaging is right for so strong a reduction, and cheap."""
    working = steps.PREMULTIPLIED.get(image.mode, image.mode)
    small = image.convert(working).resize(size, Image.Resampling.BOX)
    return small.convert(working.upper())
