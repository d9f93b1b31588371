from imgpro.flows.hot import HotPictures, canonical_path
from imgpro.model import Blob, Image


def image(image_id="AAAAAAAAAAAA", public=True, expires_ms=None):
    blob = Blob(digest="0" * 64, format="jpeg", stored_bytes=1, width=1, height=1, frames=1, has_alpha=False,
                placeholder="", phash=None)  # fmt: skip
    return Image(id=image_id, blob=blob, name="", description="", public=public, created_ms=0, expires_ms=expires_ms,
                 display_date=None, origin="upload", metadata_removed=())  # fmt: skip


def put(hot, path, body, picture=None):
    hot.put(path, picture or image(), body, "image/webp", '"x"')


def test_it_is_bounded_by_bytes_and_drops_the_longest_unused():
    hot = HotPictures(100, 60)
    put(hot, "/a", b"x" * 40)
    put(hot, "/b", b"x" * 40)
    assert hot.get("/a") is not None
    put(hot, "/c", b"x" * 40)
    assert hot.get("/b") is None
    assert hot.get("/a") is not None
    assert hot.held_bytes == 80


def test_large_and_private_bodies_are_not_kept():
    hot = HotPictures(100, 60)
    put(hot, "/a", b"x" * 61)
    put(hot, "/b", b"x", image(public=False))
    assert hot.held_bytes == 0


def test_zero_keeps_nothing():
    hot = HotPictures(0, 60)
    put(hot, "/a", b"x")
    assert hot.get("/a") is None


def test_forgetting_an_image_forgets_all_its_paths_and_no_other():
    hot = HotPictures(100, 60)
    put(hot, "/a", b"x")
    put(hot, "/b", b"x")
    put(hot, "/c", b"x", image("BBBBBBBBBBBB"))
    hot.forget("AAAAAAAAAAAA")
    assert (hot.get("/a"), hot.get("/b")) == (None, None)
    assert hot.get("/c") is not None
    assert hot.held_bytes == 1


def test_replacing_a_path_counts_once():
    hot = HotPictures(100, 60)
    put(hot, "/a", b"x" * 10)
    put(hot, "/a", b"x" * 20)
    assert hot.held_bytes == 20


def test_paths():
    assert canonical_path("AAAAAAAAAAAA", "webp", "m") == "/t/AAAAAAAAAAAA.webp?size=m"
    assert canonical_path("AAAAAAAAAAAA", "webp", "o") == "/t/AAAAAAAAAAAA.webp"
