"""JPEG: real and made ones keep every pixel and lose what is private; hostile ones are refused for what they are."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError, UnsupportedFormat
from imgpro.imaging.containers import jpeg
from imgpro.model import Limits
from tests.containers import (
    LIMITS,
    SECRET,
    clean,
    encode,
    jpeg_segments,
    minimal_exif,
    orientation,
    picture,
    pixels,
    private_exif,
    segment,
    srgb_profile,
    xmp,
)

PLAIN = encode(picture(), "JPEG")
JFIF_END = 20
PHOTOSHOP = b"Photoshop 3.0\0"


def behind_jfif(extra: bytes, data: bytes = PLAIN) -> bytes:
    return data[:JFIF_END] + extra + data[JFIF_END:]


def frame_at(data: bytes) -> int:
    """Offset of the frame header's marker."""
    return next(data.index(body) for marker, body in jpeg_segments(data) if marker in (0xC0, 0xC2))


def patched(offset: int, value: bytes, data: bytes = PLAIN) -> bytes:
    at = frame_at(data) + offset
    return data[:at] + value + data[at + len(value) :]


def icc_segments(profile: bytes, piece: int = 60_000) -> list[bytes]:
    pieces = [profile[at : at + piece] for at in range(0, len(profile), piece)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((index, len(pieces))) + body) for index, body in enumerate(pieces, 1)
    ]


@pytest.mark.parametrize(
    "name", ["photo-24mp.jpg", "photo-12mp-gps.jpg", "photo-cmyk.jpg", "portrait-orientation6.jpg", "photo-2mp.jpg"]
)
def test_real_photographs_keep_every_pixel(photos: Path, name: str) -> None:
    data = (photos / name).read_bytes()
    examined, stored = clean(jpeg.examine, data)
    with Image.open(io.BytesIO(data)) as before:
        assert (examined.probe.width, examined.probe.height) == before.size
    assert pixels(stored) == pixels(data)
    assert examined.probe.orientation == orientation(data) == orientation(stored)


def test_the_position_is_gone(photos: Path) -> None:
    data = (photos / "photo-12mp-gps.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as before:
        assert before.getexif().get_ifd(0x8825)
    examined, stored = clean(jpeg.examine, data)
    assert {"gps", "exif"} <= set(examined.removed)
    with Image.open(io.BytesIO(stored)) as after:
        assert not after.getexif()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"progressive": True}),
        ("L", {"progressive": True}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"restart_marker_blocks": 1}),
        ("RGB", {"restart_marker_rows": 1, "progressive": True}),
        ("RGB", {"quality": 100}),
        ("RGB", {"optimize": True}),
    ],
)
def test_made_ones_are_clean_as_they_come(mode: str, options: dict[str, int]) -> None:
    data = encode(picture(mode, (203, 117)), "JPEG", **options)
    examined, stored = clean(jpeg.examine, data)
    assert (examined.removed, examined.parts, stored) == ((), None, data)
    assert (examined.probe.width, examined.probe.height, examined.probe.has_alpha) == (203, 117, False)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1000, 1000), (17, 1)])
@pytest.mark.parametrize("options", [{"optimize": True, "quality": 1}, {"progressive": True}])
def test_the_emptiest_pictures_are_not_taken_for_truncated(size: tuple[int, int], options: dict[str, int]) -> None:
    clean(jpeg.examine, encode(Image.new("RGB", size, "grey"), "JPEG", **options))
    clean(jpeg.examine, encode(Image.new("L", size, 128), "JPEG", **options))


@pytest.mark.parametrize(
    ("extra", "kinds"),
    [
        (segment(0xE1, b"Exif\0\0" + private_exif()), ("gps", "exif", "maker_data")),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp()), ("gps", "xmp")),
        (segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + SECRET), ("xmp",)),
        (segment(0xED, PHOTOSHOP + b"8BIM\x04\x04\0\0" + SECRET), ("iptc",)),
        (segment(0xED, PHOTOSHOP + b"8BIM\x04\x0c\0\0" + SECRET), ("thumbnail",)),
        (segment(0xED, PHOTOSHOP + b"8BIM\x03\xed\0\0" + SECRET), ("application_data",)),
        (segment(0xFE, b"<script>" + SECRET), ("comment",)),
        (segment(0xE0, b"JFXX\0\x10" + SECRET), ("thumbnail",)),
        (segment(0xE1, SECRET), ("application_data",)),
        (segment(0xE2, b"FPXR\0" + SECRET), ("application_data",)),
        (segment(0xE2, b"ICC_PROFILE\0\x01\x02" + SECRET * 9), ("application_data",)),
        (segment(0xE5, SECRET), ("application_data",)),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + SECRET), ("application_data",)),
        (b"\xff\xd0\xff\x01", ("unknown_chunks",)),
        (SECRET, ("unknown_chunks",)),
        (b"\xff\xff\xff", ()),
    ],
)
def test_private_segments_go(extra: bytes, kinds: tuple[str, ...]) -> None:
    data = behind_jfif(extra)
    examined, stored = clean(jpeg.examine, data)
    assert examined.removed == kinds
    assert examined.parts is not None
    assert pixels(stored) == pixels(PLAIN)


