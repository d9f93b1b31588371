"""Uploads: every way in, every field, and bad input of every kind, against the real server."""

import io
import json
import socket
import subprocess
import time

import pytest
from PIL import Image

from tests.containers import encode, picture
from tests.servers import blobs, leftovers, multipart

PNG = encode(picture("RGB", (60, 40)), "PNG")


def quiet(server):
    """Wait until no request is under way, then return what `tmp/` still holds."""
    deadline = time.monotonic() + 10
    while leftovers(server.data) and time.monotonic() < deadline:
        time.sleep(0.02)
    return leftovers(server.data)


def test_the_answer_has_every_field(server, photos):
    before = time.time()
    body = (photos / "photo-12mp-gps.jpg").read_bytes()
    answer = server.upload(body, "IMG_1234.jpg")
    assert answer.status == 201
    found = answer.json()
    assert len(found["id"]) == 12
    assert found["name"] == "IMG_1234.jpg"
    assert found["url"] == f"{server.base}/{found['id']}"
    assert found["src"] == f"{server.base}/t/{found['id']}.jpeg"
    assert (found["width"], found["height"]) == (4000, 3000)
    assert found["filesize"] == len(server.get(found["src"]).body)
    assert before - 1 <= found["created_at"] <= time.time() + 1
    assert found["expires_at"] == found["created_at"] + 30 * 86400
    assert found["upgrade"]["type"] == "register"
    assert found["upgrade"]["url"] == f"{server.base}/api/quick-start"
    assert found["upgrade"]["label"] == "Create API Key"
    assert found["format"] == "jpeg"
    assert found["public"] is True
    assert found["placeholder"].startswith("data:image/")
    assert set(found["metadata_removed"]) >= {"gps", "exif"}
    assert found["sizes"]["m"] == {"src": f"{server.base}/t/{found['id']}.jpeg?size=m", "width": 853, "height": 640}
    assert answer.headers["Cache-Control"] == "private, no-store"


def test_private_data_goes_and_pixels_stay(server, photos):
    body = (photos / "photo-12mp-gps.jpg").read_bytes()
    stored = server.get(server.must_upload(body)["src"]).body
    before, after = Image.open(io.BytesIO(body)), Image.open(io.BytesIO(stored))
    assert before.getexif().get_ifd(0x8825)
    assert not after.getexif().get_ifd(0x8825)
    assert b"Exif" not in stored
    assert before.info.get("icc_profile") == after.info.get("icc_profile")
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("field", ["file", "image", "list", "anything"])
def test_the_file_is_found_under_any_field(server, field):
    body, kind = multipart([("name", None, b"first.png"), (field, "x.png", PNG), ("description", None, b"after")])
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind})
    assert answer.status == 201
    assert (answer.json()["name"], answer.json()["description"]) == ("first.png", "after")


def test_bare_bodies(server):
    put = server.request("PUT", "/v1/upload/shot%201.png", PNG)
    assert (put.status, put.json()["name"]) == (201, "shot 1.png")
    post = server.request("POST", "/v1/upload?name=a.png&ttl=1h", PNG, {"Content-Type": "image/png"})
    assert (post.status, post.json()["name"]) == (201, "a.png")
    assert post.json()["expires_at"] == post.json()["created_at"] + 3600


def test_a_bare_link_for_tools(server):
    answer = server.request("PUT", "/v1/upload/x.png", PNG, {"Accept": "text/plain"})
    assert answer.status == 201
    link = answer.body.decode()
    assert link.endswith(".png\n")
    assert server.get(link.strip()).status == 200
    assert server.request("PUT", "/v1/upload/x.png?format=text&link=page", PNG).body.count(b"/") == 3


def test_fields(server):
    found = server.must_upload(PNG, "x.png", name="Shown.png", ttl="5m", public="0", date="2026-05-31", description="words",
                               tags="x" * 99, namespace="-", other="?")  # fmt: skip
    assert found["name"] == "Shown.png"
    assert found["expires_at"] == found["created_at"] + 300
    assert found["public"] is False
    assert (found["date"], found["description"], found["tags"], found["namespace"]) == ("2026-05-31", "words", [], None)


def test_ttl_cannot_lengthen_what_the_plan_keeps(server):
    found = server.must_upload(PNG, ttl="90d")
    assert found["expires_at"] == found["created_at"] + 30 * 86400


