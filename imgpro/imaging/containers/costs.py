"""What every container checks alike: the size of the canvas, the number of frames, the colour profile.

Knows no container format.
"""

from typing import Final

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.model import Limits

MAX_ICC_BYTES: Final = 4 * 1024 * 1024
_ICC_HEADER_BYTES: Final = 128


def check_canvas(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture without area (ImageBroken) or with too much of it (ImageTooLarge). Sizes in pixels."""
    if width < 1 or height < 1:
        raise ImageBroken("The picture says that it has no width or no height.")
    if max(width, height) > limits.max_side_px:
        raise ImageTooLarge(f"The picture is {width} x {height} pixels; a side may have {limits.max_side_px}.")
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"The picture has {width * height} pixels; {limits.max_pixels} are allowed.")


def check_frames(frames: int, width: int, height: int, limits: Limits) -> None:
    """Refuse an animation of too many frames, or of too many pixels over all of them (each fills the canvas)."""
    if frames > limits.max_frames:
        raise ImageTooLarge(f"The animation has more than {limits.max_frames} frames.")
    if frames > 1 and frames * width * height > limits.max_frame_pixels:
        raise ImageTooLarge(f"The animation has more than {limits.max_frame_pixels} pixels over all frames.")


def usable_icc(profile: bytes | memoryview) -> bool:
    """Tell whether `profile` looks like a whole ICC profile of a bearable size; others are not worth keeping."""
    if not _ICC_HEADER_BYTES <= len(profile) <= MAX_ICC_BYTES:
        return False
    return int.from_bytes(profile[:4], "big") <= len(profile) and bytes(profile[36:40]) == b"acsp"
