"""TLS with the operator's own certificate: what is served over it, what is wrong with one, what strangers do to it."""

import concurrent.futures
import contextlib
import datetime
import hashlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings

import pytest

from imgpro.errors import ConfigError
from imgpro.settings import Server as ServerSettings
from imgpro.web.tls import load_pair
from tests.certificates import DAY, make_pair
from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, Answer, Server, multipart
from tests.signed_in import FORM

BIG = encoded(make_image("RGB", (1600, 1200)), "PNG", compress_level=0)  # some MB: more than any buffer on the way


class Secure(Server):
    """A server with a plain port and one that speaks TLS."""

    def __init__(self, data, pair, env=None, *args):
        super().__init__(data, {**UNLIMITED, **pair.env, **(env or {})}, "--listen", "https://127.0.0.1:0", *args)
        self.pair = pair

    def start(self):
        super().start()
        deadline = time.monotonic() + 10
        while not (found := re.search(r"https://127\.0\.0\.1:(\d+)\b.", self.log(), re.DOTALL)):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.tls_port = int(found[1])
        return self

    def context(self):
        return ssl.create_default_context(cafile=str(self.pair.cert))

    def connect(self, timeout=20):
        return http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=timeout, context=self.context())

    def secure(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def wrapped(self):
        raw = socket.create_connection(("127.0.0.1", self.tls_port), timeout=20)
        return self.context().wrap_socket(raw, server_hostname="127.0.0.1")

    def reload(self, words, count=1):
        """Have the settings read again, and wait until the log says what came of it."""
        before = self.log().count(words)
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while self.log().count(words) < before + count:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)


@contextlib.contextmanager
def running(data, pair, env=None, *args):
    server = Secure(data, pair, env, *args)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    with running(folder / "data", make_pair(folder)) as found:
        yield found


def uploaded(server):
    content, kind = multipart([("file", "a.png", BIG)])
    answer = server.secure("POST", "/v1/upload", content, {"Content-Type": kind})
    assert answer.status == 201, answer
    return answer.json()


def test_links_say_https_where_it_was_asked_so_and_the_plain_port_stays_plain(server):
    base = f"https://127.0.0.1:{server.tls_port}"
    assert uploaded(server)["src"].startswith(base)
    assert server.must_upload(BIG)["src"].startswith(server.base)
    assert base in server.log()  # the banner


def test_a_large_picture_comes_whole_and_in_ranges(server):
    """The kernel's sendfile would write past the encryption."""
    made = uploaded(server)
    path = made["src"].partition(str(server.tls_port))[2]
    whole = server.secure("GET", path)
    assert hashlib.sha256(whole.body).digest() == hashlib.sha256(BIG).digest()
    part = server.secure("GET", path, headers={"Range": "bytes=1000000-2999999"})
    assert (part.status, part.body == BIG[1_000_000:3_000_000]) == (206, True)
    small = [server.secure("GET", f"{path}?size=s") for _ in range(2)]  # the second from memory
    assert [answer.status for answer in small] == [200, 200]
    assert small[0].body == small[1].body


def test_many_large_pictures_at_once_come_whole(server):
    path = uploaded(server)["src"].partition(str(server.tls_port))[2]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.secure("GET", path), range(24)))
    assert all(answer.body == BIG for answer in answers)


def test_only_versions_and_protocols_of_today_are_spoken(server):
    context = server.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.tls_port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        assert (secure.version(), secure.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=20) as raw, pytest.raises(OSError):
        old.wrap_socket(raw)


def test_no_answer_forbids_plain_http_for_later(server):
    """HSTS is by host, not by port: it would lock people out of the plain port of the same box."""
    assert "Strict-Transport-Security" not in server.secure("GET", "/").headers


def test_sessions_are_for_secure_connections_only(server):
    key = server.new_key("ann@example.org")
    body = f"key={key}".encode()
    origin = {"Origin": f"https://127.0.0.1:{server.tls_port}"}
    answer = server.secure("POST", "/dashboard/sign-in", body, {**FORM, **origin})
    assert answer.status == 303
    assert "Secure" in answer.headers["Set-Cookie"]
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert server.secure("GET", "/dashboard/account", headers={"Cookie": cookie}).status == 200


