"""Building blocks of picture files, and the promise that every container walker keeps: what it cleaned is clean."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from PIL import Image, ImageCms, ImageDraw, ImageSequence

from imgpro.imaging.containers import exif
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

Walker = Callable[[memoryview, Limits], Examined]

SECRET = b"PLANTED-SECRET-52.5200N"
LIMITS = Limits()


def clean(walker: Walker, data: bytes, limits: Limits = LIMITS, secret: bytes = SECRET) -> tuple[Examined, bytes]:
    """Examine `data`; return the verdict and the bytes to be stored, which must be clean in turn and not hold
    `secret`."""
    examined = walker(memoryview(data), limits)
    stored = data if examined.parts is None else b"".join(examined.parts)
    again = walker(memoryview(stored), limits)
    assert again == Examined(probe=examined.probe)
    assert stored != data or examined.parts is None
    assert not secret or secret not in stored
    return examined, stored


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A small picture with gradients, edges and, where the mode has it, transparency."""
    image = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGBA", (image, image.rotate(90), image.rotate(180), image.rotate(270)))
    ImageDraw.Draw(image).ellipse((3, 3, size[0] - 9, size[1] - 5), fill=(200, 30, 90, 255))
    if mode == "I;16":
        return image.convert("I").point(lambda value: value * 257).convert("I;16")
    return image.convert("RGB").convert(mode) if mode in {"P", "1", "CMYK", "YCbCr"} else image.convert(mode)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def moving(kind: str, count: int = 4, mode: str = "RGB", **options: Any) -> bytes:
    """An animation of `count` frames that differ."""
    frames = [picture(mode, (40, 30)).rotate(17 * index) for index in range(count)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, loop=3, **options)


def pixels(data: bytes) -> list[tuple[str, tuple[int, int], bytes]]:
    """Every frame as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as image:
        return [(frame.mode, frame.size, frame.tobytes()) for frame in ImageSequence.Iterator(image)]


def orientation(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return int(image.getexif().get(0x0112, 1))


@cache
def srgb_profile() -> bytes:
    """A whole profile, the same at every call (its header holds the time it was made)."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def private_exif(turned: int = 1) -> bytes:
    """A TIFF block with orientation, camera, position, maker note and thumbnail."""
    block = Image.Exif()
    block[0x0112] = turned
    block[0x010F] = SECRET.decode()
    block.get_ifd(0x8769)[0x927C] = SECRET
    block.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return block.tobytes().removeprefix(b"Exif\0\0")


def xmp() -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>' + SECRET + b"</exif:GPSLatitude></x:xmpmeta>"


def minimal_exif(turned: int) -> bytes:
    return exif.minimal(turned)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_segments(data: bytes) -> list[tuple[int, bytes]]:
    """The segments of a JPEG ahead of its first scan: marker and whole bytes."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at:end]))
        at = end
    return found


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG: type and body."""
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(body)) + body + b"\0" * (len(body) & 1)


def riff_chunks(data: bytes, at: int = 12) -> list[tuple[bytes, bytes]]:
    """The chunks of a WebP, or with another `at` those inside a frame."""
    found = []
    while at < len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    return found


def webp(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = b"WEBP" + b"".join(riff_chunk(*chunk) for chunk in chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def gif_blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The blocks of a well-formed GIF: introducer, start, end."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] != 0x3B:
        start, kind = at, data[at]
        flags = data[at + 9] if kind == 0x2C else 0
        at += 2 if kind == 0x21 else 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while data[at]:
            at += data[at] + 1
        at += 1
        yield kind, start, at
