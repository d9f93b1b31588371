"""The single steps from stored bytes to the pixels of a derivative, each a small function over one `Work`.

`render` and `ingest` string them together; the order is theirs. Knows no output format except that some cannot
carry transparency, and no file beyond the one it is given to read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from PIL import Image

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError
from imgpro.imaging import colour, engine
from imgpro.model import StoredFormat
from imgpro.recipes import Size, target_size

ORIENTATION_TAG: Final = 0x0112
# 2.0 costs up to twice the time at the large size for no visible gain, 1.5 is measurably softer.
REDUCING_GAP: Final = 1.8
# How much larger than its target a JPEG is decoded. At 1x the DCT does nearly all of the shrinking, which the
# two larger sizes bear. For the smallest, 1.15 gives SSIM 0.986 to 0.997 against a full decode at a fifth less CPU
# than 1.5 (0.997 to 0.998); side by side they cannot be told apart, and what an upload leaves warm comes from a
# full decode anyway.
DRAFT_MARGIN: Final[dict[Size, float]] = {"s": 1.15, "m": 1.0, "l": 1.0}
PREMULTIPLIED: Final = {"RGBA": "RGBa", "LA": "La"}
SETTLED: Final = ("L", "LA", "RGB", "RGBA", "CMYK")
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(slots=True)
class Work:
    """A picture on its way through the steps.

    `stored_size` is width and height in the file, whatever a draft decode returns; `icc` and `orientation` are
    what has still to be applied.
    """

    image: Image.Image
    stored_size: tuple[int, int]
    icc: bytes | None = None
    orientation: int = 1

    def target(self, size: Size) -> tuple[int, int]:
        """Return the width and height of `size` in pixels, in the orientation the picture now has."""
        width, height = self.stored_size
        if self.orientation < 5:
            return target_size(width, height, size)
        width, height = target_size(height, width, size)
        return height, width

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height of the original in pixels as a viewer shows it."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever a decoder throws at bad bytes into ImageBroken, and too little memory into ImageTooLarge."""
    try:
        yield
    except ImgproError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge from None
    except Exception as error:  # there is no list of what a decoder may throw
        raise ImageBroken from error


@contextmanager
def encoding() -> Iterator[None]:
    """Turn an encoder's refusal of sound pixels into ImageTooLarge: size is all that an encoder can dislike."""
    try:
        yield
    except ImgproError:
        raise
    except (MemoryError, OSError, ValueError) as error:
        raise ImageTooLarge from error


def open_source(source: IO[bytes], stored_format: StoredFormat) -> Work:
    """Read the header with the decoders of `stored_format` and no other."""
    with reading():
        image = Image.open(source, formats=engine.DECODERS[stored_format])
    return Work(image, image.size)


def draft(work: Work, size: Size) -> None:
    """Let a JPEG decode at a half, a quarter or an eighth where that still leaves enough pixels for `size`."""
    margin = DRAFT_MARGIN.get(size)
    if margin is None or work.image.format not in engine.DECODERS["jpeg"]:
        return
    width, height = target_size(*work.stored_size, size)
    with reading():
        work.image.draft(None, (round(width * margin), round(height * margin)))


def load(work: Work) -> None:
    """Decode the pixels, all of them: an incomplete picture is an ImageBroken."""
    with reading():
        before = work.image.size
        work.image.load()
        if work.image.size != before:  # icons and HEIC may find out only now
            work.stored_size = work.image.size
        work.icc = colour.profile_of(work.image)
        work.orientation = orientation_of(work.image)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded picture, 1 where it says nothing sensible.

    HEIC has none: its decoder turns the picture itself.
    """
    data = image.info.get("exif")
    if not data or image.format == "HEIF":
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        value = exif.get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - private data in any state is no reason to refuse the pixels
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def settle_mode(work: Work) -> None:
    """Bring the pixels into one of SETTLED: 8 bits a channel, no palette, transparency as a channel."""
    image = work.image
    with reading():
        if image.mode.startswith("I"):
            # A plain conversion clips 16 bits to white.
            image = image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        elif image.mode in ("1", "L"):
            image = image.convert("LA" if image.has_transparency_data else "L")
        elif image.mode not in SETTLED or (image.mode == "RGB" and image.has_transparency_data):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    work.image = image


def shrink(work: Work, size: Size) -> None:
    """Resize to exactly `size`; transparent pixels lend no colour to their neighbours."""
    target = work.target(size)
    if work.image.size != target:
        work.image = resized(work.image, target)


def resized(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Return a settled picture at `target` pixels."""
    working = PREMULTIPLIED.get(image.mode, image.mode)
    with reading():
        # Pillow ignores reducing_gap on straight alpha.
        image = image if working == image.mode else image.convert(working)
        small = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        return small if small.mode in SETTLED else small.convert(working.upper())


def to_srgb(work: Work) -> None:
    """Apply and forget the colour profile; the result is L, LA, RGB or RGBA in sRGB."""
    with reading():
        work.image = colour.to_srgb(work.image, work.icc)
    work.icc = None


def turn_upright(work: Work) -> None:
    """Apply and forget the orientation."""
    turn = TURNS.get(work.orientation)
    if turn is not None:
        work.image = work.image.transpose(turn)
        work.stored_size = work.displayed
    work.orientation = 1


def drop_opaque_alpha(work: Work) -> None:
    """Take away an alpha channel that hides nothing: it costs time and bytes in every format."""
    if work.image.mode in ("LA", "RGBA") and work.image.getchannel("A").getextrema() == (255, 255):
        work.image = work.image.convert(work.image.mode[:-1])


def flatten(image: Image.Image) -> Image.Image:
    """Return the picture on white, for formats without transparency."""
    if image.mode not in ("LA", "RGBA"):
        return image
    ground = Image.new(image.mode[:-1], image.size, "white")
    ground.paste(image.convert(image.mode[:-1]), mask=image.getchannel("A"))
    return ground