def test_every_bad_field_is_named(server):
    answer = server.upload(PNG, "x.png", ttl="x", public="maybe", date="soon", name="n" * 300)
    assert answer.status == 422
    assert answer.json()["error"] == "validation_error"
    assert set(answer.json()["details"]) == {"ttl", "public", "date", "name"}
    assert answer.json()["action"]["type"] == "fix"
    assert quiet(server) == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\x.png", "\u2066ab.png", "🌍" * 1000 + ".png", "", "\u202egnp.png"]
)
def test_hostile_file_names(server, name):
    found = server.must_upload(PNG, name)
    assert not set("/\\\u2066\u202e") & set(found["name"])
    assert 0 < len(found["name"]) <= 255


def test_private_pictures_are_seen_through_their_signed_link_only(server):
    found = server.must_upload(PNG, public="false")
    bare = f"/t/{found['id']}.png"
    for path in (bare, f"/{found['id']}", f"/v1/media/{found['id']}", bare + "?sig=1abc.def", bare + "?size=s"):
        assert server.get(path).status == 404, path
    answer = server.get(found["signed_src"])
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert server.get(found["url"]).status == 200
    assert server.get(bare).status == 404
    signature = found["signed_src"].partition("sig=")[2]
    other = server.must_upload(PNG, public="false")
    assert server.get(f"/t/{other['id']}.png?sig={signature}").status == 404


def test_the_delete_link_deletes_at_once(server):
    body = encode(picture("RGB", (71, 41)), "PNG")
    found = server.must_upload(body)
    thumb = server.get(found["sizes"]["s"]["src"])
    assert thumb.status == 200
    assert server.get(f"/t/{found['id']}.webp").status == 200
    path = found["delete_url"].removeprefix(server.base)
    assert server.get(path).status == 200
    assert server.get(found["src"]).status == 200
    before = len(blobs(server.data))
    for bad in (f"/v1/media/{found['id']}?token=x", f"/{found['id']}/delete?token=x"):
        assert server.request("DELETE", bad).status == 404
    assert server.request("DELETE", f"/v1/media/{found['id']}").status == 401
    token = found["delete_url"].partition("token=")[2]
    answer = server.request("DELETE", f"/v1/media/{found['id']}?token={token}")
    assert (answer.status, answer.json()) == (200, {"success": True})
    gone = [
        found["src"],
        found["url"],
        found["sizes"]["s"]["src"],
        f"/t/{found['id']}.webp",
        f"/v1/media/{found['id']}",
    ]
    assert [server.get(link).status for link in gone] == [404] * len(gone)
    assert server.get(found["src"], Range="bytes=0-1").status == 404
    assert server.get(found["sizes"]["s"]["src"], If_None_Match=thumb.headers["ETag"]).status == 404
    assert len(blobs(server.data)) == before - 1
    assert server.request("POST", path).status == 404


def test_the_delete_page_works_without_script(server):
    found = server.must_upload(encode(picture("RGB", (72, 41)), "PNG"))
    path = found["delete_url"].removeprefix(server.base)
    page = server.request("POST", path, headers={"Accept": "text/html"})
    assert page.status == 200
    assert b"deleted" in page.body
    assert server.get(found["src"]).status == 404


def test_the_same_bytes_twice_are_stored_once_and_deleted_last(server):
    body = encode(picture("RGB", (73, 41)), "PNG")
    first, before = server.must_upload(body), len(blobs(server.data))
    second = server.must_upload(body)
    assert first["id"] != second["id"]
    assert len(blobs(server.data)) == before
    server.request("POST", first["delete_url"].removeprefix(server.base))
    assert server.get(first["src"]).status == 404
    assert server.get(second["src"]).status == 200
    assert server.get(f"/t/{second['id']}.webp?size=s").status == 200


