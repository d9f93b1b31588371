"""What other programs expect of `/v1/upload`: any field, base64 in JSON, keys in addresses, bare links, preflight."""

import base64
import json
import os
import socket
from pathlib import Path

import pytest

from tests.containers import encode, picture
from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import bearer, blobs, leftovers, multipart, running

PNG = encode(picture("RGB", (60, 40)), "PNG")
LARGE = encoded(make_image("RGB", (900, 700)), "PNG")
JSON = {"Content-Type": "application/json"}


def text_of(body):
    return base64.b64encode(body).decode()


def send(server, body, query="", headers=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.request("POST", f"/v1/upload{query}", content, {**JSON, **(headers or {})})


def stored(server, answer):
    assert answer.status == 201, answer
    return server.get(answer.json()["src"]).body


@pytest.fixture(scope="module")
def keys(server):
    whole = server.new_key("compat@example.org")
    upload = server.api("POST", "/v1/keys", {"name": "tool", "abilities": ["upload"]}, key=whole).json()["key"]
    return {"whole": whole, "upload": upload}


# Forms


@pytest.mark.parametrize("field", ["list", "image", "smfile", "file"])
def test_a_file_is_found_under_any_field(server, field):
    body, kind = multipart([(field, "x.png", PNG)])
    assert server.request("POST", "/v1/upload", body, {"Content-Type": kind}).status == 201


def test_a_part_called_file_needs_no_file_name(server):
    body, kind = multipart([("file", None, PNG)])
    assert server.request("POST", "/v1/upload", body, {"Content-Type": kind}).status == 201


def test_a_second_file_is_refused_in_words(server):
    body, kind = multipart([("list", "x.png", PNG), ("list", "y.png", PNG)])
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind})
    assert (answer.status, answer.json()["details"]) == (422, {"file": "Send one file in each request."})


def test_a_stray_header_is_no_harm(server):
    body, kind = multipart([("file", "x.png", PNG)])
    headers = {"contentType": "multipart/form-data", "User-Agent": "PicGo", "Content-Type": kind}
    assert server.request("POST", "/v1/upload", body, headers).status == 201


# Base64 in JSON


@pytest.mark.parametrize("body", [PNG, LARGE], ids=["short", "long"])
@pytest.mark.parametrize("field", ["file", "image", "smfile"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:;base64,"])
def test_base64_under_any_name(server, body, field, prefix):
    answer = send(server, {"source": "phone", field: prefix + text_of(body), "name": "a.png"})
    assert stored(server, answer) == stored(server, server.upload(body))
    assert answer.json()["name"] == "a.png"


@pytest.mark.parametrize("body", [PNG, LARGE], ids=["short", "long"])
def test_what_writers_of_base64_do_to_it(server, body):
    whole, text = stored(server, server.upload(body)), text_of(body)
    lines = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    safe = text.replace("+", "-").replace("/", "_").rstrip("=")
    escaped = json.dumps({"file": text}).replace("/", "\\/").replace("+", "\\u002b").encode()
    wide = json.dumps({"file": text}, indent=8).encode()
    for sent in ({"file": lines}, {"file": safe}, {"file": text.rstrip("=")}, escaped, wide):
        assert stored(server, send(server, sent)) == whole


def test_fields_beside_base64(server, keys):
    sent = {
        "tags": ["Sea", "sky"], "namespace": "phone", "public": False, "ttl": 3600, "image": text_of(LARGE),
        "description": "words", "date": None, "other": {"a": ["b", 1]},
    }  # fmt: skip
    found = send(server, sent, headers=bearer(keys["whole"])).json()
    assert (found["tags"], found["namespace"], found["public"], found["description"]) == (
        ["sea", "sky"], "phone", False, "words",
    )  # fmt: skip
    assert found["expires_at"] == found["created_at"] + 3600
    assert send(server, {"file": text_of(PNG)}, "?name=q.png&description=q").json()["name"] == "q.png"


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "file"),
        ({"file": 1}, "file"),
        ({"name": "a.png"}, "file"),
        ({"tags": ["x"], "public": True}, "file"),
        ({"image": "not base64"}, "image"),
        ({"image": "data:image/png," + text_of(PNG)}, "image"),
        ({"image": text_of(PNG) + "="}, "image"),
        ({"image": text_of(PNG)[:-3]}, "image"),
        ({"image": text_of(PNG) + text_of(PNG)}, "image"),
        ({"image": text_of(LARGE)[:-1] + "?"}, "image"),
        ({"image": text_of(LARGE) + "=A=="}, "image"),
        ({"image": text_of(LARGE) + '"'}, "image"),
        ({"image": text_of(LARGE) + "\\"}, "image"),
        ({"image": "é" + text_of(LARGE)}, "image"),
        ({"data": {"file": text_of(LARGE)}}, "file"),
        ({"list": [text_of(LARGE)]}, "file"),
        ({text_of(LARGE): "x"}, "file"),
        ({"a": text_of(LARGE), "b": text_of(LARGE)}, "file"),
        ({"a": text_of(LARGE), "file": text_of(PNG)}, "file"),
        ({"description": "x" * 9_000, "file": text_of(PNG)}, "description"),
        ({"name": 5, "ttl": "soon", "file": text_of(PNG)}, "name"),
    ],
)
def test_what_is_no_picture_in_json_is_named(server, sent, field):
    answer = send(server, sent)
    assert (answer.status, answer.json()["error"]) == (422, "validation_error"), answer
    assert field in answer.json()["details"]


