"""A set of hostile pictures: bombs, lies, truncations, bit flips, polyglots. Built in memory, the same every time."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

import imgpro.imaging.engine  # noqa: F401  # registers AVIF
from tests.containers import SECRET, encode, moving, picture, png, private_exif, srgb_profile, xmp


def seeds() -> dict[str, bytes]:
    """Sound pictures of every kind and mode, small."""
    found: dict[str, bytes] = {}
    for mode in ("RGB", "L", "CMYK"):
        found[f"jpeg-{mode}"] = encode(picture(mode), "JPEG")
    found["jpeg-progressive"] = encode(picture("RGB"), "JPEG", progressive=True, exif=private_exif(6))
    found["jpeg-icc"] = encode(picture("RGB"), "JPEG", icc_profile=srgb_profile(), comment=SECRET)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        found[f"png-{mode}"] = encode(picture(mode), "PNG")
    found["apng"] = moving("PNG")
    found["gif"] = encode(picture("P"), "GIF")
    found["gif-moving"] = moving("GIF")
    found["webp"] = encode(picture("RGB"), "WEBP", exif=private_exif(3), xmp=xmp())
    found["webp-lossless"] = encode(picture("RGBA"), "WEBP", lossless=True)
    found["webp-moving"] = moving("WEBP")
    found["avif"] = encode(picture("RGB", (64, 48)), "AVIF")
    found["avif-alpha"] = encode(picture("RGBA", (64, 48)), "AVIF")
    for mode in ("RGB", "P", "1", "L"):
        found[f"bmp-{mode}"] = encode(picture(mode), "BMP")
    found["ico"] = encode(picture("RGBA", (64, 64)), "ICO", sizes=[(16, 16), (64, 64)])
    found["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><g><path d="M0 0h9v9z"/></g></svg>'
    return found


def mutants(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield changed copies of the seeds: flipped, cut, doubled, spliced, with numbers turned to extremes."""
    pool = list(seeds().items())
    for index in range(count):
        name, data = rng.choice(pool)
        yield f"{name}#{index}", _mutate(rng, data, rng.choice(pool)[1])


def _mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, len(body)))
        kind = rng.randrange(7)
        if kind == 0 and body:
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del body[at:]
        elif kind == 2:
            del body[at : at + rng.randint(1, 64)]
        elif kind == 3:
            body[at:at] = body[at : at + rng.randint(1, 64)]
        elif kind == 4:
            body[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
        elif kind == 5:
            body[at:] = other[at:]
        else:
            body[at : at + 8] = rng.randbytes(8)
    return bytes(body)


def bombs() -> dict[str, bytes]:
    """Small files that ask for a lot."""
    return {
        "png 50,000 x 50,000": _png_header(50_000, 50_000, 1),
        "png 2^31 wide": _png_header(2**31 - 1, 1, 8),
        "png zero": _png_header(0, 10, 8),
        "png inflates far past its rows": _png_header(10, 10, 8, b"\0" * 200_000_000),
        "png too few rows": _png_header(100, 100, 8, b"\0" * 101 * 50),
        "png 100,000 text chunks": png([(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))] + [(b"tEXt", b"a\0b")] * 100_000),
        "jpeg of 60,000 x 60,000": _jpeg_header(60_000, 60_000),
        "jpeg of 5,000 scans": _many_scans(5_000),
        "gif of 50,000 frames": _gif_frames(50_000, 1),
        "gif canvas 65,535 x 65,535": _gif_frames(1, 65_535),
        "gif 900 frames of 4,000 x 4,000": _gif_frames(900, 4_000),
        "gif 5 MB of comments": _gif_comments(5_000_000),
        "bmp of 30,000 x 30,000": _bmp_header(30_000, 30_000),
        "bmp of minus 2^31": _bmp_header(10, -(2**31)),
        "webp lies about its canvas": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"\xff" * 6,
        "svg billion laughs": b'<!DOCTYPE s [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><svg xmlns="http://www.w3.org/2000/svg">&b;</svg>',
        "svg 100,000 deep": b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 100_000 + b"</g>" * 100_000 + b"</svg>",
        "svg external": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/x"/></svg>',
        "ico of 60,000 entries": b"\0\0\1\0\x60\xea" + b"\x10\x10\0\0\1\0\x20\0\x10\0\0\0\x16\0\0\0" * 60_000,
        "avif that is all box": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08free" * 100_000,
    }  # fmt: skip


def polyglots() -> dict[str, bytes]:
    """Pictures that are something else as well."""
    tails = {"zip": b"PK\3\4" + SECRET, "html": b"<script>" + SECRET + b"</script>", "pdf": b"%PDF-1.4" + SECRET}
    return {f"{name}+{kind}": data + tail for name, data in seeds().items() for kind, tail in tails.items()}


def _png_header(width: int, height: int, depth: int, raw: bytes = b"\0" * 10) -> bytes:
    return png(
        [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(raw, 9)),
            (b"IEND", b""),
        ]
    )


def _jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encode(picture("RGB"), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _many_scans(count: int) -> bytes:
    data = encode(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff", first + 2)
    while data[second + 1] in (0, *range(0xD0, 0xD8)):
        second = data.index(b"\xff", second + 2)
    return data[:second] + data[first:second] * count + data[second:]


def _gif_frames(count: int, side: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHH", 0, 0, min(side, 4000), min(side, 4000)) + b"\0" + b"\2\2\x4c\1\0"
    return screen + frame * count + b";"


def _gif_comments(size: int) -> bytes:
    block = b"!\xfe" + b"\xff" + b"c" * 255 + b"\0"
    data = encode(picture("P"), "GIF")
    at = data.index(b",", 13)
    return data[:at] + block * (size // len(block)) + data[at:]


def _bmp_header(width: int, height: int) -> bytes:
    data = bytearray(encode(picture("RGB"), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def readable(data: bytes) -> bool:
    """Tell whether Pillow opens and decodes an answer."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    return True
