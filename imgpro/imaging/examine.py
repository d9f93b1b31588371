"""The door every upload passes before a decoder sees it: sniff, then one walk over the container.

Knows which module walks which container and nothing of what they find.
"""

from collections.abc import Callable
from typing import Final

from imgpro.errors import UnsupportedFormat
from imgpro.imaging.containers import bmff, bmp, gif, ico, jpeg, png, svg, webp
from imgpro.imaging.examined import Examined
from imgpro.imaging.sniff import sniff
from imgpro.model import Limits, StoredFormat

_WALKERS: Final[dict[StoredFormat, Callable[[memoryview, Limits], Examined]]] = {
    "jpeg": jpeg.examine,
    "png": png.examine,
    "gif": gif.examine,
    "webp": webp.examine,
    "avif": bmff.examine,
    "heic": bmff.examine,
    "svg": svg.examine,
    "bmp": bmp.examine,
    "ico": ico.examine,
}


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge the whole file in `data` without decoding a pixel.

    Raises UnsupportedFormat for what is not accepted (or is switched off), ImageTooLarge for what would cost too
    much to decode, ImageBroken for what is damaged or incomplete.
    """
    found = sniff(data)
    if (found == "svg" and not limits.svg) or (found == "heic" and not limits.heic):
        raise UnsupportedFormat(f"{found.upper()} pictures are switched off on this server.")
    return _WALKERS[found](data, limits)
