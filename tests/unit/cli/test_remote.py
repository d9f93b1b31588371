"""Addresses as people write them, and what an answer means for the next request."""

import http.client
import io
import json

import pytest
from click.testing import CliRunner

from imgpro.cli.commands import cli
from imgpro.cli.integrations import _upload_key
from imgpro.cli.pictures import Picture
from imgpro.cli.remote import Outcome, _form, _judge, _wait_s, check_key, goes_in_the_clear, parse_server
from imgpro.errors import Action, ConfigError, ServerUnreachable
from imgpro.integrations.programs import BY_NAME

BASE = "http://img.lan:8080"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://img.lan:8080", "http://img.lan:8080"),
        (" https://IMG.example.org/ ", "https://img.example.org"),
        ("https://example.org/my/pictures//", "https://example.org/my/pictures"),
        ("img.lan:8080", "http://img.lan:8080"),
        ("localhost:8080", "http://localhost:8080"),
        ("nas", "http://nas"),
        ("box.local/pics", "http://box.local/pics"),
        ("192.168.1.20:8080", "http://192.168.1.20:8080"),
        ("10.1.2.3", "http://10.1.2.3"),
        ("[fd00::2]:8080", "http://[fd00::2]:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("img.example.org", "https://img.example.org"),
        ("8.8.8.8", "https://8.8.8.8"),
        ("http://bücher.example", "http://bücher.example"),
    ],
)
def test_addresses(text, base):
    found, told = parse_server(text)
    assert found == base
    assert (told is None) == ("://" in text)
    assert parse_server(found) == (base, None)