def test_every_bad_field_is_named_at_once(server):
    answer = send(server, {"file": text_of(PNG), "ttl": "soon", "date": "soon"})
    assert set(answer.json()["details"]) == {"ttl", "date"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"file": "' + text_of(LARGE).encode(),
        b'{"file": "' + text_of(LARGE).encode() + b'"',
        b'{"file": "' + text_of(LARGE).encode() + b'"]',
        b'{:"' + text_of(LARGE).encode() + b'"}',
        b'{"\xff": "' + text_of(LARGE).encode() + b'"}',
        b'{"file": "' + text_of(LARGE).encode() + b'", "name": "\xff"}',
        b"{" * 60_000,
    ],
)
def test_what_is_no_json_object(server, sent):
    answer = send(server, sent)
    assert (answer.status, answer.json()["error"]) == (400, "bad_request"), answer


def test_a_member_that_comes_twice_is_refused(server):
    long, short = text_of(LARGE), text_of(PNG)
    for sent in (f'{{"a": "{long}", "a": "{short}"}}', f'{{"a": "{long}", "a": "{long}"}}'):
        answer = send(server, sent.encode())
        assert answer.json()["details"] == {"file": "Send one file in each request."}


def test_what_is_said_about_the_file_is_bounded(server):
    for sent in ({"file": text_of(LARGE), **{f"k{n}": "x" * 8_000 for n in range(9)}}, {"x": [0] * 40_000}):
        answer = send(server, sent)
        assert (answer.status, answer.json()["error"]) == (413, "file_too_large")


