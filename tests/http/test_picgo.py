"""PicGo's protocol against the real server: what editors and uploaders send, and what they understand as an answer."""

import json
import socket

import pytest

from tests.containers import encode, picture
from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, blobs, leftovers, multipart, running

PNG, JPEG = encode(picture("RGB", (60, 40)), "PNG"), encoded(make_image("RGB", (64, 48)), "JPEG")
JSON = {"Content-Type": "application/json"}


def pictures(count):
    return [encoded(make_image("RGB", (40 + number, 30)), "PNG") for number in range(count)]


def upload(server, parts, query="", headers=None):
    body, kind = multipart(parts)
    return server.request("POST", f"/upload{query}", body, {"Content-Type": kind, **(headers or {})})


def failure(answer):
    """Return the message of a failure, which these programs only see with status 200."""
    assert answer.status == 200, answer
    body = answer.json()
    assert set(body) == {"success", "message"}
    assert body["success"] is False
    return body["message"]


@pytest.fixture(scope="module")
def keys(server):
    whole = server.new_key("picgo@example.org")
    upload_only = server.api("POST", "/v1/keys", {"name": "Obsidian", "abilities": ["upload"]}, key=whole)
    return {"whole": whole, "upload": upload_only.json()["key"]}


def mine(server, keys, query=""):
    return server.api("GET", f"/v1/media?limit=100{query}", key=keys["whole"]).json()["data"]


def test_one_file_as_piclist_sends_it(server, keys):
    """PicList reads `result[0]` and fails with a TypeError where there is no `fullResult[0]`."""
    answer = upload(server, [("file", "shot.png", PNG)], f"?configName=Default&picbed=&key={keys['upload']}")
    assert answer.status == 200
    body = answer.json()
    assert body["success"] is True
    assert server.get(body["result"][0]).headers["Content-Type"] == "image/png"
    full = body["fullResult"][0]
    assert set(full) == {"imgUrl", "id", "delete"}
    assert full["imgUrl"] == body["result"][0]
    assert mine(server, keys)[0]["id"] == full["id"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_several_files_as_obsidian_sends_them(server, keys):
    """The field `list` again and again, the file's whole path as its name; links come in the order of the files."""
    sent = pictures(7)
    parts = [("list", f"C:\\Users\\ann\\vault\\{number}.png", body) for number, body in enumerate(sent)]
    body = upload(server, parts, f"?key={keys['upload']}&tags=obsidian&namespace=notes").json()
    assert body["success"] is True
    assert [server.get(link).body for link in body["result"]] == [
        server.get(server.must_upload(one)["src"]).body for one in sent
    ]
    assert [full["imgUrl"] for full in body["fullResult"]] == body["result"]
    listed = mine(server, keys, "&tags=obsidian&namespace=notes")
    assert sorted(found["name"] for found in listed) == [f"{number}.png" for number in range(7)]
    assert {found["id"] for found in listed} == {full["id"] for full in body["fullResult"]}


def test_a_hundred_files_and_no_more(server):
    parts = [("list", f"{number}.png", PNG) for number in range(100)]
    assert len(upload(server, parts).json()["result"]) == 100
    assert failure(upload(server, [*parts, ("list", "x.png", PNG)])).startswith("A form has at most 100 parts.")


def test_without_a_key(server):
    body = upload(server, [("list", "a.png", PNG)]).json()
    assert server.get(f"/v1/media/{body['fullResult'][0]['id']}").json()["expires_at"]


def test_a_private_picture_has_a_link_that_shows_it(server):
    body = upload(server, [("list", "a.png", PNG)], "?public=false").json()
    assert server.get(body["result"][0]).status == 200


@pytest.mark.parametrize("way", [{"X-API-Key": None}, {"Authorization": None}])
def test_a_key_in_a_header(server, keys, way):
    headers = {"X-API-Key": keys["whole"]} if "X-API-Key" in way else bearer(keys["whole"])
    found = upload(server, [("list", "header.png", PNG)], headers=headers).json()["fullResult"][0]
    assert mine(server, keys)[0]["id"] == found["id"]


# Failures


def test_what_is_no_form_is_refused_in_words(server):
    paths = json.dumps({"list": ["/tmp/a.png"]}).encode()
    for body, headers in ((paths, JSON), (b"", {}), (b"", JSON), (PNG, {"Content-Type": "image/png"})):
        message = failure(server.request("POST", "/upload", body, headers))
        assert message.startswith("This server sees neither the files nor the clipboard of your computer. Turn on")


def test_a_form_without_a_file(server):
    assert failure(upload(server, [("list", None, b"text")])) == "Some fields are not valid. Send at least one file."
    assert "malformed" in failure(
        server.request("POST", "/upload", b"x", {"Content-Type": "multipart/form-data; boundary=b"})
    )


def test_bad_keys(server, keys):
    parts = [("list", "a.png", PNG)]
    assert failure(upload(server, parts, "?key=img_live_" + "x" * 32)).startswith("The API key is not valid.")
    assert failure(upload(server, parts, "?key=")).startswith("The API key is not valid.")
    assert failure(upload(server, parts, headers=bearer("nonsense"))).startswith("The API key is not valid.")
    assert "must not stand in an address" in failure(upload(server, parts, f"?key={keys['whole']}"))
    reader = server.api("POST", "/v1/keys", {"abilities": ["read"]}, key=keys["whole"]).json()["key"]
    assert failure(upload(server, parts, headers=bearer(reader))).startswith("This key may not upload.")


def test_bad_fields_and_hosts(server):
    assert "at least 300 seconds" in failure(upload(server, [("list", "a.png", PNG)], "?ttl=1"))
    assert "Host" in failure(upload(server, [("list", "a.png", PNG)], headers={"Host": "a b"}))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_bad_file_takes_back_the_others(tmp_path, count):
    with running(tmp_path / "data", UNLIMITED) as server:
        parts = [("list", f"{number}.png", body) for number, body in enumerate(pictures(count))]
        kept = server.must_upload(pictures(1)[0]) if count else None  # the same bytes, from somebody else
        message = failure(upload(server, [*parts, ("list", "/tmp/not es.txt", b"text"), ("list", "y.png", PNG)]))
        assert message.startswith("not es.txt: ")
        assert ("The one before it was not kept." in message) is (count == 1)
        assert ("None of the 3 before it was kept." in message) is (count == 3)
        wait_until(lambda: leftovers(server.data) == [])
        assert len(blobs(server.data)) == (1 if kept else 0)
        if kept:
            assert server.get(kept["src"]).status == 200


def test_a_quota_that_ends_on_the_way(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_PLANS_FREE_UPLOADS": "2"}) as server:
        whole = server.new_key("ann@example.org")
        key = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=whole).json()["key"]
        parts = [("list", f"{number}.png", body) for number, body in enumerate(pictures(3))]
        message = failure(upload(server, parts, f"?key={key}"))
        assert message.startswith("2.png: The uploads of this account for this month are used up. None of the 2 before")
        assert server.api("GET", "/v1/media", key=whole).json()["data"] == []
        assert blobs(server.data) == []


def test_anonymous_limits(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "1"}) as server:
        assert upload(server, [("list", "a.png", PNG)]).json()["success"]
        assert "Too many uploads from this address." in failure(upload(server, [("list", "a.png", PNG)]))
    with running(tmp_path / "more", {"IMGPRO_ANONYMOUS_ENABLED": "false"}) as server:
        assert "takes no uploads without an API key" in failure(upload(server, [("list", "a.png", PNG)]))


