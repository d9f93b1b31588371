"""GIF: frames, timing, loops and colours stay, what is private goes, and floods are left early."""

import struct
from pathlib import Path

import pytest

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import gif
from imgpro.model import Limits
from tests.containers import LIMITS, SECRET, clean, encode, gif_blocks, moving, picture, pixels, srgb_profile, xmp

PLAIN = encode(picture("P"), "GIF")
ANIMATED = moving("GIF", mode="P")
HEAD = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
DATA = b"\x02\x16" + b"\x84\x01" * 11 + b"\0"  # of 10 x 10 pixels, by its length


def frame(left: int, top: int, width: int, height: int, data: bytes = DATA) -> bytes:
    return b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + data


def made(*blocks: bytes, end: bytes = b";") -> bytes:
    return HEAD + b"".join(blocks) + end


def blocks_of(body: bytes) -> bytes:
    pieces = (body[at : at + 255] for at in range(0, len(body), 255))
    return b"".join(bytes((len(piece),)) + piece for piece in pieces) + b"\0"


def application(name: bytes, body: bytes) -> bytes:
    return b"\x21\xff\x0b" + name + blocks_of(body)


def behind_head(extra: bytes, data: bytes = PLAIN) -> bytes:
    at = next(start for _, start, _ in gif_blocks(data))
    return data[:at] + extra + data[at:]


XMP_BLOCK = b"\x21\xff\x0bXMP DataXMP" + xmp() + b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def test_a_real_animation_keeps_every_pixel(photos: Path) -> None:
    data = (photos / "animation-16f.gif").read_bytes()
    examined, stored = clean(gif.examine, behind_head(b"\x21\xfe" + blocks_of(SECRET), data) + SECRET)
    assert (examined.probe.frames, examined.removed) == (16, ("comment", "trailing_data"))
    assert stored == data


@pytest.mark.parametrize("data", [PLAIN, ANIMATED, encode(picture("L"), "GIF"), encode(picture("RGBA"), "GIF")])
def test_made_ones_are_clean_as_they_come(data: bytes) -> None:
    examined, _ = clean(gif.examine, data)
    assert (examined.removed, examined.parts) == ((), None)
    assert (examined.probe.width, examined.probe.height) == (40, 30)
    assert examined.probe.frames == len(pixels(data))


def test_transparency_is_seen() -> None:
    assert not gif.examine(memoryview(PLAIN), LIMITS).probe.has_alpha
    control = b"\x21\xf9\x04\x01\0\0\x03\0"
    assert gif.examine(memoryview(made(control, frame(0, 0, 10, 10))), LIMITS).probe.has_alpha
    assert gif.examine(memoryview(made(frame(1, 0, 9, 10))), LIMITS).probe.has_alpha


@pytest.mark.parametrize(
    ("extra", "kinds"),
    [
        (b"\x21\xfe" + blocks_of(SECRET * 30), ("comment",)),
        (b"\x21\x01" + blocks_of(bytes(12) + SECRET), ("text",)),
        (XMP_BLOCK, ("gps", "xmp")),
        (application(b"XMP DataXMP", b"<x/>"), ("xmp",)),
        (application(b"MGK8BIM0000", SECRET), ("application_data",)),
        (application(b"ICCRGBG1012", SECRET * 20), ("application_data",)),
        (application(b"NETSCAPE2.0", b"\x02" + bytes(4)), ("application_data",)),
        (b"\x21\xff\x05short" + blocks_of(SECRET), ("application_data",)),
        (b"\x21\xff\0", ("application_data",)),
        (b"\x21\xf9\x05" + bytes(5) + b"\0", ("unknown_chunks",)),
        (b"\x21\xf9\x04" + bytes(4) + blocks_of(SECRET), ("unknown_chunks",)),
        (b"\x21\x77" + blocks_of(SECRET), ("unknown_chunks",)),
        (bytes(20), ("unknown_chunks",)),
    ],
)
def test_private_blocks_go(extra: bytes, kinds: tuple[str, ...]) -> None:
    examined, stored = clean(gif.examine, behind_head(extra))
    assert examined.removed == kinds
    assert stored == PLAIN


def test_the_loop_stays_and_what_hides_in_it_goes() -> None:
    loop = application(b"NETSCAPE2.0", b"\x01\x05\x00")
    assert clean(gif.examine, behind_head(loop))[0].parts is None
    assert clean(gif.examine, behind_head(application(b"ANIMEXTS1.0", b"\x01\x05\x00")))[0].parts is None
    hiding = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x05\x00" + blocks_of(SECRET)
    examined, stored = clean(gif.examine, behind_head(hiding + loop))
    assert (examined.removed, stored) == (("application_data",), behind_head(loop))


