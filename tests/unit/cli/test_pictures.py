"""Files on their way out: found first, read as they were, named as text."""

import io
import os

import pytest

from imgpro.cli import pictures
from imgpro.cli.pictures import Picture, PictureChanged, gather
from imgpro.errors import OperatorError


def found(*arguments, **options):
    return gather(arguments, **{"recursive": False, "name": None, "standard_input": io.BytesIO(b"piped"), **options})


def content(picture):
    return b"".join(picture.chunks(3))


def test_a_pipe_can_be_read_twice():
    [picture] = found("-", name="x.png")
    assert (picture.size, picture.name, content(picture), content(picture)) == (5, "x.png", b"piped", b"piped")
    picture.close()


def test_a_named_pipe(tmp_path):
    read, write = os.pipe()
    os.write(write, b"through")
    os.close(write)
    [picture] = found(f"/dev/fd/{read}")
    os.close(read)
    assert (picture.size, content(picture)) == (7, b"through")
    picture.close()


def test_an_endless_pipe_has_an_end(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_SPOOLED_BYTES", 10)
    with pytest.raises(OperatorError, match="More than"):
        found("-", standard_input=io.BytesIO(b"x" * 11))


def test_a_file_that_changes_while_it_is_sent(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"0123456789")
    [picture] = found(str(path))
    path.write_bytes(b"0123")
    with pytest.raises(PictureChanged, match="shorter"):
        content(picture)
    path.write_bytes(b"0123456789more")
    assert content(picture) == b"0123456789", "what was promised, and no more"
    path.unlink()
    with pytest.raises(PictureChanged, match="no longer"):
        content(picture)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.png", True), ("A.JPG", True), (".a.png", False), ("a.png.part", False), ("png", False), ("a.heic", True),
     ("a.txt", False), ("a.", False), ("a.crdownload", False), ("a.svg", True)],
)  # fmt: skip
def test_pictures_by_their_names(name, is_one):
    assert pictures.is_picture_name(name) is is_one


def test_content_types():
    assert Picture("/a.JPG", "", "", 1).content_type == "image/jpeg"
    assert Picture("/a.svg", "", "", 1).content_type == "image/svg+xml"
    assert Picture("/a.exe", "", "", 1).content_type == "application/octet-stream"
