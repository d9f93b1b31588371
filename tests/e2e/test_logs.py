"""What a whole server writes on standard error, and what becomes of it when standard error is closed, full or not read."""

import contextlib
import http.client
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys

import pytest

from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, Answer, Server, bearer, running
from tests.signed_in import FORM, SignedIn, cookie_of
from tests.smtp import PASSWORD, Postman, serving
from tests.wire import Wire

PNG = encoded(make_image("RGB", (64, 48)), "PNG")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("x", timeout=20)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def entries(server):
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def use_keys(server, secrets, upload_key):
    """Send good keys and bad ones wherever they may stand, and note what must not be found again."""
    found = server.request("POST", f"/v1/upload?key={upload_key}", PNG, {"Content-Type": "image/png"})
    assert found.status == 201
    found = server.must_upload(PNG, key=secrets["operator's key"], public="false")
    secrets["signature"] = found["signed_src"].partition("sig=")[2]
    secrets["deletion"] = found["delete_url"].partition("token=")[2]
    assert server.get(found["signed_src"]).status == 200
    assert server.get(found["signed_src"] + "x").status == 404
    secrets["wrong key"] = "img_live_" + "w" * 32
    for headers in ({"Authorization": f"Bearer {secrets['wrong key']}"}, {"X-API-Key": secrets["wrong key"]}):
        assert server.request("GET", "/v1/usage", headers=headers).status == 401
        assert server.request("POST", "/v1/upload", PNG, {"Content-Type": "image/png", **headers}).status == 401
    assert server.request("POST", f"/v1/upload?key={secrets['wrong key']}", PNG).status == 401
    secrets["bad sign-in"] = "img_live_" + "s" * 32
    body = f"key={secrets['bad sign-in']}".encode()
    assert server.request("POST", "/dashboard/sign-in", body, {**FORM, "Origin": server.base}).status >= 400
    secrets["cookie"] = "c" * 43
    server.get("/dashboard", Cookie=f"imgpro_session={secrets['cookie']}")
    secrets["header"] = "v" * 40
    with Wire(server) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n %s\r\n\r\n" % secrets["header"].encode())
        assert wire.answer().status == 400


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_ever_written(tmp_path, form):
    """Uploads, sign-ins, set-up, keys in headers and addresses, wrong ones, and a mail server that repeats passwords."""
    env = {
        **UNLIMITED,
        "IMGPRO_LOG_LEVEL": "debug",
        "IMGPRO_LOG_FORMAT": form,
        "IMGPRO_MAIL_HOST": "127.0.0.1",
        "IMGPRO_MAIL_SECURITY": "none",
        "IMGPRO_MAIL_USERNAME": "imgpro",
        "IMGPRO_MAIL_PASSWORD": "not-" + PASSWORD,
    }
    with (
        serving(Postman(), auth_require_tls=False, authenticator=Postman().authenticate) as mail,
        running(tmp_path / "data", {**env, "IMGPRO_MAIL_PORT": str(mail.port)}) as server,
    ):
        banner = server.log()
        secrets = {"password": "not-" + PASSWORD, "set-up link": re.search(r"/setup\?t=(\w+)", banner)[1]}
        page = server.request("POST", "/setup", f"t={secrets['set-up link']}&email=op@example.org".encode(), FORM)
        secrets["operator's key"] = re.search(r"img_live_\w{32}", page.body.decode())[0]
        operator = SignedIn(server, cookie_of(page))
        secrets["session"], secrets["csrf"] = operator.cookie.partition("=")[2], operator.token
        secrets["key"] = server.api("POST", "/v1/keys", {"email": "ann@example.org"}).json()["key"]
        server.operate("verify", email="ann@example.org", keep=[])
        only = server.api("POST", "/v1/keys", {"abilities": "upload"}, key=secrets["operator's key"]).json()
        secrets["key in an address"] = only["key"]
        use_keys(server, secrets, only["key"])
        operator.post("/operator/invite", email="bob@example.org")
        wait_until(lambda: "cannot be used" in server.log())
        log = server.log()[len(banner) :]
        secrets |= {
            f"link {n}": token
            for n, token in enumerate(re.findall(r"t=(\w{20,})", str(operator.get("/operator").body)))
        }
        assert server.stop() == 0
        log += server.log()[len(banner) :]
        assert len(secrets) >= 13
        for name, secret in secrets.items():
            assert secret not in log, name
        for word in ("img_live_", "sig=", "token=", "t=", "Cookie", "Bearer"):
            assert word not in log
        assert "key_" in log, "which key it was is told by its name"