def test_keep_alive_and_an_upload_in_pieces(server):
    connection = server.connect()
    content, kind = multipart([("file", "a.png", BIG)])
    for _ in range(2):
        connection.request("POST", "/v1/upload", iter([content[:100], content[100:]]), {"Content-Type": kind})
        assert connection.getresponse().read()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read().startswith(b'{"status":"ok"')
    connection.close()


def test_plain_http_on_the_secure_port_is_hung_up_on_without_a_word_in_the_log(server):
    asked = server.secure("GET", "/healthz").headers["X-Request-Id"]
    wait_until(lambda: asked in server.log())  # what came before is written
    before = server.log().rpartition(asked)[0]
    for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 500, b"SSH-2.0-x\r\n", b""):
        with socket.create_connection(("127.0.0.1", server.tls_port), timeout=10) as raw:
            raw.sendall(words)
            raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(100):
                    pass
    assert server.secure("GET", "/healthz").status == 200
    assert [line for line in server.log()[len(before) :].splitlines()[1:] if "/healthz" not in line] == []


def answers(server):
    try:
        return server.secure("GET", "/healthz").status == 200
    except OSError:
        return False


def test_a_handshake_that_never_ends_does_and_holds_a_place_until_then(tmp_path):
    env = {"IMGPRO_SERVER_IDLE_DEADLINE_S": "2s", "IMGPRO_SERVER_MAX_CONNECTIONS_PER_NETWORK": "4"}
    with running(tmp_path / "data", make_pair(tmp_path), env) as server:
        silent = [socket.create_connection(("127.0.0.1", server.tls_port), timeout=20) for _ in range(4)]
        for raw in silent:
            raw.sendall(b"\x16\x03\x01\x02")
        with pytest.raises(OSError):  # no place for a fifth, on either port
            server.secure("GET", "/healthz")
        with pytest.raises(OSError):
            server.get("/healthz")
        for raw in silent:
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(100) == b""  # the server hangs up by itself
            raw.close()
        wait_until(lambda: answers(server))  # it hangs up a moment before it gives a place back
        for _ in range(8):  # and all places are free again
            assert server.secure("GET", "/healthz").status == 200
        # Those whose handshake failed gave theirs back too.
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", server.tls_port), timeout=20) as raw:
                raw.sendall(b"nonsense\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    raw.recv(100)
        assert server.secure("GET", "/healthz").status == 200


def test_where_no_address_says_https_all_with_a_port_speak_tls(tmp_path):
    pair, path = make_pair(tmp_path), tmp_path / "s"
    server = Secure(tmp_path / "data", pair)
    server._args = ("--listen", f"unix:{path}")  # beside the helper's own 127.0.0.1:0
    with contextlib.closing(server.start()):
        assert server.tls_port == server.port
        assert server.secure("GET", "/healthz").status == 200
        assert f"https://127.0.0.1:{server.port}/setup?t=" in server.log()
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert plain.recv(100).startswith(b"HTTP/1.1 200")


def test_a_new_certificate_is_for_new_connections_and_costs_no_old_one(tmp_path):
    with running(tmp_path / "data", make_pair(tmp_path)) as server, contextlib.ExitStack() as stack:
        old = stack.enter_context(contextlib.closing(server.connect()))
        old.request("GET", "/healthz")
        old.getresponse().read()
        first = old.sock.getpeercert()["serialNumber"]
        content, kind = multipart([("file", "a.png", BIG)])
        old.putrequest("POST", "/v1/upload")
        old.putheader("Content-Type", kind)
        old.putheader("Content-Length", str(len(content)))
        old.endheaders()
        old.send(content[:1000])
        pair = make_pair(tmp_path)
        server.reload("the settings were read again")
        assert "the certificate has changed" in server.log()
        assert server.secure("GET", "/healthz").status == 200  # by the new one alone: clients trust no other
        with server.wrapped() as secure:
            assert int(secure.getpeercert()["serialNumber"], 16) == pair.serial != int(first, 16)
        old.send(content[1000:])
        assert old.getresponse().status == 201  # the upload that was under way


def test_a_pair_that_does_not_work_leaves_the_old_one(tmp_path):
    with running(tmp_path / "data", make_pair(tmp_path)) as server:
        good = server.pair.key.read_bytes()
        make_pair(tmp_path, "other")
        for key, words in (
            ((tmp_path / "other.key").read_bytes(), "is not that of the certificate"),
            (b"", "no private key"),
        ):
            server.pair.key.write_bytes(key)
            server.reload(words)
            assert server.secure("GET", "/healthz").status == 200
        server.pair.key.write_bytes(good)
        server.reload("the settings were read again")
        assert server.secure("GET", "/healthz").status == 200


# What is wrong with a certificate


def problem(cert, key=""):
    with pytest.raises(ConfigError) as caught:
        load_pair(ServerSettings(tls_cert=str(cert), tls_key=str(key)))
    return caught.value.message


def test_every_mistake_has_its_sentence(tmp_path):
    good, other = make_pair(tmp_path, "good"), make_pair(tmp_path, "other")
    closed, weak = make_pair(tmp_path, "closed", passphrase=b"secret"), make_pair(tmp_path, "weak", weak=True)
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    assert "cannot be read: No such file" in problem(tmp_path / "none.pem", good.key)
    assert problem(good.cert, tmp_path / "none.key").startswith("server.tls_key: ")
    assert "is not that of the certificate" in problem(good.cert, other.key)
    assert "is encrypted" in problem(closed.cert, closed.key)
    assert "no certificate in PEM form" in problem(empty, good.key)
    assert "no private key in PEM form" in problem(good.cert, empty)
    assert "no private key in PEM form" in problem(good.cert)
    assert "too weak" in problem(weak.cert, weak.key)
    assert "cannot be read: Is a directory" in problem(tmp_path, good.key)


def test_one_file_may_hold_both(tmp_path):
    pair = make_pair(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    assert load_pair(ServerSettings(tls_cert=str(both))).warning == ""


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (-30 * DAY, -DAY, "has expired"),
        (DAY, 30 * DAY, "is not valid yet"),
        (-30 * DAY, 3 * DAY + datetime.timedelta(hours=1), "ends in 3 days"),
    ],
)
def test_what_visitors_will_mind_is_warned_of_and_served(tmp_path, begins, ends, words):
    pair = make_pair(tmp_path, begins=begins, ends=ends)
    assert words in load_pair(ServerSettings(tls_cert=str(pair.cert), tls_key=str(pair.key))).warning


