"""Pictures inside a drawing, as `data:` addresses: each is examined and cleaned like an uploaded one.

Knows nothing of XML; refuses every address that is not a raster picture.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from imgpro.errors import ImgproError
from imgpro.imaging.containers import gif, jpeg, png, webp
from imgpro.imaging.examined import Examined
from imgpro.imaging.sniff import sniff
from imgpro.model import Limits

_DATA: Final = re.compile(r"\s*data:image/(?:png|jpeg|jpg|gif|webp);base64,", re.IGNORECASE)
_WALKERS: Final[dict[str, Callable[[memoryview, Limits], Examined]]] = {
    "png": png.examine,
    "jpeg": jpeg.examine,
    "gif": gif.examine,
    "webp": webp.examine,
}


class Embedded:
    """Cleans the embedded pictures of one drawing. `removed` gathers what was private in them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pixels = 0
        self.removed: dict[str, None] = {}

    def clean(self, address: str) -> str | None:
        """Return the address of the cleaned picture, or None if it is not one that may stay."""
        found = _DATA.match(address)
        if found is None:
            return None
        try:
            raw = base64.b64decode("".join(address[found.end() :].split()), validate=True)
            view = memoryview(raw)
            form = sniff(view)
            examined = _WALKERS[form](view, self._limits)
        except (ImgproError, KeyError, binascii.Error, ValueError):
            return None
        self._pixels += examined.probe.width * examined.probe.height * examined.probe.frames
        if self._pixels > self._limits.max_frame_pixels:
            return None
        self.removed.update(dict.fromkeys(examined.removed))
        body = raw if examined.parts is None else b"".join(examined.parts)
        return f"data:image/{form};base64,{base64.b64encode(body).decode('ascii')}"