def test_the_log_and_the_answer_name_a_request_alike(tmp_path):
    env = {**UNLIMITED, "IMGPRO_LOG_FORMAT": "json", "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1"}
    with running(tmp_path / "data", env, "--listen", f"unix:{tmp_path}/http.sock") as server:
        key = server.new_key("ann@example.org")
        token = re.search(r"setup.t=(\w+)", server.log())[1]
        page = server.request("POST", "/setup", f"t={token}&email=op@example.org".encode(), FORM)
        database = sqlite3.connect(server.data / "imgpro.db")
        database.execute("DROP TABLE namespace_totals")
        database.commit()
        database.close()
        failed = server.get("/v1/namespaces", **bearer(key))
        assert failed.status == 500
        assert "Traceback" not in failed.body.decode()
        assert "namespaces" not in failed.body.decode()
        shown = server.get("/dashboard", Accept="text/html", Cookie=cookie_of(page))
        assert shown.status == 500
        assert f"<strong>{shown.headers['X-Request-Id']}</strong>" in shown.body.decode()
        server.get("/healthz")
        # A proxy's own name for a request is taken over, where it is one.
        for given, taken in (("proxy-1.a_B", True), ("a" * 64, True), ("a b", False), ("x" * 65, False), ("short", False),
                             ("<script>", False), ("ünïcode-it", False)):  # fmt: skip
            answer = server.request("GET", "/healthz", headers={"X-Request-Id": given.encode().decode("latin-1")})
            assert (answer.headers["X-Request-Id"] == given) is taken, given
        with contextlib.closing(UnixConnection(tmp_path / "http.sock")) as stranger:
            stranger.request("GET", "/heartbeat", headers={"X-Request-Id": "of-my-own"})
            assert stranger.getresponse().headers["X-Request-Id"] != "of-my-own"
        wait_until(lambda: sum(entry.get("route") == "/healthz" for entry in entries(server)) == 8)
        found = entries(server)
        ours = [entry for entry in found if entry.get("request_id") == failed.headers["X-Request-Id"]]
        assert [entry["event"] for entry in ours] == ["unexpected failure", "request"]
        assert ours[0]["exception"].startswith("Traceback (most recent call last):\n")
        assert (ours[1]["status"], ours[1]["key"][:4]) == (500, "key_")
        assert set(ours[1]) >= {"duration_s", "sent_bytes", "client", "method", "route"}
        assert "proxy-1.a_B" in {entry.get("request_id") for entry in found}
        assert page.headers["X-Request-Id"] in {entry.get("request_id") for entry in found}
        operator = SignedIn(server, cookie_of(page))
        assert f"request {failed.headers['X-Request-Id']}" in operator.get("/operator/log").body.decode()
        assert len({entry["request_id"] for entry in found if entry["event"] == "request"}) == len(
            [entry for entry in found if entry["event"] == "request"]
        )


def test_in_the_journal(tmp_path):
    server = Server(tmp_path / "data", UNLIMITED)
    found = os.fstat(server._log.fileno())
    server.env["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
    try:
        server.start()
        assert server.get("/healthz", X_Request_Id="of-my-own").headers["X-Request-Id"] != "of-my-own"
        server.stop()
        lines = server.log().splitlines()
        logged = [line for line in lines if line.startswith("<")]
        assert any(re.match(r"<6>GET /healthz 200 \d+B 127\.0\.0\.1 [\d.]+ms \w+$", line) for line in logged)
        assert "<6>INFO imgpro.cli.serve: stopping" in logged
        assert not [line for line in lines if line.startswith("{")]
    finally:
        server.close()


# Standard error


@contextlib.contextmanager
def started(tmp_path, redirect, **options):
    """Start a server whose standard error is what a shell makes of `redirect`; yield its port and process."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *command], cwd=ROOT, env={**os.environ, **UNLIMITED}, **options
    )
    try:
        wait_until(lambda: answers(port), 30)
        yield port, process
    finally:
        process.kill()
        process.wait()


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def answers(port):
    try:
        return ask(port, "GET", "/healthz").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("redirect", ["<&- >&- 2>&-", "2>/dev/full"])
def test_standard_error_closed_or_on_a_full_disk(tmp_path, redirect):
    with started(tmp_path, redirect) as (port, process):
        answer = ask(port, "PUT", "/v1/upload/a.png", PNG)
        assert answer.status == 201
        assert ask(port, "GET", answer.json()["src"].partition(str(port))[2]).body == PNG
        # Nothing else was opened in its place: log lines would go there.
        target = os.readlink(f"/proc/{process.pid}/fd/2")
        assert target in ("/dev/null", "/dev/full")
        assert str(tmp_path) not in target
        process.terminate()
        assert process.wait(20) == 0


def test_standard_error_that_nobody_reads(tmp_path):
    with started(tmp_path, "", stderr=subprocess.PIPE) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            for _ in range(2_500):  # some 400 kB of lines, a pipe holds 64
                connection.request("GET", "/healthz")
                assert connection.getresponse().read()
        assert ask(port, "PUT", "/v1/upload/a.png", PNG).status == 201
        process.terminate()
        assert process.wait(20) == 0, "not even the end waits for it"
        assert b'"event": "request"' in process.stderr.read()
        process.stderr.close()
