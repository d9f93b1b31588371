"""Dates out of names, and out of files that say when they were taken."""

import datetime
import os

import pillow_avif  # noqa: F401  # teaches Pillow to write it
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgpro.imaging.taken import taken
from imgpro.movers.dates import date_of, from_name
from tests.pictures import encoded, make_image


def local(*parts):
    return int(datetime.datetime(*parts).timestamp() * 1000)  # noqa: DTZ001  # as the module reads it


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Screenshot 2024-05-01 12-30-10.png", (2024, 5, 1, 12, 30, 10)),
        ("Screenshot from 2024-05-01 12-30-10.png", (2024, 5, 1, 12, 30, 10)),
        ("Screen Shot 2024-05-01 at 12.30.10.png", (2024, 5, 1, 12, 30, 10)),
        ("Bildschirmfoto 2024-05-01 um 12.30.10.png", (2024, 5, 1, 12, 30, 10)),
        ("IMG_20240501_123010.jpg", (2024, 5, 1, 12, 30, 10)),
        ("PXL_20240501_123010123.jpg", (2024, 5, 1, 12, 30, 10)),
        ("20240501123010.jpg", (2024, 5, 1, 12, 30, 10)),
        ("2024-05-01T12:30:10.png", (2024, 5, 1, 12, 30, 10)),
        ("2024-05-01_12h30m10.png", (2024, 5, 1, 12, 30, 10)),
        ("clip 2024.05.01 - 12.30.png", (2024, 5, 1, 12, 30, 0)),
        ("IMG-20240501-WA0001.jpg", (2024, 5, 1, 12, 0, 0)),
        ("holiday 2024_05_01.jpg", (2024, 5, 1, 12, 0, 0)),
    ],
)
def test_names_with_a_date(name, parts):
    assert from_name(name) == local(*parts)


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1234.jpg",
        "2024.jpg",
        "20241301.jpg",
        "2024-02-31.png",
        "120240501.jpg",
        "2024-05-0112345.png",
        "1714559410123.png",
        "",
    ],
)
def test_names_without_one(name):
    assert from_name(name) is None


@given(st.text(max_size=80))
def test_any_name(name):
    assert from_name(name) is None or isinstance(from_name(name), int)


def exif_of(**facts):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({int(tag[1:], 16): value for tag, value in facts.items()})
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_what_a_file_says(kind, tmp_path):
    path = tmp_path / "2001-01-01.bin"
    os.makedirs(tmp_path, exist_ok=True)
    picture = make_image("RGB", (64, 48))
    path.write_bytes(encoded(picture, kind, exif=exif_of(x9003="2012:03:04 05:06:07", x9011="+05:30")))
    moment = datetime.datetime.fromisoformat("2012-03-04T05:06:07+05:30")
    assert date_of(str(path), ("exif", "name")) == moment.timestamp() * 1000
    assert date_of(str(path), ("name", "exif")) == local(2001, 1, 1, 12)
    path.write_bytes(encoded(picture, kind, exif=exif_of(x9004="2013:03:04 05:06:07")))
    assert date_of(str(path), ("exif",)) == local(2013, 3, 4, 5, 6, 7)
    for nothing in ("0000:00:00 00:00:00", "    :  :     :  :  ", "2013:02:31 05:06:07", "soon"):
        path.write_bytes(encoded(picture, kind, exif=exif_of(x9003=nothing)))
        assert date_of(str(path), ("exif", "none")) is None
    path.write_bytes(encoded(picture, kind))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert date_of(str(path), ("exif", "mtime")) == 1_000_000_000_000


def test_what_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("pipe", "link", "missing"):
        assert date_of(str(tmp_path / name), ("exif", "name")) is None


@given(st.data(), st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF"]))
def test_broken_files_have_nothing_to_say(data, kind):
    whole = bytearray(_WITH_DATE[kind])
    for _ in range(data.draw(st.integers(1, 12))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    form = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "AVIF": "avif"}[kind]
    assert isinstance(taken(lambda at, count: cut[at : at + count], form), str)


_WITH_DATE = {
    kind: encoded(make_image("RGB", (16, 12)), kind, exif=exif_of(x9003="2012:03:04 05:06:07"))
    for kind in ("JPEG", "PNG", "WEBP", "AVIF")
}
