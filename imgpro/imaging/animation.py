"""Moving pictures: GIF and WebP in, GIF and WebP out, with durations and loop count, one frame in memory at a time.

Every picture that was accepted can be shown within the deadline: past a budget of pixels, frames are left out
evenly and their time goes to the frame before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image

from imgpro.imaging import colour, encode, steps
from imgpro.recipes import OutputFormat, Recipe, target_size

SOURCES: Final = frozenset({"gif", "webp"})
MAX_OUTPUT_PIXELS: Final[dict[OutputFormat, int]] = {"gif": 40_000_000, "webp": 40_000_000}
DEFAULT_DURATION_MS: Final = 100
MAX_DURATION_MS: Final = 655_350  # what a GIF frame can say
WEBP_METHOD: Final = 0


@dataclass(slots=True)
class Frame:
    """One frame, fully composed, and how long it is shown."""

    image: Image.Image
    duration_ms: int


def frame_count(image: Image.Image) -> int:
    """Return the number of frames of an opened picture."""
    with steps.reading():
        return int(getattr(image, "n_frames", 1))


def render(image: Image.Image, recipe: Recipe) -> tuple[bytes, int, int]:
    """Return the animation as `recipe` wants it, with its width and height in pixels."""
    target = target_size(*image.size, recipe.size)
    encode.check_side(target, recipe.format)
    affordable = MAX_OUTPUT_PIXELS[recipe.format] // (target[0] * target[1])
    total = frame_count(image)
    stride = -(-total // max(1, affordable))
    looping = loop_count(image)
    moving = frames(image, target, total, stride)
    with steps.encoding():
        if recipe.format == "webp":
            return _webp(moving, -(-total // stride), looping), *target
        return _gif(moving, looping), *target


def frames(image: Image.Image, target: tuple[int, int], total: int, stride: int) -> Iterator[Frame]:
    """Yield every `stride`-th frame, composed, in sRGB, at `target` pixels, with the time of those left out."""
    kept: Frame | None = None
    for number in range(total):
        with steps.reading():
            image.seek(number)
            image.load()
            duration = _duration(image)
        if kept is not None and number % stride:
            kept.duration_ms += duration
            continue
        if kept is not None:
            yield kept
        kept = Frame(composed(image, target), duration)
    if kept is not None:
        yield kept


def composed(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Return the current frame, ready to be encoded."""
    work = steps.Work(image, image.size, colour.profile_of(image))
    steps.settle_mode(work)
    if work.image is image:
        work.image = image.copy()
    if work.image.size != target:
        work.image = steps.resized(work.image, target)
    steps.to_srgb(work)
    return encode.bare(work.image)


def _duration(image: Image.Image) -> int:
    value = image.info.get("duration", DEFAULT_DURATION_MS)
    return min(MAX_DURATION_MS, max(0, int(value)))


def loop_count(image: Image.Image) -> int | None:
    """Return how often the animation plays: 0 is for ever, None once."""
    value = image.info.get("loop")
    if image.format == "WEBP" and value == 1:
        return None
    return min(65_535, int(value)) if isinstance(value, int) and value >= 0 else None


class _Film(Image.Image):
    """Frames that come into being as an encoder seeks through them, so that they are never all in memory.

    Forward only: going back, as encoders do when they have finished, changes nothing.
    """

    is_animated = True

    def __init__(self, moving: Iterator[Frame], count: int) -> None:
        super().__init__()
        self.n_frames = count
        self.durations_ms: list[int] = []
        self._moving = moving
        self.seek(0)

    def seek(self, frame: int) -> None:
        while len(self.durations_ms) <= frame:
            current = next(self._moving)
            self._im, self._mode, self._size = current.image.im, current.image.mode, current.image.size
            self.durations_ms.append(current.duration_ms)

    def tell(self) -> int:
        return len(self.durations_ms) - 1


def _webp(moving: Iterator[Frame], count: int, looping: int | None) -> bytes:
    film = _Film(moving, count)
    file = BytesIO()
    film.save(
        file,
        "WEBP",
        save_all=True,
        duration=film.durations_ms,  # grows as the encoder proceeds, always one frame ahead of what it reads
        loop=1 if looping is None else looping,
        quality=encode.WEBP_QUALITY,
        method=WEBP_METHOD,
        background=(0, 0, 0, 0),
        icc_profile=b"",
        exif=b"",
        xmp=b"",
    )
    return file.getvalue()


def _gif(moving: Iterator[Frame], looping: int | None) -> bytes:
    durations: list[int] = []
    palettes: list[Image.Image] = []
    for frame in moving:
        durations.append(frame.duration_ms)
        # Dithering dots change places from frame to frame, which flickers and compresses badly.
        palettes.append(encode.to_palette(frame.image, Image.Dither.NONE))
    clear = any("transparency" in palette.info for palette in palettes)
    first, rest = palettes[0], palettes[1:]
    file = BytesIO()
    first.save(
        file,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=durations,
        # A frame with holes needs an empty canvas; whole frames may build on the one before.
        disposal=2 if clear else 1,
        optimize=False,
        comment=b"",
        **({} if looping is None else {"loop": looping}),
    )
    return file.getvalue()
