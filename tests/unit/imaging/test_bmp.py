"""Bitmaps: what is accepted is what Pillow decodes, and what is cleaned keeps every pixel."""

import io
import struct

import pytest
from PIL import Image

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError, UnsupportedFormat
from imgpro.imaging.containers import bmp
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

LIMITS = Limits()


def examine(data: bytes, limits: Limits = LIMITS) -> Examined:
    return bmp.examine(memoryview(data), limits)


def joined(examined: Examined, data: bytes) -> bytes:
    return data if examined.parts is None else b"".join(examined.parts)


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["BMP"])
    image.load()
    return image


def bitmap(
    bits: int,
    *,
    size: tuple[int, int] = (5, 3),
    header: int = 40,
    compression: int = 0,
    masks: bytes = b"",
    body: bytes | None = None,
    used: int = 0,
    top_down: bool = False,
    gap: bytes = b"",
) -> bytes:
    """Build a bitmap of any kind by hand."""
    width, height = size
    colors = (used or 1 << bits) if bits <= 8 else 0
    entry = 3 if header == 12 else 4
    palette = b"".join(bytes((n * 37 % 256, n * 11 % 256, n % 256, 0))[:entry] for n in range(colors))
    if body is None:
        row = (width * bits + 31) // 32 * 4
        body = bytes(n * 7 % 256 for n in range(row * height))
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        rows = -height if top_down else height
        dib = struct.pack("<IiiHHIIiiII", header, width, rows, 1, bits, compression, len(body), 0, 0, used, 0)
        inner, outer = (b"", masks) if header == 40 else (masks, b"")
        dib = (dib + inner).ljust(header, b"\0") + outer
    head = dib + palette + gap
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


MASKS_565 = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
MASKS_ARGB = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
RLE8 = b"\x05\x01\x00\x00\x05\x02\x00\x00\x00\x05\x01\x02\x03\x04\x05\x00\x00\x01"
RLE4 = b"\x05\x12\x00\x00\x05\x21\x00\x00\x05\x34\x00\x01"