def test_a_refused_body_is_not_asked_for(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
        wire.sendall(
            b"POST /upload?key=img_live_x HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = wire.recv(2000)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer


def test_a_client_that_goes_away_leaves_nothing(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        body, kind = multipart([("list", "a.png", PNG), ("list", "b.png", pictures(1)[0] * 50)])
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
            wire.sendall(
                f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            wire.sendall(body[: len(body) // 2])
            wire.settimeout(1)
        assert server.stop() == 0
        assert blobs(server.data) == []


# Deleting, and whether anybody is there


def delete(server, body):
    return server.request("POST", "/delete", body if isinstance(body, bytes) else json.dumps(body).encode(), JSON)


def test_deleting_what_was_uploaded(server):
    full = upload(server, [("list", "a.png", PNG), ("list", "b.jpg", JPEG)]).json()["fullResult"]
    answer = delete(server, {"list": full})
    assert (answer.status, answer.json()) == (200, {"success": True})
    for one in full:
        assert server.get(f"/v1/media/{one['id']}").status == 404
    assert delete(server, {"list": full}).json() == {"success": True}  # gone already


def test_deleting_needs_every_proof(server):
    first, second = upload(server, [("list", "a.png", PNG), ("list", "b.jpg", JPEG)]).json()["fullResult"]
    for wrong in ({**second, "delete": first["delete"]}, {**second, "delete": "x"}, {**second, "delete": "é"}):
        assert "nothing was deleted" in failure(delete(server, {"list": [first, wrong]}))
    for wrong in (
        {},
        {"list": []},
        {"list": "x"},
        {"list": ["x"]},
        {"list": [{"id": first["id"]}]},
        {"list": [first] * 101},
    ):
        assert failure(delete(server, wrong))
    assert failure(delete(server, b"{")) == "The body is not valid JSON. Send a well-formed request."
    assert failure(delete(server, b" " * 70_000))
    assert server.get(f"/v1/media/{first['id']}").status == 200


def test_a_heartbeat(server):
    for method in ("GET", "POST"):
        answer = server.request(method, "/heartbeat?key=x")
        assert (answer.status, answer.json()) == (200, {"success": True, "result": "alive"})


def test_plain_names_are_no_pictures(server):
    for path in ("/upload", "/delete"):
        assert server.get(path).status == 405
    assert server.get("/uploadABCDEF").status == 404  # twelve characters: an id
