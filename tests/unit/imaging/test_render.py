"""Derivatives: exact sizes, right colours, upright, alike in every format, nothing private in them."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging import animation, engine
from imgpro.imaging.render import render
from imgpro.model import RenderJob, StoredFormat
from imgpro.recipes import ALL, OutputFormat, Size, target_size
from tests.pictures import encoded, film, likeness, make_image, swapped_profile, turned_exif

OUTPUTS: tuple[OutputFormat, ...] = ("jpeg", "png", "webp", "avif", "gif")
SIZES: tuple[Size, ...] = ("s", "m", "l", "o")


def derivative(data: bytes, stored: StoredFormat, output: OutputFormat, size: Size = "o") -> Image.Image:
    made, width, height = render(BytesIO(data), RenderJob(format=stored, recipe=ALL[output, size]))
    image = Image.open(BytesIO(made))
    image.load()
    assert image.size == (width, height)
    return image


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1203, 805), (701, 1499), (640, 320), (319, 900)])
def test_sizes_are_exact(output: OutputFormat, size: Size, shape: tuple[int, int]) -> None:
    data = encoded(make_image("RGB", shape), "JPEG")
    assert derivative(data, "jpeg", output, size).size == target_size(*shape, size)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_upright(output: OutputFormat, orientation: int) -> None:
    upright = make_image("RGB", (480, 340))
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes each, by Image.Transpose
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    data = encoded(stored, "JPEG", quality=95, exif=turned_exif(orientation))
    made = derivative(data, "jpeg", output, "s")
    assert made.size == (451, 320)
    expected = upright.resize(made.size, Image.Resampling.LANCZOS)
    assert likeness(made.convert("RGB").reduce(2), expected.reduce(2)) > 0.95  # a GIF is dithered


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_ignored(value: int) -> None:
    data = encoded(make_image("RGB", (400, 300)), "JPEG", exif=turned_exif(value))
    assert derivative(data, "jpeg", "png").size == (400, 300)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_profile_is_applied_in_every_format_and_kept_in_none(kind: str, output: OutputFormat) -> None:
    stored: StoredFormat = {"PNG": "png", "WEBP": "webp", "JPEG": "jpeg"}[kind]  # type: ignore[assignment]
    red = Image.new("RGB", (500, 400), (200, 30, 30))
    made = derivative(encoded(red, kind, icc_profile=swapped_profile()), stored, output, "s")
    colour = made.convert("RGB").getpixel((50, 50))
    assert isinstance(colour, tuple)
    assert colour[1] > 150 > 90 > colour[0]
    assert "icc_profile" not in made.info


@pytest.mark.parametrize("profile", [b"x" * 200, swapped_profile()[:300], b""])
def test_a_broken_profile_is_taken_for_srgb(profile: bytes) -> None:
    plain = make_image()
    made = derivative(encoded(plain, "PNG", icc_profile=profile), "png", "jpeg")
    assert likeness(made, plain) > 0.97


def test_a_profile_for_other_channels_is_ignored() -> None:
    plain = make_image("L")
    made = derivative(
        encoded(plain, "PNG", icc_profile=swapped_profile()[:16] + b"CMYK" + swapped_profile()[20:]), "png", "png"
    )
    assert ImageChops.difference(made.convert("L"), plain).getextrema() == (0, 0)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_every_format(mode: str, output: OutputFormat) -> None:
    if mode == "I;16":
        plain = make_image("L").convert("I").point(lambda value: value * 257).convert("I;16")
        seen = make_image("L")
    else:
        plain = make_image("RGBA" if mode == "LA" else "RGB").convert(mode) if mode != "RGBA" else make_image("RGBA")
        seen = plain
    white = Image.new("RGBA", plain.size, "white")
    made = derivative(encoded(plain, "PNG"), "png", output)
    if output == "gif" and mode in ("LA", "RGBA"):
        return  # half-transparency is not a GIF's
    expected = Image.alpha_composite(white, seen.convert("RGBA"))
    shown = Image.alpha_composite(white, made.convert("RGBA"))
    assert likeness(shown.reduce(2), expected.reduce(2)) > 0.95


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = Image.new("I;16", (40, 40), 0x4040)
    made = derivative(encoded(grey, "PNG"), "png", "png")
    assert made.mode == "L"
    assert made.getpixel((3, 3)) == 0x40


def test_a_palette_is_not_resized_by_nearest_neighbour() -> None:
    stripes = Image.new("P", (1280, 1280))
    stripes.putpalette([0, 0, 0, 255, 255, 255])
    for x in range(0, 1280, 2):
        stripes.paste(1, (x, 0, x + 1, 1280))
    low, high = derivative(encoded(stripes, "PNG"), "png", "png", "s").convert("L").getextrema()
    assert 80 < low <= high < 175


def test_transparent_pixels_lend_no_colour() -> None:
    image = Image.new("RGBA", (1280, 1280), (255, 0, 0, 0))
    for x in range(0, 1280, 8):
        image.paste((0, 0, 255, 255), (x, 0, x + 4, 1280))
    made = derivative(encoded(image, "PNG"), "png", "png", "s")
    assert made.mode == "RGBA"
    red, _, blue, _ = made.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    assert red < 20 < 200 < blue


def test_transparency_goes_onto_white_for_jpeg() -> None:
    made = derivative(encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0)), "PNG"), "png", "jpeg")
    assert made.getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize("output", ["png", "webp"])
def test_an_alpha_channel_that_hides_nothing_is_dropped(output: OutputFormat) -> None:
    assert derivative(encoded(make_image().convert("RGBA"), "PNG"), "png", output, "s").mode == "RGB"


def test_cmyk_without_a_profile_has_its_colours() -> None:
    data = encoded(Image.new("RGB", (64, 64), (200, 40, 90)).convert("CMYK"), "JPEG", quality=95)
    red, green, blue = derivative(data, "jpeg", "png").getpixel((10, 10))  # type: ignore[misc]
    assert abs(red - 200) < 12
    assert abs(green - 40) < 12
    assert abs(blue - 90) < 12


@pytest.mark.parametrize("output", OUTPUTS)
def test_nothing_private_survives(output: OutputFormat) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    data = encoded(make_image(), "JPEG", exif=exif.tobytes(), comment=b"a secret", dpi=(299, 299))
    made, _, _ = render(BytesIO(data), RenderJob(format="jpeg", recipe=ALL[output, "s"]))
    assert b"at home" not in made
    assert b"a secret" not in made
    assert b"Exif" not in made


@pytest.mark.parametrize(("stored", "output"), [(a, b) for a in ("gif", "webp") for b in ("gif", "webp")])
def test_animation_stays(stored: StoredFormat, output: OutputFormat) -> None:
    data = film(stored.upper(), duration=[100, 200, 300, 400, 500], loop=3)
    made, width, height = render(BytesIO(data), RenderJob(format=stored, recipe=ALL[output, "s"]))
    image = Image.open(BytesIO(made))
    assert (width, height) == image.size == (400, 320)
    assert image.n_frames == 5  # type: ignore[attr-defined]
    assert image.info["loop"] == 3
    durations = []
    for number in range(5):
        image.seek(number)
        image.load()
        durations.append(image.info["duration"])
        square = image.convert("RGB").getpixel((number * 80 + 6, 14))
        assert isinstance(square, tuple)
        assert square[0] > 180
        assert square[1] > 180
        assert square[2] < 120
    assert durations == [100, 200, 300, 400, 500]


@pytest.mark.parametrize("output", ["jpeg", "png", "avif"])
def test_other_formats_get_the_first_frame(output: OutputFormat) -> None:
    made = derivative(film("GIF", duration=100), "gif", output)
    assert getattr(made, "n_frames", 1) == 1
    assert likeness(made, Image.open(BytesIO(film("GIF", duration=100)))) > 0.9


def test_an_animation_with_holes_leaves_no_trails() -> None:
    frames = []
    for number in range(3):
        frame = Image.new("RGBA", (330, 330), (0, 0, 0, 0))
        frame.paste((255, 0, 0, 255), (number * 100, 0, number * 100 + 60, 60))
        frame.paste((0, 255, 0, 90), (0, 300, 330, 310))  # or the encoder finds that nothing needs an alpha channel
        frames.append(frame)
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, duration=100)
    image = Image.open(BytesIO(render(BytesIO(data), RenderJob(format="webp", recipe=ALL["gif", "s"]))[0]))
    image.seek(2)
    assert image.convert("RGBA").getpixel((20, 20))[3] == 0  # type: ignore[index]
    assert image.convert("RGBA").getpixel((210, 20))[3] == 255  # type: ignore[index]


def test_too_much_animation_loses_frames_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(animation.MAX_OUTPUT_PIXELS, "webp", 500 * 400 * 2)
    data = film("GIF", frames=5, duration=100)
    made, _, _ = render(BytesIO(data), RenderJob(format="gif", recipe=ALL["webp", "o"]))
    image = Image.open(BytesIO(made))
    total = 0
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        image.load()
        total += image.info["duration"]
    assert image.n_frames == 2  # type: ignore[attr-defined]
    assert total == 500


def test_a_side_too_long_for_webp_is_a_clean_refusal() -> None:
    data = encoded(Image.new("L", (16_400, 20)), "PNG")
    with pytest.raises(ImageTooLarge, match="16,383"):
        derivative(data, "png", "webp")
    assert derivative(data, "png", "jpeg").size == (16_400, 20)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 500), (5, 3), (63, 64), (65, 67)])
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_smallest_pictures_work(shape: tuple[int, int], output: OutputFormat) -> None:
    made = derivative(encoded(Image.new("RGB", shape, (9, 99, 199)), "PNG"), "png", output)
    wanted = tuple(max(side, 4) for side in shape) if output == "avif" else shape
    assert made.size == wanted


@pytest.mark.parametrize("shape", [(640, 8_704), (640, 8_705), (640, 9_000), (16_384, 70), (16_390, 70), (20_000, 100)])
def test_long_pictures_become_avif_too(shape: tuple[int, int]) -> None:
    data = encoded(make_image("RGB", shape), "JPEG")
    assert derivative(data, "jpeg", "avif").size == shape


def test_only_the_decoder_of_the_stored_format_is_tried() -> None:
    with pytest.raises(ImageBroken):
        derivative(encoded(make_image(), "PNG"), "jpeg", "png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_picture_is_broken(kind: str) -> None:
    data = encoded(make_image(), kind)
    stored: StoredFormat = kind.lower()  # type: ignore[assignment]
    with pytest.raises(ImageBroken):
        derivative(data[: len(data) * 2 // 3], stored, "png")


@pytest.mark.parametrize(("name", "size", "least"), [
    ("photo-12mp-gps.jpg", "s", 0.985), ("photo-12mp-gps.jpg", "m", 0.975), ("photo-12mp-gps.jpg", "l", 0.985),
    ("photo-2mp.jpg", "s", 0.985), ("photo-2mp.jpg", "m", 0.985), ("screenshot-1440p.png", "s", 0.985),
    ("screenshot-1440p.png", "m", 0.985),
])  # fmt: skip
def test_shortcuts_cost_no_visible_quality(photos: Path, name: str, size: Size, least: float) -> None:
    data = (photos / name).read_bytes()
    stored: StoredFormat = "png" if name.endswith("png") else "jpeg"
    made = derivative(data, stored, "png", size)
    full = Image.open(BytesIO(data)).convert("RGB").resize(made.size, Image.Resampling.LANCZOS)
    assert likeness(made, full) > least


@pytest.mark.parametrize("name", ["photo-2mp.jpg", "photo-cmyk.jpg", "window-alpha.png", "photo.webp"])
def test_colours_are_the_same_in_every_format(photos: Path, name: str) -> None:
    stored: StoredFormat = {"jpg": "jpeg", "png": "png", "webp": "webp"}[name.rpartition(".")[2]]  # type: ignore[assignment]
    data = (photos / name).read_bytes()
    white = (255, 255, 255, 255)
    means = []
    for output in ("png", "jpeg", "webp", "avif"):
        made = derivative(data, stored, output, "s").convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", made.size, white), made).convert("RGB")
        means.append(flat.resize((4, 3), Image.Resampling.BOX).tobytes())
    for mean in means[1:]:
        assert max(abs(a - b) for a, b in zip(means[0], mean, strict=True)) <= 5


def test_the_engine_says_what_it_is() -> None:
    found = engine.describe()
    assert found.name == ("pillow-simd" if "post" in found.version else "Pillow")
    assert found.codecs["jpeg"]
    assert found.codecs["webp"]
    assert found.codecs["avif"]
    assert found.codecs["heic"]
    assert engine.missing() == ()
