"""Pictures out: every size and format of real photographs, caching, conditions, ranges."""

import io
import json
import time

import pytest
from PIL import Image

import imgpro.imaging.engine  # noqa: F401  # registers AVIF for reading the answers
from tests.containers import encode, picture
from tests.servers import UNLIMITED, blobs, running

FORMATS = {"jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "gif": "GIF"}
TYPES = {"jpg": "image/jpeg"}


@pytest.fixture(scope="module")
def photo(server, photos):
    return server.must_upload((photos / "photo-12mp-gps.jpg").read_bytes(), "photo.jpg")


def opened(answer):
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body))


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize(("size", "expected"), [("s", (426, 320)), ("m", (853, 640)), ("l", (1440, 1080))])
def test_every_size_in_every_format(server, photo, extension, size, expected):
    answer = server.get(f"/t/{photo['id']}.{extension}?size={size}")
    picture = opened(answer)
    assert picture.size == expected
    assert picture.format == FORMATS[extension]
    assert answer.headers["Content-Type"] == TYPES.get(extension, f"image/{extension}")


def test_colours_agree_across_formats(server, photo):
    means = {}
    for extension in ("jpeg", "png", "webp", "avif"):
        picture = opened(server.get(f"/t/{photo['id']}.{extension}?size=s")).convert("RGB").resize((8, 6))
        means[extension] = picture.tobytes()
    for extension, pixels in means.items():
        worst = max(abs(a - b) for a, b in zip(pixels, means["png"], strict=True))
        assert worst <= 8, extension


@pytest.mark.parametrize("query", ["", "?size=o", "?size=huge", "?size=", "?nonsense=1"])
def test_same_format_without_a_size_is_the_stored_bytes(server, photo, query):
    answer = server.get(f"/t/{photo['id']}.jpeg{query}")
    assert len(answer.body) == photo["filesize"]
    assert answer.headers["ETag"] == server.get(f"/t/{photo['id']}.jpg").headers["ETag"]


def test_nothing_is_enlarged(server):
    small = server.must_upload(encode(picture("RGB", (100, 60)), "PNG"))
    assert opened(server.get(f"/t/{small['id']}.png?size=l")).size == (100, 60)
    assert opened(server.get(f"/t/{small['id']}.webp?size=s")).size == (100, 60)
    assert small["sizes"]["l"] == {"src": f"{server.base}/t/{small['id']}.png?size=l", "width": 100, "height": 60}


def test_transparency_goes_onto_white_for_jpeg(server, photos):
    window = server.must_upload((photos / "window-alpha.png").read_bytes())
    assert opened(server.get(f"/t/{window['id']}.webp?size=s")).mode == "RGBA"
    assert opened(server.get(f"/t/{window['id']}.png?size=s")).getpixel((0, 0))[3] == 0
    assert min(opened(server.get(f"/t/{window['id']}.jpeg?size=s")).getpixel((0, 0))) > 250


@pytest.mark.parametrize("name", ["animation-16f.gif", "animation-16f.webp"])
def test_animation_stays_in_gif_and_webp(server, photos, name):
    moving = server.must_upload((photos / name).read_bytes())
    for extension, frames in (("gif", 16), ("webp", 16), ("jpeg", 1), ("png", 1), ("avif", 1)):
        picture = opened(server.get(f"/t/{moving['id']}.{extension}?size=s"))
        assert getattr(picture, "n_frames", 1) == frames, extension


def test_orientation_is_applied(server, photos):
    portrait = server.must_upload((photos / "portrait-orientation6.jpg").read_bytes())
    assert portrait["height"] > portrait["width"]
    for extension in ("jpeg", "webp", "png", "avif"):
        picture = opened(server.get(f"/t/{portrait['id']}.{extension}?size=s"))
        assert picture.size == (portrait["sizes"]["s"]["width"], portrait["sizes"]["s"]["height"])
        assert picture.getexif().get(0x0112, 1) == 1


def test_headers_of_a_public_picture_that_ends(server, photo):
    headers = server.get(photo["sizes"]["m"]["src"]).headers
    parts = headers["Cache-Control"].split(", ")
    assert parts[0] == "public"
    assert parts[2] == "immutable"
    assert 29 * 86400 < int(parts[1].removeprefix("max-age=")) <= 30 * 86400
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "aiohttp" not in headers["Server"]


@pytest.mark.parametrize("path", ["{id}.jpeg", "{id}.webp?size=m", "{id}.jpeg?size=m"])
def test_a_known_etag_is_answered_304(server, photo, path):
    path = "/t/" + path.format(id=photo["id"])
    first = server.get(path)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = server.get(path, If_None_Match=condition)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag
    assert server.get(path, If_None_Match='"other"').status == 200


