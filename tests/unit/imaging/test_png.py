"""PNG and APNG: every pixel stays, what is private goes, and a picture with rows missing is found out."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import png as walker
from imgpro.imaging.containers import png_chunks as png_parts
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
    png,
    png_chunk,
    png_chunks,
    private_exif,
    srgb_profile,
    xmp,
)

PLAIN = encode(picture(), "PNG")
ANIMATED = moving("PNG")
IHDR = png_chunks(PLAIN)[0]
SIGNATURE_AND_HEADER = 33

Chunks = list[tuple[bytes, bytes]]


def behind_header(*extra: tuple[bytes, bytes], data: bytes = PLAIN) -> bytes:
    chunks = png_chunks(data)
    return png([chunks[0], *extra, *chunks[1:]])


def before_end(*extra: tuple[bytes, bytes], data: bytes = PLAIN) -> bytes:
    chunks = png_chunks(data)
    return png([*chunks[:-1], *extra, chunks[-1]])


def raw_profile(kind: str, body: bytes) -> bytes:
    return f"\n{kind}\n{len(body):8}\n".encode() + body.hex().encode() + b"\n"


def interlaced(mode_bits: int, size: tuple[int, int], colour_type: int, missing_bytes: int = 0) -> bytes:
    """An Adam7 picture of zeros; the length of its data is counted pass by pass, in its own way."""
    passes = ((8, 8, 0, 0), (8, 8, 4, 0), (4, 8, 0, 4), (4, 4, 2, 0), (2, 4, 0, 2), (2, 2, 1, 0), (1, 2, 0, 1))
    rows = 0
    for dx, dy, x0, y0 in passes:
        columns = len(range(x0, size[0], dx))
        rows += len(range(y0, size[1], dy)) * (1 + (columns * mode_bits + 7) // 8) if columns else 0
    depth = 1 if mode_bits == 1 else 8
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 1)
    return png([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows - missing_bytes))), (b"IEND", b"")])


@pytest.mark.parametrize("name", ["screenshot-1440p.png", "window-alpha.png"])
def test_real_pictures_keep_every_pixel(photos: Path, name: str) -> None:
    data = (photos / name).read_bytes()
    examined, stored = clean(walker.examine, data + SECRET)
    assert examined.removed == ("trailing_data",)
    assert examined.probe.has_alpha == name.startswith("window")
    assert pixels(stored) == pixels(data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (203, 117)])
def test_made_ones_are_clean_as_they_come(mode: str, size: tuple[int, int]) -> None:
    data = encode(picture(mode).resize(size) if mode != "I;16" else picture(mode, (203, 117)), "PNG")
    examined, _ = clean(walker.examine, data)
    assert (examined.removed, examined.parts) == ((), None)
    assert examined.probe.has_alpha == mode.endswith("A")


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 3), (8, 8), (33, 17)])
@pytest.mark.parametrize(("bits", "colour_type"), [(1, 0), (8, 0), (24, 2), (32, 6)])
def test_interlaced(size: tuple[int, int], bits: int, colour_type: int) -> None:
    data = interlaced(bits, size, colour_type)
    assert clean(walker.examine, data)[0].parts is None
    assert pixels(data)[0][1] == size
    with pytest.raises(ImageBroken, match="rows are missing"):
        walker.examine(memoryview(interlaced(bits, size, colour_type, missing_bytes=1)), LIMITS)


@pytest.mark.parametrize(
    ("extra", "kinds"),
    [
        ((b"tEXt", b"Comment\0" + SECRET), ("text",)),
        ((b"zTXt", b"Comment\0\0" + zlib.compress(SECRET)), ("text",)),
        ((b"iTXt", b"Title\0\0\0\0\0" + SECRET), ("text",)),
        ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp()), ("gps", "xmp")),
        ((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp())), ("gps", "xmp")),
        ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), ("xmp",)),
        ((b"tEXt", b"Raw profile type exif\0" + raw_profile("exif", b"Exif\0\0" + private_exif())), None),
        (
            (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(raw_profile("generic", private_exif()))),
            ("gps", "exif", "maker_data"),
        ),
        ((b"zTXt", b"Raw profile type exif\0\0no zlib"), ("exif",)),
        ((b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw_profile("iptc", SECRET))), ("iptc",)),
        ((b"tIME", b"\x07\xe8\x05\x04\x03\x02\x01"), ("time",)),
        ((b"eXIf", private_exif()), ("gps", "exif", "maker_data")),
        ((b"sPLT", SECRET), ("unknown_chunks",)),
        ((b"prVt", SECRET), ("unknown_chunks",)),
        ((b"gAMA", SECRET), ("unknown_chunks",)),
        ((b"tRNS", SECRET), ("unknown_chunks",)),
        ((b"iCCP", b"name\0\0" + SECRET), ("application_data",)),
        ((b"iCCP", b"name\0\0" + zlib.compress(SECRET * 20)), ("application_data",)),
        ((b"iCCP", b"n" * 90 + b"\0\0" + zlib.compress(srgb_profile())), ("application_data",)),
        ((b"fcTL", bytes(26)), ("unknown_chunks",)),
    ],
)
def test_private_chunks_go(extra: tuple[bytes, bytes], kinds: tuple[str, ...] | None) -> None:
    for data in (behind_header(extra), before_end(extra)):
        examined, stored = clean(walker.examine, data)
        assert examined.removed == (kinds or ("gps", "exif", "maker_data"))
        assert stored == PLAIN


def test_what_decides_about_colours_stays() -> None:
    kept = [
        (b"gAMA", struct.pack(">I", 45_455)),
        (b"cHRM", bytes(32)),
        (b"sRGB", b"\0"),
        (b"cICP", b"\x01\x0d\0\x01"),
        (b"mDCV", bytes(24)),
        (b"cLLI", bytes(8)),
        (b"sBIT", b"\x08\x08\x08"),
        (b"pHYs", bytes(9)),
        (b"bKGD", bytes(6)),
        (b"tRNS", bytes(6)),
    ]
    examined, _ = clean(walker.examine, behind_header(*kept))
    assert examined.parts is None
    assert examined.probe.has_alpha
    twice, stored = clean(walker.examine, behind_header(*kept, *kept))
    assert (twice.removed, stored) == (("unknown_chunks",), behind_header(*kept))
    late, stored = clean(walker.examine, before_end(*kept))
    assert (late.removed, late.probe.has_alpha, stored) == (("unknown_chunks",), False, PLAIN)


def test_the_palette_has_its_own_companions() -> None:
    data = encode(picture("P"), "PNG")
    chunks = png_chunks(data)
    at = [kind for kind, _ in chunks].index(b"PLTE") + 1
    entries = len(chunks[at - 1][1]) // 3
    kept = [(b"tRNS", bytes(entries)), (b"hIST", bytes(2 * entries)), (b"bKGD", b"\0"), (b"sBIT", b"\x08\x08\x08")]
    examined, _ = clean(walker.examine, png(chunks[:at] + kept + chunks[at:]))
    assert examined.parts is None
    too_long = [(b"tRNS", bytes(entries + 1)), (b"hIST", bytes(3))]
    assert clean(walker.examine, png(chunks[:at] + too_long + chunks[at:]))[1] == data


def test_the_profile_stays() -> None:
    data = encode(picture(), "PNG", icc_profile=srgb_profile())
    examined, stored = clean(walker.examine, data)
    assert (examined.parts, examined.probe.has_icc) == (None, True)
    with Image.open(io.BytesIO(stored)) as image:
        assert image.info["icc_profile"] == srgb_profile()


def test_what_hides_behind_the_profile_goes() -> None:
    body = b"icc\0\0" + zlib.compress(srgb_profile())
    examined, stored = clean(walker.examine, behind_header((b"iCCP", body + SECRET)))
    assert (examined.removed, examined.probe.has_icc) == (("application_data",), True)
    assert stored == behind_header((b"iCCP", body))


def test_a_profile_that_is_a_bomb_goes() -> None:
    bomb = srgb_profile() + bytes(100_000_000)
    data = behind_header((b"iCCP", b"icc\0\0" + zlib.compress(bomb, 9)))
    tracemalloc.start()
    examined, stored = clean(walker.examine, data)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert (examined.removed, stored) == (("application_data",), PLAIN)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("place", [behind_header, before_end])
def test_the_orientation_stays_and_nothing_else_of_exif(turned: int, place: object) -> None:
    data = (behind_header if place is behind_header else before_end)((b"eXIf", private_exif(turned)))
    examined, stored = clean(walker.examine, data)
    assert examined.probe.orientation == orientation(stored) == turned
    assert stored == (PLAIN if turned == 1 else behind_header((b"eXIf", minimal_exif(turned))))


def test_a_minimal_exif_chunk_moves_before_the_picture() -> None:
    _, stored = clean(walker.examine, before_end((b"eXIf", minimal_exif(6))))
    assert stored == behind_header((b"eXIf", minimal_exif(6)))


@pytest.mark.parametrize("hidden", [SECRET, SECRET * 2_000])
def test_what_hides_behind_the_compressed_stream_goes(hidden: bytes) -> None:
    chunks = png_chunks(PLAIN)
    at = [kind for kind, _ in chunks].index(b"IDAT")
    chunks[at : at + 1] = [(b"IDAT", chunks[at][1] + hidden), (b"IDAT", hidden), (b"IDAT", b"")]
    examined, stored = clean(walker.examine, png(chunks))
    assert examined.removed == ("unknown_chunks",)
    assert stored == PLAIN


def test_data_in_many_pieces_is_let_be() -> None:
    chunks = png_chunks(PLAIN)
    body = b"".join(body for kind, body in chunks if kind == b"IDAT")
    pieces = [(b"IDAT", body[at : at + 7]) for at in range(0, len(body), 7)]
    data = png([chunks[0], (b"IDAT", b""), *pieces, chunks[-1]])
    assert clean(walker.examine, data)[0].parts is None
    assert pixels(data) == pixels(PLAIN)


@pytest.mark.parametrize("data", [PLAIN, ANIMATED, behind_header((b"tEXt", b"a\0b"))])
def test_cut_off_anywhere_is_broken(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(ImageBroken):
            walker.examine(memoryview(data[:end]), LIMITS)


def with_rows(rows: int, tail: bytes = b"", cut: int = 0) -> bytes:
    """The 40 x 30 RGB header over another number of rows."""
    stream = zlib.compress(bytes(rows * 121) + tail)
    return png([IHDR, (b"IDAT", stream[: len(stream) - cut]), (b"IEND", b"")])


def test_missing_rows_are_broken_and_a_few_bytes_too_many_are_not() -> None:
    assert clean(walker.examine, with_rows(30))[0].parts is None
    assert clean(walker.examine, with_rows(30, b"\0" * 100))[0].parts is None
    for data in (with_rows(29, bytes(120)), with_rows(0), with_rows(30, cut=1), with_rows(30, bytes(70_000))):
        with pytest.raises(ImageBroken):
            walker.examine(memoryview(data), LIMITS)


def test_a_bomb_behind_a_small_header_is_left_early() -> None:
    stream = zlib.compressobj(9)
    bomb = b"".join(stream.compress(bytes(1_000_000)) for _ in range(200)) + stream.flush()
    with pytest.raises(ImageBroken, match="more image data"):
        walker.examine(memoryview(png([IHDR, (b"IDAT", bomb), (b"IEND", b"")])), LIMITS)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"gAMA"])
def test_a_wrong_checksum_of_what_stays_is_broken(kind: bytes) -> None:
    data = bytearray(behind_header((b"gAMA", bytes(4)), (b"tEXt", b"a\0b")))
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    data[at + 4 + length] ^= 1
    with pytest.raises(ImageBroken, match="checksum"):
        walker.examine(memoryview(bytes(data)), LIMITS)


def header(*values: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", *values)


@pytest.mark.parametrize(
    "chunks",
    [
        [header(40, 30, 4, 2, 0, 0, 0)],
        [header(40, 30, 16, 3, 0, 0, 0)],
        [header(40, 30, 8, 1, 0, 0, 0)],
        [header(40, 30, 8, 2, 1, 0, 0)],
        [header(40, 30, 8, 2, 0, 1, 0)],
        [header(40, 30, 8, 2, 0, 0, 2)],
        [header(0, 30, 8, 2, 0, 0, 0)],
        [header(40, 0, 8, 2, 0, 0, 0)],
        [(b"IHDR", bytes(12))],
        [(b"gAMA", bytes(4)), IHDR],
        [IHDR, IHDR],
        [IHDR, (b"CgBI", bytes(4))],
        [IHDR, (b"I\0AT", b"")],
        [IHDR, (b"PLTE", bytes(4))],
        [IHDR, (b"PLTE", b"")],
        [IHDR, (b"PLTE", bytes(3)), (b"PLTE", bytes(3))],
        [header(40, 30, 8, 0, 0, 0, 0), (b"PLTE", bytes(3))],
        [header(40, 30, 8, 3, 0, 0, 0)],
    ],
)
def test_what_cannot_be_decoded_is_broken(chunks: Chunks) -> None:
    with pytest.raises(ImageBroken):
        walker.examine(memoryview(png(chunks + png_chunks(PLAIN)[1:])), LIMITS)


def test_image_data_in_two_places_is_broken() -> None:
    chunks = png_chunks(PLAIN)
    body = chunks[1][1]
    data = png([chunks[0], (b"IDAT", body[:9]), (b"tIME", bytes(7)), (b"IDAT", body[9:]), chunks[-1]])
    with pytest.raises(ImageBroken, match="one piece"):
        walker.examine(memoryview(data), LIMITS)


def test_too_large_to_decode() -> None:
    for size in ((20_001, 1), (1, 20_001), (7_072, 7_072), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(ImageTooLarge):
            walker.examine(memoryview(png([header(*size, 8, 2, 0, 0, 0)])), LIMITS)


def test_a_thousand_small_bombs_are_not_all_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    inflate = png_parts._inflate
    monkeypatch.setattr(png_parts, "_inflate", lambda *args: calls.append(1) or inflate(*args))
    bombs = [(b"iCCP", b"icc\0\0" + zlib.compress(bytes(9))), (b"zTXt", b"Raw profile type exif\0\0")] * 400
    assert clean(walker.examine, behind_header(*bombs))[1] == PLAIN
    assert len(calls) <= 21


def test_a_flood_of_chunks_ends_early() -> None:
    assert clean(walker.examine, behind_header(*[(b"tEXt", b"a\0b")] * 990))[1] == PLAIN
    with pytest.raises(ImageTooLarge, match="chunks"):
        walker.examine(memoryview(behind_header(*[(b"tEXt", b"a\0b")] * 1_001)), LIMITS)
    flood = PLAIN[:SIGNATURE_AND_HEADER] + png_chunk(b"IDAT", b"") * 100_001
    with pytest.raises(ImageTooLarge, match="chunks"):
        walker.examine(memoryview(flood), LIMITS)


@pytest.mark.parametrize("default_image", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_animations_stay(mode: str, default_image: bool) -> None:
    frames = [picture(mode).rotate(17 * index) for index in range(5)]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=default_image, duration=50)
    examined, stored = clean(walker.examine, behind_header((b"tEXt", b"Comment\0" + SECRET), data=data))
    assert (examined.probe.frames, examined.removed) == (4 if default_image else 5, ("text",))
    assert pixels(stored) == pixels(data)


def change(index: int, kind: bytes, body: bytes | None) -> bytes:
    """The animation with its chunk `index` of `kind` replaced, or without it."""
    chunks = png_chunks(ANIMATED)
    at = [place for place, chunk in enumerate(chunks) if chunk[0] == kind][index]
    chunks[at : at + 1] = [] if body is None else [(kind, body)]
    return png(chunks)


def nth(index: int, kind: bytes) -> bytes:
    return [body for found, body in png_chunks(ANIMATED) if found == kind][index]


@pytest.mark.parametrize(
    "data",
    [
        change(0, b"acTL", struct.pack(">II", 3, 0)),
        change(0, b"acTL", struct.pack(">II", 5, 0)),
        change(0, b"acTL", struct.pack(">II", 0, 0)),
        change(0, b"acTL", bytes(7)),
        change(1, b"fcTL", None),
        change(1, b"fdAT", None),
        change(-1, b"fdAT", None),
        change(-1, b"fdAT", nth(-1, b"fdAT")[:-1]),
        change(-1, b"fdAT", nth(-1, b"fdAT")[:30]),
        change(-1, b"fdAT", nth(0, b"fdAT")),
        change(1, b"fcTL", nth(1, b"fcTL")[:4] + struct.pack(">IIII", 40, 30, 1, 0) + nth(1, b"fcTL")[20:]),
        change(1, b"fcTL", nth(1, b"fcTL")[:4] + struct.pack(">IIII", 0, 30, 0, 0) + nth(1, b"fcTL")[20:]),
        change(0, b"fcTL", nth(0, b"fcTL")[:4] + struct.pack(">IIII", 39, 30, 0, 0) + nth(0, b"fcTL")[20:]),
    ],
)
def test_broken_animations(data: bytes) -> None:
    with pytest.raises(ImageBroken):
        walker.examine(memoryview(data), LIMITS)


def test_what_hides_behind_a_frame_goes() -> None:
    examined, stored = clean(walker.examine, change(-1, b"fdAT", nth(-1, b"fdAT") + SECRET))
    assert (examined.removed, stored) == (("unknown_chunks",), ANIMATED)


def test_frames_are_counted_and_weighed() -> None:
    with pytest.raises(ImageTooLarge, match="frames"):
        walker.examine(memoryview(change(0, b"acTL", struct.pack(">II", 1_001, 0))), LIMITS)
    with pytest.raises(ImageTooLarge, match="over all frames"):
        walker.examine(memoryview(ANIMATED), Limits(max_frame_pixels=4 * 40 * 30 - 1))
    assert walker.examine(memoryview(ANIMATED), Limits(max_frame_pixels=4 * 40 * 30, max_frames=4)).probe.frames == 4


def test_every_text_that_pillow_can_write_goes() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", SECRET.decode())
    text.add_itxt("Author", SECRET.decode(), zip=True)
    text.add_text("Author", SECRET.decode(), zip=True)
    examined, stored = clean(walker.examine, encode(picture(), "PNG", pnginfo=text))
    assert (examined.removed, stored) == (("text",), PLAIN)
