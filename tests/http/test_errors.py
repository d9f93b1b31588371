"""The shape of errors, pinned: every error that a caller can meet is met here, over HTTP."""

import json
import re

import pytest
from PIL import Image

from imgpro import errors
from imgpro.errors import ImgproError, OperatorError
from tests.containers import encode, picture
from tests.servers import UNLIMITED, running
from tests.wire import ask, assert_shape

PNG = encode(picture("RGB", (60, 40)), "PNG")
WIDE = encode(Image.new("RGB", (17_000, 4)), "PNG")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HOST = b"Host: x\r\n"
HEAD = b"PUT /v1/upload/x HTTP/1.1\r\n" + HOST


def put(server, body=PNG, **headers):
    return server.request("PUT", "/v1/upload/x.png", body, headers)


def fetch(server, **fields):
    return server.request("POST", "/v1/import", json.dumps(fields).encode())


def past_the_end(server):
    return server.get(server.must_upload(PNG)["src"], Range="bytes=99999-")


def wide_as_webp(server):
    return server.get(f"/t/{server.must_upload(WIDE)['id']}.webp")


# Error class -> settings to start with, and requests that meet it.
PRODUCERS = {
    errors.BadRequest: ({}, [
        lambda s: ask(s, b"nonsense\r\n\r\n"),
        lambda s: ask(s, b"GET / HTTP/1.1\r\nHost: <x>\r\n\r\n"),
        lambda s: s.request("POST", "/v1/upload", b"x", {"Content-Type": "multipart/form-data"}),
        lambda s: s.request("POST", "/v1/import", b"[]"),
    ]),
    errors.Unauthorized: ({}, [
        lambda s: put(s, Authorization="Bearer img_live_x"),
        lambda s: s.request("DELETE", "/v1/media/AAAAAAAAAAAA"),
    ]),
    errors.Forbidden: ({"IMGPRO_ANONYMOUS_ENABLED": "false"}, [put]),
    errors.KeyLimitReached: ({}, [
        lambda s: [s.api("POST", "/v1/keys", {"email": "ann@example.org"}) for _ in range(4)][-1],
    ]),
    errors.RegistrationClosed: ({"IMGPRO_ACCOUNTS_REGISTRATION": "closed"}, [
        lambda s: s.api("POST", "/v1/keys", {"email": "ann@example.org"}),
    ]),
    errors.NotFound: ({}, [
        lambda s: s.get("/t/AAAAAAAAAAAA.png"),
        lambda s: s.get("/nothing/here.txt"),
        lambda s: s.get("/v1/nothing"),
        lambda s: s.get("/v1/media/AAAAAAAAAAAA"),
        lambda s: s.get("/oembed?url=http://elsewhere.example/x"),
        lambda s: s.get("/static/nothing.css"),
        lambda s: s.request("DELETE", "/v1/media/AAAAAAAAAAAA?token=1.x"),
        lambda s: s.request("POST", "/AAAAAAAAAAAA/delete?token=1.x"),
    ]),
    errors.MethodNotAllowed: ({}, [
        lambda s: s.request("POST", "/t/AAAAAAAAAAAA.png"),
        lambda s: s.get("/v1/upload"),
        lambda s: s.request("PATCH", "/"),
    ]),
    errors.RequestTimeout: ({"IMGPRO_UPLOADS_CHUNK_DEADLINE_S": "0.2"}, [
        lambda s: ask(s, HEAD + b"Content-Length: 9\r\n\r\nabc"),
    ]),
    errors.FileTooLarge: ({"IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "2000"}, [
        lambda s: ask(s, HEAD + b"Content-Length: 2001\r\n\r\n"),
        lambda s: ask(s, HEAD + b"Transfer-Encoding: chunked\r\n\r\n7d1\r\n" + b"x" * 2001 + b"\r\n0\r\n\r\n"),
        lambda s: s.upload(b"x" * 2001),
        lambda s: s.request("POST", "/v1/import", b" " * 70_000),
    ]),
    errors.UnsupportedFormat: ({}, [
        lambda s: put(s, b"text"),
        lambda s: put(s, b""),
        lambda s: put(s, **{"Content-Encoding": "gzip"}),
    ]),
    errors.RangeNotSatisfiable: ({}, [past_the_end]),
    errors.ValidationError: ({}, [
        lambda s: s.upload(PNG, "x.png", ttl="never", date="now"),
        lambda s: s.request("POST", "/v1/upload?ttl=1", PNG, {"Content-Type": "image/png"}),
        lambda s: fetch(s),
        lambda s: fetch(s, url="http://10.0.0.1/"),
    ]),
    errors.ImageBroken: ({}, [lambda s: put(s, PNG[:99])]),
    errors.ImageTooLarge: ({}, [wide_as_webp]),
    errors.RateLimited: ({"IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "0", "IMGPRO_IMPORTS_PER_HOUR": "0"}, [
        put,
        lambda s: fetch(s, url="http://10.0.0.1/"),
    ]),
    errors.StorageFull: ({"IMGPRO_STORAGE_RESERVE_BYTES": "100000 TB"}, [put, lambda s: s.upload(PNG)]),
}  # fmt: skip
ELSEWHERE = {
    errors.FetchFailed: "test_import.py",
    errors.FetchTimedOut: "test_import.py",
    errors.Busy: "test_limits.py",
    errors.ImageDamaged: "test_scrub.py",
    errors.QuotaExceeded: "test_quota.py",
    errors.IdempotencyKeyConflict: "test_organise.py",
    errors.IdempotencyKeyInProgress: "test_organise.py",
}
CASES = [(kind, number) for kind, (_, calls) in PRODUCERS.items() for number in range(len(calls))]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Servers by their settings, each started once."""
    running_ones, stack = {}, []

    def start(env):
        key = tuple(sorted(env.items()))
        if key not in running_ones:
            context = running(tmp_path_factory.mktemp("errors") / "data", UNLIMITED | env)
            running_ones[key] = context.__enter__()
            stack.append(context)
        return running_ones[key]

    yield start
    for context in stack:
        context.__exit__(None, None, None)


def kinds(base=ImgproError):
    for kind in base.__subclasses__():
        if kind is not OperatorError:
            yield kind
            yield from kinds(kind)


def test_every_error_is_met_somewhere():
    assert set(kinds()) == set(PRODUCERS) | set(ELSEWHERE)


@pytest.mark.parametrize(("kind", "number"), CASES, ids=[f"{kind.code}-{number}" for kind, number in CASES])
def test_the_shape(servers, kind, number):
    env, calls = PRODUCERS[kind]
    answer = calls[number](servers(env))
    assert_shape(answer, kind.status, kind.code)
    body = answer.json()
    assert ("details" in body) is (kind is errors.ValidationError)
    for sentence in body.get("details", {}).values():
        assert sentence.endswith(".")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"Traceback|/home|/tmp|\.py|imgpro/", answer.body.decode())


@pytest.mark.parametrize("kind", list(kinds()))
def test_each_error_speaks_for_itself(kind):
    problem = kind()
    assert problem.message.endswith(".")
    assert problem.action.label
    assert (problem.action.type == "wait") is bool(problem.action.seconds)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/t/AAAAAAAAAAAA.png", "GET, HEAD"),
        ("GET", "/v1/upload", "POST"),
        ("GET", "/v1/upload/x", "PUT"),
        ("PUT", "/v1/import", "POST"),
        ("POST", "/v1/media/AAAAAAAAAAAA", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/AAAAAAAAAAAA/delete", "DELETE, GET, HEAD, POST"),
        ("DELETE", "/", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_405_keeps_allow(server, method, path, allowed, accept):
    answer = server.request(method, path, headers={"Accept": accept})
    assert answer.status == 405
    assert answer.headers["Allow"] == allowed


def test_401_says_how(server):
    assert put(server, Authorization="Basic x").headers["WWW-Authenticate"] == 'Bearer realm="imgpro"'


@pytest.mark.parametrize("path", ["/AAAAAAAAAAAA", "/nothing", "/a/b/c", "/AAAAAAAAAAAA/delete?token=x"])
def test_people_get_a_page_and_programs_get_json(server, path):
    page = server.get(path, Accept=BROWSER)
    assert page.status == 404
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "private, no-store"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Server"] == "imgpro"
    for accept in ("*/*", "application/json", "image/*"):
        assert_shape(server.get(path, Accept=accept), 404, "not_found")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/media/AAAAAAAAAAAA"])
def test_the_api_answers_json_whatever_is_accepted(server, path):
    assert_shape(server.get(path, Accept=BROWSER), 404, "not_found")


def test_pages_never_repeat_what_was_sent(server):
    for path in ("/%3Cscript%3Ealert(1)%3C/script%3E", "/?%3Cscript%3E", "/AAAAAAAAAAAA/delete?token=%3Cscript%3E"):
        for accept in (BROWSER, "*/*"):
            assert b"alert(1)" not in server.get(path, Accept=accept).body
            assert b"token=<script>" not in server.get(path, Accept=accept).body


def test_a_form_without_script_gets_pages_for_errors_too(servers):
    limited = servers(PRODUCERS[errors.RateLimited][0])
    page = limited.request(
        "POST", "/v1/upload", b"", {"Accept": BROWSER, "Content-Type": "multipart/form-data; boundary=b"}
    )
    assert page.status == 429
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert int(page.headers["Retry-After"]) > 0


def test_head_has_the_status_and_no_body(server):
    for path in ("/t/AAAAAAAAAAAA.png", "/AAAAAAAAAAAA", "/v1/media/AAAAAAAAAAAA"):
        answer = server.request("HEAD", path)
        assert (answer.status, answer.body) == (404, b"")


def test_gone_private_and_never_there_look_alike(server):
    private = server.must_upload(PNG, public="false")
    gone = server.must_upload(PNG)
    server.request("DELETE", gone["delete_url"].removeprefix(server.base))
    for form in ("/t/{}.png", "/t/{}.webp?size=s", "/{}", "/v1/media/{}", "/t/{}.png?sig=1.x", "/{}/delete?token=1.x"):
        answers = [server.get(form.format(name)) for name in (private["id"], gone["id"], "AAAAAAAAAAAA")]
        assert {(answer.status, answer.body) for answer in answers} == {(404, answers[0].body)}
        names = [{name for name in answer.headers if name != "X-Request-Id"} for answer in answers]
        assert names[0] == names[1] == names[2]