@pytest.mark.parametrize("end", [b"\0" * 16, b"PK\x03\x04" + SECRET, b"<script>" + SECRET, b"\xff\xd8" + SECRET])
def test_nothing_stays_behind_the_end(end: bytes) -> None:
    examined, stored = clean(jpeg.examine, PLAIN + end)
    assert examined.removed == ("trailing_data",)
    assert stored == PLAIN


def test_segments_behind_the_first_scan_go() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    hidden = segment(0xFE, SECRET) + segment(0xE1, b"Exif\0\0" + private_exif(6)) + icc_segments(srgb_profile())[0]
    examined, stored = clean(jpeg.examine, data[:at] + hidden + data[at:])
    assert stored == data
    assert set(examined.removed) == {"comment", "exif", "gps", "maker_data", "application_data"}
    assert examined.probe.orientation == 1


@pytest.mark.parametrize("turned", range(1, 9))
def test_the_orientation_stays_and_nothing_else_of_exif(turned: int) -> None:
    data = behind_jfif(segment(0xE1, b"Exif\0\0" + private_exif(turned)))
    examined, stored = clean(jpeg.examine, data)
    assert examined.probe.orientation == orientation(stored) == turned
    if turned != 1:
        assert [body[10:] for marker, body in jpeg_segments(stored) if marker == 0xE1] == [minimal_exif(turned)]


@pytest.mark.parametrize("turned", [0, 9, 700])
def test_a_bad_orientation_is_ignored(turned: int) -> None:
    examined, stored = clean(jpeg.examine, behind_jfif(segment(0xE1, b"Exif\0\0" + private_exif(turned))))
    assert examined.probe.orientation == 1
    assert stored == PLAIN


def test_of_two_exif_blocks_the_first_counts() -> None:
    blocks = segment(0xE1, b"Exif\0\0" + minimal_exif(6)) + segment(0xE1, b"Exif\0\0" + minimal_exif(3))
    examined, stored = clean(jpeg.examine, behind_jfif(blocks))
    assert (examined.probe.orientation, examined.removed) == (6, ("exif",))
    assert orientation(stored) == 6


def test_the_jfif_thumbnail_goes_and_the_density_stays() -> None:
    body = b"JFIF\0\x01\x01\x01\0\x48\0\x48\x02\x01" + b"secret"
    examined, stored = clean(jpeg.examine, PLAIN[:2] + segment(0xE0, body) + PLAIN[JFIF_END:])
    assert examined.removed == ("thumbnail",)
    with Image.open(io.BytesIO(stored)) as image:
        assert image.info["dpi"] == (72, 72)


@pytest.mark.parametrize("piece", [60_000, 300])
def test_a_whole_profile_stays(piece: int) -> None:
    profile = srgb_profile()
    segments = icc_segments(profile, piece)
    examined, stored = clean(jpeg.examine, behind_jfif(b"".join(reversed(segments))))
    assert examined.probe.has_icc
    assert examined.parts is None
    with Image.open(io.BytesIO(stored)) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize(
    "segments",
    [
        icc_segments(srgb_profile(), 300)[:-1],
        [icc_segments(srgb_profile(), 300)[0]] * 2,
        icc_segments(bytes(500)),
        icc_segments(srgb_profile()[:100]),
    ],
)
def test_a_broken_profile_goes(segments: list[bytes]) -> None:
    examined, stored = clean(jpeg.examine, behind_jfif(b"".join(segments)))
    assert (examined.removed, examined.probe.has_icc, stored) == (("application_data",), False, PLAIN)


def test_of_several_pictures_the_first_stays() -> None:
    data = encode(picture(), "MPO", save_all=True, append_images=[picture().rotate(90)])
    examined, stored = clean(jpeg.examine, data)
    assert "extra_images" in examined.removed
    assert pixels(stored) == pixels(data)[:1]
    assert stored.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_cut_off_anywhere_is_broken(options: dict[str, int]) -> None:
    data = behind_jfif(segment(0xE1, b"Exif\0\0" + private_exif(6)), encode(picture(), "JPEG", **options))
    for end in range(3, len(data)):
        with pytest.raises(ImageBroken):
            jpeg.examine(memoryview(data[:end]), LIMITS)


def test_missing_rows_do_not_hide_behind_an_end_marker() -> None:
    data = encode(picture("RGB", (2000, 2000)), "JPEG")
    at = data.index(b"\xff\xda")
    with pytest.raises(ImageBroken, match="rows are missing"):
        jpeg.examine(memoryview(data[: at + 4000] + b"\xff\xd9"), LIMITS)


