"""One upload: examine the container, write the cleaned file, decode it once, and make everything from that decode.

Knows the order of the work. Does not know where the file lies or who asks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from PIL import Image

from imgpro.errors import ImageTooLarge, ImgproError
from imgpro.imaging import animation, encode, fingerprint, steps
from imgpro.model import Ingested, Limits, Probe, Warm
from imgpro.recipes import ALL, EXTENSIONS, SRC_EXTENSION, OutputFormat, Recipe, Size, resolve

WARM_MAX_ANIMATED_PIXELS: Final = 12_000_000
# The full-size copy of a format that browsers do not show is what its link serves; beyond this it is made on demand.
WARM_MAX_ORIGINAL_PIXELS: Final = 12_500_000
DESCENDING: Final[tuple[Size, ...]] = ("o", "l", "m", "s")

Write = Callable[[bytes], tuple[int, int]]
"""Appends a finished derivative to the job's output and returns its offset and length in bytes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What the container said. `cleaned_bytes` is None where the upload is stored as it came."""

    probe: Probe
    removed: tuple[str, ...]
    cleaned_bytes: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What the one full decode yielded besides the knowledge that the picture is whole."""

    width: int
    height: int
    placeholder: str
    phash: int
    warm: tuple[Warm, ...]


def ingest(source: IO[bytes], upload: Upload, limits: Limits, write: Write, in_time: Callable[[], bool]) -> Ingested:
    """Prove the (cleaned) picture in `source` whole and report on it, leaving warm derivatives through `write`.

    `in_time` is asked before each derivative: when it says no, the rest is left to be made on demand. Raises
    ImageBroken and ImageTooLarge.
    """
    probe = upload.probe
    if probe.format == "svg":
        return _report(upload, Proof(*probe.displayed, "", 0, ()))
    work = steps.open_source(source, probe.format)
    check_size(work.image.size, limits)
    if probe.format in animation.SOURCES and animation.frame_count(work.image) > 1:
        return _report(upload, _prove_animation(work.image, write, in_time))
    steps.load(work)
    check_size(work.image.size, limits)
    return _report(upload, _prove_still(work, probe, write, in_time))


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Raise ImageTooLarge where what the decoder found is larger than any header may say."""
    width, height = size
    if max(width, height) > limits.max_side_px or width * height > limits.max_pixels:
        raise ImageTooLarge


def _report(upload: Upload, proof: Proof) -> Ingested:
    probe = upload.probe
    return Ingested(
        format=probe.format,
        width=proof.width,
        height=proof.height,
        frames=probe.frames,
        has_alpha=probe.has_alpha,
        orientation=probe.orientation,
        placeholder=proof.placeholder,
        phash=None if probe.format == "svg" else proof.phash,
        removed=upload.removed,
        cleaned_bytes=upload.cleaned_bytes,
        warm=proof.warm,
    )


def _prove_still(work: steps.Work, probe: Probe, write: Write, in_time: Callable[[], bool]) -> Proof:
    width, height = work.displayed
    steps.settle_mode(work)
    warm = tuple(_warm_still(work, probe, write, in_time))
    _finish(work, "s")  # mostly a copy of the last derivative, which is enough for both
    return Proof(width, height, fingerprint.placeholder(work.image), fingerprint.phash(work.image), warm)


def _finish(work: steps.Work, size: Size) -> None:
    """Bring the pixels down to `size`, to sRGB and upright; what was done already costs nothing again."""
    steps.shrink(work, size)
    steps.to_srgb(work)
    steps.turn_upright(work)
    steps.drop_opaque_alpha(work)


def _warm_still(work: steps.Work, probe: Probe, write: Write, in_time: Callable[[], bool]) -> Iterator[Warm]:
    """Make the derivatives that the picture's links will ask for first, each from the next larger one."""
    for recipe in wanted(probe, *work.displayed):
        if not in_time():
            return
        _finish(work, recipe.size)
        try:
            with steps.encoding():
                data = encode.encode(work.image, recipe.format)
        except ImgproError:
            continue  # a format that cannot hold this size is no fault of the upload
        yield _placed(recipe, data, write)


def wanted(probe: Probe, width: int, height: int) -> list[Recipe]:
    """Return the recipes worth making now for a picture of this displayed size, largest first."""
    output = EXTENSIONS[SRC_EXTENSION[probe.format]]
    recipes: set[Recipe] = set()
    for size in DESCENDING:
        recipe = resolve(ALL[output, size], probe.format, width, height)
        if recipe is not None and (recipe.size != "o" or width * height <= WARM_MAX_ORIGINAL_PIXELS):
            recipes.add(recipe)
    return sorted(recipes, key=lambda recipe: DESCENDING.index(recipe.size))


def _placed(recipe: Recipe, data: bytes, write: Write) -> Warm:
    offset, length = write(data)
    return Warm(recipe=recipe, offset=offset, length=length)


def _prove_animation(image: Image.Image, write: Write, in_time: Callable[[], bool]) -> Proof:
    """Decode every frame; where all of them are few pixels, make the small sizes as well."""
    width, height = image.size
    total = animation.frame_count(image)
    first: Image.Image | None = None
    for number in range(total):
        with steps.reading():
            image.seek(number)
            image.load()
        if first is None:
            first = animation.composed(image, image.size)
    assert first is not None
    warm = tuple(_warm_animation(image, total, write, in_time))
    return Proof(width, height, fingerprint.placeholder(first), fingerprint.phash(first), warm)


def _warm_animation(image: Image.Image, total: int, write: Write, in_time: Callable[[], bool]) -> Iterator[Warm]:
    """Make the small sizes of an animation that has few pixels in all."""
    width, height = image.size
    if width * height * total > WARM_MAX_ANIMATED_PIXELS:
        return
    stored: OutputFormat = "gif" if image.format == "GIF" else "webp"
    for size in DESCENDING[1:]:
        recipe = ALL[stored, size]
        if resolve(recipe, stored, width, height) is not None and in_time():
            yield _placed(recipe, animation.render(image, recipe)[0], write)
