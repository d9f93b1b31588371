"""Colours to sRGB, by the picture's own profile where it has a usable one.

Derivatives carry no profile, because JPEG, WebP, PNG and AVIF would treat it differently; so the conversion
happens here, once, on the small picture. A profile that cannot be used is treated as sRGB, never as an error.
"""

from functools import lru_cache
from io import BytesIO
from typing import Final

from PIL import Image, ImageCms

MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
# Profile colour spaces, as ICC spells them, that describe pixels of each mode.
SPACES: Final = {"L": ("GRAY", "RGB "), "RGB": ("RGB ",), "CMYK": ("CMYK",)}
SRGB_NAMES: Final = ("sRGB", "c2", "IEC 61966-2.1", "IEC 61966-2-1")  # c2 is the tiny sRGB that many sites embed


def profile_of(image: Image.Image) -> bytes | None:
    """Return the embedded colour profile of a loaded picture, unless its size is absurd."""
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or not 128 <= len(icc) <= MAX_PROFILE_BYTES:
        return None
    return icc


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Return L, LA, RGB or RGBA in sRGB of a picture in one of those modes or CMYK."""
    if image.mode in ("LA", "RGBA"):
        colours = to_srgb(image.convert(image.mode[:-1]), icc)
        colours.putalpha(image.getchannel("A"))
        return colours
    converted = _by_profile(image, icc) if icc else None
    if converted is not None:
        return converted
    return image.convert("RGB") if image.mode == "CMYK" else image


def _by_profile(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Return the picture converted, or None where the profile is unusable or changes nothing."""
    space = bytes(icc[16:20]).decode("latin-1")
    if space not in SPACES[image.mode]:
        return None
    if image.mode == "L" and space == "RGB ":
        image = image.convert("RGB")
    transform = _transform(icc, image.mode)
    if transform is None:
        return None
    # A transform reads the buffer in its own layout: a mode that differs would read past its end.
    if image.mode != transform.input_mode:
        raise ValueError("the colour transform was built for another mode")
    result = transform.apply(image)
    result.info.clear()
    return result


@lru_cache(maxsize=4)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform of a profile to sRGB; None for a broken profile and for sRGB itself."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        description = ImageCms.getProfileDescription(profile).strip()
        if mode == "RGB" and description.startswith(SRGB_NAMES):
            return None
        return ImageCms.buildTransform(profile, _srgb(), mode, "RGB", renderingIntent=ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    """Return the profile of the output."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
