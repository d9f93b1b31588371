"""AVIF, HEIC, BMP, ICO and SVG walkers against damaged and invented files.

Whatever comes, a walker either refuses with one of our errors or accepts; and what it accepted and cleaned is
clean when it is looked at again, and hardly larger than what came.
"""

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgpro.errors import ImgproError
from imgpro.imaging.containers import bmff, bmp, ico, svg
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

with contextlib.suppress(ImportError):  # stock Pillow writes AVIF itself
    import pillow_avif  # noqa: F401

DATA = Path(__file__).resolve().parents[1] / "data"
LIMITS = Limits()
Walker = Callable[[memoryview, Limits], Examined]


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((24, 16)).convert(mode).save(out, form, **options)
    return out.getvalue()


def exif() -> bytes:
    block = Image.Exif()
    block[0x0112] = 6
    block[0x010F] = "camera"
    block.get_ifd(0x8825)[1] = "N"
    return block.tobytes()


SVG = b"""<?xml version="1.0"?><!-- c --><svg xmlns="http://www.w3.org/2000/svg"
 xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9" width="4mm" onload="x()"><style>.a{fill:url(#g)}
@media print{b{fill:red}}</style><defs><linearGradient id="g"><stop offset="0"/></linearGradient></defs>
<a href="javascript:x"><rect class="a" style="fill:url('#g');x:y" width="1"/></a><script>1</script>
<use xlink:href="#g"/><text font-family="'a'">b &lt;<tspan>c</tspan></text></svg>"""

SEEDS: dict[str, tuple[Walker, list[bytes]]] = {
    "avif": (
        bmff.examine,
        [
            saved("AVIF", speed=10),
            saved("AVIF", "RGBA", speed=10, exif=exif(), xmp=b"<x/>"),
            saved("AVIF", speed=10, save_all=True, append_images=[Image.new("RGB", (24, 16))]),
        ],
    ),
    "heic": (bmff.examine, [(DATA / f"{name}.heic").read_bytes() for name in ("gps-rotated", "alpha", "grid")]),
    "bmp": (bmp.examine, [saved("BMP", mode) + b"tail" for mode in ("1", "L", "P", "RGB", "RGBA")]),
    "ico": (
        ico.examine,
        [
            saved("ICO", "RGBA", sizes=[(8, 8), (16, 16)]),
            saved("ICO", "RGBA", sizes=[(8, 8), (16, 16)], bitmap_format="bmp"),
        ],
    ),
    "svg": (svg.examine, [SVG]),
}
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 8, 15, 16, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A file with bytes and numbers changed, parts cut out, repeated, or swapped with another file's."""
    data = bytearray(draw(st.sampled_from(seeds)))
    other = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 64))
        match draw(st.integers(0, 6)):
            case 0:
                data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case 1:
                order = draw(st.sampled_from("<>"))
                width = draw(st.sampled_from("BHI"))
                size = struct.calcsize(width)
                data[at : at + size] = struct.pack(order + width, draw(NUMBERS) & (1 << 8 * size) - 1)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at:at] = other[at : at + length]
            case 5:
                data[at : at + length] = draw(st.binary(max_size=16))
            case _:
                del data[at:]
    return bytes(data)


def survive(walk: Walker, data: bytes) -> None:
    """Examine `data`; anything but acceptance or one of our errors fails the test."""
    try:
        examined = walk(memoryview(data), LIMITS)
    except ImgproError:
        return
    probe = examined.probe
    assert 1 <= probe.width <= LIMITS.max_side_px
    assert 1 <= probe.height <= LIMITS.max_side_px
    assert 1 <= probe.orientation <= 8
    if examined.parts is None:
        assert not examined.removed
        return
    result = b"".join(examined.parts)
    assert len(result) <= 6 * len(data) + 1024 if walk is svg.examine else len(result) <= len(data) + 1024
    again = walk(memoryview(result), LIMITS)
    assert again.parts is None
    assert again.probe == probe


@pytest.mark.parametrize("form", SEEDS)
@given(st.data())
def test_damaged_files(form: str, data: st.DataObject) -> None:
    walk, seeds = SEEDS[form]
    survive(walk, data.draw(damaged(seeds)))


@pytest.mark.parametrize("form", SEEDS)
@given(st.binary(max_size=400))
def test_invented_files(form: str, data: bytes) -> None:
    walk, seeds = SEEDS[form]
    for head in (0, 4, 16, 40):
        survive(walk, seeds[0][:head] + data)


@pytest.mark.parametrize("form", SEEDS)
def test_every_truncation(form: str) -> None:
    walk, seeds = SEEDS[form]
    for seed in seeds:
        for length in range(0, len(seed), max(1, len(seed) // 300)):
            survive(walk, seed[:length])


@pytest.mark.parametrize("form", ["avif", "heic", "bmp", "ico"])
def test_every_byte_at_its_extremes(form: str) -> None:
    walk, seeds = SEEDS[form]
    for seed in seeds:
        for at in range(min(len(seed), 700)):
            for value in (0, 1, 0x7F, 0x80, 0xFF, seed[at] ^ 1):
                survive(walk, seed[:at] + bytes((value,)) + seed[at + 1 :])
