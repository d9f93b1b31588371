"""`/mcp` byte for byte: what no proper client sends, and what each revision demands of status, headers and fields."""

import base64
import contextlib
import gzip
import json
import random
import socket

import pytest
from PIL import Image

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, running
from tests.wire import SHAPE, Wire

NOW, BEFORE = "2026-07-28", "2025-11-25"
SMALL = encoded(make_image("RGB", (64, 48)), "PNG")
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": NOW,
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPTED = -1  # instead of an error code


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("mcp") / "data", {**UNLIMITED, "IMGPRO_UPLOADS_PATIENCE_S": "0.3"}) as found:
        yield found
        assert "unexpected failure" not in found.log()


@pytest.fixture(scope="module")
def key(server):
    return server.new_key("ann@example.org")


def send(server, body, headers=None, key=None):
    """Post a body as it is; a header with None as its value is left out."""
    merged = {**JSON, **bearer(key), **(headers or {})}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.request("POST", "/mcp", content, {name: value for name, value in merged.items() if value is not None})


def rpc(method, params=None, message_id=1):
    message = {"jsonrpc": "2.0", "id": message_id, "method": method}
    return message if params is None else {**message, "params": params}


def modern(server, method, params=None, key=None, **headers):
    """Send a request of the current revision; headers may be added, changed or (None) left out."""
    params = {"_meta": ENVELOPE, **(params or {})}
    usual = {"MCP-Protocol-Version": NOW, "Mcp-Method": method}
    if "name" in params:
        usual["Mcp-Name"] = params["name"]
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(server, rpc(method, params), {**usual, **given}, key)


def failed(answer, status, code):
    """Return the error of an answer that is one."""
    assert (answer.status, answer.json()["error"]["code"]) == (status, code), answer
    assert set(answer.json()) == {"jsonrpc", "id", "error"}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "private, no-store"
    return answer.json()["error"]


def result(answer):
    assert answer.status == 200, answer
    assert "Mcp-Session-Id" not in answer.headers
    found = answer.json()
    assert (found["jsonrpc"], found["id"]) == ("2.0", 1), found
    return found["result"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD"])
def test_there_is_no_stream_and_no_session(server, method):
    answer = server.request(method, "/mcp", headers={"Accept": "text/event-stream", "Mcp-Session-Id": "x"})
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"


# What is no message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping"} x',
        b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}',
        b"[" * 30_000,
        b'{"a":' * 10_000,
    ],
)
def test_what_is_not_json(server, body):
    failed(send(server, body), 400, -32700)


@pytest.mark.parametrize(
    "body",
    [
        1,
        "ping",
        None,
        {},
        {"id": 1, "method": "ping"},
        {**rpc("ping"), "jsonrpc": "1.0"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}},
        rpc(5),
        *(rpc("ping", message_id=bad) for bad in (None, True, 1.5, [], {})),
        *(rpc("ping", bad) for bad in ([], "x", 0)),
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": []},
        [],
        [rpc("ping")] * 21,
    ],
)
def test_what_is_no_request(server, body):
    error = failed(send(server, body), 400, -32600)
    assert error["message"].endswith(".")


def test_ids_come_back_as_they_were(server):
    for message_id in (0, -1, 2**70, "", "é", "1"):
        assert send(server, rpc("ping", message_id=message_id)).json()["id"] == message_id


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "unsupported_format"),
        ({"Content-Type": None}, 415, "unsupported_format"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415, "unsupported_format"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_format"),
        ({"Accept": None}, 406, "bad_request"),
        ({"Accept": "text/html, text/event-stream"}, 406, "bad_request"),
        ({"Authorization": "Bearer img_live_wrong"}, 401, "unauthorized"),
        ({"Authorization": "Digest x"}, 401, "unauthorized"),
        ({"Host": "a b"}, 400, "bad_request"),
        ({"Expect": "a-miracle"}, 417, None),
    ],
)
def test_requests_that_fail_before_they_are_read(server, headers, status, code):
    answer = send(server, gzip.compress(b"{}"), headers)
    assert answer.status == status
    assert answer.headers.get("WWW-Authenticate", "") == ('Bearer realm="imgpro"' if status == 401 else "")
    if code is not None:
        error = failed(answer, status, -32600)
        assert set(error["data"]) == SHAPE
        assert (error["data"]["error"], error["data"]["message"]) == (code, error["message"])
        assert error["data"]["action"]["label"]


def test_json_may_be_accepted_by_any_name(server):
    for accept in ("*/*", "application/*;q=0.5", "text/html, application/json"):
        assert result(send(server, rpc("ping"), {"Accept": accept})) == {}
    assert result(send(server, rpc("ping"), {"Content-Type": "application/json; charset=utf-8"})) == {}


