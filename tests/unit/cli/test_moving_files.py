"""A picture's file is opened where it was found, and nowhere else."""

import pytest

from imgpro.cli.moving_files import PictureFile
from imgpro.errors import SourceUnusable


def test_a_folder_that_became_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    for folder in ("in", "secret"):
        (tmp_path / folder / "a.png").write_bytes(folder.encode())
    path = str(tmp_path.resolve() / "in" / "a.png")
    with PictureFile(path) as file:
        assert b"".join(file.chunks()) == b"in"
    (tmp_path / "in").rename(tmp_path / "was")
    (tmp_path / "in").symlink_to("secret")  # since it was looked at
    with pytest.raises(SourceUnusable, match="symbolic link"):
        PictureFile(path)


def test_what_cannot_be_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    root = tmp_path.resolve()
    for name, words in (("link", "symbolic link"), ("gone", "No such file"), ("folder", "not a file")):
        with pytest.raises(SourceUnusable, match=words):
            PictureFile(str(root / name))