@pytest.mark.parametrize(
    "text",
    ["", " ", "http://", "ftp://a", "http://a:b", "http://a:70000", "http://u:p@a", "http://a?x=1", "http://a#x", "a b",
     "http://a/b c", "http://a/<", "http://a\\b", "http://a\r\nX: y", "http://[::1", "http://a..b", "file:///etc", "http://:80"],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(ConfigError) as problem:
        parse_server(text)
    assert "http://img.lan:8080" in problem.value.action.label


def test_keys():
    assert check_key(" img_live_Ab9 \n") == "img_live_Ab9"
    for text in ("", "two words", "line\nbreak", "ключ", "x" * 201):
        with pytest.raises(ConfigError):
            check_key(text)


def test_where_a_key_would_be_read_by_others():
    assert goes_in_the_clear("http://img.example.org")
    for base in ("https://img.example.org", "http://img.lan", "http://192.168.1.2:8080", "http://[fe80::1]"):
        assert not goes_in_the_clear(base)


class Wire:
    """A socket from which one answer can be read."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def judged(status, body, **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    response = http.client.HTTPResponse(Wire(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()))
    response.begin()
    return _judge(BASE, response, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (400, "bad_request", "refused"),
        (401, "unauthorized", "useless"),
        (403, "forbidden", "useless"),
        (403, "quota_exceeded", "useless"),
        (404, "not_found", "useless"),
        (408, "request_timeout", "later"),
        (409, "idempotency_key_conflict", "known"),
        (409, "idempotency_key_in_progress", "later"),
        (413, "file_too_large", "refused"),
        (415, "unsupported_format", "refused"),
        (422, "image_broken", "refused"),
        (429, "rate_limited", "later"),
        (500, "server_error", "later"),
        (503, "busy", "later"),
        (507, "storage_full", "later"),
    ],
)
def test_verdicts(status, code, verdict):
    outcome = judged(status, {"error": code, "message": "Words."})
    assert outcome.verdict == verdict
    assert outcome.status == status


def test_an_error_is_told_in_the_servers_words():
    body = {
        "error": "quota_exceeded",
        "message": "The plan allows 100 uploads.",
        "action": {"type": "upgrade", "url": "http://img.lan/upgrade/pro", "label": "Upgrade to Pro"},
        "details": {},
    }
    problem = judged(403, body).problem
    assert problem.message == "The plan allows 100 uploads."
    assert problem.action.label == "Upgrade to Pro: http://img.lan/upgrade/pro"
    problem = judged(422, {"error": "validation_error", "message": "No.", "details": {"ttl": "Too short."}}).problem
    assert problem.details == {"ttl": "ttl: Too short."}
    problem = judged(
        403, {"error": "x", "message": "a\x1b[2J", "action": {"label": "b\n"}, "details": {"c": "\x07"}}
    ).problem
    assert (problem.message, problem.action.label, problem.details) == ("a?[2J", "", {"c": "c: ?"})
    assert "imgpro login" in judged(401, {"error": "unauthorized", "message": "No."}).problem.action.label


def test_how_long_to_wait():
    busy = {"error": "busy", "message": "Busy.", "action": {"type": "wait", "seconds": 2}}
    assert judged(503, busy).wait_s == 2
    assert judged(503, busy, Retry_After="7").wait_s == 7
    assert judged(503, busy, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT").wait_s == 2
    assert judged(503, {"error": "busy", "message": "x", "action": "soon"}).wait_s == 0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"x"', b"\xff", {"message": "no code"}, {"error": 5}])
def test_answers_of_other_programs(body):
    assert judged(404, body).verdict == "useless"
    assert judged(502, body).verdict == "later", "a proxy whose server is away"
    assert isinstance(judged(404, body).problem, ServerUnreachable)


def test_a_redirect_names_its_target_and_is_not_followed():
    outcome = judged(301, b"", Location="https://img.example.org/p/v1/upload?x=1")
    assert outcome.verdict == "useless"
    assert outcome.problem.action.label == "imgpro login https://img.example.org/p"
    assert judged(302, b"", Location="/sign-in").verdict == "useless"
    assert "\x1b" not in judged(302, b"", Location="http://a\x1b[2J").problem.action.label


def test_a_form_says_how_long_it_is_and_holds_any_name():
    picture = Picture("/x/a.png", "a.png", 'q"\r\nX: y.png', 3)
    head, tail, kind = _form({"tags": "ä"}, picture)
    boundary = kind.partition("boundary=")[2].encode()
    parts = (head + b"abc" + tail).split(b"--" + boundary)
    assert len(parts) == 5
    assert parts[1].endswith(b'\r\n\r\nq"\r\nX: y.png\r\n'), "in a field's value it can do no harm"
    assert parts[2].endswith("\r\n\r\nä\r\n".encode())
    assert parts[3].endswith(b"Content-Type: image/png\r\n\r\nabc\r\n")
    assert parts[4] == b"--\r\n"


@pytest.mark.parametrize("key", ['x"', "x\\", "x$y", "x\ny", "a b"])
def test_what_a_shell_or_curl_would_read_is_no_key(key):
    with pytest.raises(ConfigError):
        check_key(key)


def test_a_key_that_a_server_makes_is_looked_at_too():
    class Hostile:
        key = "img_live_mine"

        def new_key(self, name, abilities):
            return Outcome("sent", {"key": 'x"\noutput = "/tmp/x'})

    with pytest.raises(ConfigError):
        _upload_key(Hostile(), BY_NAME["sharex"])


@pytest.mark.parametrize(("said", "seconds"), [("", 10**400), ("9" * 400, 3), ("", -5), ("\u0665", 7)])
def test_a_wait_without_measure_is_bounded(said, seconds):
    response = http.client.HTTPResponse.__new__(http.client.HTTPResponse)
    response.headers = {"Retry-After": said}
    assert 0 <= _wait_s(response, {"action": {"seconds": seconds}}) <= 86_400


def test_an_answer_of_a_thousand_brackets_is_no_answer():
    response = http.client.HTTPResponse.__new__(http.client.HTTPResponse)
    response.status, response.headers = 200, {}
    assert _judge(BASE, response, b"[" * 200_000).verdict == "useless"


def test_a_terminal_obeys_no_word_of_a_server(monkeypatch):
    def fail():
        raise ServerUnreachable("it sends on to \x1b]0;owned\x07", Action("fix", label="\x1b[2J"))

    monkeypatch.setattr(cli.commands["logout"], "callback", lambda **_: fail())
    shown = CliRunner().invoke(cli, ["logout"])
    assert "\x1b" not in shown.stderr
    assert shown.stderr.count("\n") == 2
