"""Finds out when a picture was taken, from as little of its file as says so. Decodes nothing.

Never raises for what a file holds: one that cannot be read has nothing to say.
"""

import struct
from collections.abc import Callable
from typing import Final

from imgpro.errors import ImgproError
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.bmff_boxes import payload, read_box, read_meta
from imgpro.model import StoredFormat

Read = Callable[[int, int], bytes]  # at most so many bytes from an offset

_MAX_STEPS: Final = 10_000
_MAX_EXIF_BYTES: Final = 1 << 20
_MAX_WHOLE_BYTES: Final = 64 << 20
_SOS: Final = 0xDA


def taken(read: Read, form: StoredFormat) -> str:
    """Return the time of the picture's own EXIF block as it stands there (`exif.taken`), "" where there is none."""
    find = {"jpeg": _in_jpeg, "png": _in_png, "webp": _in_webp, "heic": _in_heic, "avif": _in_heic}.get(form)
    if find is None:
        return ""
    try:
        return exif.taken(find(read))
    except (ImgproError, struct.error, ValueError, IndexError):
        return ""


def _in_jpeg(read: Read) -> bytes:
    at = 2
    for _ in range(_MAX_STEPS):
        head = read(at, 10)
        if len(head) < 10 or head[0] != 0xFF or head[1] == _SOS:
            break
        length = int.from_bytes(head[2:4], "big")
        if head[1] == 0xE1 and head[4:10] == b"Exif\0\0":
            return read(at + 4, length - 2)
        at += 1 if head[1] == 0xFF else 2 + length
    return b""


def _in_png(read: Read) -> bytes:
    at = 8
    for _ in range(_MAX_STEPS):
        head = read(at, 8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return read(at + 8, min(length, _MAX_EXIF_BYTES))
        at += 12 + length
    return b""


def _in_webp(read: Read) -> bytes:
    at = 12
    for _ in range(_MAX_STEPS):
        head = read(at, 8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return read(at + 8, min(length, _MAX_EXIF_BYTES))
        at += 8 + length + length % 2
    return b""


def _in_heic(read: Read) -> bytes:
    data = memoryview(read(0, _MAX_WHOLE_BYTES))
    at = 0
    while (box := read_box(data, at, len(data))) is not None and box.end > at:
        if box.type == b"meta":
            item = next((item for item in read_meta(data, box).items.values() if item.type == b"Exif"), None)
            block = bytes(payload(data, item)) if item is not None and item.length <= _MAX_EXIF_BYTES else b""
            skip = int.from_bytes(block[:4], "big")
            return block[4 + skip :] if skip < len(block) else block[4:]
        at = box.end
    return b""
