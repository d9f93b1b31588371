"""Draws the HEIC files beside it. Needs an HEVC encoder, which imgpro itself never has: `pip install pillow-heif`.

    python tests/data/draw_heic.py tests/data
"""

import io
import struct
import sys
from pathlib import Path

import pillow_heif
from PIL import Image, ImageDraw

pillow_heif.register_heif_opener()


def draw(width: int, height: int) -> Image.Image:
    """Four corners of different colours, so that every rotation and mirroring shows."""
    image = Image.new("RGB", (width, height), (30, 30, 30))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, width // 3, height // 3), fill=(220, 20, 20))
    pen.rectangle((width - width // 3, 0, width, height // 3), fill=(20, 220, 20))
    pen.rectangle((0, height - height // 3, width // 3, height), fill=(20, 20, 220))
    pen.ellipse((width // 3, height // 3, width * 2 // 3, height * 2 // 3), fill=(230, 230, 90))
    return image


def gps_rotated() -> bytes:
    """EXIF with a position and orientation 6 (becomes `irot`), XMP, and a thumbnail."""
    exif = Image.Exif()
    exif[0x010F] = "Imgpro test camera"
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    out = io.BytesIO()
    draw(192, 128).save(
        out, "HEIF", quality=60, exif=exif.tobytes(), xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", thumbnails=[64]
    )
    return out.getvalue()


def alpha() -> bytes:
    """Transparency as an auxiliary picture."""
    image = draw(128, 96).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((128, 96)))
    out = io.BytesIO()
    image.save(out, "HEIF", quality=60)
    return out.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    """One box of an ISO base media file."""
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full(kind: bytes, flags: int, *content: bytes) -> bytes:
    """One full box; `flags` holds the version in its top byte."""
    return box(kind, struct.pack(">I", flags), *content)


def coded(image: Image.Image) -> tuple[bytes, bytes]:
    """Return the `hvcC` box and the coded data of a picture."""
    out = io.BytesIO()
    image.save(out, "HEIF", quality=60)
    data = out.getvalue()
    at = data.index(b"hvcC") - 4
    config = data[at : at + struct.unpack_from(">I", data, at)[0]]
    return config, data[data.index(b"mdat") + 4 :]


def grid() -> bytes:
    """Two by two tiles of 64 x 64 as phones write them, cropped by the grid to 120 x 100."""
    picture = draw(128, 128)
    tiles = [coded(picture.crop((x, y, x + 64, y + 64))) for y in (0, 64) for x in (0, 64)]
    descriptor = struct.pack(">BBBBHH", 0, 0, 1, 1, 120, 100)
    size = [full(b"ispe", 0, struct.pack(">II", *side)) for side in ((64, 64), (120, 100))]
    entries = [full(b"infe", 2 << 24 | 1, struct.pack(">HH", n, 0), b"hvc1\0") for n in range(1, 5)]
    entries.append(full(b"infe", 2 << 24, struct.pack(">HH", 5, 0), b"grid\0"))
    lines = b"".join(struct.pack(">HBBB", n, 2, 0x81, 2) for n in range(1, 5)) + struct.pack(">HBB", 5, 1, 3)

    def described(at: int) -> bytes:
        places = b""
        for number, (_, body) in enumerate(tiles, start=1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, at, len(body))
            at += len(body)
        places += struct.pack(">HHHHII", 5, 1, 0, 1, 0, len(descriptor))
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, b"\0\0\0\0pict", bytes(13)),
            full(b"pitm", 0, struct.pack(">H", 5)),
            full(b"iloc", 1 << 24, b"\x44\0", struct.pack(">H", 5), places),
            full(b"iinf", 0, struct.pack(">H", 5), *entries),
            full(b"iref", 0, box(b"dimg", struct.pack(">HHHHHH", 5, 4, 1, 2, 3, 4))),
            box(b"iprp", box(b"ipco", tiles[0][0], *size), full(b"ipma", 0, struct.pack(">I", 5), lines)),
            box(b"idat", descriptor),
        )

    ftyp = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return ftyp + described(len(ftyp) + len(described(0)) + 8) + box(b"mdat", *(body for _, body in tiles))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, content in (("gps-rotated", gps_rotated()), ("alpha", alpha()), ("grid", grid())):
        (folder / f"{name}.heic").write_bytes(content)
