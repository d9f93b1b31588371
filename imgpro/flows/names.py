"""Names of files that pictures are saved under, on whatever system."""

import re
import unicodedata
from typing import Final

_ENDINGS: Final = ("jpg", "jpeg", "png", "gif", "webp", "avif", "heic", "heif", "svg", "bmp", "ico")
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
# Windows opens a device instead of a file of these names, whatever their ending.
_DEVICES: Final = re.compile(
    r"(?:con(?:in\$|out\$)?|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?: *\..*)?", re.IGNORECASE | re.DOTALL
)
_MAX_STEM_BYTES: Final = 200  # most file systems end at 255 for the whole


def download_name(name: str, content_type: str) -> str:
    """Return a picture's name with the ending that its bytes have."""
    extension = content_type.partition("/")[2].partition("+")[0].replace("x-icon", "ico")
    stem, dot, last = name.rpartition(".")
    if dot and last.lower() in (extension, "jpg" if extension == "jpeg" else extension):
        return name
    return f"{stem if dot and last.lower() in _ENDINGS else name}.{extension}"


def file_name(name: str, max_stem_bytes: int = _MAX_STEM_BYTES) -> str:
    """Return a name that every file system takes and that stays in its folder; the ending is kept."""
    text = unicodedata.normalize("NFC", _FORBIDDEN.sub("_", name))
    stem, dot, extension = text.rpartition(".")
    if not dot:
        stem, extension = text, ""
    stem = stem.encode("utf-8", "replace")[:max_stem_bytes].decode("utf-8", "ignore").strip(" .") or "picture"
    if _DEVICES.fullmatch(stem):
        stem = f"_{stem}"
    return f"{stem}.{extension}" if extension else stem


class Names:
    """Gives each file of an archive a path that no other has, also where capitals make no difference."""

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self._last = dict.fromkeys(taken, 1)  # path without capitals: the highest number it was given

    def unique(self, folder: str, name: str) -> str:
        """Return the path of a file in a folder ("": at the top), with a number where its name is taken."""
        wanted = f"{folder}/{name}" if folder else name
        stem, dot, extension = wanted.rpartition(".")
        path, number = wanted, self._last.get(wanted.casefold(), 0)
        while path.casefold() in self._last:
            number += 1
            path = f"{stem} ({number}){dot}{extension}" if dot else f"{wanted} ({number})"
        self._last[wanted.casefold()] = max(number, 1)
        self._last.setdefault(path.casefold(), 1)
        return path