def test_a_large_body_is_never_held(tmp_path):
    """A picture of 24 MB as text goes through a process whose memory grows by far less, and limits count what it is."""
    env = {"IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "24 MB"}
    body = os.urandom(24 * 1024 * 1024)
    with running(tmp_path / "data", env) as server:
        before = memory_kb(server)
        answer = send(server, {"file": text_of(body)})
        assert (answer.status, answer.json()["error"]) == (415, "unsupported_format")
        assert memory_kb(server) - before < 12_000
        answer = send(server, {"file": text_of(body + bytes(10_000))})
        assert (answer.status, answer.json()["error"]) == (413, "file_too_large")
        wait_until(lambda: leftovers(server.data) == [])
        assert blobs(server.data) == []


def memory_kb(server):
    """Return the most memory that the server's own process has held so far."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_body_that_says_it_is_too_large_is_refused_at_once(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
        wire.sendall(
            b"POST /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert wire.recv(100).startswith(b"HTTP/1.1 413")


def test_white_space_without_end_is_refused(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "100 KB"}) as server:
        answer = send(server, b'{"file": "' + text_of(PNG).encode() + b" " * 300_000 + b'"}')
        assert answer.status == 413


def test_a_repeated_request_in_json(server):
    headers = {"Idempotency-Key": "json-once"}
    first, again = (send(server, {"file": text_of(LARGE)}, headers=headers) for _ in range(2))
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


# Keys


def test_a_key_in_the_address_may_only_upload(server, keys):
    body, kind = multipart([("list", "x.png", PNG), ("tags", None, b"mine")])
    query, form = f"?key={keys['upload']}", {"Content-Type": kind}
    assert server.request("POST", f"/v1/upload{query}", body, form).json()["tags"] == ["mine"]
    assert server.request("PUT", f"/v1/upload/x.png{query}&tags=mine", PNG).json()["tags"] == ["mine"]
    assert send(server, {"a": text_of(PNG), "tags": "mine"}, query).json()["tags"] == ["mine"]
    assert server.request("POST", f"/v1/upload{query}", body, {**form, **bearer(keys["upload"])}).status == 201

    answer = server.request("POST", f"/v1/upload?key={keys['whole']}", body, form)
    assert (answer.status, answer.json()["error"]) == (403, "forbidden")
    assert "must not stand in an address" in answer.json()["message"]
    assert keys["whole"].encode() not in answer.body
    answer = server.request("POST", f"/v1/upload{query}", body, {**form, **bearer(keys["whole"])})
    assert (answer.status, set(answer.json()["details"])) == (422, {"key"})
    for wrong in ("img_live_" + "x" * 32, ""):
        answer = server.request("POST", f"/v1/upload?key={wrong}", body, form)
        assert (answer.status, answer.json()["error"]) == (401, "unauthorized")


def test_a_key_in_any_other_address_is_none(server, keys):
    query = f"?key={keys['upload']}"
    assert server.get(f"/v1/usage{query}").status == 401
    found = server.must_upload(PNG, key=keys["whole"], public="false")
    assert server.get(f"/v1/media/{found['id']}?key={keys['whole']}").status == 404
    assert server.get(f"/t/{found['id']}.png?key={keys['whole']}").status == 404


def test_a_reading_key_is_no_upload_key(server, keys):
    both = server.api("POST", "/v1/keys", {"abilities": ["read", "upload"]}, key=keys["whole"]).json()["key"]
    assert server.request("PUT", f"/v1/upload/x.png?key={both}", PNG).status == 403


@pytest.mark.parametrize("way", ["bearer", "header", "basic", "address"])
def test_every_way_to_send_a_key(server, keys, way):
    key = keys["upload"]
    headers = {
        "bearer": bearer(key),
        "header": {"X-API-Key": key},
        "basic": {"Authorization": "Basic " + text_of(f"anyone:{key}".encode())},
        "address": {},
    }[way]
    query = f"?key={key}" if way == "address" else ""
    answer = server.request("PUT", f"/v1/upload/x.png{query}", PNG, headers)
    assert "upgrade" not in answer.json()


def test_a_key_in_an_address_is_in_no_log(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_LOG_LEVEL": "debug", "IMGPRO_LOG_FORMAT": "json"}) as server:
        whole = server.new_key("ann@example.org")
        key = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=whole).json()["key"]
        form, kind = multipart([("list", "x.png", PNG)])
        bad, _ = multipart([("list", "x.png", b"no picture")])
        for secret in (key, whole):
            for path in ("/v1/upload", "/upload", "/delete", "/heartbeat", "/v1/upload/x.png", "/nothing", "/t/x"):
                for body in (form, bad, b"{", b""):
                    server.request("POST", f"{path}?key={secret}", body, {"Content-Type": kind})
                    server.request("PUT", f"{path}?key={secret}", body)
                server.request("GET", f"{path}?key={secret}")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
            wire.sendall(f"POST /upload?key={key} HTTP/9.9\r\nHost: x\r\n\r\n".encode())
            wire.recv(100)
        assert server.stop() == 0
        log = server.log()
        assert log.count('"route": "/upload"') == 8
        assert key not in log
        assert whole not in log


# Answers


@pytest.mark.parametrize("query", ["?link=src", "?format=text", "?link=src&format=text"])
def test_a_bare_link(server, query):
    answer = server.request("PUT", f"/v1/upload/x.png{query}", PNG)
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert server.get(answer.body.decode().strip()).headers["Content-Type"] == "image/png"


def test_which_link(server):
    page = server.request("PUT", "/v1/upload/x.png?link=page", PNG).body.decode().strip()
    assert server.get(page, Accept="text/html").status == 200
    assert server.request("PUT", "/v1/upload/x.png?link=page&format=json", PNG).json()["url"]
    assert server.request("PUT", "/v1/upload/x.png?link=other", PNG).json()["url"]


@pytest.mark.parametrize("path", ["/v1/upload", "/v1/upload/x.png", "/upload", "/delete", "/heartbeat"])
def test_preflight(server, path):
    headers = {"Origin": "app://obsidian.md", "Access-Control-Request-Method": "POST"}
    answer = server.request("OPTIONS", path, headers={**headers, "Access-Control-Request-Headers": "x-api-key"})
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_key_in_the_address_of_an_import_is_honoured_or_refused(server):
    refused = server.api("POST", "/v1/import?key=img_live_x", {"url": "http://127.0.0.1:1/a.png"})
    assert refused.status == 401
    full = server.new_key("import-full@example.org")
    assert server.api("POST", f"/v1/import?key={full}", {"url": "http://127.0.0.1:1/a.png"}).status == 403