@pytest.mark.parametrize("path", ["{id}.jpeg", "{id}.jpeg?size=m"])
def test_head_and_ranges(server, photo, path):
    path = "/t/" + path.format(id=photo["id"])
    whole = server.get(path)
    head = server.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(whole.body)
    size = len(whole.body)
    for wanted, start, end in (
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=5-{size * 2}", 5, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        part = server.get(path, Range=wanted)
        assert part.status == 206, wanted
        assert part.body == whole.body[start:end]
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for whole_again in ("bytes=9-5", "bytes=a-b", "items=0-5", "bytes=0-5,7-9", "bytes=-"):
        assert server.get(path, Range=whole_again).status == 200, whole_again
    past = server.get(path, Range=f"bytes={size}-")
    assert (past.status, past.json()["error"]) == (416, "range_not_satisfiable")
    assert past.headers["Content-Range"] == f"bytes */{size}"
    assert "immutable" not in past.headers["Cache-Control"]
    resumed = server.get(path, Range="bytes=0-9", If_Range=whole.headers["ETag"])
    assert resumed.status == (200 if "size=" in path else 206)
    assert server.get(path, Range="bytes=0-9", If_Range='"old"').status == 200


def test_download_under_its_name(server, photo):
    answer = server.get(f"/t/{photo['id']}.webp?size=s&download=1")
    assert answer.headers["Content-Disposition"] == "attachment; filename=\"photo.webp\"; filename*=UTF-8''photo.webp"


def test_names_cannot_break_out_of_the_header(server):
    found = server.must_upload(encode(picture("RGB", (18, 18)), "PNG"), name='x"; evil="1\r\nSet-Cookie: a=b 🌍.png')
    header = server.get(f"/t/{found['id']}.png?download=1").headers
    assert "Set-Cookie" not in header
    assert header["Content-Disposition"].count('"') == 2


@pytest.mark.parametrize("path", ["/t/AAAAAAAAAAAA.jpeg", "/t/short.jpeg", "/t/AAAAAAAAAAAA.tiff", "/t/", "/t/x/y.png"])
def test_nothing_there(server, path):
    answer = server.get(path)
    assert (answer.status, answer.json()["error"]) == (404, "not_found")
    assert "immutable" not in answer.headers.get("Cache-Control", "")


def test_a_format_that_cannot_hold_the_picture_is_a_clean_4xx(server):
    wide = server.must_upload(encode(Image.new("RGB", (17000, 4)), "PNG"))
    answer = server.get(f"/t/{wide['id']}.webp")
    assert (answer.status, answer.json()["error"]) == (422, "image_too_large")
    assert opened(server.get(f"/t/{wide['id']}.jpeg")).size == (17000, 4)


def test_svg_is_served_sanitised_in_every_link(server):
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><script>x</script><rect width="9" height="9"/></svg>'
    found = server.must_upload(drawing, "d.svg")
    for path in (found["src"], found["sizes"]["m"]["src"], f"/t/{found['id']}.png?size=s"):
        answer = server.get(path)
        assert answer.headers["Content-Type"] == "image/svg+xml"
        assert b"script" not in answer.body
        assert b"<rect" in answer.body
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_heic_is_shown_as_jpeg(server, tmp_path):
    from tests.servers import ROOT

    found = server.must_upload((ROOT / "tests/data/gps-rotated.heic").read_bytes())
    assert found["src"].endswith(".jpeg")
    assert opened(server.get(found["src"])).size == (found["width"], found["height"])
    assert "gps" in found["metadata_removed"]


def test_cors_preflight(server, photo):
    answer = server.request(
        "OPTIONS", "/v1/upload", headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status == 204
    assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert server.request("OPTIONS", f"/t/{photo['id']}.webp").status == 204


def test_the_api_shows_public_pictures(server, photo):
    shown = server.get(f"/v1/media/{photo['id']}").json()
    same = (
        "id",
        "name",
        "url",
        "src",
        "width",
        "height",
        "filesize",
        "created_at",
        "expires_at",
        "sizes",
        "placeholder",
    )
    assert {key: shown[key] for key in same} == {key: photo[key] for key in same}
    assert "delete_url" not in json.dumps(shown)


def test_a_cache_file_that_somebody_damaged_is_made_again(tmp_path, photos):
    env = UNLIMITED | {"IMGPRO_CACHE_MEMORY_BYTES": "0"}
    with running(tmp_path / "data", env) as server:
        found = server.must_upload((photos / "photo-2mp.jpg").read_bytes())
        path = f"/t/{found['id']}.webp?size=m"
        whole = server.get(path).body
        (cached,) = wait_for(lambda: list((tmp_path / "data/cache").rglob("m-*.webp")))
        for left in (b"", whole[:100], whole + b"more"):
            cached.chmod(0o640)
            cached.write_bytes(left)
            assert server.get(path).body == whole
            wait_for(lambda: cached.read_bytes() == whole)
        cached.chmod(0o640)
        cached.write_bytes(b"")
        server.stop()
    with running(tmp_path / "data", env) as server:
        assert server.get(path).body == whole


def test_a_missing_original_is_told_and_an_error_in_the_log(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        found = server.must_upload(encode(picture("RGB", (90, 60)), "PNG"))
        (blob,) = blobs(tmp_path / "data")
        kept = blob.read_bytes()
        blob.unlink()
        answer = server.get(f"/t/{found['id']}.webp")
        assert (answer.status, answer.json()["error"]) == (503, "image_damaged")
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert wait_for(lambda: blob.name in server.log())
        blob.write_bytes(kept)
        assert server.get(f"/t/{found['id']}.webp").status == 200


def wait_for(look):
    deadline = time.monotonic() + 10
    while not look() and time.monotonic() < deadline:
        time.sleep(0.02)
    return look()
