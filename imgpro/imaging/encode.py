"""Pixels to bytes: one function per output format, each with every option written out.

Takes a picture that is upright and in sRGB and writes nothing of `im.info` into the file. Knows no sources and
no recipes.
"""

from io import BytesIO
from typing import Final

from PIL import Image

from imgpro.errors import ImageTooLarge
from imgpro.imaging import engine, png, steps
from imgpro.recipes import MAX_SIDE_PX, OutputFormat

JPEG_QUALITY: Final = 82
WEBP_QUALITY: Final = 80
# Method 4 costs twice the time of method 2 for 2% of the bytes, on photographs and screenshots alike.
WEBP_METHOD: Final = 2
# Detailed transparency compressed without loss would, in a very large picture, take longer than a job may.
WEBP_METHOD_LARGE: Final = 0
WEBP_ALPHA_LARGE: Final = 75
WEBP_LARGE_PIXELS: Final = 8_000_000
AVIF_QUALITY: Final = 60
AVIF_SPEED: Final = 8
AVIF_SPEED_AOM: Final = 10
AVIF_MIN_SIDE_PX: Final = 4
# SVT-AV1 refuses small pictures and very long ones, and its memory grows too fast for very large ones.
SVT_MIN_SIDE_PX: Final = 64
SVT_MAX_SIDES_PX: Final = (16_384, 8_704)  # width, height
SVT_MAX_PIXELS: Final = 8_000_000
PALETTE_SAMPLE_PIXELS: Final = 16_000
GIF_COLOURS: Final = 255  # one entry is left for transparency


def encode(image: Image.Image, output_format: OutputFormat) -> bytes:
    """Return an L, LA, RGB or RGBA picture as a file; raises ImageTooLarge where the format cannot hold it."""
    check_side(image.size, output_format)
    if output_format == "jpeg":
        return _jpeg(image)
    if output_format == "png":
        return png.encode(image)
    if output_format == "webp":
        return _webp(image, WEBP_METHOD)
    if output_format == "avif":
        return _avif(image, AVIF_SPEED)
    return _gif(image)


def check_side(size: tuple[int, int], output_format: OutputFormat) -> None:
    """Raise ImageTooLarge where a side is longer than the format's header can say."""
    limit = MAX_SIDE_PX[output_format]
    if max(size) > limit:
        raise ImageTooLarge(
            f"A side of this picture is longer than the {limit:,} pixels that {output_format} can hold."
        )


def bare(image: Image.Image) -> Image.Image:
    """Return the picture without anything that an encoder would copy from `info` unasked."""
    image.info = {}
    return image


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    flat = bare(steps.flatten(image))
    flat.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0", icc_profile=None, exif=b"", comment=b"")
    return file.getvalue()


def _webp(image: Image.Image, method: int) -> bytes:
    file = BytesIO()
    coloured = bare(_with_colour(image))
    alpha_quality = 100
    if coloured.width * coloured.height > WEBP_LARGE_PIXELS:
        method, alpha_quality = WEBP_METHOD_LARGE, WEBP_ALPHA_LARGE
    coloured.save(
        file,
        "WEBP",
        quality=WEBP_QUALITY,
        alpha_quality=alpha_quality,
        method=method,
        icc_profile=b"",
        exif=b"",
        xmp=b"",
    )
    return file.getvalue()


def _avif(image: Image.Image, speed: int) -> bytes:
    file = BytesIO()
    coloured = bare(fitted(_with_colour(image), "avif"))
    width, height = coloured.size
    fits = width <= SVT_MAX_SIDES_PX[0] and height <= SVT_MAX_SIDES_PX[1] and width * height <= SVT_MAX_PIXELS
    svt = engine.SVT and fits and min(width, height) >= SVT_MIN_SIDE_PX
    coloured.save(
        file,
        "AVIF",
        quality=AVIF_QUALITY,
        speed=speed if svt else AVIF_SPEED_AOM,  # the other encoder is slower by a notch
        codec="svt" if svt else "auto",
        max_threads=1,
        subsampling="4:2:0",
        icc_profile=b"",
        exif=b"",
        xmp=b"",
    )
    return file.getvalue()


def _gif(image: Image.Image) -> bytes:
    file = BytesIO()
    palette = to_palette(image)
    transparency = {"transparency": palette.info["transparency"]} if "transparency" in palette.info else {}
    palette.info = {}
    palette.save(file, "GIF", optimize=False, comment=b"", **transparency)
    return file.getvalue()


def to_palette(image: Image.Image, dither: Image.Dither = Image.Dither.FLOYDSTEINBERG) -> Image.Image:
    """Return the picture with at most 256 colours; what is less than half opaque becomes transparent.

    The index of the transparent entry, where there is one, stands in `info`.
    """
    if image.mode == "L":
        return bare(image.copy())
    if image.mode == "RGB":
        return bare(_fewer_colours(image, 256, dither))
    alpha = image.getchannel("A")
    colours = image.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return to_palette(colours, dither)
    palette = bare(_fewer_colours(colours, GIF_COLOURS, dither))
    palette.paste(GIF_COLOURS, mask=alpha.point(lambda value: 255 if value < 128 else 0, "1"))
    palette.info["transparency"] = GIF_COLOURS
    return palette


def _fewer_colours(image: Image.Image, count: int, dither: Image.Dither) -> Image.Image:
    """Return an RGB picture in `count` colours: its own where it has no more, else those of a sample of its pixels.

    An octree of a sample, dithered, looks as good as Pillow's median cut over all pixels in a tenth of the time.
    """
    exact = image.getcolors(count)
    if exact is not None:
        palette = Image.new("P", (1, 1))
        palette.putpalette(bytes(channel for _, colour in exact for channel in _triple(colour)))
        return image.quantize(palette=palette, dither=Image.Dither.NONE)
    width, height = image.size
    step = max(1.0, (width * height / PALETTE_SAMPLE_PIXELS) ** 0.5)
    few = (max(1, round(width / step)), max(1, round(height / step)))
    sample = image.resize(few, Image.Resampling.NEAREST)
    return image.quantize(palette=sample.quantize(count, Image.Quantize.FASTOCTREE), dither=dither)


def _triple(colour: float | tuple[int, ...]) -> tuple[int, ...]:
    """Return a colour of an RGB picture as its three channels."""
    return colour if isinstance(colour, tuple) else (int(colour),) * 3


def _with_colour(image: Image.Image) -> Image.Image:
    """Return RGB or RGBA: the encoders for WebP and AVIF treat grey differently from one another."""
    if image.mode == "L":
        return image.convert("RGB")
    return image.convert("RGBA") if image.mode == "LA" else image


def fitted(image: Image.Image, output_format: OutputFormat) -> Image.Image:
    """Return the picture, stretched where a side has fewer pixels than the format can have."""
    width, height = image.size
    if output_format != "avif" or min(width, height) >= AVIF_MIN_SIDE_PX:
        return image
    return image.resize((max(width, AVIF_MIN_SIDE_PX), max(height, AVIF_MIN_SIDE_PX)), Image.Resampling.NEAREST)
