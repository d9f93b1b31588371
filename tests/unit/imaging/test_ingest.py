"""One decode of an upload: what it proves, and what it leaves for the first viewer."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.examine import examine
from imgpro.imaging.ingest import Upload, ingest
from imgpro.imaging.render import render
from imgpro.model import Ingested, Limits, RenderJob
from imgpro.recipes import ALL, target_size
from tests.pictures import encoded, film, likeness, make_image, turned_exif

LIMITS = Limits()


def take_in(data: bytes, limits: Limits = LIMITS, in_time: bool = True) -> tuple[Ingested, bytes, dict[str, bytes]]:
    """Return the report, the bytes to be stored, and the warm derivatives by recipe key."""
    examined = examine(memoryview(data), limits)
    stored = data if examined.parts is None else b"".join(examined.parts)
    made: list[bytes] = []

    def write(derivative: bytes) -> tuple[int, int]:
        made.append(derivative)
        return sum(map(len, made[:-1])), len(derivative)

    upload = Upload(examined.probe, examined.removed, None if examined.parts is None else len(stored))
    done = ingest(BytesIO(stored), upload, limits, write, lambda: in_time)
    output = b"".join(made)
    return done, stored, {w.recipe.key: output[w.offset : w.offset + w.length] for w in done.warm}


@pytest.mark.parametrize(
    "name",
    ["photo-12mp-gps.jpg", "photo-2mp.jpg", "photo-cmyk.jpg", "photo.webp", "portrait-orientation6.jpg",
     "screenshot-1440p.png", "window-alpha.png"],
)  # fmt: skip
def test_warm_derivatives_are_as_good_as_those_made_on_demand(photos: Path, name: str) -> None:
    done, stored, warm = take_in((photos / name).read_bytes())
    assert warm
    for entry in done.warm:
        full_size = RenderJob(format=done.format, recipe=ALL["png", "o"])
        best = Image.open(BytesIO(render(BytesIO(stored), full_size)[0])).convert("RGB")
        again, width, height = render(BytesIO(stored), RenderJob(format=done.format, recipe=entry.recipe))
        derivative = Image.open(BytesIO(warm[entry.recipe.key])).convert("RGB")
        assert derivative.size == (width, height) == target_size(done.width, done.height, entry.recipe.size)
        best = best.resize(derivative.size, Image.Resampling.LANCZOS)
        on_demand = likeness(Image.open(BytesIO(again)).convert("RGB"), best)
        assert likeness(derivative, best) > on_demand - 0.005


def test_a_size_that_would_not_shrink_is_not_made() -> None:
    assert list(take_in(encoded(make_image("RGB", (700, 650)), "JPEG"))[2]) == ["m-1.jpeg", "s-1.jpeg"]
    assert take_in(encoded(make_image("RGB", (300, 200)), "JPEG"))[2] == {}


def test_a_format_that_browsers_do_not_show_is_warm_in_full_size() -> None:
    assert list(take_in(encoded(make_image("RGB", (300, 200)), "BMP"))[2]) == ["o-1.png"]
    assert list(take_in(encoded(make_image("RGB", (1500, 1200)), "BMP"))[2]) == [
        "o-1.png", "l-1.png", "m-1.png", "s-1.png",
    ]  # fmt: skip


def test_without_time_the_report_is_complete_all_the_same() -> None:
    done, _, warm = take_in(encoded(make_image("RGB", (1500, 1200)), "PNG"), in_time=False)
    assert warm == {}
    assert done.placeholder.startswith("data:image/webp;base64,")
    assert done.phash is not None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_hash_and_size_are_of_the_picture_as_displayed(orientation: int) -> None:
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = make_image("RGB", (640, 480))
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    done, _, _ = take_in(encoded(stored, "PNG", exif=turned_exif(orientation)))
    plain, _, _ = take_in(encoded(upright, "PNG"))
    assert (done.width, done.height) == (640, 480)
    assert done.phash is not None
    assert plain.phash is not None
    assert ((done.phash ^ plain.phash) & (1 << 64) - 1).bit_count() <= 4


def test_every_frame_must_decode() -> None:
    data = film("GIF", frames=4)
    assert take_in(data)[0].frames == 4
    examined = examine(memoryview(data), LIMITS)
    cut = BytesIO(data[: len(data) * 9 // 10])
    with pytest.raises(ImageBroken):
        ingest(cut, Upload(examined.probe, (), None), LIMITS, lambda made: (0, len(made)), lambda: True)


def test_what_the_decoder_finds_counts_not_what_the_header_said() -> None:
    data = encoded(make_image("RGB", (600, 500)), "PNG")
    probe = examine(memoryview(data), LIMITS).probe
    with pytest.raises(ImageTooLarge):
        ingest(
            BytesIO(data),
            Upload(probe, (), None),
            Limits(max_pixels=299_999),
            lambda made: (0, len(made)),
            lambda: True,
        )


def test_an_svg_is_not_decoded() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="9" height="9"/></svg>'
    done, _, warm = take_in(svg)
    assert (done.width, done.height, done.placeholder, done.phash, warm) == (40, 30, "", None, {})
