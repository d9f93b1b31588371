"""The server against its own contract: a tour over every call, whose answers are held to what the document says."""

import base64
import contextlib
import http.client
import json

import jsonschema_rs
import msgspec
import pytest

from imgpro.cli import office
from imgpro.sources import load
from imgpro.web import contract
from tests.http.test_contract import EMAIL, GENEROUS, PNG, SECURITY, SPECIFIED
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, Answer, bearer, multipart, running
from tests.wire import Wire

USAGE = {"X-Monthly-Uploads-Used", "X-Monthly-Uploads-Limit", "X-Storage-Used-Bytes", "X-Storage-Limit-Bytes"}
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
NOBODY = "A" * 12


def resolved(node):
    while "$ref" in node:
        found = SPECIFIED
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def faults(schema, value):
    whole = {**schema, "components": SPECIFIED["components"]}
    return [
        fault.message for fault in jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors(value)
    ]


class Guide:
    """Asks one server, and holds every answer to what the document says of the call."""

    def __init__(self, server):
        self.server = server
        self.seen = set()

    def ask(self, call, status, code=None, *, query="", body=None, key=None, headers=None, **path):
        """Make a call such as `GET /v1/media/{id}`; a form is a tuple, its file first. Return the answer."""
        method, template = call.split()
        sent = {"Accept": "*/*", **({"Authorization": f"Bearer {key}"} if key else {})}
        if isinstance(body, tuple):
            body, sent["Content-Type"] = multipart([("file", "a.png", body[0]), *body[1:]])
        elif isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        answer = self.server.request(method, template.format(**path) + query, body, {**sent, **(headers or {})})
        assert answer.status == status, (call, answer)
        self.check(call, answer)
        if code is not None:
            assert answer.json()["error"] == code, (call, answer)
        if key and status < 300 and template.startswith(("/v1/", "/mcp")):
            assert set(answer.headers) >= USAGE, (call, status)
        return answer

    def check(self, call, answer):
        method, path = call.split()
        reply = resolved(SPECIFIED["paths"][path][method.lower()]["responses"][str(answer.status)])
        for name, described in reply.get("headers", {}).items():
            value, header = answer.headers.get(name), resolved(described)
            assert value is not None or not header.get("required"), (call, answer.status, name)
            if value is not None:
                typed = int(value) if header["schema"].get("type") == "integer" else value
                assert faults(header["schema"], typed) == [], (call, answer.status, name, value)
        if "content" not in reply:
            assert answer.body == b"", (call, answer)
        elif method != "HEAD":
            self.check_body(call, reply["content"], answer)
        self.seen.add((call, answer.status))

    def check_body(self, call, content, answer):
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in content, (call, answer.status, kind)
        if kind != "application/json":
            return
        schema, value = content[kind]["schema"], answer.json()
        assert faults(schema, value) == [], (call, answer)
        if "$ref" in schema:  # then nothing may be in it that the struct does not name
            struct = getattr(contract, schema["$ref"].rpartition("/")[2])
            assert msgspec.to_builtins(msgspec.json.decode(answer.body, type=struct)) == value, call


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """A generous server beside a peer with a picture, and one with something else."""
    data = tmp_path_factory.mktemp("tour") / "data"
    with picture_peer(PNG) as good, picture_peer(b"no picture") as bad:
        settings = GENEROUS | importing_from(good) | {"IMGPRO_IMPORTS_PORTS": f"{good},{bad}"}
        with running(data, settings) as server:
            found = Guide(server)
            found.good, found.bad = (f"http://127.0.0.1:{port}/picture.png" for port in (good, bad))
            made = found.ask("POST /v1/keys", 201, body={"email": EMAIL}).json()
            vouched = {"email": EMAIL, "keep": [made["key_id"]]}
            office.perform(load({"storage.data": str(data)}), data, "verify", vouched)
            found.key = made["key"]
            yield found