# Whose page


def test_pages_of_other_sites_are_refused(server):
    own = f"127.0.0.1:{server.port}"
    for origin in (f"http://{own}", f"https://{own}", f"HTTP://{own}"):
        assert result(send(server, rpc("ping"), {"Origin": origin})) == {}
    for origin in ("http://evil.example", "null", "", f"http://127.0.0.1:{server.port + 1}", f"ftp://{own}", own):
        error = failed(send(server, rpc("ping"), {"Origin": origin}), 403, -32600)
        assert error["data"]["error"] == "forbidden"


def test_a_configured_address_is_the_only_name(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_SERVER_BASE_URL": "https://img.example.org"}) as server:
        own, name = f"127.0.0.1:{server.port}", "rebound.example"
        for origin, host, status in [
            ("https://img.example.org", own, 200),
            (f"http://{own}", own, 200),
            (f"http://localhost:{server.port}", f"localhost:{server.port}", 200),
            (f"http://[::1]:{server.port}", f"[::1]:{server.port}", 200),
            ("http://[::1]", "[::1]", 200),
            (f"http://{name}:{server.port}", f"{name}:{server.port}", 403),
            (f"http://{name}", name, 403),
            ("https://img.example.org.evil.example", own, 403),
            (None, name, 200),
        ]:
            assert send(server, rpc("ping"), {"Origin": origin, "Host": host}).status == status, (origin, host)


# The current revision


def test_discovery(server):
    found = result(modern(server, "server/discover"))
    assert found["supportedVersions"] == [NOW, BEFORE, "2025-06-18", "2025-03-26"]
    assert found["capabilities"] == {"tools": {}}
    assert found["resultType"] == "complete"
    assert found["cacheScope"] == "public"
    assert found["ttlMs"] > 0
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "imgpro"
    assert str(server.port) not in json.dumps(found)


def test_lists_and_calls_say_that_they_are_complete(server, key):
    listed = result(modern(server, "tools/list"))
    assert {"ttlMs", "cacheScope", "resultType", "_meta"} < listed.keys()
    assert listed == result(modern(server, "tools/list", key=key))
    answer = modern(server, "tools/call", {"name": "usage", "arguments": {}}, key)
    assert {"content", "structuredContent", "isError", "resultType", "_meta"} == result(answer).keys()
    assert answer.headers["X-Monthly-Uploads-Used"] == "0"
    assert "X-Monthly-Uploads-Used" not in modern(server, "tools/list").headers
    failed(modern(server, "tools/list", {"cursor": "x"}), 400, -32602)


@pytest.mark.parametrize("method", ["ping", "initialize", "resources/list", "subscriptions/listen", "Tools/List", ""])
def test_methods_that_are_not_there(server, method):
    failed(modern(server, method), 404, -32601)


@pytest.mark.parametrize(
    ("meta", "headers", "code"),
    [
        (ENVELOPE, {"MCP_Protocol_Version": BEFORE}, -32020),
        (ENVELOPE, {"MCP_Protocol_Version": None}, -32020),
        (ENVELOPE, {"MCP_Protocol_Version": "2099-01-01"}, -32020),
        (ENVELOPE, {"Mcp_Method": None}, -32020),
        (ENVELOPE, {"Mcp_Method": "tools/call"}, -32020),
        (ENVELOPE, {"Mcp_Method": "Tools/list"}, -32020),
        (None, {}, -32602),
        ([], {}, -32602),
        ({}, {}, -32602),
        ({"io.modelcontextprotocol/protocolVersion": NOW}, {}, -32602),
        ({"io.modelcontextprotocol/clientCapabilities": {}}, {}, -32602),
        ({**ENVELOPE, "io.modelcontextprotocol/protocolVersion": 5}, {}, -32602),
        ({**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": 5}, {}, -32602),
        ({**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}, {}, -32020),
    ],
)
def test_an_envelope_that_does_not_hold_together(server, meta, headers, code):
    error = failed(modern(server, "tools/list", {"_meta": meta}, **headers), 400, code)
    assert error["message"]


def test_a_header_that_comes_twice(server):
    body = json.dumps(rpc("tools/list", {"_meta": ENVELOPE})).encode()
    lines = [
        "POST /mcp HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
        "Accept: */*",
        f"MCP-Protocol-Version: {NOW}",
        "Mcp-Method: tools/list",
    ]
    for extra in (["Mcp-Method: tools/list"], [f"mcp-protocol-version: {NOW}"]):
        with Wire(server) as wire:
            wire.send("\r\n".join([*lines, *extra, "", ""]).encode() + body)
            failed(wire.answer("POST"), 400, -32020)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("get_image", ACCEPTED),
        ("=?base64?Z2V0X2ltYWdl?=", ACCEPTED),
        ("=?base64?Z2V0X2ltYWdl", -32020),
        ("=?base64?!!?=", -32020),
        ("=?base64?/w==?=", -32020),
        ("delete_image", -32020),
        (None, -32020),
    ],
)
def test_the_name_of_a_tool_in_its_header(server, header, code):
    answer = modern(server, "tools/call", {"name": "get_image", "arguments": {"id": "0" * 12}}, Mcp_Name=header)
    if code == ACCEPTED:
        assert result(answer)["structuredContent"]["error"] == "not_found"
    else:
        failed(answer, 400, code)


@pytest.mark.parametrize("version", ["2099-01-01", "2024-11-05", "x", ""])
def test_a_revision_that_is_not_spoken(server, version):
    """It is told which ones are, whether the request is of the new kind or the old, or a notification."""
    meta = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": version}
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": "tools/list"}
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for body in (rpc("tools/list", {"_meta": meta}), rpc("ping"), notification):
        error = failed(send(server, body, headers), 400, -32022)
        assert error["data"] == {"supported": [NOW, BEFORE, "2025-06-18", "2025-03-26"], "requested": version}


# Revisions that begin with `initialize`


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        (BEFORE, BEFORE),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", BEFORE),
        (NOW, BEFORE),
        ("x", BEFORE),
    ],
)
def test_a_beginning(server, asked, agreed):
    client = {"capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    found = result(send(server, rpc("initialize", {"protocolVersion": asked, **client})))
    assert found["protocolVersion"] == agreed
    assert found["capabilities"] == {"tools": {}}
    assert {"name", "version"} <= found["serverInfo"].keys()
    assert "resultType" not in found
    headers = {"MCP-Protocol-Version": agreed, "Mcp-Session-Id": "made-up"}
    answer = send(server, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    assert (answer.status, answer.body) == (202, b"")
    assert result(send(server, rpc("ping"), headers)) == {}
    listed = result(send(server, rpc("tools/list", {}), headers))
    assert len(listed["tools"]) == 9
    assert not {"resultType", "_meta"} & listed.keys()
    for method in ("server/discover", "resources/list", "logging/setLevel"):
        failed(send(server, rpc(method), headers), 200, -32601)


def test_a_beginning_without_a_revision(server):
    for params in ({}, {"protocolVersion": 5}, {"protocolVersion": None}):
        failed(send(server, rpc("initialize", params)), 200, -32602)


def test_notifications_are_taken_note_of_in_each_revision(server):
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    for version in (NOW, BEFORE, "2025-06-18", "2025-03-26", None):
        answer = send(server, note, {"MCP-Protocol-Version": version})
        assert (answer.status, answer.body) == (202, b"")


def test_batches_belong_to_one_revision(server, key):
    note = {"jsonrpc": "2.0", "method": "notifications/x"}
    call = rpc("tools/call", {"name": "usage"}, "c")
    batch = [rpc("ping"), note, call, rpc("nothing", message_id=3), 7, rpc("initialize", {"protocolVersion": "x"}, 4)]
    for version in ("2025-03-26", None):
        answers = send(server, batch, {"MCP-Protocol-Version": version}, key).json()
        assert [answer["id"] for answer in answers] == [1, "c", 3, None, 4]
        assert answers[0]["result"] == {}
        assert answers[1]["result"]["structuredContent"]["plan"] == "free"
        assert [answer["error"]["code"] for answer in answers[2:]] == [-32601, -32600, -32600]
        assert send(server, [note, note], {"MCP-Protocol-Version": version}).status == 202
    for version in (NOW, BEFORE, "2025-06-18"):
        failed(send(server, batch, {"MCP-Protocol-Version": version}), 400, -32600)


# Calls


@pytest.mark.parametrize(
    "params", [{}, {"name": 5}, {"name": None}, {"name": "x"}, {"name": "usage", "arguments": []}, {"name": "usage", "arguments": 1}]
)  # fmt: skip
def test_calls_that_are_none(server, params):
    failed(send(server, rpc("tools/call", params)), 200, -32602)
    sent = params.get("name")
    failed(modern(server, "tools/call", params, Mcp_Name=sent if isinstance(sent, str) else None), 400, -32602 if isinstance(sent, str | None) else -32020)  # fmt: skip


def test_arguments_of_the_wrong_type_get_a_sentence_each(server, key):
    arguments = {
        "url": 5,
        "name": ["x"],
        "description": {},
        "tags": "a,b",
        "namespace": True,
        "public": "yes",
        "ttl": 1.5,
        "date": 2026,
        "size": "s",
    }
    found = result(modern(server, "tools/call", {"name": "import_image", "arguments": arguments}, key))
    assert found["isError"] is True
    unknown = "There is no such argument; there are url, name, description, tags, namespace, public, ttl, date."
    assert found["structuredContent"]["details"] == {
        **dict.fromkeys(["url", "name", "description", "namespace", "ttl", "date"], "Must be text."),
        "tags": "Must be a list of texts.",
        "public": "Must be true or false.",
        "size": unknown,
    }
    for arguments, details in [
        ({"limit": "5", "since": True}, dict.fromkeys(["limit", "since"], "Must be a whole number.")),
        ({"tags": [1], "q": 1}, {"tags": "Must be a list of texts.", "q": "Must be text."}),
        ({"limit": 2.0, "tag_mode": "none"}, {"tag_mode": "Must be one of any, all."}),
    ]:
        found = result(modern(server, "tools/call", {"name": "list_images", "arguments": arguments}, key))
        assert found["structuredContent"]["details"] == details
    found = result(modern(server, "tools/call", {"name": "delete_image"}, key))
    assert found["structuredContent"]["details"] == {"id": "This is needed."}
    found = result(modern(server, "tools/call", {"name": "usage", "arguments": {"all": True}}, key))
    assert found["structuredContent"]["details"] == {"all": "There is no such argument; there are none."}


# Large bodies


def padded(size):
    """Return a request of exactly this size."""
    body = json.dumps(rpc("ping", {"x": ""})).encode()
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


def test_large_bodies_are_for_those_who_may_store(server, key):
    reader = server.new_key("reader@example.org", abilities=["read"])
    for who, limit in ((None, 65_536), (reader, 65_536), (key, 1_572_864)):
        assert result(send(server, padded(limit), key=who)) == {}
        error = failed(send(server, padded(limit + 1), key=who), 413, -32600)
        assert error["data"]["error"] == "file_too_large"
        assert "create_upload" in error["data"]["action"]["label"]


def test_a_body_that_is_refused_unread_ends_the_connection(server):
    head = "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\nContent-Type: application/json\r\n"
    for extra, status in (("Accept: */*\r\n", 413), ("", 406)):
        with Wire(server) as wire:
            wire.send(f"{head}{extra}\r\n".encode())
            answer = wire.answer("POST")
            failed(answer, status, -32600)
            assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(("size", "code"), [(65_536, ACCEPTED), (65_537, -32600)])
def test_a_body_of_untold_length_is_small(server, key, size, code):
    body = padded(size)
    head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n"
    with Wire(server) as wire:
        wire.send(f"{head}Content-Type: application/json\r\nAccept: */*\r\n\r\n{size:x}\r\n".encode() + body)
        wire.send(b"\r\n0\r\n\r\n")
        answer = wire.answer("POST")
    if code == ACCEPTED:
        assert result(answer) == {}
    else:
        failed(answer, 413, code)


def test_few_large_bodies_are_held_at_once(server, key):
    """Four half-sent ones from one address: the fifth is asked to wait, small calls go on, and places come back."""
    body = padded(1_000_000)
    head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\nAccept: */*\r\nExpect: 100-continue\r\n\r\n"
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)) for _ in range(4)]
        for wire in wires:
            wire.send(head.encode())
            assert wire.answer("POST").status == 100
            wire.send(body[:500_000])
        with Wire(server) as late:
            late.send(head.encode())
            answer = late.answer("POST")
            assert failed(answer, 503, -32603)["data"]["error"] == "busy"
            assert int(answer.headers["Retry-After"]) > 0
        assert result(send(server, rpc("ping"), key=key)) == {}
        wires[0].send(body[500_000:])
        assert result(wires[0].answer("POST")) == {}
        wires[1].sock.shutdown(socket.SHUT_RDWR)
    assert result(send(server, body, key=key)) == {}


def test_a_slow_body_is_given_up(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_UPLOADS_CHUNK_DEADLINE_S": "0.2"}) as server, Wire(server) as wire:  # fmt: skip
        wire.send(
            b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nContent-Type: application/json\r\nAccept: */*\r\n\r\n{"
        )
        assert failed(wire.answer("POST"), 408, -32600)["data"]["error"] == "request_timeout"


def test_the_largest_file_that_fits_is_taken(server, key):
    """Noise that is just under a MiB: the limits on the file and on the body agree."""
    body = encoded(Image.frombytes("RGB", (590, 590), random.Random(1).randbytes(590 * 590 * 3)), "PNG")
    assert 1_040_000 < len(body) <= 1024 * 1024
    sent = "data:image/png;base64," + base64.b64encode(body).decode()
    found = result(modern(server, "tools/call", {"name": "upload_image", "arguments": {"data": sent}}, key))
    assert found["structuredContent"]["filesize"] == len(body)