@pytest.mark.parametrize("listen", ["https://127.0.0.1:0", "127.0.0.1:0"])
def test_a_bad_certificate_is_a_mistake_in_the_settings(tmp_path, listen):
    pair, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    env = {**pair.env, "IMGPRO_SERVER_TLS_KEY": str(other.key)}
    ended = subprocess.run(
        [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", listen],
        env={**env, "PATH": ""}, cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "is not that of the certificate" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


def test_https_without_a_certificate_is_a_mistake_in_the_settings(tmp_path):
    command = [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data")]
    ended = subprocess.run(
        [*command, "--listen", "https://127.0.0.1:0"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 78
    assert "server.tls_cert is needed" in ended.stderr


def test_imgpro_upload_trusts_whom_ssl_cert_file_names(server, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(encoded(make_image("RGB", (40, 30)), "PNG"))
    base = f"https://127.0.0.1:{server.tls_port}"
    command = [sys.executable, "-m", "imgpro", "upload", "--server", base, str(picture)]
    env = {"PATH": "", "HOME": str(tmp_path)}
    alone = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (alone.returncode, "is not trusted" in alone.stderr) == (69, True)
    told = subprocess.run(
        command,
        env={**env, "SSL_CERT_FILE": str(server.pair.cert)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (told.returncode, told.stdout.startswith(base), told.stderr) == (0, True, "")


def test_a_stop_lets_an_upload_over_tls_end(tmp_path):
    with running(tmp_path / "data", make_pair(tmp_path)) as server, contextlib.ExitStack() as stack:
        connection = stack.enter_context(contextlib.closing(server.connect()))
        content, kind = multipart([("file", "a.png", BIG)])
        connection.putrequest("POST", "/v1/upload")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders()
        connection.send(content[:1000])
        beginning = socket.create_connection(("127.0.0.1", server.tls_port), timeout=20)  # and one in its handshake
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.send(content[1000:])
        assert connection.getresponse().status == 201
        assert server.process.wait(30) == 0
        beginning.close()
        assert "Traceback" not in server.log()
        assert "Task was destroyed" not in server.log()
