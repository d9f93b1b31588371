"""What a folder's reader finds, in which order, and what it calls each file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import SourceUnusable
from imgpro.movers.address_list import AddressList
from imgpro.movers.folder import Folder, Rules, item_name
from imgpro.movers.found import Found, LeftOut


def found(root, **rules):
    return list(Folder(str(root), Rules(**rules)).read())


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def test_order_and_what_is_passed_over(tmp_path):
    put(
        tmp_path, "b.png", "a/z.png", "a/b/c.png", "B.png", ".git/x.png", "a/.hidden.png", "@eaDir/b.png/thumb.jpg",
        "__MACOSX/a.png", "Thumbs.db",
    )  # fmt: skip
    assert [one.item for one in found(tmp_path)] == ["B.png", "a/b/c.png", "a/z.png", "b.png"]
    assert Folder(str(tmp_path), Rules()).count() == 4


def test_links_by_the_path_that_it_was_served_under(tmp_path):
    put(tmp_path, "a b/ü.png")
    for old_path in ("/img", "/img/"):
        (one,) = found(tmp_path, old_path=old_path)
        assert [link.path for link in one.old_links] == ["/img/a%20b/%C3%BC.png"]
    (one,) = found(tmp_path, old_path="/")
    assert [link.path for link in one.old_links] == ["/a%20b/%C3%BC.png"]


def test_namespace_and_tags(tmp_path):
    put(tmp_path, "top.png", "one/a.png", "one/two/three/b.png")
    both = {
        one.item: (one.namespace, one.tags) for one in found(tmp_path, namespace_from_path=True, tags_from_path=True)
    }
    assert both == {"top.png": ("", ()), "one/a.png": ("one", ()), "one/two/three/b.png": ("one", ("two", "three"))}
    tags = {one.item: one.tags for one in found(tmp_path, tags_from_path=True)}
    assert tags["one/two/three/b.png"] == ("one", "two", "three")
    assert not any(one.namespace or one.tags for one in found(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    put(tmp_path, "a/x.png", "b.png")
    (tmp_path / "a").chmod(0)
    first, second = found(tmp_path)
    assert isinstance(first, LeftOut)
    assert first.item == "a"
    assert isinstance(second, Found)


def test_folders_in_folders_without_end(tmp_path):
    put(tmp_path, "/".join(["a"] * 300) + "/deep.png", "b.png")
    first, second = found(tmp_path)
    assert (first.item, type(first)) == ("/".join(["a"] * 201), LeftOut)
    assert second.item == "b.png"


def test_no_folder(tmp_path):
    with pytest.raises(SourceUnusable):
        Folder(str(tmp_path / "missing"), Rules())


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_no_two_paths_have_one_name(paths):
    first, second = (item_name(path) for path in paths)
    assert first != second
    first.encode()


def test_lines_of_addresses(tmp_path):
    (tmp_path / "list").write_bytes(
        b"\xef\xbb\xbf# one\n\nhttps://a.example/x.png\r\n  https://a.example/y z.png\nname\thttps://a.example/z\nnothing"
    )
    with (tmp_path / "list").open("rb") as file:
        listed = AddressList(file)
        assert listed.count() == 4
        rows = list(listed.read())
    assert [type(row) for row in rows] == [Found, LeftOut, Found, LeftOut]
    assert (rows[2].name, rows[2].url) == ("name", "https://a.example/z")
    (tmp_path / "long").write_bytes(b"https://a.example/" + b"x" * 10_000)
    with (tmp_path / "long").open("rb") as file, pytest.raises(SourceUnusable, match="Line 1"):
        list(AddressList(file).read())