def test_the_profile_stays() -> None:
    block = application(b"ICCRGBG1012", srgb_profile())
    examined, _ = clean(gif.examine, behind_head(block))
    assert (examined.parts, examined.probe.has_icc) == (None, True)
    assert clean(gif.examine, behind_head(block + block))[1] == behind_head(block)


@pytest.mark.parametrize("end", [b"PK\x03\x04" + SECRET, b"\0\0", b"<script>" + SECRET])
def test_nothing_stays_behind_the_end(end: bytes) -> None:
    examined, stored = clean(gif.examine, ANIMATED + end)
    assert (examined.removed, stored) == (("trailing_data",), ANIMATED)


def test_a_missing_trailer_is_added() -> None:
    for data, kinds in ((ANIMATED[:-1], ()), (ANIMATED[:-1] + b"\0\0", ("unknown_chunks",))):
        examined, stored = clean(gif.examine, data)
        assert (examined.removed, stored) == (kinds, ANIMATED)


def test_cut_off_anywhere_but_between_blocks_is_broken() -> None:
    data = behind_head(b"\x21\xfe" + blocks_of(SECRET), ANIMATED)
    ends = {end for kind, _, end in gif_blocks(data)}
    first = min(end for kind, _, end in gif_blocks(data) if kind == 0x2C)
    for end in range(len(data)):
        if end in ends and end >= first:
            assert pixels(clean(gif.examine, data[:end])[1])
        else:
            with pytest.raises(ImageBroken):
                gif.examine(memoryview(data[:end]), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        made(),
        made(frame(0, 0, 0, 10)),
        made(frame(0, 0, 10, 10), frame(1, 0, 10, 10)),
        made(frame(0, 0, 10, 10, b"\0" + DATA[1:])),
        made(frame(0, 0, 10, 10, b"\x09" + DATA[1:])),
        made(frame(0, 0, 10, 10, b"\x02\0")),
        made(frame(0, 0, 10, 10, b"\x02\x02\x84\x01\0")),
        made(frame(0, 0, 10, 10), b"X"),
        b"GIF88a" + PLAIN[6:],
    ],
)
def test_what_cannot_be_decoded_is_broken(data: bytes) -> None:
    with pytest.raises(ImageBroken):
        gif.examine(memoryview(data), LIMITS)


def test_the_emptiest_frame_is_not_taken_for_truncated() -> None:
    for size in ((1, 1), (640, 480), (3000, 3000)):
        clean(gif.examine, encode(picture("P", (64, 64)).point(lambda _: 0).resize(size), "GIF"))


def test_the_first_frame_may_enlarge_the_canvas_as_in_pillow() -> None:
    data = made(frame(0, 0, 12, 8))
    examined, _ = clean(gif.examine, data)
    assert (examined.probe.width, examined.probe.height) == (12, 10)
    nothing = data[:6] + bytes(4) + data[10:]
    assert gif.examine(memoryview(nothing), LIMITS).probe.displayed == (12, 8)


def test_too_large_to_decode() -> None:
    with pytest.raises(ImageTooLarge):
        gif.examine(memoryview(made(frame(20_000, 0, 10, 10))), LIMITS)
    with pytest.raises(ImageTooLarge):
        gif.examine(memoryview(HEAD[:6] + b"\xff\x4d" * 2 + HEAD[10:] + frame(0, 0, 10, 10)), LIMITS)


def test_frames_are_counted_and_weighed() -> None:
    one = frame(0, 0, 10, 10)
    assert gif.examine(memoryview(made(one * 1_000)), LIMITS).probe.frames == 1_000
    assert gif.examine(memoryview(made(one)), Limits(max_frame_pixels=99)).probe.frames == 1  # no animation
    with pytest.raises(ImageTooLarge, match="1000 frames"):
        gif.examine(memoryview(made(one * 50_000)), LIMITS)
    with pytest.raises(ImageTooLarge, match="over all frames"):
        gif.examine(memoryview(made(one * 6)), Limits(max_frame_pixels=599))


def test_comments_are_limited_in_all() -> None:
    comment = b"\x21\xfe" + blocks_of(bytes(32_768))
    assert gif.examine(memoryview(made(comment * 2, frame(0, 0, 10, 10))), LIMITS).removed == ("comment",)
    with pytest.raises(ImageTooLarge, match="comments"):
        gif.examine(memoryview(made(comment * 2, b"\x21\xfe\x01a\0", frame(0, 0, 10, 10))), LIMITS)


def test_floods_end_early() -> None:
    with pytest.raises(ImageTooLarge, match="blocks"):
        gif.examine(memoryview(made(b"\x21\xfe\0" * 20_001, frame(0, 0, 10, 10))), LIMITS)
    with pytest.raises(ImageTooLarge, match="blocks"):
        gif.examine(memoryview(made(frame(0, 0, 10, 10, b"\x02" + b"\x01\x84" * 5_000_001 + b"\0"))), LIMITS)
