"""Icons: the picture that Pillow shows is the one that is announced, whatever the directory says."""

import io
import struct
import warnings

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError, UnsupportedFormat
from imgpro.imaging.containers import ico
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

LIMITS = Limits()


def examine(data: bytes, limits: Limits = LIMITS) -> Examined:
    return ico.examine(memoryview(data), limits)


def joined(examined: Examined, data: bytes) -> bytes:
    return data if examined.parts is None else b"".join(examined.parts)


def shown(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["ICO"])
    image.load()
    return image


def png(side: int, color: str = "red", text: str = "") -> bytes:
    info = PngInfo()
    if text:
        info.add_text("Comment", text)
    out = io.BytesIO()
    Image.new("RGBA", (side, side), color).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def dib(side: int, bits: int, *, mask: bool = True) -> bytes:
    palette = b"".join(bytes((n % 256, 255 - n % 256, 7, 0)) for n in range(1 << bits)) if bits <= 8 else b""
    rows = bytes(n * 5 % 256 for n in range((side * bits + 31) // 32 * 4 * side))
    header = struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, bits, 0, 0, 0, 0, 0, 0)
    return header + palette + rows + (bytes((side + 31) // 32 * 4 * side) if mask else b"")


def icon(*entries: tuple[bytes, int, int], lead: bytes = b"", tail: bytes = b"", kind: int = 1) -> bytes:
    """Build an icon of (picture, side in the directory, bits in the directory)."""
    at = 6 + 16 * len(entries) + len(lead)
    directory, bodies = struct.pack("<HHH", 0, kind, len(entries)), lead
    for body, side, bits in entries:
        directory += struct.pack("<BBBBHHII", side & 255, side & 255, 0, 0, 1, bits, len(body), at)
        bodies += body
        at += len(body)
    return directory + bodies + tail


CLEAN = {
    "pillow": None,
    "png": icon((png(64), 64, 32)),
    "png 256": icon((png(256), 256, 32)),
    **{f"dib {bits}": icon((dib(16, bits), 16, bits)) for bits in (1, 4, 8, 24, 32)},
    "dib 32 without mask": icon((dib(20, 32, mask=False), 20, 32)),
    "png 256 and 64": icon((png(64), 64, 32), (png(256), 256, 32)),
    "several": icon((dib(16, 4), 16, 4), (png(48, "blue"), 48, 32), (dib(32, 8), 32, 8)),
    "same size twice": icon((dib(16, 32), 16, 32), (dib(16, 8), 16, 8)),
}


def pillow_icon() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (64, 64), "green").save(out, "ICO", sizes=[(16, 16), (32, 32), (64, 64)])
    return out.getvalue()


@pytest.mark.parametrize("name", CLEAN)
def test_clean_icons_stay_as_they_are(name: str) -> None:
    data = CLEAN[name] or pillow_icon()
    examined = examine(data)
    image = shown(data)
    assert (examined.probe.width, examined.probe.height) == image.size
    assert examined.probe.has_alpha == (image.mode == "RGBA")
    assert examined.parts is None


def test_gaps_trailing_bytes_and_text_of_pictures_go() -> None:
    data = icon(
        (png(32, text="made by alice"), 32, 32), (dib(16, 8) + b"slack", 16, 8), lead=b"lead-in", tail=b"PK\3\4"
    )
    examined = examine(data)
    result = joined(examined, data)
    assert {"unknown_chunks", "trailing_data"} <= set(examined.removed)
    assert len(examined.removed) >= 3
    for foreign in (b"alice", b"slack", b"lead-in", b"PK\3\4"):
        assert foreign not in result
    assert shown(result).tobytes() == shown(data).tobytes()
    assert examine(result).parts is None


def test_a_lying_directory_is_put_right() -> None:
    data = icon((png(64, "red"), 16, 32), (dib(32, 32), 200, 4))
    examined = examine(data)
    result = joined(examined, data)
    assert examined.removed == ()
    assert (examined.probe.width, examined.probe.height) == (64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(result).size == (64, 64)
    assert examine(result).parts is None


def test_a_picture_named_twice_is_kept_once() -> None:
    body = png(16)
    data = bytearray(icon((body, 16, 32), (body, 16, 32)))
    data[6 + 16 + 12 : 6 + 32] = data[6 + 12 : 6 + 16]
    result = joined(examine(bytes(data)), bytes(data))
    assert result.count(b"IHDR") == 1
    assert shown(result).size == (16, 16)


def test_every_truncation_is_refused() -> None:
    for data in (CLEAN["several"], CLEAN["dib 8"]):
        assert data is not None
        for length in range(6, len(data)):
            with pytest.raises(ImgproError):
                examine(data[:length])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (icon((png(16), 16, 32), kind=2), UnsupportedFormat),
        (icon(), ImageBroken),
        (icon(*[(dib(1, 1), 1, 1)] * 65), ImageTooLarge),
        (icon((b"\xff\xd8\xff\xe0" + bytes(60), 16, 32)), UnsupportedFormat),
        (icon((struct.pack("<IiiHHI", 40, 16, 33, 1, 32, 0) + bytes(4_000), 16, 32)), ImageBroken),
        (icon((struct.pack("<IiiHHI", 40, 16, 32, 1, 8, 1) + bytes(4_000), 16, 8)), ImageBroken),
        (icon((struct.pack("<IiiHHI", 40, 30_000, 60_000, 1, 1, 0) + bytes(40), 16, 1)), ImageTooLarge),
        (icon((b"", 16, 32)), ImageBroken),
        (icon((dib(16, 8, mask=False), 16, 8)), ImageBroken),
        (b"\0\0\1\0", ImageBroken),
    ],
)
def test_refused(data: bytes, error: type[ImgproError]) -> None:
    with pytest.raises(error):
        examine(data)


def test_overlapping_pictures_are_refused() -> None:
    body = dib(16, 32)
    data = bytearray(icon((body, 16, 32), (body, 16, 32)))
    (start,) = struct.unpack_from("<I", data, 6 + 12)
    struct.pack_into("<II", data, 6 + 16 + 8, len(body) - 4, start + 4)
    with pytest.raises(ImageBroken, match="overlap"):
        examine(bytes(data))
    inner = dib(4, 32)
    outer = icon((dib(16, 32) + inner, 16, 32), (inner, 4, 32))
    data = bytearray(outer)
    struct.pack_into("<I", data, 6 + 16 + 12, 6 + 32 + 40)
    with pytest.raises(ImageBroken, match="overlap"):
        examine(bytes(data))


def test_the_sum_of_all_pictures_is_limited() -> None:
    data = icon((png(64), 64, 32), (png(64, "blue"), 64, 32))
    assert examine(data, Limits(max_pixels=2 * 64 * 64)).probe.width == 64
    with pytest.raises(ImageTooLarge):
        examine(data, Limits(max_pixels=2 * 64 * 64 - 1))
