"""JPEG, PNG, GIF and WebP walkers on anything whatever: a clean refusal or a clean file, and nothing else.

What a walker lets through may still hold damaged pixels; that is for the decode to find.
"""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers import gif, jpeg, png, webp
from tests.containers import (
    SECRET,
    Walker,
    clean,
    encode,
    moving,
    picture,
    png_chunk,
    private_exif,
    riff_chunk,
    segment,
    srgb_profile,
    xmp,
)

EXIF = b"Exif\0\0" + private_exif(6)
ICC = srgb_profile()

_FILES: dict[str, tuple[Walker, bytes, list[bytes]]] = {
    "jpeg": (
        jpeg.examine,
        b"\xff\xd8\xff",
        [
            encode(picture(), "JPEG", exif=EXIF, icc_profile=ICC, comment=b"a comment", xmp=xmp()),
            encode(picture("CMYK"), "JPEG", progressive=True, restart_marker_blocks=2),
            encode(picture(), "MPO", save_all=True, append_images=[picture().rotate(90)]),
        ],
    ),
    "png": (
        png.examine,
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        [
            encode(picture("RGBA"), "PNG", exif=EXIF, icc_profile=ICC),
            encode(picture("P"), "PNG", transparency=2),
            moving("PNG", mode="RGBA"),
        ],
    ),
    "gif": (
        gif.examine,
        b"GIF89a\x0a\0\x0a\0\x80\0\0\0\0\0\0\0\0",
        [encode(picture("P"), "GIF", comment=b"a comment"), moving("GIF", mode="P")],
    ),
    "webp": (
        webp.examine,
        b"RIFF\0\x01\0\0WEBPVP8X\x0a\0\0\0",
        [
            encode(picture("RGBA"), "WEBP", exif=EXIF, icc_profile=ICC, xmp=xmp()),
            encode(picture(), "WEBP", lossless=True),
            moving("WEBP", mode="RGBA"),
        ],
    ),
}
KINDS = st.sampled_from(sorted(_FILES))


def stands_the_walk(walker: Walker, data: bytes) -> None:
    """Examine `data`; `clean` asserts that what is to be stored is clean in turn.

    A splice may carry anything into the pixels, where no walker looks, so no secret is looked for.
    """
    with suppress(ImageBroken, ImageTooLarge, UnsupportedFormat):
        clean(walker, data, secret=b"")


@given(KINDS, st.data())
@settings(max_examples=500)
def test_mutated(kind: str, draw: st.DataObject) -> None:
    walker, _, files = _FILES[kind]
    data = bytearray(draw.draw(st.sampled_from(files)))
    # Early bytes are structure, late ones pixels: prefer the structure.
    places = st.integers(0, 400) | st.integers(0, len(data) - 1)
    for place, value in draw.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        data[place % len(data)] = value
    stands_the_walk(walker, bytes(data))


@given(KINDS, st.data())
@settings(max_examples=300)
def test_cut_and_spliced(kind: str, draw: st.DataObject) -> None:
    walker, _, files = _FILES[kind]
    data = draw.draw(st.sampled_from(files))
    start, end = sorted((draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, len(data)))))
    middle = draw.draw(st.sampled_from([b"", data[start:end] * 2, draw.draw(st.binary(max_size=30))]))
    stands_the_walk(walker, data[:start] + middle + data[end:])


@given(KINDS, st.binary(max_size=300), st.booleans())
@settings(max_examples=300)
def test_random(kind: str, rest: bytes, with_magic: bool) -> None:
    walker, magic, _ = _FILES[kind]
    stands_the_walk(walker, (magic if with_magic else b"") + rest)


@pytest.mark.parametrize("kind", sorted(_FILES))
def test_thousands_of_bit_flips(kind: str) -> None:
    walker, _, files = _FILES[kind]
    dice = random.Random(20_250_101)
    for data in files:
        for _ in range(700):
            broken = bytearray(data)
            for _ in range(dice.choice((1, 1, 2, 5))):
                broken[min(int(dice.expovariate(1 / 200)), len(data) - 1)] ^= 1 << dice.randrange(8)
            stands_the_walk(walker, bytes(broken))


def _jpeg_with(extra: list[bytes], data: bytes) -> bytes:
    return data[:2] + b"".join(segment(0xE0 + len(body) % 16, body) for body in extra) + data[2:]


def _png_with(extra: list[bytes], data: bytes) -> bytes:
    return data[:33] + b"".join(png_chunk(b"prVt", body) for body in extra) + data[33:]


def _gif_with(extra: list[bytes], data: bytes) -> bytes:
    return data[:-1] + b"".join(b"\x21\xfe" + bytes((len(body),)) + body + b"\0" for body in extra) + b";"


def _webp_with(extra: list[bytes], data: bytes) -> bytes:
    body = data[8:] + b"".join(riff_chunk(b"prvt", body) for body in extra)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


_PLANT: dict[str, Callable[[list[bytes], bytes], bytes]] = {
    "jpeg": _jpeg_with,
    "png": _png_with,
    "gif": _gif_with,
    "webp": _webp_with,
}


@given(
    KINDS,
    st.lists(st.sampled_from([b"", b"PK\x03\x04", b"<script>", b"%PDF-1.4"]), min_size=1, max_size=4),
    st.sampled_from([b"", b"PK\x05\x06" + SECRET, b"</html>" + SECRET, b"\0" * 7]),
    st.data(),
)
def test_planted_data_never_survives(kind: str, hidden: list[bytes], tail: bytes, draw: st.DataObject) -> None:
    walker, _, files = _FILES[kind]
    data = draw.draw(st.sampled_from(files))
    planted = _PLANT[kind]([body + SECRET for body in hidden], data) + tail
    examined, stored = clean(walker, planted)  # which looks for the secret
    assert examined.parts is not None
    assert examined.removed
    assert stored == clean(walker, data)[1]
