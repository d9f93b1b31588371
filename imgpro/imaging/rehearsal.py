"""Everything once on a tiny picture, so that nothing is left to be imported or opened inside the sandbox.

Runs in the zygote, which shares what it loaded with every worker.
"""

import ctypes
from io import BytesIO

from PIL import Image, ImageCms

import imgpro.imaging.worker  # noqa: F401 - what the forks will run
from imgpro.imaging import encode, fingerprint
from imgpro.imaging.render import render
from imgpro.model import RenderJob
from imgpro.recipes import ALL, OutputFormat

SIDE_PX = 8
PAIRS: tuple[tuple[OutputFormat, OutputFormat], ...] = (
    ("jpeg", "webp"),
    ("png", "jpeg"),
    ("webp", "png"),
    ("gif", "gif"),
)


def rehearse() -> None:
    """Load what the decoders, encoders and the colour engine load on first use."""
    ctypes.CDLL("libgcc_s.so.1")  # threads need it when they end
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGBA", (SIDE_PX, SIDE_PX), (200, 100, 50, 128))
    fingerprint.placeholder(picture)
    fingerprint.phash(picture)
    for stored, output in PAIRS:
        file = BytesIO(encode.encode(picture.copy(), stored))
        render(file, RenderJob(format=stored, recipe=ALL[output, "o"]))
    file = BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.convert("CMYK").save(file, "JPEG", exif=turned, icc_profile=profile)
    render(file, RenderJob(format="jpeg", recipe=ALL["png", "o"]))
    still = picture.convert("RGB")
    film = BytesIO()
    still.save(film, "GIF", save_all=True, append_images=[picture.convert("L").convert("RGB")], duration=50)
    render(film, RenderJob(format="gif", recipe=ALL["webp", "o"]))
