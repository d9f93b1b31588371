"""Encoders: PNG without loss whatever the filter, few colours for GIF, clean refusals."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from imgpro.errors import ImageTooLarge
from imgpro.imaging import encode, engine, fingerprint, png
from tests.pictures import likeness, make_image


@pytest.fixture(params=["igzip", "zlib"])
def deflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(engine, "igzip", None)
    elif engine.igzip is None:
        pytest.skip("isal is not installed")


@pytest.mark.usefixtures("deflate")
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 211)])
def test_png_is_lossless_with_every_filter(
    monkeypatch: pytest.MonkeyPatch, kind: int, mode: str, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(png, "choose_filter", lambda image: kind)
    monkeypatch.setattr(png, "STRIP_BYTES", 10_000)  # several strips, whose edges must not show
    image = make_image("RGBA", size).convert(mode)
    read = Image.open(BytesIO(png.encode(image)))
    assert read.mode == mode
    assert read.tobytes() == image.tobytes()


@given(st.binary(min_size=12, max_size=600), st.integers(1, 12))
def test_png_is_lossless_for_any_pixels(data: bytes, width: int) -> None:
    height = len(data) // (3 * width)
    if height == 0:
        return
    image = Image.frombytes("RGB", (width, height), data[: width * height * 3])
    assert Image.open(BytesIO(png.encode(image))).tobytes() == image.tobytes()


def test_png_chooses_a_filter_that_suits() -> None:
    photo_like = Image.merge("RGB", [Image.effect_noise((300, 300), 12).resize((600, 600))] * 3)
    assert png.choose_filter(photo_like) != png.NO_FILTER
    lines = Image.new("RGB", (600, 600))
    lines.paste((255, 255, 255), (0, 300, 600, 302))
    assert png.choose_filter(lines) == png.NO_FILTER


def test_a_gif_keeps_few_colours_exactly() -> None:
    image = Image.new("RGB", (90, 90), (1, 2, 3))
    image.paste((250, 128, 7), (10, 10, 12, 12))
    read = Image.open(BytesIO(encode.encode(image, "gif"))).convert("RGB")
    assert ImageChops.difference(read, image).getbbox() is None


def test_a_gif_of_a_photograph_looks_like_it() -> None:
    image = make_image()
    read = Image.open(BytesIO(encode.encode(image, "gif"))).convert("RGB")
    assert likeness(read.reduce(2), image.reduce(2)) > 0.95


def test_a_gif_has_holes_where_the_picture_is_transparent() -> None:
    image = Image.new("RGBA", (60, 60), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (10, 10, 20, 20))
    read = Image.open(BytesIO(encode.encode(image, "gif"))).convert("RGBA")
    assert read.getpixel((15, 15))[3] == 0  # type: ignore[index]
    assert read.getpixel((40, 40)) == (200, 0, 0, 255)


@pytest.mark.parametrize(("size", "output"), [((16_384, 1), "webp"), ((1, 65_501), "jpeg")])
def test_a_side_that_does_not_fit_is_refused(size: tuple[int, int], output: str) -> None:
    with pytest.raises(ImageTooLarge):
        encode.check_side(size, output)  # type: ignore[arg-type]


def test_like_pictures_have_like_hashes() -> None:
    image = make_image("RGB", (800, 600))
    same = fingerprint.phash(image)
    assert -(1 << 63) <= same < 1 << 63
    assert ((same ^ fingerprint.phash(image.resize((320, 240)))) & (1 << 64) - 1).bit_count() <= 4
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert ((same ^ fingerprint.phash(other)) & (1 << 64) - 1).bit_count() >= 16


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 20_000), (640, 480)])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_placeholder_is_short(size: tuple[int, int], mode: str) -> None:
    uri = fingerprint.placeholder(make_image("RGBA", size).convert(mode))
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < 400