def test_missing_restart_intervals_show_missing_rows() -> None:
    data = encode(picture("RGB", (300, 300)), "JPEG", restart_marker_rows=1)
    at = max(data.rfind(bytes((0xFF, marker))) for marker in range(0xD0, 0xD8))
    with pytest.raises(ImageBroken, match="rows are missing"):
        jpeg.examine(memoryview(data[:at] + b"\xff\xd9"), LIMITS)


def test_a_component_without_a_scan_is_missing() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xc4", first)
    with pytest.raises(ImageBroken, match="before all of its picture"):
        jpeg.examine(memoryview(data[:first] + data[second:]), LIMITS)


@pytest.mark.parametrize(
    ("marker", "word"),
    [(0xC3, "Lossless"), (0xC9, "arithmetic"), (0xCA, "arithmetic"), (0xC5, "Hierarchical"), (0xF7, "JPEG-LS")],
)
def test_what_decoders_do_not_take_is_named(marker: int, word: str) -> None:
    with pytest.raises(UnsupportedFormat, match=word):
        jpeg.examine(memoryview(patched(1, bytes((marker,)))), LIMITS)


def test_twelve_bits_are_not_accepted() -> None:
    with pytest.raises(UnsupportedFormat, match="12 bits"):
        jpeg.examine(memoryview(patched(4, b"\x0c")), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        patched(4, b"\x07"),  # precision
        patched(5, b"\0\0"),  # height, to be told by DNL
        patched(7, b"\0\0"),  # width
        patched(9, b"\x02"),  # components
        patched(11, b"\x51"),  # sampling beyond 4
        patched(11, b"\x01"),  # sampling of nothing
        patched(11, b"\x31\x00\x02\x21"),  # two thirds
        patched(11, b"\x44\x00\x02\x44"),  # more than ten blocks in a unit
        patched(10, b"\x02"),  # a component twice
        patched(0, PLAIN[frame_at(PLAIN) : frame_at(PLAIN) + 19] * 2),
        behind_jfif(b"\xff\xd8"),
        behind_jfif(b"\xff\x02\0\x02"),
        behind_jfif(segment(0xDB, bytes(64))),
        behind_jfif(segment(0xDB, b"\x24" + bytes(64))),
        behind_jfif(segment(0xC4, bytes(16))),
        behind_jfif(segment(0xC4, b"\0" + b"\xff" * 16 + bytes(16 * 255))),
        behind_jfif(segment(0xDA, b"\x01\x01\0\0\x3f\0")),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\x01",
        PLAIN[: PLAIN.index(b"\xff\xda")] + b"\xff\xd9",
        PLAIN[:-2] + segment(0xDC, b"\0\x1d") + b"\xff\xd9",
    ],
)
def test_what_cannot_be_decoded_is_broken(data: bytes) -> None:
    with pytest.raises(ImageBroken):
        jpeg.examine(memoryview(data), LIMITS)


def test_a_line_count_that_agrees_is_let_be() -> None:
    examined, _ = clean(jpeg.examine, PLAIN[:-2] + segment(0xDC, b"\0\x1e") + b"\xff\xd9")
    assert examined.probe.height == 30


def test_too_large_to_decode() -> None:
    for height, width in ((20_001, 1), (1, 20_001), (7_072, 7_072)):
        with pytest.raises(ImageTooLarge):
            jpeg.examine(memoryview(patched(5, struct.pack(">HH", height, width))), LIMITS)


def test_scans_are_counted_against_the_pixels() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    examined, _ = clean(jpeg.examine, data[:-2] + scan * 80 + b"\xff\xd9")
    assert examined.parts is None
    with pytest.raises(ImageTooLarge, match="scans"):
        jpeg.examine(memoryview(data[:-2] + scan * 100 + b"\xff\xd9"), LIMITS)
    with pytest.raises(ImageTooLarge, match="scans"):
        jpeg.examine(memoryview(data), Limits(max_scan_pixels=40 * 30 * 5))


def test_a_scan_marker_inside_a_segment_is_no_scan() -> None:
    examined, stored = clean(jpeg.examine, behind_jfif(segment(0xFE, b"\xff\xda" * 500)))
    assert (examined.removed, stored) == (("comment",), PLAIN)


def test_a_flood_of_segments_ends_early() -> None:
    with pytest.raises(ImageTooLarge, match="segments"):
        jpeg.examine(memoryview(PLAIN[:2] + segment(0xFE, b"") * 11_000 + PLAIN[2:]), LIMITS)


def test_limits_are_the_only_thing_that_differs() -> None:
    with pytest.raises(ImgproError):
        jpeg.examine(memoryview(PLAIN), Limits(max_pixels=1_199))
    assert jpeg.examine(memoryview(PLAIN), Limits(max_pixels=1_200)).parts is None
