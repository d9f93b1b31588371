"""Which Pillow is at work, with which codecs, and the closed list of decoders it may use.

Importing this module loads Pillow and exactly the plugins imgpro needs, so it must happen in a worker (or in a
command line tool), never in the server process. Nothing here touches a picture.
"""

import importlib
import importlib.metadata
import os
import warnings
from types import ModuleType
from typing import Final, Literal

os.environ.setdefault("SVT_LOG", "1")  # the AVIF encoder reports every frame on stderr otherwise

import msgspec
import PIL
from PIL import (  # noqa: F401 - each import registers a decoder or an encoder
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,  # Pillow's EXIF reader lives in it
    WebPImagePlugin,
    features,
)

from imgpro.imaging.containers.costs import MAX_ICC_BYTES
from imgpro.model import Limits, StoredFormat

EngineName = Literal["pillow-simd", "Pillow"]

DECODERS: Final[dict[StoredFormat, tuple[str, ...]]] = {
    "jpeg": ("JPEG", "MPO"),  # phones write MPO, which is a JPEG with more pictures behind it
    "png": ("PNG",),
    "gif": ("GIF",),
    "webp": ("WEBP",),
    "avif": ("AVIF",),
    "heic": ("HEIF",),
    "bmp": ("BMP",),
    "ico": ("ICO",),
}
CODECS: Final = ("jpeg", "png", "webp", "icc", "avif", "heic", "igzip")
OPTIONAL: Final = ("igzip",)  # PNG is written by zlib without it: slower, a little smaller
ALLOWED_PLUGINS: Final = frozenset(name for names in DECODERS.values() for name in names) | {"DIB"}


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What decodes and encodes here. `codecs` maps a name to its version, or to None where it is missing."""

    name: EngineName
    version: str
    codecs: dict[str, str | None]


def _load_avif() -> str | None:
    """Register the AVIF codec, the plugin's where Pillow has none, and return its version."""
    if features.check("avif"):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        return f"libavif {features.version('avif')}"
    try:
        import pillow_avif
    except ImportError:
        return None
    pillow_avif.AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return f"pillow-avif-plugin {pillow_avif.__version__}"


def _load_heic() -> str | None:
    """Register the HEIC decoder and return its version."""
    try:
        import pi_heif
    except ImportError:
        return None
    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return f"libheif {pi_heif.libheif_version()}"


def _load_igzip() -> tuple[ModuleType | None, str | None]:
    """Return the fast deflate library and its version, where it is installed."""
    try:
        import isal
        from isal import isal_zlib
    except ImportError:
        return None, None
    return isal_zlib, str(isal.__version__)


def _svt_available() -> bool:
    """Tell whether the AVIF encoder has SVT-AV1, which is the faster one on photographs."""
    package = "PIL" if features.check("avif") else "pillow_avif"
    try:
        codec = importlib.import_module(f"{package}._avif")
    except ImportError:
        return False
    return bool(codec.encoder_codec_available("svt"))


_AVIF = _load_avif()
_HEIC = _load_heic()
igzip, _IGZIP = _load_igzip()
SVT: Final = _svt_available()

# Pillow would search for and import every plugin it ships when it meets a format it does not know. What is
# registered now is all there will be.
Image._initialized = 2
Image.ID[:] = [name for name in Image.ID if name in ALLOWED_PLUGINS]
for _table in (Image.OPEN, Image.SAVE, Image.SAVE_ALL):
    for _name in [name for name in _table if name not in ALLOWED_PLUGINS]:
        del _table[_name]


def apply_limits(limits: Limits) -> None:
    """Set Pillow's own guards, the second line behind the container walkers."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("ignore")  # odd metadata is no reason to refuse a picture ...
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # ... its size is
    # Pillow counts a colour profile as text; what the walkers let through must open here as well.
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_ICC_BYTES
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * MAX_ICC_BYTES


def _distribution() -> EngineName:
    """Name the distribution whose files are in place, which need not be the one that was installed last."""
    return "pillow-simd" if "post" in PIL.__version__ else "Pillow"


def describe() -> Engine:
    """Return the engine and the version of each codec; None marks a codec that is not there."""
    jpeg = features.version("libjpeg_turbo") if features.check("libjpeg_turbo") else features.version("jpg")
    codecs = {
        "jpeg": jpeg if features.check("jpg") else None,
        "png": features.version("zlib") if features.check("zlib") else None,
        "webp": features.version("webp") if features.check("webp") else None,
        "icc": features.version("littlecms2") if features.check("littlecms2") else None,
        "avif": _AVIF,
        "heic": _HEIC,
        "igzip": _IGZIP,
    }
    return Engine(name=_distribution(), version=PIL.__version__, codecs=codecs)


def missing() -> tuple[str, ...]:
    """Name what this engine lacks: codecs, and pillow-simd itself where stock Pillow's files lie over it."""
    lacking = [name for name, version in describe().codecs.items() if version is None and name not in OPTIONAL]
    try:
        expected = importlib.metadata.version("pillow-simd")
    except importlib.metadata.PackageNotFoundError:
        return tuple(lacking)
    if expected != PIL.__version__:
        lacking.append("pillow-simd (overwritten by stock Pillow)")
    return tuple(lacking)
