"""WebP: simple and extended, still and moving ones keep every pixel, lose what is private, and say what they hold."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import webp as walker
from imgpro.model import Limits
from tests.containers import (
    LIMITS,
    SECRET,
    clean,
    encode,
    minimal_exif,
    moving,
    orientation,
    picture,
    pixels,
    private_exif,
    riff_chunk,
    riff_chunks,
    srgb_profile,
    webp,
    xmp,
)

SIMPLE = encode(picture(), "WEBP")
LOSSLESS = encode(picture(), "WEBP", lossless=True)
ALPHA = encode(picture("RGBA"), "WEBP")
ANIMATED = moving("WEBP", mode="RGBA")
OPAQUE = moving("WEBP", lossless=True, kmax=1)  # whole frames, not differences
FULL = encode(picture("RGBA"), "WEBP", exif=b"Exif\0\0" + private_exif(6), xmp=xmp(), icc_profile=srgb_profile())

Chunks = list[tuple[bytes, bytes]]


def announced(flags: int, size: tuple[int, int] = (40, 30)) -> tuple[bytes, bytes]:
    return b"VP8X", bytes((flags, 0, 0, 0)) + b"".join((side - 1).to_bytes(3, "little") for side in size)


def extended(flags: int, *chunks: tuple[bytes, bytes]) -> bytes:
    return webp([announced(flags), *chunks])


IMAGE = riff_chunks(SIMPLE)[0]
LOSSLESS_IMAGE = riff_chunks(LOSSLESS)[0]


def animation(*frames: bytes, flags: int = 0x02) -> bytes:
    return extended(flags, (b"ANIM", bytes(6)), *((b"ANMF", body) for body in frames))


def frame(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (40, 30), left: int = 0) -> bytes:
    sides = b"".join(value.to_bytes(3, "little") for value in (left, 0, size[0] - 1, size[1] - 1, 40))
    return sides + b"\0" + b"".join(riff_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("name", ["photo.webp", "animation-16f.webp"])
def test_real_pictures_keep_every_pixel(photos: Path, name: str) -> None:
    data = (photos / name).read_bytes()
    examined, stored = clean(walker.examine, data + SECRET)
    assert examined.removed == ("trailing_data",)
    assert examined.probe.frames == len(pixels(data))
    assert stored == data


@pytest.mark.parametrize(
    ("data", "alpha", "frames"),
    [(SIMPLE, False, 1), (LOSSLESS, False, 1), (ALPHA, True, 1), (ANIMATED, True, 4), (OPAQUE, False, 4)],
)
def test_made_ones_are_clean_as_they_come(data: bytes, alpha: bool, frames: int) -> None:
    examined, _ = clean(walker.examine, data)
    assert (examined.removed, examined.parts) == ((), None)
    assert examined.probe.displayed == (40, 30)
    assert (examined.probe.has_alpha, examined.probe.frames) == (alpha, frames)


def test_private_data_goes_and_orientation_and_profile_stay() -> None:
    examined, stored = clean(walker.examine, FULL)
    assert set(examined.removed) == {"gps", "exif", "maker_data", "xmp"}
    assert examined.probe.has_icc
    assert pixels(stored) == pixels(FULL)
    assert orientation(stored) == examined.probe.orientation == 6
    with Image.open(io.BytesIO(stored)) as image:
        assert image.info["icc_profile"] == srgb_profile()
        assert "xmp" not in image.info
    assert stored[20] == 0x20 | 0x10 | 0x08


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_stays_and_nothing_else_of_exif(turned: int, prefix: bytes) -> None:
    data = extended(0x08, IMAGE, (b"EXIF", prefix + private_exif(turned)))
    examined, stored = clean(walker.examine, data)
    assert examined.probe.orientation == orientation(stored) == turned
    rest = [(b"EXIF", minimal_exif(turned))] if turned != 1 else []
    assert stored == extended(0x08 if rest else 0, IMAGE, *rest)


def test_exif_that_is_not_announced_is_not_followed() -> None:
    data = extended(0, IMAGE, (b"EXIF", minimal_exif(6)))
    examined, stored = clean(walker.examine, data)
    assert (examined.probe.orientation, examined.removed) == (1, ("exif",))
    assert orientation(stored) == 1


@pytest.mark.parametrize(
    ("extra", "kinds"),
    [
        ((b"XMP ", xmp()), ("gps", "xmp")),
        ((b"XMP ", b"<x/>"), ("xmp",)),
        ((b"EXIF", private_exif(6)), ("gps", "exif", "maker_data")),
        ((b"ICCP", SECRET), ("application_data",)),
        ((b"prvt", SECRET), ("unknown_chunks",)),
        ((b"ALPH", SECRET), ("unknown_chunks",)),
    ],
)
def test_foreign_chunks_go(extra: tuple[bytes, bytes], kinds: tuple[str, ...]) -> None:
    simple, stored = clean(walker.examine, webp([IMAGE, extra]))
    assert (simple.removed, simple.probe.orientation, stored) == (kinds, 1, SIMPLE)
    for chunks in ([extra, LOSSLESS_IMAGE], [LOSSLESS_IMAGE, extra]):
        longer, stored = clean(walker.examine, extended(0, *chunks))
        assert (longer.removed, stored) == (kinds, extended(0, LOSSLESS_IMAGE))


def test_lengths_and_padding_are_put_right() -> None:
    odd = (IMAGE[0], IMAGE[1] + b"\0" * (1 - len(IMAGE[1]) % 2))
    whole = webp([odd])
    assert len(odd[1]) % 2
    unpadded = whole[:4] + struct.pack("<I", len(whole) - 9) + whole[8:]
    assert clean(walker.examine, unpadded)[1] == whole
    assert clean(walker.examine, unpadded[:-1])[1] == whole
    loose = SIMPLE[:4] + struct.pack("<I", len(SIMPLE) - 8 + 5) + SIMPLE[8:] + b"tail."
    examined, stored = clean(walker.examine, loose)
    assert (examined.removed, stored) == (("unknown_chunks",), SIMPLE)


@pytest.mark.parametrize("data", [SIMPLE, LOSSLESS, FULL, ANIMATED])
def test_cut_off_anywhere_is_broken(data: bytes) -> None:
    for end in range(len(data) - 1):
        with pytest.raises(ImageBroken):
            walker.examine(memoryview(data[:end]), LIMITS)


def test_what_hides_in_a_frame_goes() -> None:
    plain = animation(frame(IMAGE), frame(LOSSLESS_IMAGE))
    assert clean(walker.examine, plain)[0].parts is None
    examined, stored = clean(walker.examine, animation(frame((b"prvt", SECRET), IMAGE), frame(LOSSLESS_IMAGE)))
    assert (examined.removed, stored) == (("unknown_chunks",), plain)
    examined, stored = clean(
        walker.examine, animation(frame(IMAGE) + b"tail", frame(LOSSLESS_IMAGE, (b"X   ", SECRET)))
    )
    assert (examined.removed, stored) == (("unknown_chunks",), plain)


def test_too_much_in_fixed_chunks_goes() -> None:
    data = webp([(b"VP8X", announced(0x02)[1] + SECRET), (b"ANIM", bytes(6) + SECRET), (b"ANMF", frame(IMAGE))])
    examined, stored = clean(walker.examine, data)
    assert (examined.removed, stored) == (("unknown_chunks",), animation(frame(IMAGE)))


def test_a_second_profile_goes() -> None:
    profile = (b"ICCP", srgb_profile())
    examined, stored = clean(walker.examine, extended(0x20, profile, profile, IMAGE, profile))
    assert (examined.removed, stored) == (("application_data",), extended(0x20, profile, IMAGE))


BAD_TAG = (b"VP8 ", b"\x11" + IMAGE[1][1:])
NO_SIZE = (b"VP8 ", IMAGE[1][:6] + bytes(4) + IMAGE[1][10:])
LONG_PARTITION = (b"VP8 ", IMAGE[1][:2] + b"\xff" + IMAGE[1][3:])
NEW_VERSION = (b"VP8L", LOSSLESS_IMAGE[1][:4] + b"\xe0" + LOSSLESS_IMAGE[1][5:])


@pytest.mark.parametrize(
    "data",
    [
        webp([]),
        webp([(b"prvt", bytes(20)), IMAGE]),
        webp([BAD_TAG]),
        webp([NO_SIZE]),
        webp([LONG_PARTITION]),
        webp([NEW_VERSION]),
        webp([(b"VP8L", b"\x2f\0\0\0\0")]),
        webp([(b"VP8X", bytes(9)), IMAGE]),
        extended(0),
        extended(0, IMAGE, IMAGE),
        webp([announced(0, (41, 30)), IMAGE]),
        extended(0x02, IMAGE),
        extended(0x02, (b"ANIM", bytes(6))),
        extended(0x02, (b"ANIM", bytes(5)), (b"ANMF", frame(IMAGE))),
        extended(0x02, (b"ANMF", frame(IMAGE))),
        animation(frame(IMAGE), flags=0),
        animation(frame(IMAGE)[:15]),
        animation(frame()),
        animation(frame(IMAGE, size=(39, 30))),
        animation(frame(IMAGE, left=1)),
        animation(frame((b"ALPH", b"\0\0"), LOSSLESS_IMAGE)),
    ],
)
def test_what_cannot_be_decoded_is_broken(data: bytes) -> None:
    with pytest.raises(ImageBroken):
        walker.examine(memoryview(data + bytes(20)), LIMITS)


def test_too_large_to_decode() -> None:
    for data in (webp([announced(0, (20_001, 1)), IMAGE]), webp([announced(0, (2**24, 2**24)), IMAGE])):
        with pytest.raises(ImageTooLarge):
            walker.examine(memoryview(data), LIMITS)
    with pytest.raises(ImageTooLarge):
        walker.examine(memoryview(SIMPLE), Limits(max_pixels=1_199))


def test_frames_and_chunks_are_counted() -> None:
    one = frame(LOSSLESS_IMAGE)
    assert walker.examine(memoryview(animation(*[one] * 1_000)), LIMITS).probe.frames == 1_000
    with pytest.raises(ImageTooLarge, match="1000 frames"):
        walker.examine(memoryview(animation(*[one] * 1_001)), LIMITS)
    with pytest.raises(ImageTooLarge, match="over all frames"):
        walker.examine(memoryview(animation(one, one, one)), Limits(max_frame_pixels=3 * 1_200 - 1))
    with pytest.raises(ImageTooLarge, match="chunks"):
        walker.examine(memoryview(webp([IMAGE, *[(b"prvt", b"")] * 10_001])), LIMITS)
