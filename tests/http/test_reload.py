"""Settings that are read again while the server runs: what changes at once, what waits, what changes nothing."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mailbox import mailbox
from tests.pictures import encoded, make_image
from tests.servers import ROOT, Server, held_open, multipart
from tests.signed_in import claimed

PNG = encoded(make_image("RGB", (300, 200)), "PNG", compress_level=0)  # 180 KB
DONE, REFUSED = "the settings were read again", "the settings stay as they were"


class Reloaded(Server):
    """A server with a configuration file that can be written again."""

    def __init__(self, folder, env=None, text="", *args):
        self.file = folder / "config.toml"
        self.file.write_text(text)
        super().__init__(
            folder / "data", {"IMGPRO_LOG_FORMAT": "text", **(env or {})}, "--config", str(self.file), *args
        )

    def wait(self, words, count=1):
        deadline = time.monotonic() + 20
        while self.log().count(words) < count:
            assert time.monotonic() < deadline, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def reload(self, text, words=DONE):
        """Write the file, have it read, and return what the log says of it."""
        self.file.write_text(text)
        before = self.log()
        self.hang_up()
        self.wait(words, before.count(words) + 1)
        return self.log()[len(before) :]

    def raw(self, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("PUT", "/v1/upload/a.png", PNG, {"Content-Type": "image/png", **named})


@contextlib.contextmanager
def running(folder, env=None, text="", *args):
    server = Reloaded(folder, env, text, *args)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running(tmp_path_factory.mktemp("reload")) as found:
        yield found


@pytest.fixture
def server(shared):
    shared.reload("")
    return shared


# What changes at once


def test_limits_of_uploads_and_who_may_upload(server):
    assert server.raw().status == 201
    said = server.reload('[uploads]\nanonymous_max_bytes = "100 KB"\n')
    assert 'uploads.anonymous_max_bytes: "20 MB" -> "100 KB"' in said
    assert server.raw().status == 413
    server.reload("[anonymous]\nuploads_per_hour = 1\n")
    assert server.raw().status == 429  # what was counted before counts
    server.reload("[anonymous]\nenabled = false\n")
    assert server.raw().status == 403
    assert "key" in server.get("/").body.decode()
    server.reload('[storage]\nreserve_bytes = "1000 TB"\n')
    assert server.raw().status == 507
    server.reload("")
    assert server.raw().status == 201


def test_attempts_that_were_counted_stay_counted(server):
    for _ in range(3):
        server.raw()
    server.reload("[anonymous]\nattempts_per_minute = 3\n")
    assert [server.raw().status for _ in range(4)][-1] == 429
    server.reload('[anonymous]\nattempts_per_minute = "unlimited"\n')
    assert server.raw().status == 201


def test_accounts_and_plans(server):
    key = server.new_key("ann@example.org")
    assert server.api("GET", "/v1/usage", key=key).json()["uploads"]["limit"] == 100
    server.reload('[accounts]\nregistration = "closed"\n[plans]\nfree_uploads = 7\n')
    assert server.api("POST", "/v1/keys", {"email": "bea@example.org"}).status == 403
    assert server.api("GET", "/v1/usage", key=key).json()["uploads"]["limit"] == 7
    server.reload("[plans]\nunlimited = true\n")
    assert server.api("POST", "/v1/keys", {"email": "bea@example.org"}).status == 201
    assert server.api("GET", "/v1/usage", key=key).json()["uploads"]["limit"] is None


def test_what_pages_and_documents_say(server):
    assert server.get("/llms.txt").headers["X-Robots-Tag"] == "noindex"
    server.reload('[pages]\nsite_name = "Garden"\nindexing = true\n[uploads]\nanonymous_max_bytes = "3 MB"\n')
    assert "Garden" in server.get("/").body.decode()
    told = server.get("/llms.txt")
    assert "X-Robots-Tag" not in told.headers
    assert "3 MB" in told.body.decode()
    assert "3 MB" in server.get("/openapi.json").body.decode()
    assert "Disallow: /v1/" in server.get("/robots.txt").body.decode()


def test_proxies_and_the_header_that_signs_in(tmp_path):
    env = {"IMGPRO_BASE_URL": "http://img.test"}
    with running(tmp_path, env) as server:
        claimed(server, "op@example.org")
        vouched = {"Host": "img.test", "Remote_Email": "op@example.org"}
        assert server.get("/v1/keys", **vouched).status == 401
        server.reload('[header_sign_in]\nuser_header = "Remote-Email"\nproxies = ["127.0.0.1"]\n')
        assert server.get("/v1/keys", **vouched).status == 200
        server.reload('[header_sign_in]\nuser_header = "Remote-Email"\nproxies = ["10.0.0.1"]\n')
        assert server.get("/v1/keys", **vouched).status == 401
        server.reload('[server]\ntrusted_proxies = ["127.0.0.1"]\n[anonymous]\nuploads_per_hour = 1\n')
        assert [server.raw(X_Forwarded_For=f"203.0.113.{n}").status for n in (1, 2, 2)] == [201, 201, 429]


def test_imports_and_connections(server):
    assert server.api("POST", "/v1/import", {"url": "http://127.0.0.1/x.png"}).status == 422
    server.reload("[imports]\nenabled = false\n[server]\nmax_connections_per_network = 4\n")
    assert server.api("POST", "/v1/import", {"url": "http://127.0.0.1/x.png"}).status == 404
    with contextlib.ExitStack() as stack:
        content, kind = multipart([("file", "a.png", PNG)])
        for _ in range(4):
            stack.enter_context(held_open(server, "POST", "/v1/upload", content, {"Content-Type": kind}))
        with pytest.raises(OSError):
            server.get("/healthz")


def test_the_log(tmp_path):
    server = Reloaded(tmp_path, None, '[log]\nformat = "text"\n')
    del server.env["IMGPRO_LOG_FORMAT"]
    with contextlib.closing(server.start()):
        said = server.reload('[log]\nformat = "text"\nlevel = "warning"\naccess = false\n')
        assert 'log.level: "info" -> "warning"' in said
        server.get("/healthz")
        server.reload('[log]\nformat = "text"\n')
        server.get("/llms.txt")
        server.wait("GET /llms.txt 200")
        assert "GET /healthz" not in server.log()
        server.reload('[log]\nformat = "json"\n')
        server.get("/openapi.json")
        server.wait('"route": "/openapi.json"')


def test_mail_goes_another_way_from_the_next_letter_on(tmp_path):
    with running(tmp_path) as server, mailbox() as box:
        server.new_key("ann@example.org", verified=False)
        settings = box.settings()
        lines = [f'{name.removeprefix("IMGPRO_MAIL_").lower()} = "{value}"' for name, value in settings.items()]
        said = server.reload("\n".join(["[mail]", *lines, 'password = "hunter2hunter2"', 'username = ""']))
        assert "mail.password: changed" in said
        assert "hunter2" not in server.log()
        [letter] = box.wait(1)  # the one that waited
        assert letter["To"] == "ann@example.org"
        server.new_key("bea@example.org", verified=False)
        assert box.wait(2)[1]["To"] == "bea@example.org"


# What waits, and what changes nothing


def test_what_needs_a_restart_is_named_and_stays_as_it_is(tmp_path):
    with running(tmp_path) as server:
        operator = claimed(server)
        said = server.reload(
            '[imaging]\nworkers = 1\n[server]\nbase_url = "https://img.test"\n[uploads]\nmax_bytes = "1 MB"'
        )
        assert 'server.base_url: "" -> "https://img.test" needs a restart' in said
        assert "imaging.workers: 0 -> 1 needs a restart" in said
        assert 'uploads.max_bytes: "70 MB" -> "1 MB"\n' in said
        page = re.sub(r"<[^>]+>", " ", operator.get("/operator/settings").body.decode())
        assert "in force after a restart" in page
        assert re.search(r"uploads\.max_bytes .{0,200}1 MB\s+\S+config\.toml:\d+", page, re.DOTALL)
        assert re.search(r"imaging\.workers .{0,200}\s0\s+default", page, re.DOTALL)
        server.reload('[uploads]\nmax_bytes = "1 MB"')
        assert "in force after a restart" not in operator.get("/operator/settings").body.decode()


@pytest.mark.parametrize("text", ["a certificate that appears", "one that goes"])
def test_tls_itself_needs_a_restart(tmp_path, text):
    from tests.certificates import make_pair

    pair = make_pair(tmp_path)
    lines = f'[server]\ntls_cert = "{pair.cert}"\ntls_key = "{pair.key}"\n'
    first, then = ("", lines) if text == "a certificate that appears" else (lines, "")
    with running(tmp_path, None, first) as server:
        said = server.reload(then)
        assert "server.tls_cert" in said
        assert said.count("needs a restart") == 2


BAD = '[uploads]\nmax_bytes = "lots"\nchunk_deadline_s = "x"\n[anonymous]\nenabled = false\n'


def test_all_mistakes_are_told_and_nothing_changes(tmp_path):
    with running(tmp_path) as server:
        operator = claimed(server)
        for text, words in (
            (BAD, ["uploads.max_bytes", "uploads.chunk_deadline_s"]),
            ("[uploads\n", ["is not TOML"]),
            ('[mail]\nhost = "x"\nca_file = "/nowhere"\n[anonymous]\nenabled = false\n', ["mail.ca_file"]),
            ('[mail]\nsender = "nobody"\n[anonymous]\nenabled = false\n', ["mail.sender"]),
        ):
            said = server.reload(text, REFUSED)
            assert all(word in said for word in words), said
            assert server.raw().status == 201
        assert "lots" not in operator.get("/operator/settings").body.decode()
        server.reload("[anonymous]\nenabled = false\n")
        assert server.raw().status == 403


def test_a_file_that_is_gone_changes_nothing(tmp_path):
    home = tmp_path / "config"
    home.mkdir()
    (home / "config.toml").write_text("[anonymous]\nenabled = false\n")
    server = Server(tmp_path / "data", {"CONFIGURATION_DIRECTORY": str(home), "IMGPRO_LOG_FORMAT": "text"})
    with contextlib.closing(server.start()):
        assert server.upload(PNG).status == 403
        (home / "config.toml").unlink()
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while "is gone" not in server.log() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert f"{REFUSED}: The configuration file {home / 'config.toml'} is gone." in server.log()
        assert server.upload(PNG).status == 403
    with running(tmp_path, None, "[anonymous]\nenabled = false\n") as server:  # one that was named
        server.file.unlink()
        server.hang_up()
        server.wait("does not exist")
        assert server.raw().status == 403


# The signal itself


def test_many_signals_at_once_and_an_upload_under_way(server):
    content, kind = multipart([("file", "a.png", PNG)])
    with held_open(server, "POST", "/v1/upload", content, {"Content-Type": kind}) as rest:
        server.file.write_text('[uploads]\nanonymous_max_bytes = "10 KB"\n')
        for _ in range(20):
            server.hang_up()
        server.wait(DONE)
        assert rest().status == 201  # begun under the old limit
    assert server.raw().status == 413
    server.hang_up()
    server.wait('uploads.anonymous_max_bytes: "20 MB" -> "10 KB"')
    assert "Traceback" not in server.log()


def test_the_signal_ends_no_server_that_starts_or_stops(tmp_path):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("IMGPRO_")}, "IMGPRO_LOG_FORMAT": "text"}
    command = [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    said = tmp_path / "log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stderr=log)
    try:
        status = Path(f"/proc/{process.pid}/status")
        while not int(re.search(r"SigCgt:\s+(\w+)", status.read_text())[1], 16) & 1:
            time.sleep(0.001)
        deadline = time.monotonic() + 30
        while DONE not in said.read_text() and time.monotonic() < deadline:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.001)
        assert process.returncode == 0, said.read_text()
        assert DONE in said.read_text()
        assert "stopped" in said.read_text()
        assert "Traceback" not in said.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_service_manager_is_told(tmp_path):
    import socket

    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(20)
        with running(tmp_path, {"NOTIFY_SOCKET": str(path)}) as server:
            while "READY=1" not in told.recv(500).decode():
                pass
            for text, words in (("", DONE), ("[", REFUSED)):
                server.reload(text, words)
                assert "RELOADING=1" in told.recv(500).decode()
                assert "READY=1" in told.recv(500).decode()


def test_closing_the_terminal_stops_the_server(tmp_path):
    """It sends the same signal; a server that nobody sees any more would hold the port and the data."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=side, stdout=side, stderr=side, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(side)
    try:
        seen = b""
        while b"Ctrl+C" not in seen:
            seen += os.read(main, 65536)
        time.sleep(0.3)
        process.send_signal(signal.SIGHUP)  # by hand: a reload
        time.sleep(0.5)
        assert process.poll() is None
        os.close(main)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