def test_a_tour_of_uploads(guide):
    ask, key = guide.ask, guide.key
    post, put, png = "POST /v1/upload", "PUT /v1/upload/{name}", {"Content-Type": "image/png"}
    form = (
        PNG,
        ("tags", None, b"Sea, sky"),
        ("namespace", None, b"trip"),
        ("ttl", None, b"7d"),
        ("public", None, b"1"),
    )
    assert ask(post, 201, body=form, key=key).json()["tags"] == ["sea", "sky"]
    assert "upgrade" in ask(post, 201, body=(PNG,)).json()
    assert ask(post, 201, query="?name=b.png", body=PNG, headers=png).json()["name"] == "b.png"
    both = ask(post, 201, query="?name=q.png&description=q", body=(PNG, ("name", None, b"f.png"))).json()
    assert (both["name"], both["description"]) == ("f.png", "q")
    assert ask(post, 201, query="?format=text&link=page", body=(PNG,)).body.startswith(guide.server.base.encode())
    assert ask(put, 201, name="a.png", body=PNG, headers={"Accept": "text/plain"}).body.endswith(b".png\n")
    assert "signed_src" in ask(put, 201, name="a.png", query="?public=false", body=PNG, key=key).json()
    ask(post, 303, body=(PNG,), headers={"Accept": HTML})
    once = {"Idempotency-Key": "one"}
    first = ask(put, 201, name="a.png", body=PNG, key=key, headers=once)
    again = ask(put, 201, name="a.png", body=PNG, key=key, headers=once)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    ask(put, 409, "idempotency_key_conflict", name="b.png", body=PNG, key=key, headers=once)

    for call, path in ((post, {}), (put, {"name": "a.png"})):
        ask(call, 400, "bad_request", **path, body=PNG, headers={"Host": "<x>"})
        ask(call, 401, "unauthorized", **path, body=PNG, key="img_live_x")
        ask(call, 404, "not_found", **path, query="?ticket=x", body=PNG)
        ask(call, 415, "unsupported_format", **path, body=b"text", headers=png)
        ask(call, 417, "bad_request", **path, body=PNG, headers={"Expect": "more"})
        ask(call, 422, "image_broken", **path, body=PNG[:99], headers=png)
        ask(call, 422, "validation_error", **path, query="?ttl=1", body=PNG, headers=png)
    ask(post, 400, "bad_request", body=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"})
    ask(post, 422, "validation_error", body=(PNG, ("ttl", None, b"1")))
    ask(post, 422, "validation_error", query="?public=perhaps", body=(PNG, ("public", None, b"true")))
    ask(post, 422, "validation_error")


def test_a_tour_of_pictures_as_text(guide):
    ask, call, text = guide.ask, "POST /v1/upload", base64.b64encode(PNG).decode()
    said = {"name": "a.png", "tags": ["Sea"], "public": False, "ttl": 3600, "date": None}
    assert ask(call, 201, body={"file": text, **said}, key=guide.key).json()["tags"] == ["sea"]
    assert ask(call, 201, query="?link=src", body={"any": f"data:image/png;base64,{text}"}).body.endswith(b".png\n")
    as_json = {"Content-Type": "application/json"}
    ask(call, 400, "bad_request", body=b"[]", headers=as_json)
    ask(call, 413, "file_too_large", body={"file": text, "x": [0] * 40_000})
    ask(call, 415, "unsupported_format", body={"file": "AAAA"})
    ask(call, 415, "unsupported_format", body={"file": text}, headers={"Content-Encoding": "gzip"})
    for wrong in ({}, {"file": 1}, {"file": "?"}, {"file": text, "ttl": 1}):
        ask(call, 422, "validation_error", body=wrong)


def test_a_tour_of_the_protocol_of_picgo(guide):
    ask, key = guide.ask, guide.key
    upload = ask("POST /v1/keys", 201, body={"abilities": ["upload"]}, key=key).json()["key"]
    found = ask("POST /upload", 200, query=f"?key={upload}&tags=sea", body=(PNG, ("list", "b.png", PNG))).json()
    assert (found["success"], len(found["result"])) == (True, 2)
    for query, body in ((f"?key={key}", (PNG,)), ("", (b"x",)), ("?ttl=1", (PNG,)), ("", {"list": ["/tmp/a.png"]})):
        assert ask("POST /upload", 200, query=query, body=body).json()["success"] is False
    assert ask("POST /delete", 200, body={"list": found["fullResult"]}).json() == {"success": True}
    assert ask("POST /delete", 200, body={"list": [{"id": NOBODY, "delete": "x"}]}).json()["success"] is False
    assert ask("GET /heartbeat", 200).json() == ask("POST /heartbeat", 200).json()
    for call in ("POST /upload", "POST /delete"):
        ask(call, 417, "bad_request", body=(PNG,), headers={"Expect": "more"})
    for call, path in (("POST /v1/upload", {}), ("PUT /v1/upload/{name}", {"name": "a.png"})):
        ask(call, 201, **path, query=f"?key={upload}", body=PNG, headers={"Content-Type": "image/png"})
        ask(call, 403, "forbidden", **path, query=f"?key={key}", body=PNG)
        ask(call, 422, "validation_error", **path, query=f"?key={upload}", body=PNG, key=key)


def test_a_form_whose_part_has_no_sound_headers_is_malformed(guide):
    body = b'--b\r\nContent-Disposition: form-data; name="x"\r\nno header\r\n\r\ny\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = guide.ask("POST /v1/upload", 400, "bad_request", body=body, headers=kind)
    assert answer.json()["message"] == "The multipart form is malformed."


@pytest.mark.parametrize(
    ("call", "header", "status"),
    [
        (b"GET /v1/usage", b"Authorization: Basic \x84", 401),
        (b"GET /v1/usage", b"Expect: \x84", 417),
        (b"POST /mcp", b"MCP-Protocol-Version: \x84", 400),
    ],
)
def test_headers_that_are_no_text(guide, call, header, status):
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    kind = b"Content-Type: application/json\r\nAccept: */*\r\nContent-Length: %d\r\n" % len(body)
    with Wire(guide.server) as wire:
        wire.send(call + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n" + kind + b"\r\n" + body)
        assert wire.answer().status == status


def test_a_tour_of_imports(guide):
    ask, key, call = guide.ask, guide.key, "POST /v1/import"
    wanted = {"url": guide.good, "name": "b.png", "public": False, "ttl": 3600, "tags": ["sea"], "namespace": "trip"}
    assert ask(call, 201, body=wanted, key=key).json()["namespace"] == "trip"
    assert ask(call, 201, query="?format=text", body={"url": guide.good}).body.endswith(b".png\n")
    ask(call, 303, body={"url": guide.good}, headers={"Accept": HTML})
    once = {"Idempotency-Key": "two"}
    ask(call, 201, body={"url": guide.good}, key=key, headers=once)
    ask(call, 409, "idempotency_key_conflict", body={"url": guide.good, "name": "c"}, key=key, headers=once)
    ask(call, 400, "bad_request", body=b"{")
    ask(call, 401, "unauthorized", body=wanted, key="img_live_x")
    ask(call, 413, "file_too_large", body=b" " * 70_000)
    ask(call, 415, "unsupported_format", body=b"{}", headers={"Content-Encoding": "gzip"})
    for wrong in (
        {},
        {"url": "http://10.0.0.1/"},
        {"url": guide.good, "name": True},
        {"url": guide.good, "date": 2026},
    ):
        ask(call, 422, "validation_error", body=wrong)
    ask(call, 502, "fetch_failed", body={"url": guide.bad})


def test_a_tour_of_pictures(guide):
    ask, key, call, put = guide.ask, guide.key, "GET /t/{id}.{ext}", "PUT /v1/upload/{name}"
    mine = ask(put, 201, name="a.png", query="?public=false", body=PNG, key=key).json()["id"]
    wide = ask(put, 201, name="w.png", body=encoded(make_image("RGB", (17_000, 4)), "PNG")).json()["id"]
    shown = ask(put, 201, name="a.png", body=PNG).json()["id"]
    for ext in ("png", "jpeg", "jpg", "webp", "gif", "avif"):
        etag = ask(call, 200, id=shown, ext=ext, query="?size=s&download=1").headers["ETag"]
        ask(call, 304, id=shown, ext=ext, query="?size=s", headers={"If-None-Match": etag})
    assert ask(call, 206, id=shown, ext="png", headers={"Range": "bytes=1-3"}).body == b"PNG"
    ask(call, 416, "range_not_satisfiable", id=shown, ext="png", headers={"Range": "bytes=99999-"})
    ask(call, 200, id=mine, ext="png", key=key)
    ask(call, 404, "not_found", id=mine, ext="png")
    ask(call, 404, "not_found", id=shown, ext="bmp")
    ask(call, 404, id=mine, ext="png", headers={"Accept": HTML})
    ask(call, 422, "image_too_large", id=wide, ext="webp")
    ask("HEAD /t/{id}.{ext}", 200, id=shown, ext="webp")
    ask("HEAD /t/{id}.{ext}", 404, id=mine, ext="png")
    ask("GET /{id}", 200, id=shown)
    ask("GET /{id}", 404, id=mine, headers={"Accept": HTML})
    page = f"{guide.server.base}/{shown}"
    ask("GET /oembed", 200, query=f"?url={page}&maxwidth=20")
    ask("GET /oembed", 404, "not_found", query="?url=https://example.com/x")
    ask("GET /oembed", 501, "bad_request", query=f"?url={page}&format=xml")


def test_a_tour_of_media(guide):
    ask, key = guide.ask, guide.key
    put, listed, many = "PUT /v1/upload/{name}", "GET /v1/media", "PATCH /v1/media"
    get, patch, delete = (f"{method} /v1/media/{{id}}" for method in ("GET", "PATCH", "DELETE"))
    mine = [ask(put, 201, name=f"{n}.png", query="?tags=tour", body=PNG, key=key).json()["id"] for n in "abcd"]
    page = ask(listed, 200, query="?limit=3&tags=tour", key=key).json()
    assert [found["id"] for found in page["data"]] == mine[:0:-1]
    rest = ask(listed, 200, query=f"?limit=3&tags=tour&cursor={page['next_cursor']}", key=key).json()
    assert ([found["id"] for found in rest["data"]], rest["next_cursor"]) == (mine[:1], None)
    query = f"?ids={','.join(mine)}&q=b&type=png&since=0&until=999999999999&tag_mode=all&namespace="
    assert [found["id"] for found in ask(listed, 200, query=query, key=key).json()["data"]] == [mine[1]]
    for wrong in ("limit=0", "cursor=x", "ids=", "tag_mode=x", "namespace=-", "since=x", "type=tiff", "q=" + "x" * 201):
        ask(listed, 422, "validation_error", query=f"?{wrong}", key=key)

    change = {"name": "e.png", "public": False, "date": None, "tags": ["x"], "tag_mode": "add", "ttl": "30d"}
    assert "signed_src" in ask(patch, 200, id=mine[0], body=change, key=key).json()
    ask(get, 200, id=mine[0], key=key)
    ask(get, 404, "not_found", id=mine[0])
    ask(get, 200, id=mine[1])
    ask(get, 401, "unauthorized", id=mine[1], key="img_live_x")
    ask(patch, 404, "not_found", id=NOBODY, body=change, key=key)
    for wrong, status in ((b"[]", 400), (b" " * 70_000, 413), ({}, 422), ({"public": "maybe"}, 422)):
        ask(patch, status, id=mine[0], body=wrong, key=key)
        ask(many, status, query=f"?ids={mine[0]}", body=wrong, key=key)
    for call, path in ((patch, {"id": mine[0]}), (many, {"query": f"?ids={mine[0]}"})):
        ask(call, 415, "unsupported_format", **path, body=b"{}", key=key, headers={"Content-Encoding": "gzip"})
        ask(call, 401, "unauthorized", **path, body=change)
    ask(many, 422, "validation_error", body=change, key=key)
    ask("DELETE /v1/media", 422, "validation_error", query="?ids=x", key=key)
    both = f"?ids={mine[0]},{NOBODY}"
    assert ask(many, 200, query=both, body={"public": True}, key=key).json()["updated"] == 1
    assert ask("DELETE /v1/media", 200, query=both, key=key).json()["failed"][0]["error"] == "not_found"
    ask(delete, 200, id=mine[1], key=key)
    ask(delete, 404, "not_found", id=mine[1], key=key)
    ask(delete, 401, "unauthorized", id=mine[2])
    assert ask("GET /v1/namespaces", 200, key=key).json()["success"]
    assert ask("GET /v1/tags", 200, key=key).json()["success"]


def test_a_tour_of_events(guide):
    call, key = "GET /v1/events", guide.key
    guide.ask(call, 401, "unauthorized")
    writer = {"name": "writer", "abilities": ["write"]}
    guide.ask(call, 403, "forbidden", key=guide.ask("POST /v1/keys", 201, body=writer, key=key).json()["key"])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", guide.server.port, timeout=20)) as connection:
        connection.request("GET", "/v1/events", headers=bearer(key))
        response = connection.getresponse()  # it has no end
        guide.check(call, Answer(response.status, response.headers, response.readline()))
        response.close()


def test_a_tour_of_deletions_by_link(guide):
    ask, left = guide.ask, [guide.ask("POST /v1/upload", 201, body=(PNG,)).json() for _ in range(3)]
    ids, tokens = [found["id"] for found in left], [found["delete_url"].partition("?")[2] for found in left]
    ask("DELETE /v1/media/{id}", 200, id=ids[0], query=f"?{tokens[0]}")
    ask("GET /{id}/delete", 200, id=ids[1], query=f"?{tokens[1]}")
    ask("POST /{id}/delete", 200, id=ids[1], query=f"?{tokens[1]}", headers={"Accept": HTML})
    ask("DELETE /{id}/delete", 200, id=ids[2], query=f"?{tokens[2]}")
    for method in ("GET", "POST", "DELETE"):
        ask(method + " /{id}/delete", 404, "not_found", id=ids[2], query=f"?{tokens[2]}")


def test_a_tour_of_keys(guide):
    ask, key, post, again = guide.ask, guide.key, "POST /v1/keys", "POST /v1/keys/verify"
    assert ask(post, 201, body={"email": EMAIL}).json()["status"] == "pending"
    reader = ask(post, 201, body={"name": "reader", "abilities": ["read"]}, key=key).json()
    sender = ask(post, 201, body={"abilities": "upload", "namespace": "shots"}, key=key).json()
    for wrong in ({}, {"email": "x"}, {"email": EMAIL, "abilities": []}, {"email": EMAIL, "name": 1}):
        ask(post, 422, "validation_error", body=wrong)
    ask(post, 422, "validation_error", body={"email": "bob@example.org"}, key=key)
    ask(post, 403, "forbidden", body={}, key=reader["key"])
    assert ask("GET /v1/keys", 200, key=key).json()["data"]
    assert ask("GET /v1/usage", 200, key=key).json()["verified"]
    for call in ("PATCH /v1/media/{id}", "DELETE /v1/media/{id}"):
        ask(call, 403, "forbidden", id=NOBODY, body={"public": True}, key=reader["key"])
    for call in ("PATCH /v1/media", "DELETE /v1/media", "POST /v1/upload", "POST /v1/import"):
        ask(call, 403, "forbidden", query=f"?ids={NOBODY}", body={"public": True}, key=reader["key"])
    for call in ("GET /v1/media", "GET /v1/namespaces", "GET /v1/tags", "GET /v1/keys", "GET /v1/usage"):
        ask(call, 403, "forbidden", key=sender["key"])
        ask(call, 401, "unauthorized")
    revoke, its = "DELETE /v1/keys/{key_id}", {"key_id": reader["key_id"]}
    ask(revoke, 403, "forbidden", **its, key=reader["key"])
    ask(revoke, 200, **its, key=key)
    ask(revoke, 404, "not_found", **its, key=key)
    ask(revoke, 401, "unauthorized", **its, key=reader["key"])

    ask(again, 202, body={"email": "nobody@example.org"})
    ask(again, 202, key=key)
    ask(again, 422, "validation_error")
    ask(again, 422, "validation_error", body={"email": "bob@example.org"}, key=key)
    for call in (post, again):
        ask(call, 400, "bad_request", body=b"{")
        ask(call, 401, "unauthorized", body={}, key="img_live_x")
        ask(call, 413, "file_too_large", body=b" " * 70_000)
        ask(call, 415, "unsupported_format", body=b"{}", headers={"Content-Encoding": "gzip"})


def test_a_tour_of_documents_and_the_rest(guide):
    ask = guide.ask
    for path in ("/healthz", "/readyz", "/openapi.yaml", "/llms.txt", "/llms-full.txt", "/api"):
        ask(f"GET {path}", 200)
    placed = ask("GET /openapi.json", 200).json()
    assert (placed["servers"], set(placed["paths"])) == ([{"url": guide.server.base}], set(SPECIFIED["paths"]))
    for name in ("quick-start", "reference", "errors", "ai-agents"):
        ask("GET /api/{name}", 200, name=name)
        ask("GET /api/{name}", 200, name=name, headers={"Accept": "text/markdown"})
        ask("GET /api/{name}.md", 200, name=name)
    ask("GET /api/{name}", 404, name="nothing", headers={"Accept": HTML})
    ask("GET /api/{name}.md", 404, "not_found", name="nothing")
    call, hello = "POST /mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert "result" in ask(call, 200, body=hello, key=guide.key).json()
    assert ask(call, 200, body={**hello, "method": "no/such"}).json()["error"]["code"] == -32601
    ask(call, 202, body={"jsonrpc": "2.0", "method": "notifications/initialized"})
    ask(call, 400, body={"jsonrpc": "1.0"})
    ask(call, 401, body=hello, key="img_live_x")
    ask(call, 403, body=hello, headers={"Origin": "https://example.com"})
    ask(call, 406, body=hello, headers={"Accept": "text/html"})
    ask(call, 413, body={**hello, "params": {"x": "x" * 70_000}})
    ask(call, 415, body=b"{}", headers={"Content-Type": "text/plain"})
    ask(call, 417, "bad_request", body=hello, headers={"Expect": "more"})


def test_a_tour_of_what_is_used_up(tmp_path):
    limits = {
        "ANONYMOUS_UPLOADS_PER_HOUR": "0",
        "UPLOADS_ANONYMOUS_MAX_BYTES": "2000",
        "UPLOADS_CHUNK_DEADLINE_S": "0.3",
        "PLANS_UNVERIFIED_UPLOADS": "0",
        "ACCOUNTS_UNVERIFIED_KEYS": "1",
        "ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR": "2",
        "IMPORTS_ENABLED": "false",
    }
    with running(tmp_path / "data", UNLIMITED | {f"IMGPRO_{name}": value for name, value in limits.items()}) as server:
        guide = Guide(server)
        ask, email = guide.ask, {"email": EMAIL}
        key = ask("POST /v1/keys", 201, body=email).json()["key"]
        ask("POST /v1/keys", 403, "key_limit_reached", body=email)
        ask("POST /v1/keys", 429, "rate_limited", body=email)
        ask("POST /v1/keys/verify", 429, "rate_limited", body=email)
        spent = ask("PUT /v1/upload/{name}", 403, "quota_exceeded", name="a.png", body=PNG, key=key).json()
        assert (spent["usage"]["uploads_limit"], spent["action"]["type"]) == (0, "verify")
        for call, path in (("POST /v1/upload", {}), ("PUT /v1/upload/{name}", {"name": "a.png"})):
            ask(call, 413, "file_too_large", **path, body=b"x" * 2_001)
            ask(call, 429, "rate_limited", **path, body=PNG)
        ask("POST /v1/import", 429, "rate_limited", body={"url": "https://example.com/a.png"})
        with Wire(server) as wire:
            wire.send(b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            slow = wire.answer()
        assert slow.status == 408
        guide.check("POST /v1/keys", slow)


def test_a_tour_of_what_is_shut(tmp_path):
    shut = {"ACCOUNTS_REGISTRATION": "closed", "STORAGE_RESERVE_BYTES": "100000 TB", "IMPORTS_ENABLED": "false"}
    with running(tmp_path / "data", UNLIMITED | {f"IMGPRO_{name}": value for name, value in shut.items()}) as server:
        guide = Guide(server)
        guide.ask("POST /v1/keys", 403, "registration_closed", body={"email": EMAIL})
        guide.ask("PUT /v1/upload/{name}", 507, "storage_full", name="a.png", body=PNG)
        guide.ask("POST /v1/upload", 507, "storage_full", body=(PNG,))
        guide.ask("POST /v1/import", 507, "storage_full", body={"url": "https://example.com/a.png"})
        guide.ask("GET /readyz", 503)


def test_the_tour_has_been_everywhere(guide):
    if len(guide.seen) < 100:
        pytest.skip("only after the whole tour")
    assert {call for call, status in guide.seen if status < 300} == set(SECURITY)