GOOD = {
    **{f"{bits}-bit": bitmap(bits) for bits in (1, 4, 8, 16, 24, 32)},
    **{f"core-{bits}": bitmap(bits, header=12) for bits in (1, 4, 8, 24)},
    **{f"header-{size}": bitmap(24, header=size) for size in (52, 56, 64, 108, 124)},
    "top-down": bitmap(24, top_down=True),
    "few-colours": bitmap(8, used=40, body=bytes(24)),
    "565": bitmap(16, compression=3, masks=MASKS_565),
    "argb": bitmap(32, header=56, compression=3, masks=MASKS_ARGB),
    "argb-v4": bitmap(32, header=108, compression=3, masks=MASKS_ARGB),
    "rle8": bitmap(8, compression=1, body=RLE8),
    "rle4": bitmap(4, compression=2, body=RLE4),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_accepted_kind_decodes_and_is_clean(name: str) -> None:
    data = GOOD[name]
    examined = examine(data)
    image = decoded(data)
    assert (examined.probe.width, examined.probe.height) == image.size == (5, 3)
    assert examined.probe.has_alpha == (image.mode == "RGBA")
    assert examined.parts is None
    assert examined.removed == ()


@pytest.mark.parametrize("name", GOOD)
def test_trailing_bytes_and_gap_go_and_pixels_stay(name: str) -> None:
    clean = GOOD[name]
    (pixels_at,) = struct.unpack_from("<I", clean, 10)
    padded = (
        clean[:10] + struct.pack("<I", pixels_at + 16) + clean[14:pixels_at] + b"S3CRET-IN-A-GAP!" + clean[pixels_at:]
    )
    padded += b"<script>evil()</script>"
    examined = examine(padded)
    result = joined(examined, padded)
    assert set(examined.removed) == {"unknown_chunks", "trailing_data"}
    assert b"S3CRET" not in result
    assert b"script" not in result
    assert decoded(result).tobytes() == decoded(clean).tobytes()
    assert examine(result).parts is None


@pytest.mark.parametrize("name", GOOD)
def test_every_truncation_is_refused(name: str) -> None:
    data = GOOD[name]
    for length in range(18, len(data)):
        with pytest.raises(ImgproError):
            examine(data[:length])


def test_reserved_bytes_are_cleared() -> None:
    data = bytearray(bitmap(24))
    data[6:10] = b"EVIL"
    examined = examine(bytes(data))
    assert examined.removed == ("unknown_chunks",)
    assert b"EVIL" not in joined(examined, bytes(data))


def test_palette_offset_forgotten_by_the_writer_is_put_right() -> None:
    data = bytearray(bitmap(8))
    wanted = decoded(bytes(data)).tobytes()
    struct.pack_into("<I", data, 10, 54)
    result = joined(examine(bytes(data)), bytes(data))
    assert struct.unpack_from("<I", result, 10)[0] == 54 + 1024
    assert decoded(result).tobytes() == wanted


def profiled(kind: bytes, profile: bytes, *, gap: bytes = b"") -> bytes:
    data = bytearray(bitmap(24, header=124))
    struct.pack_into("<4s", data, 14 + 56, kind)
    struct.pack_into("<II", data, 14 + 112, len(data) + len(gap) - 14, len(profile))
    return bytes(data) + gap + profile


PROFILE = bytes(36) + b"acsp" + bytes(range(200))


def test_embedded_profile_stays() -> None:
    assert examine(profiled(b"DEBM", PROFILE)).parts is None
    data = profiled(b"DEBM", PROFILE, gap=b"between")
    examined = examine(data + b"behind")
    result = joined(examined, data)
    assert result == profiled(b"DEBM", PROFILE)[:2] + result[2:6] + profiled(b"DEBM", PROFILE)[6:]
    assert examine(result).parts is None


def test_linked_profile_is_a_path_and_goes() -> None:
    data = profiled(b"KNIL", rb"C:\Users\alice\secret.icm")
    result = joined(examine(data), data)
    assert b"alice" not in result
    assert b"KNIL" not in result
    assert examine(result).parts is None


REFUSED = {
    "jpeg": bitmap(24, compression=4),
    "png": bitmap(24, compression=5),
    "alpha bit fields": bitmap(32, compression=6),
    "two bits": bitmap(2),
    "unknown header": bitmap(24, header=44),
    "huffman": bitmap(16, header=64, compression=3, masks=MASKS_565),
    "odd masks": bitmap(16, compression=3, masks=struct.pack("<III", 1, 2, 4)),
    "rle8 in 4 bits": bitmap(4, compression=1, body=RLE8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_that_pillow_cannot_decode_are_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedFormat):
        examine(REFUSED[name])


@pytest.mark.parametrize(
    "data",
    [
        bitmap(24, size=(0, 3)),
        bitmap(24, size=(-5, 3), body=b""),
        bitmap(1, used=3),
        bitmap(8, used=70_000, body=b""),
        bitmap(8, compression=1, body=RLE8[:-2]),
        bitmap(8, compression=1, body=RLE8, top_down=True),
        bitmap(24)[:10] + struct.pack("<I", 20) + bitmap(24)[14:],
        bitmap(24)[:10] + struct.pack("<I", 2**31) + bitmap(24)[14:],
        b"BM",
    ],
)
def test_nonsense_is_broken(data: bytes) -> None:
    with pytest.raises(ImageBroken):
        examine(data)


def test_limits_are_judged_by_the_header_alone() -> None:
    for size in ((20_001, 1), (1, 20_001), (10_000, 5_001), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ImageTooLarge):
            examine(bitmap(24, size=size, body=b""))
    with pytest.raises(ImageTooLarge):
        examine(bitmap(8, size=(20_000, 801), compression=1, body=b"\0\1"))
    with pytest.raises(ImageTooLarge):
        examine(bitmap(8, size=(4_000, 4_000), compression=1, body=b"\1\1" * (2 * 1024 * 1024 + 8)))
