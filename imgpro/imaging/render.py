"""One derivative from stored bytes: the steps in their order.

Knows what a recipe asks for. Does not know where the bytes come from or go to.
"""

from typing import IO

from imgpro.imaging import animation, encode, steps
from imgpro.model import RenderJob
from imgpro.recipes import ANIMATED_OUTPUT


def render(source: IO[bytes], job: RenderJob) -> tuple[bytes, int, int]:
    """Return the file that `job` asks for, with its width and height in pixels.

    Raises ImageBroken for bytes that do not decode, ImageTooLarge for what the output format or the memory of
    this process cannot hold.
    """
    recipe = job.recipe
    work = steps.open_source(source, job.format)
    if job.format in animation.SOURCES and recipe.format in ANIMATED_OUTPUT and animation.frame_count(work.image) > 1:
        return animation.render(work.image, recipe)
    encode.check_side(work.target(recipe.size), recipe.format)
    steps.draft(work, recipe.size)
    steps.load(work)
    steps.settle_mode(work)
    steps.shrink(work, recipe.size)
    steps.to_srgb(work)
    steps.turn_upright(work)
    steps.drop_opaque_alpha(work)
    work.image = encode.fitted(work.image, recipe.format)
    with steps.encoding():
        data = encode.encode(work.image, recipe.format)
    return data, *work.image.size
