"""AVIF and HEIC: cleaned files decode to the same pixels with the same orientation, and hold nothing else."""

import contextlib
import functools
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError, UnsupportedFormat
from imgpro.imaging.containers import bmff
from imgpro.imaging.containers.bmff_boxes import read_box
from imgpro.imaging.containers.bmff_codecs import read_av1, read_hevc
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

try:
    from pi_heif import register_heif_opener
except ImportError:  # the other decoder of the same family, where the suite runs on stock Pillow
    from pillow_heif import register_heif_opener

with contextlib.suppress(ImportError):  # stock Pillow reads AVIF itself
    import pillow_avif  # noqa: F401

register_heif_opener()

DATA = Path(__file__).resolve().parents[2] / "data"
LIMITS = Limits()
HEIC = ("gps-rotated", "alpha", "grid")


def examine(data: bytes, limits: Limits = LIMITS) -> Examined:
    return bmff.examine(memoryview(data), limits)


def joined(examined: Examined, data: bytes) -> bytes:
    return data if examined.parts is None else b"".join(examined.parts)


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["HEIF" if b"heic" in data[:32] else "AVIF"])
    image.load()
    return image


def heic(name: str) -> bytes:
    return (DATA / f"{name}.heic").read_bytes()


def drawing(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    image.paste("red", (0, 0, 24, 16))
    image.paste("lime", (72, 0, 96, 16))
    image.paste("blue", (0, 48, 24, 64))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    return image.convert(mode)


@functools.cache
def avif(mode: str = "RGB", orientation: int = 1, *, private: bool = False, frames: int = 1) -> bytes:
    exif = Image.Exif()
    if orientation != 1 or private:
        exif[0x0112] = orientation
    if private:
        exif[0x010F] = "Alice's camera"
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    extra = {}
    if private:
        extra["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>Alice</x:xmpmeta>"
        extra["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if len(exif):
        extra["exif"] = exif.tobytes()
    image, out = drawing(mode), io.BytesIO()
    if frames > 1:
        extra["save_all"], extra["append_images"] = True, [ImageOps.mirror(image)] * (frames - 1)  # type: ignore[assignment]
    image.save(out, "AVIF", speed=10, **extra)
    return out.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def same_picture(before: bytes, after: bytes) -> bool:
    first, second = decoded(before), decoded(after)
    orientations = {image.getexif().get(0x0112, 1) for image in (first, second)}
    return first.size == second.size and first.tobytes() == second.tobytes() and len(orientations) == 1


# --- AVIF ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_clean_avif_stays_as_it_is(mode: str) -> None:
    data = avif(mode)
    examined = examine(data)
    assert examined.parts is None
    assert examined.removed == ()
    assert (examined.probe.format, examined.probe.width, examined.probe.height) == ("avif", 96, 64)
    assert examined.probe.has_alpha == (mode == "RGBA")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_private_data_goes_and_profile_and_pixels_stay(mode: str) -> None:
    data = avif(mode, 6, private=True)
    assert b"Alice" in data
    examined = examine(data)
    result = joined(examined, data)
    assert set(examined.removed) == {"exif", "gps", "xmp"}
    assert b"Alice" not in result
    assert b"Exif" not in result
    assert b"rdf+xml" not in result
    assert examined.probe.has_icc
    assert decoded(result).info["icc_profile"] == decoded(data).info["icc_profile"]
    assert same_picture(data, result)
    assert examine(result).parts is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_orientation_is_what_the_container_says(orientation: int) -> None:
    data = avif(orientation=orientation, private=True)
    examined = examine(data)
    result = joined(examined, data)
    assert examined.probe.orientation == orientation
    assert (examined.probe.width, examined.probe.height) == (96, 64)
    assert decoded(result).size == (96, 64)  # the decoder leaves turning to us
    assert decoded(result).getexif().get(0x0112, 1) == orientation
    assert same_picture(data, result)


def test_mirrored_and_turned_in_every_combination() -> None:
    data = avif(orientation=5)
    turn, mirror = data.index(b"irot") + 4, data.index(b"imir") + 4
    for angle in range(4):
        for axis in range(2):
            changed = bytearray(data)
            changed[turn], changed[mirror] = angle, axis
            wanted = decoded(bytes(changed)).getexif().get(0x0112, 1)
            assert examine(bytes(changed)).probe.orientation == wanted, (angle, axis)


def test_an_animation_is_refused_rather_than_cut_down_to_a_still() -> None:
    data = avif(frames=3)
    assert decoded(data).n_frames == 3  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedFormat, match="Animated"):
        examine(data)


def test_a_film_beside_a_still_picture_goes() -> None:
    data = avif(frames=3).replace(b"avis", b"avif").replace(b"msf1", b"mif1")
    examined = examine(data)
    result = joined(examined, data)
    assert examined.removed == ("extra_images",)
    assert b"moov" not in result
    assert decoded(result).tobytes() == decoded(data).tobytes()
    assert examine(result).parts is None


def test_a_film_without_a_still_picture_is_unsupported() -> None:
    data = avif(frames=2)
    with pytest.raises(UnsupportedFormat, match="film"):
        examine(data.replace(b"meta", b"free", 1))


# --- HEIC ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEIC)
def test_heic_is_measured_as_displayed(name: str) -> None:
    data = heic(name)
    examined = examine(data)
    image = decoded(data)
    assert (examined.probe.width, examined.probe.height) == image.size
    assert examined.probe.format == "heic"
    assert examined.probe.orientation == 1
    assert examined.probe.has_alpha == (image.mode == "RGBA") == (name == "alpha")
    assert (examined.parts is None) == (name != "gps-rotated")


def test_heic_is_cleaned_and_stays_upright() -> None:
    data = heic("gps-rotated")
    examined = examine(data)
    result = joined(examined, data)
    assert set(examined.removed) == {"exif", "gps", "xmp", "thumbnail"}
    assert b"camera" not in result
    assert b"Exif" not in result
    assert same_picture(data, result)
    assert decoded(result).size == (128, 192)
    assert not decoded(result).info["thumbnails"]
    assert examine(result).parts is None


@pytest.mark.parametrize("angle", range(4))
def test_heic_is_turned_by_its_decoder(angle: int) -> None:
    data = bytearray(heic("gps-rotated"))
    data[data.index(b"irot") + 4] = angle
    probe = examine(bytes(data)).probe
    assert (probe.width, probe.height) == decoded(bytes(data)).size
    assert probe.orientation == 1


@pytest.mark.parametrize("name", HEIC)
def test_heic_with_foreign_boxes_is_written_anew(name: str) -> None:
    data = heic(name)
    dirty = data + box(b"free", b"hidden page") + box(b"uuid", bytes(16), b"vendor") + b"<script>"
    examined = examine(dirty)
    result = joined(examined, dirty)
    assert {"unknown_chunks", "application_data", "trailing_data"} <= set(examined.removed)
    for foreign in (b"hidden", b"vendor", b"script"):
        assert foreign not in result
    assert same_picture(data, result)
    assert decoded(result).mode == decoded(data).mode
    assert examine(result).parts is None


def test_heic_can_be_switched_off() -> None:
    with pytest.raises(UnsupportedFormat):
        examine(heic("grid"), Limits(heic=False))
    assert examine(avif(), Limits(heic=False)).parts is None


# --- foreign things -----------------------------------------------------------------------------------------------


def grown(data: bytes, path: tuple[bytes, ...], extra: bytes) -> bytes:
    """Append `extra` to the innermost box of `path`; file offsets of items move with it."""
    out, start, end = bytearray(data), 0, len(data)
    chain = []
    for kind in path:
        at = start
        while True:
            found = read_box(memoryview(data), at, end)
            assert found is not None
            if found.type == kind:
                break
            at = found.end
        chain.append(found)
        start, end = found.body + (4 if kind == b"meta" else 0), found.end
    insert_at = chain[-1].end
    for item in chain:
        size = struct.unpack_from(">I", out, item.start)[0] + len(extra)
        struct.pack_into(">I", out, item.start, size)
    return moved(bytes(out[:insert_at]) + extra + bytes(out[insert_at:]), len(extra))


def moved(data: bytes, by: int) -> bytes:
    """Shift the file offsets in `iloc`, which libavif and libheif write with 4-byte offsets and lengths."""
    out = bytearray(data)
    at = out.index(b"iloc") + 4
    version, sizes = out[at], out[at + 4 : at + 6]
    assert sizes[0] == 0x44
    (count,) = struct.unpack_from(">H", out, at + 6)
    at += 8
    base = sizes[1] >> 4
    for _ in range(count):
        method = struct.unpack_from(">H", out, at + 2)[0] if version else 0
        at += (6 if version else 4) + base
        (extents,) = struct.unpack_from(">H", out, at)
        at += 2
        for _ in range(extents):
            if not method:
                struct.pack_into(">I", out, at, struct.unpack_from(">I", out, at)[0] + by)
            at += 8
    return bytes(out)


@pytest.mark.parametrize("make", [avif, functools.partial(heic, "grid")])
@pytest.mark.parametrize(
    ("path", "kind", "removed"),
    [
        ((b"meta",), b"free", "unknown_chunks"),
        ((b"meta",), b"uuid", "application_data"),
        ((b"meta",), b"grpl", "unknown_chunks"),
        ((b"meta", b"iprp", b"ipco"), b"udes", "text"),
        ((b"meta", b"iprp", b"ipco"), b"abcd", "unknown_chunks"),
        ((b"mdat",), b"tail", "unknown_chunks"),
    ],
)
def test_foreign_boxes_go(make: Callable[[], bytes], path: tuple[bytes, ...], kind: bytes, removed: str) -> None:
    data = make()
    if path[0] == b"meta":
        group = box(b"altr", bytes(4), b"S3CR", bytes(4))
        dirty = grown(data, path, box(kind, group if kind == b"grpl" else b"S3CRET and a lot more of it"))
    else:
        at = data.rindex(b"mdat") - 4
        size = struct.unpack_from(">I", data, at)[0]
        dirty = data[:at] + struct.pack(">I", size + 6) + data[at + 4 :] + b"S3CRET"
    assert decoded(dirty).tobytes() == decoded(data).tobytes()
    examined = examine(dirty)
    result = joined(examined, dirty)
    assert examined.removed == (removed,)
    assert b"S3CR" not in result
    assert same_picture(data, result)
    assert examine(result).parts is None


def test_names_of_items_and_brands_that_carry_text_go() -> None:
    data = avif("RGBA")
    named = data.replace(b"Color", b"Alice", 1)
    examined = examine(named)
    assert examined.removed == ("text",)
    assert b"Alice" not in joined(examined, named)
    branded = patched(data, b"miaf", b"<!--")
    examined = examine(branded)
    assert examined.removed == ("unknown_chunks",)
    assert b"<!--" not in joined(examined, branded)
    assert same_picture(data, joined(examined, branded))


# --- limits and damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [avif("RGBA", 6, private=True), heic("gps-rotated"), heic("grid")])
def test_every_truncation_is_refused(data: bytes) -> None:
    step = max(1, len(data) // 400)
    for length in [*range(8, len(data), step), len(data) - 1]:
        with pytest.raises(ImgproError):
            examine(data[:length])


def with_size(data: bytes, width: int, height: int) -> bytes:
    at = data.rindex(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def test_limits_on_size_hold_before_anything_is_decoded() -> None:
    for size in ((20_001, 1), (10_000, 5_001), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(ImageTooLarge):
            examine(with_size(avif(), *size))
    with pytest.raises(ImageBroken):
        examine(with_size(avif(), 0, 5))


def test_the_bit_stream_is_not_believed_to_be_what_the_container_says() -> None:
    for data in (avif(), heic("alpha")):
        small = with_size(data, 8, 8)
        with pytest.raises(ImageTooLarge):
            examine(small, Limits(max_pixels=64))
        with pytest.raises(ImageTooLarge):
            examine(small, Limits(max_side_px=32))


def test_tiles_count_together() -> None:
    data = heic("grid")
    assert examine(data, Limits(max_pixels=12_000)).probe.width == 120
    with pytest.raises(ImageTooLarge):
        examine(with_size(data, 120, 100), Limits(max_pixels=8_000))


def test_a_grid_must_have_its_tiles() -> None:
    data = heic("grid")
    at = data.index(b"idat") + 4
    for place, value in ((2, 7), (3, 0), (5, 1), (0, 1)):
        changed = bytearray(data)
        changed[at + place] = value
        with pytest.raises(ImageBroken):
            examine(bytes(changed))


def test_items_must_lie_inside_the_file() -> None:
    data = heic("grid")
    at = data.index(b"iloc") + 12 + 8
    for offset, length in ((len(data), 1), (2**32 - 1, 2**32 - 1), (0, 0)):
        changed = bytearray(data)
        struct.pack_into(">II", changed, at, offset, length)
        with pytest.raises(ImageBroken, match="ends before"):
            examine(bytes(changed))


def test_references_in_a_circle_are_refused() -> None:
    data = heic("grid")
    at = data.index(b"dimg") + 4
    changed = bytearray(data)
    struct.pack_into(">H", changed, at + 4, 5)
    with pytest.raises(ImageBroken):
        examine(bytes(changed))


def test_codecs_that_cannot_be_decoded_are_unsupported() -> None:
    for kind in (b"jpeg", b"vvc1", b"unci", b"hvt1"):
        with pytest.raises(UnsupportedFormat):
            examine(heic("alpha").replace(b"hvc1", kind))
    with pytest.raises(UnsupportedFormat):
        examine(avif().replace(b"pict", b"vide"))


def test_an_unknown_essential_property_is_unsupported() -> None:
    with pytest.raises(UnsupportedFormat):
        examine(patched(avif(), b"av1C", b"abcd"))


def test_the_file_must_say_what_it_is() -> None:
    data = avif()
    for missing in (b"ftyp", b"meta", b"pitm", b"iloc", b"iinf", b"iprp", b"hdlr", b"ispe"):
        with pytest.raises(ImgproError):
            examine(data.replace(missing, b"zzzz", 1))
    with pytest.raises(ImageBroken):
        examine(data + data)


def test_overlapping_items_do_not_multiply() -> None:
    """Many items over nearly the same bytes would make a small file a large one when it is written anew."""
    data = heic("grid")
    at = data.index(b"iloc") + 12
    changed = bytearray(data)
    for tile in range(4):
        struct.pack_into(">II", changed, at + tile * 16 + 8, tile, len(data) - 8)
    with pytest.raises(ImageBroken, match="overlap"):
        examine(bytes(changed))


def test_streams_with_many_pictures_are_films() -> None:
    data = avif()
    body = data[data.index(b"mdat") + 4 :]
    assert read_av1(memoryview(body)).pictures == 1
    assert read_av1(memoryview(body * 3)).pictures == 3
    with pytest.raises(ImageBroken):
        read_av1(memoryview(body[:-1]))
    with pytest.raises(ImageBroken):
        read_hevc(memoryview(bytes(22)), memoryview(b""))


def test_the_wide_form_is_written_for_large_item_numbers() -> None:
    """Numbers above 65,535 need other versions of every box; make one by renumbering a HEIC file."""
    from imgpro.imaging.containers.bmff_boxes import Meta, read_meta
    from imgpro.imaging.containers.bmff_picture import find_picture
    from imgpro.imaging.containers.bmff_rewrite import rewritten

    data = memoryview(heic("grid"))
    at = heic("grid").index(b"meta") - 4
    found = read_box(data, at, len(data))
    assert found is not None
    meta = read_meta(data, found)
    wide = Meta(primary=meta.primary + 70_000, properties=meta.properties, idat=meta.idat)
    for number, item in meta.items.items():
        item.id = number + 70_000
        wide.items[item.id] = item
    for reference in meta.references:
        targets = tuple(target + 70_000 for target in reference.targets)
        wide.references.append(type(reference)(reference.type, reference.source + 70_000, targets))
    picture = find_picture(data, wide, LIMITS)
    result = b"".join(rewritten(data, wide, picture, (b"heic", b"mif1"), bytes(4)))
    assert same_picture(bytes(data), result)
    assert examine(result).parts is None
