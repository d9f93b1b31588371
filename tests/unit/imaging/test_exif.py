"""EXIF blocks: the facts that matter are found in real and broken ones, and the smallest one says only the turn."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgpro.imaging.containers import exif
from imgpro.imaging.containers.exif import ExifFacts
from tests.containers import private_exif


def block(order: str, *entries: tuple[int, int, int], following: int = 0) -> bytes:
    """A TIFF block with one directory of entries (tag, type, value of the 4-byte field)."""
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(order + "H", len(entries))
    body = b""
    for tag, kind, value in entries:
        field = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        body += struct.pack(order + "HHI", tag, kind, 1) + field
    return head + body + struct.pack(order + "I", following)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_in_both_byte_orders(turned: int, order: str, kind: int) -> None:
    assert exif.read(block(order, (0x0112, kind, turned))) == ExifFacts(orientation=turned)


@pytest.mark.parametrize("value", [0, 9, 255, 65_535])
def test_a_bad_orientation_counts_as_none(value: int) -> None:
    assert exif.read(block(">", (0x0112, 3, value))).orientation == 1


@pytest.mark.parametrize("turned", range(1, 9))
def test_the_minimal_block_is_read_by_pillow_and_by_us(turned: int) -> None:
    least = exif.minimal(turned)
    seen = Image.Exif()
    seen.load(b"Exif\0\0" + least)
    assert dict(seen) == {0x0112: turned}
    assert exif.read(least) == exif.read(b"Exif\0\0" + least) == ExifFacts(orientation=turned)
    assert len(least) == 26


def test_private_facts_are_found() -> None:
    facts = exif.read(private_exif(6))
    assert facts == ExifFacts(orientation=6, has_gps=True, has_thumbnail=False, has_maker_note=True)
    assert facts.kinds == ("exif", "gps", "maker_data")


def test_a_thumbnail_stands_in_the_second_directory() -> None:
    second = len(block(">", (0x0112, 3, 1)))
    data = block(">", (0x0112, 3, 1), following=second) + struct.pack(">HHHIII", 1, 0x0201, 4, 1, 0, 0)
    assert exif.read(data).kinds == ("exif", "thumbnail")


def test_a_gps_directory_of_a_camera_without_a_fix_is_no_position() -> None:
    at = len(block("<", (0x8825, 4, 0)))
    version = struct.pack("<HHHI4BI", 1, 0, 1, 4, 2, 3, 0, 0, 0)
    assert not exif.read(block("<", (0x8825, 4, at)) + version).has_gps
    latitude = struct.pack("<HHHI4sI", 1, 1, 2, 2, b"N\0\0\0", 0)
    assert exif.read(block("<", (0x8825, 4, at)) + latitude).has_gps


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MM",
        b"MM\0*\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        block(">", (0x8825, 4, 0xFFFFFFFF), (0x8769, 4, 8), following=8),
        b"PNG what",
    ],
)
def test_broken_blocks_say_nothing(data: bytes) -> None:
    assert exif.read(data).orientation == 1


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08"])
)
def test_never_raises(rest: bytes, start: bytes) -> None:
    assert 1 <= exif.read(memoryview(start + rest)).orientation <= 8
