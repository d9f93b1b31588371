"""Proxies in front: whose word about the visitor counts, and how far."""

import contextlib
import http.client
import json
import re
import socket
import time

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, multipart, running, send_as_given
from tests.signed_in import claimed

PNG = encoded(make_image("RGB", (40, 30)), "PNG")
PROXY, STRANGER = "127.0.0.1", "127.0.0.9"
TRUST = {"IMGPRO_SERVER_TRUSTED_PROXIES": f"{PROXY}, 10.0.0.0/8, 2001:db8:7::/48"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("proxies") / "data", {**UNLIMITED, **TRUST}) as found:
        yield found


def ask(server, headers, method="GET", path="/llms.txt", body=None, peer=PROXY):
    """Send one request with these headers, in this order, a name twice if it is there twice."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(peer, 0))
    with contextlib.closing(connection):
        return send_as_given(connection, method, path, headers, body)


def base(server, headers, **more):
    """Return what links start with for this request; the status where there are none."""
    answer = ask(server, headers, **more)
    return (
        re.search(r"(https?://[^/\s:]+(?::\d+)?)", answer.body.decode())[1] if answer.status == 200 else answer.status
    )


def seen_as(server, headers, **more):
    """Return the network that this request is counted for."""
    email = f"a{time.time_ns()}@example.org"
    body = json.dumps({"email": email}).encode()
    typed = [*(headers.items() if isinstance(headers, dict) else headers), ("Content-Type", "application/json")]
    assert ask(server, typed, "POST", "/v1/keys", body, **more).status == 201
    [row] = [row for row in server.operate("list")["accounts"] if row["email"] == email]
    return row["keys"][0]["network"]


# X-Forwarded-For


@pytest.mark.parametrize(
    ("sent", "network"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["1.2.3.4, 203.0.113.7"], "203.0.113.7"),  # the left one is what the visitor claims
        (["1.2.3.4", "203.0.113.7"], "203.0.113.7"),  # in a line of its own
        (["203.0.113.7, 10.1.2.3"], "203.0.113.7"),  # through two proxies of ours
        (["1.2.3.4, 203.0.113.7, 10.1.2.3, 10.9.9.9"], "203.0.113.7"),
        (["10.1.2.3, 203.0.113.7"], "203.0.113.7"),  # pretending to be a proxy
        (["10.1.2.3"], "10.1.2.3"),  # somebody who sits where the proxies are
        (["10.1.2.3, 10.9.9.9"], "10.1.2.3"),
        (["nonsense"], PROXY),
        (["1.2.3.4, nonsense"], PROXY),
        (["nonsense, 10.1.2.3"], "10.1.2.3"),
        (["203.0.113.7, "], PROXY),
        ([""], PROXY),
        (["203.0.113.7:4711"], PROXY),
        (["unknown"], PROXY),
        (["fe80::1%eth0"], PROXY),
        (["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (["[2001:db8:1:2::6]"], PROXY),
        (["2001:db8:1:2::6, 2001:db8:7:1::1"], "2001:db8:1:2::/64"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, ::ffff:10.1.2.3"], "203.0.113.7"),
        (["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7\t,\t10.1.2.3"], "203.0.113.7"),
        ([",".join(["1.2.3.4"] * 500 + ["203.0.113.7"])], "203.0.113.7"),
    ],
    ids=range(24),
)
def test_the_first_from_the_right_that_is_no_proxy_is_the_visitor(server, sent, network):
    assert seen_as(server, [("X-Forwarded-For", value) for value in sent]) == network


def test_a_stranger_says_nothing_about_anybody(server):
    said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https"}
    assert seen_as(server, said, peer=STRANGER) == STRANGER
    assert base(server, said, peer=STRANGER) == "http://img.test"


@pytest.mark.parametrize(
    "said",
    [
        {"Forwarded": "for=203.0.113.7;host=evil.test;proto=https"},
        {"X-Real-IP": "203.0.113.7"},
        {"True-Client-IP": "203.0.113.7", "CF-Connecting-IP": "203.0.113.7"},
        {"X_Forwarded_For": "203.0.113.7", "X-Forwarded-Server": "evil.test", "X-Forwarded-Scheme": "https"},
        {"X-Original-Host": "evil.test", "X-Host": "evil.test", "X-HTTP-Host-Override": "evil.test"},
    ],
    ids=range(5),
)
def test_other_headers_say_nothing_not_even_from_a_proxy(server, said):
    """Each more that is read is one more that a proxy has to take off."""
    assert seen_as(server, said) == PROXY
    assert base(server, said) == "http://img.test"


# Scheme and host


@pytest.mark.parametrize(
    ("sent", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS "], "https"),
        (["http"], "http"),
        (["https,http"], "http"),
        (["http, https"], "http"),
        (["https, https"], "http"),
        (["https", "https"], "http"),
        (["javascript"], "http"),
        ([""], "http"),
    ],
    ids=range(9),
)
def test_one_scheme_counts_and_a_list_does_not(server, sent, scheme):
    """In a list nobody knows who wrote what: some proxies add theirs to what the visitor sent."""
    assert base(server, [("X-Forwarded-Proto", value) for value in sent]) == f"{scheme}://img.test"


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (["Photos.Example:8443"], "http://photos.example:8443"),
        (["a.test, b.test"], 400),
        (["a.test", "b.test"], 400),
        (['a.test"><script>'], 400),
        (["a.test/path"], 400),
        (["user@a.test"], 400),
        (["a.test:99999"], 400),
        (["a test"], 400),
        ([""], 400),
        (["[::1]:8080"], "http://[::1]:8080"),
    ],
    ids=range(10),
)
def test_a_host_is_one_host_or_the_request_is_refused(server, sent, found):
    answer = ask(server, [("X-Forwarded-Host", value) for value in sent])
    if found == 400:
        assert answer.status == 400
        assert b"<script>" not in answer.body
    else:
        assert found in answer.body.decode()


@pytest.mark.parametrize("hosts", [["img.test", "evil.test"], ["evil.test", "img.test"], ["a.test, b.test"], [""]])
def test_two_hosts_are_refused(server, hosts):
    assert ask(server, [("Host", host) for host in hosts]).status == 400
    assert ask(server, [("Host", host) for host in hosts], peer=STRANGER).status == 400


# Limits


def test_each_visitor_behind_a_proxy_has_a_limit_of_their_own(tmp_path):
    env = {**TRUST, "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "2"}
    with running(tmp_path / "data", env) as server:
        content, kind = multipart([("file", "a.png", PNG)])

        def upload(visitor, peer=PROXY):
            headers = {"Content-Type": kind, "X-Forwarded-For": visitor}
            return ask(server, headers, "POST", "/v1/upload", content, peer=peer).status

        assert [upload("2001:db8:1:2::1"), upload("2001:db8:1:2:ffff::2")] == [201, 201]
        assert upload("2001:db8:1:2:abcd::3") == 429  # one customer has a whole /64
        assert upload("2001:db8:1:3::1") == 201
        assert [upload(f"9.9.9.{n}, 203.0.113.7") for n in range(3)] == [201, 201, 429]
        assert [upload(f"9.9.9.{n}", STRANGER) for n in range(3)] == [201, 201, 429]


def test_connections_of_a_proxy_are_not_one_visitors(tmp_path):
    env = {**UNLIMITED, **TRUST, "IMGPRO_SERVER_MAX_CONNECTIONS_PER_NETWORK": "4"}
    with running(tmp_path / "data", env) as server, contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert ask(server, {}).status == 200
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), source_address=(STRANGER, 0)))
        with pytest.raises(OSError):
            ask(server, {}, peer=STRANGER)
        assert ask(server, {}).status == 200


# A unix socket


@pytest.mark.parametrize(("trusted", "network"), [("unix", "203.0.113.7"), (f"{PROXY}, 0.0.0.0/0, ::/0", "local")])
def test_a_proxy_behind_a_unix_socket_is_believed_only_if_the_settings_say_unix(tmp_path, trusted, network):
    path = tmp_path / "s"
    env = {**UNLIMITED, "IMGPRO_SERVER_TRUSTED_PROXIES": trusted}
    with running(tmp_path / "data", env, "--listen", f"unix:{path}") as server:
        body = json.dumps({"email": "ann@example.org"}).encode()
        head = "POST /v1/keys HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(head.encode() + body)
            assert sock.recv(100).startswith(b"HTTP/1.1 201")
        assert server.operate("list")["accounts"][0]["keys"][0]["network"] == network


# Who is not believed, is told


def test_a_proxy_that_is_not_believed_is_noted_once_in_the_log_and_for_the_operator(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_LOG_FORMAT": "text"}) as server:
        operator = claimed(server)
        assert "is not believed" not in operator.get("/operator").body.decode()
        for _ in range(3):
            ask(server, {"X-Forwarded-For": "203.0.113.7"})
            ask(server, {"X-Forwarded-For": "203.0.113.8", "X-Forwarded-Proto": "https"}, peer=STRANGER)
        page = operator.get("/operator").body.decode()
        for peer in (PROXY, STRANGER):
            words = f"X-Forwarded-For from {peer} is not believed"
            assert page.count(words) == 1
            assert server.log().count(words) == 1
        assert f'server.trusted_proxies = ["{PROXY}"]' in server.log()


def test_strangers_do_not_fill_the_log(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        for n in range(1, 60):
            ask(server, {"X-Forwarded-For": "203.0.113.7"}, peer=f"127.0.1.{n}")
        time.sleep(0.5)
        assert server.log().count("is not believed") <= 32