BAD_FILES = {
    "empty": (b"", 415),
    "text": (b"hello", 415),
    "html": (b"<html><script>alert(1)</script>", 415),
    "pdf": (b"%PDF-1.7\n" + b"x" * 2000, 415),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415),
    "tiff": (b"II*\x00" + b"\x00" * 100, 415),
    "psd": (b"8BPS\x00\x01" + b"\x00" * 100, 415),
    "jpeg 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00" * 100, 415),
    "zip": (b"PK\x03\x04" + b"\x00" * 100, 415),
    "mp4": (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", 415),
    "half a png": (PNG[: len(PNG) // 2], 422),
    "png header only": (PNG[:8], 422),
    "png with a bad checksum": (PNG[:30] + b"\x00" + PNG[31:], 422),
    "jpeg start only": (b"\xff\xd8\xff", 422),
    "gif header only": (b"GIF89a", 422),
    "webp header only": (b"RIFF\x10\x00\x00\x00WEBPVP8 ", 422),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_get_a_clear_answer_and_leave_nothing(server, kind):
    body, status = BAD_FILES[kind]
    before = len(blobs(server.data))
    answer = server.upload(body, "photo.jpg")
    assert answer.status == status, answer
    assert answer.json()["error"] == ("unsupported_format" if status == 415 else "image_broken")
    assert answer.json()["action"]["type"] == "fix"
    assert quiet(server) == []
    assert len(blobs(server.data)) == before


def test_the_name_and_the_declared_type_mean_nothing(server):
    body, _ = multipart([("file", "x.gif", PNG)])
    boundary = body[2:34].decode()
    body = body.replace(b'filename="x.gif"', b'filename="x.gif"\r\nContent-Type: text/html')
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status == 201
    assert answer.json()["format"] == "png"


def test_truncations_of_a_real_photo_are_refused(server, photos):
    body = (photos / "photo-2mp.jpg").read_bytes()
    for keep in (0.1, 0.5, 0.9, 0.999):
        assert server.upload(body[: int(len(body) * keep)]).status == 422


def test_a_polyglot_is_stored_as_a_picture_only(server):
    answer = server.must_upload(PNG + b"PK\x03\x04<script>evil()</script>")
    assert "trailing_data" in answer["metadata_removed"]
    assert b"evil" not in server.get(answer["src"]).body


def test_too_large_by_declaration_and_by_stream(server):
    limit = 20 * 1024 * 1024
    answer = server.request("PUT", "/v1/upload/x.png", None, {"Content-Length": str(limit + 1)})
    assert (answer.status, answer.json()["error"]) == (413, "file_too_large")
    assert answer.headers["Connection"] == "close"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(b"PUT /v1/upload/x.png HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n" % 1048576 + b"\x00" * 1048576 + b"\r\n"
        try:
            for _ in range(40):
                sock.sendall(piece)
        except OSError:
            pass
        reply = sock.recv(65536)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert quiet(server) == []


def test_an_svg_above_its_own_limit_is_too_large(server):
    padding = b"<desc>" + b"x" * (10 * 1024 * 1024) + b"</desc>"
    answer = server.upload(b'<svg xmlns="http://www.w3.org/2000/svg">' + padding + b"</svg>")
    assert (answer.status, answer.json()["error"]) == (413, "file_too_large")


def test_a_post_without_any_body_names_the_missing_file(server):
    answer = server.request("POST", "/v1/upload")
    assert (answer.status, answer.json()["error"]) == (422, "validation_error")
    assert "file" in answer.json()["details"]


FORMS = {
    "no file": ([("name", None, b"x")], 422),
    "two files": ([("file", "a.png", PNG), ("file", "b.png", PNG)], 422),
    "nothing": ([], 422),
    "a long field": ([("name", None, b"x" * 9000), ("file", "a.png", PNG)], 422),
    "a binary field": ([("name", None, b"\xff\xfe"), ("file", "a.png", PNG)], 422),
    "too many parts": ([(f"f{n}", None, b"x") for n in range(30)] + [("file", "a.png", PNG)], 400),
}


@pytest.mark.parametrize("kind", FORMS)
def test_bad_forms(server, kind):
    parts, status = FORMS[kind]
    body, content_type = multipart(parts)
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": content_type})
    assert answer.status == status, answer
    assert {"error", "message", "action"} <= set(answer.json())
    assert quiet(server) == []


RAW_FORMS = {
    "no boundary": ("multipart/form-data", b"x"),
    "empty boundary": ("multipart/form-data; boundary=", b"x"),
    "long boundary": ("multipart/form-data; boundary=" + "b" * 200, b"x"),
    "wrong boundary": ("multipart/form-data; boundary=b", b"--c\r\n\r\nx\r\n--c--\r\n"),
    "no disposition": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "no end": ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx'),
    "nested": ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n"),
    "encoded part": ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n'),
    "huge headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-A: " + b"x" * 70000 + b"\r\n\r\nx\r\n--b--\r\n"),
    "many headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(2000)) + b"\r\nx\r\n--b--\r\n"),
    "mixed": ("multipart/mixed; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "null bytes": ("multipart/form-data; boundary=b", b"\x00" * 1000),
    "bad charset": ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="name"\r\nContent-Type: text/plain; charset=nope\r\n\r\nx\r\n--b--\r\n'),
}  # fmt: skip


@pytest.mark.parametrize("kind", RAW_FORMS)
def test_malformed_multipart_is_a_4xx_in_the_one_shape(server, kind):
    content_type, body = RAW_FORMS[kind]
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": content_type})
    assert 400 <= answer.status < 500, answer
    assert {"error", "message", "action"} <= set(answer.json())
    assert server.get("/healthz").status == 200
    assert quiet(server) == []


@pytest.mark.parametrize("after", [0, 10, 100_000])
def test_a_disconnect_in_the_middle_leaves_nothing(server, after):
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"PUT /v1/upload/x.png HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * after)
        time.sleep(0.2)
    assert quiet(server) == []
    assert server.get("/healthz").status == 200


def test_keys_are_refused_rather_than_ignored(server):
    for headers in (
        {"Authorization": "Bearer img_live_x"},
        {"X-API-Key": "img_live_x"},
        {"Authorization": "Basic eDp5"},
    ):
        answer = server.request("PUT", "/v1/upload/x.png", PNG, headers)
        assert (answer.status, answer.json()["error"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_form_without_script_ends_on_the_page(server):
    body, kind = multipart([("file", "x.png", PNG)])
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind, "Accept": accept})
    assert answer.status == 303
    assert server.get(answer.headers["Location"].removeprefix(".."), Accept=accept).status == 200
    bad, kind = multipart([("file", "x.png", b"no")])
    answer = server.request("POST", "/v1/upload", bad, {"Content-Type": kind, "Accept": accept})
    assert answer.status == 415
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/v1/upload", "/share"])
@pytest.mark.parametrize("value", [b"\xff", b"x" * 9_000], ids=["no text", "too long"])
def test_a_field_whose_name_is_no_text_is_an_error_of_its_sender(server, path, value):
    body = b'--X\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n' + value + b"\r\n--X--\r\n"
    answer = server.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=X"})
    assert answer.status == 422, answer
    assert "traceback" not in server.log().lower()


def test_a_name_has_the_quotation_marks_that_its_file_has(server):
    # As browsers and curl write it, whatever they are told otherwise.
    body = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a %22b%22 100%25.png"\r\n\r\n'
        + PNG
        + b"\r\n--X--\r\n"
    )
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": "multipart/form-data; boundary=X"})
    assert answer.json()["name"] == 'a "b" 100%25.png'


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"a;b;c.png", "a;b;c.png"),
        ("🎉;;é.png".encode(), "🎉;;é.png"),
        (b"; filename=x.png", "; filename=x.png"),
        (b"two%0D%0Alines.png", "two lines.png"),
        (b"a\x01\x07b.png", "ab.png"),
        (b'bare "marks".png', 'bare "marks".png'),
        (b"a\\", None),
        (b"\xff\xfe.png", "??.png"),
    ],
    ids=["semicolons", "emoji", "like a field", "line break", "controls", "marks", "backslash", "no text"],
)
def test_no_picture_is_refused_for_its_name(server, sent, name):
    body = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="' + sent + b'"\r\n\r\n' + PNG + b"\r\n--X--\r\n"
    )
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": "multipart/form-data; boundary=X"})
    assert answer.status == 201, answer
    made = answer.json()
    assert made["name"] == (name or f"{made['id']}.png")


def test_curl_sends_any_name(server, tmp_path):
    for name in ("a;b;c.png", 'quo"te.png', "back\\slash;x.png"):
        (tmp_path / name).write_bytes(PNG)
        escaped = str(tmp_path / name).replace("\\", "\\\\").replace('"', '\\"')
        command = ["curl", "-sS", "-F", f'file=@"{escaped}"', f"{server.base}/v1/upload"]
        answer = subprocess.run(command, capture_output=True, check=True).stdout
        assert json.loads(answer)["name"] == name.rpartition("\\")[2]
