"""What all readers of hosts lean on: files that lie where they may, times, ids, and QOI."""

import itertools
import os
import random
from io import BytesIO

import pytest
from PIL import (
    Image,
    ImageChops,
    QoiImagePlugin,  # noqa: F401 - registers itself; the engine of imgpro keeps Pillow from doing so
)

from imgpro.errors import SourceUnusable
from imgpro.movers.chevereto_ids import CheveretoIds
from imgpro.movers.host_files import MISSING, OUTSIDE, HostFiles, NotThere
from imgpro.movers.host_values import iso, links, moment, no_picture, number
from imgpro.movers.qoi import QoiBroken, png_of
from tests.pictures import make_image


@pytest.fixture
def folder(tmp_path):
    files = tmp_path / "files"
    (files / "in").mkdir(parents=True)
    (files / "in" / "a b.png").write_bytes(b"x")
    (tmp_path / "outside.png").write_bytes(b"x")
    (files / "out.png").symlink_to("../outside.png")
    (files / "up").symlink_to("..")
    (files / "near.png").symlink_to("in/a b.png")
    os.mkfifo(files / "pipe.png")
    (tmp_path / "files-too").mkdir()
    (tmp_path / "files-too" / "x.png").write_bytes(b"x")
    (files / "beside").symlink_to("../files-too")
    return files


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("in/../in/a b.png", OUTSIDE), ("../outside.png", OUTSIDE), ("/etc/passwd", OUTSIDE), ("out.png", OUTSIDE),
        ("up/outside.png", OUTSIDE), ("beside/x.png", OUTSIDE), ("a\0b", OUTSIDE), ("", MISSING), ("in", MISSING),
        ("pipe.png", MISSING), ("no.png", MISSING), ("x" * 5_000, MISSING), (".", OUTSIDE), ("in/a b.png/x", MISSING),
        ("\udcff\ud800.png", MISSING),
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(folder, path, reason):
    with pytest.raises(NotThere, match=reason):
        HostFiles(folder, such_as="/x").find(path)


def test_files_that_are_there(folder):
    files = HostFiles(folder, such_as="/x")
    assert files.find("in/a b.png") == files.find("near.png") == str(folder.resolve() / "in" / "a b.png")
    linked = folder.parent / "linked"
    linked.symlink_to("files")
    assert HostFiles(linked, such_as="/x").find("in/a b.png") == str(folder.resolve() / "in" / "a b.png")
    with pytest.raises(SourceUnusable, match="no folder"):
        HostFiles(folder / "no", such_as="/x")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-05-01 12:34:56", 1_714_566_896_000), ("2024-05-01T12:34:56.789Z", 1_714_566_896_789),
        ("2024-05-01 14:34:56.789123+02", 1_714_566_896_789), ("2024-05-01 12:34:56+00:00", 1_714_566_896_000),
        ("1714566896", 1_714_566_896_000), ("1714566896789", 1_714_566_896_789), ("0000-00-00 00:00:00", None),
        ("2024-13-01 00:00:00", None), ("soon", None), ("", None), (None, None), ("9" * 40, None),
        ("²³", None), ("٢٠٢٤-٠٥-٠١ 12:00:00", None), ("infinity", None), ("2024-05-01 18:04:56+05:30", 1_714_566_896_000),
    ],
)  # fmt: skip
def test_times_of_databases(text, ms):
    assert moment(text) == ms


def test_small_things():
    assert iso("2024-05-01 14:34:56+02") == "2024-05-01T12:34:56Z"
    assert iso(None) == ""
    assert iso("0001-01-01 00:00:00+14") == ""
    assert [number(text) for text in ("7", "-1", "²", "9" * 5_000, "", None)] == [7, -1, 0, 0, 0, 0]
    assert no_picture("image/png") == no_picture("") == no_picture("application/octet-stream") == ""
    assert "video" in no_picture("video/mp4")
    assert "application/zip" in no_picture("application/zip")
    assert [(link.path, link.leads_to) for link in links(("/a", "o"), ("/a", "page"), ("/b", "s"))] == [
        ("/a", "page"),
        ("/b", "s"),
    ]


def test_short_ids_of_chevereto():
    # Pairs from a site of which both are known; it has no salt.
    known = {162937: "AOk", 131516: "xHT", 59571: "YzJ", 233420: "oFb", 13593: "ujY"}
    assert {number: CheveretoIds("").encode(number) for number in known} == known
    # The order of digits that PHP's array_multisort makes with this salt.
    padded = CheveretoIds("b3f5a1", 999)
    digits = "Rel1EHPnpqvwZbu946z7FMNQhj8o5CDOakAGLgiIJKYBf02TdsWmSt3UcrxVXy"
    assert padded.encode(1) == digits[999 // 62] + digits[999 % 62]
    assert padded.encode(0) == digits[0]


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (1, 1)), ("RGBA", (63, 5)), ("RGB", (200, 150)), ("RGBA", (1, 300))]
)
def test_png_of_qoi_has_the_same_pixels(mode, size):
    picture = make_image(mode, size)
    noise = random.Random(5)
    picture.putdata([tuple(noise.randrange(256) for _ in mode) for _ in range(size[0])])  # every kind of op
    qoi = BytesIO()
    picture.save(qoi, "QOI")
    pieces = itertools.batched(qoi.getvalue(), 7) if hasattr(itertools, "batched") else [qoi.getvalue()]
    png = Image.open(BytesIO(b"".join(png_of(bytes(piece) for piece in pieces))))
    assert (png.mode, png.size) == (mode, size)
    assert ImageChops.difference(png, picture).getbbox() is None


def test_qoi_that_is_none_or_cut():
    qoi = BytesIO()
    make_image("RGB", (40, 30)).save(qoi, "QOI")
    whole = qoi.getvalue()
    for data in (b"", whole[:14], whole[:-20], b"x" + whole[1:], whole[:4] + b"\xff" * 8 + whole[12:]):
        with pytest.raises(QoiBroken):
            list(png_of([data]))
    read = []
    for lying in (b"x" + whole[1:14], whole[:4] + b"\xff" * 8 + whole[12:14], whole[:14]):
        read.clear()
        with pytest.raises(QoiBroken):
            list(png_of(read.append(0) or (lying if len(read) == 1 else bytes(4_000)) for _ in range(1_000)))
        assert len(read) < 5  # it is not read to its end first
