"""`imgpro import urls`: addresses that the server fetches, from hosts that answer well, badly, later or never."""

import contextlib
import http.server
import threading
import time

import pytest

from tests.moving import brought, dot, rows
from tests.peers import importing_from
from tests.servers import UNLIMITED, running


class Host:
    """A server of pictures: `/dot/7` is a picture, the rest is as its name says. Counts what is asked at once."""

    def __init__(self):
        self.asked, self.at_once, self.most = [], 0, 0
        self.lock = threading.Lock()
        self.times = {}


@contextlib.contextmanager
def picture_host():
    host = Host()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with host.lock:
                host.asked.append(self.path)
                host.at_once += 1
                host.most = max(host.most, host.at_once)
            kind, _, number = self.path.strip("/").partition("/")
            try:
                if kind in ("busy", "down") and host.asked.count(self.path) == 1:
                    host.times[self.path] = time.monotonic()
                    self.send_response(429 if kind == "busy" else 503)
                    self.send_header("Retry-After", "2")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif kind in ("dot", "busy", "down"):
                    host.times.setdefault(f"{self.path} again", time.monotonic())
                    self._send(dot(int(number)))
                elif kind == "text":
                    self._send(b"<html>not a picture</html>")
                else:
                    self.send_error(404)
            finally:
                with host.lock:
                    host.at_once -= 1

        def _send(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    peer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    host.base = f"http://127.0.0.1:{peer.server_port}"
    host.port = peer.server_port
    try:
        yield host
    finally:
        peer.shutdown()
        peer.server_close()


@pytest.fixture
def host():
    with picture_host() as found:
        yield found


def test_a_list_of_addresses(host, tmp_path):
    listed = tmp_path / "list"
    good = [f"{host.base}/dot/{number}" for number in range(12)]
    later = [f"{host.base}/busy/50", f"{host.base}/down/51"]
    bad = [f"{host.base}/gone/1", f"{host.base}/text/1", "http://192.168.77.1/a.png", "ftp://example.org/a.png"]
    bad += ["http://[::1/a.png", "http://?#@/", "https://a:b@c:99999999/"]
    lines = ["# a comment", "", *good, *later, *bad, f"named.png\t{host.base}/dot/60"]
    listed.write_text("\r\n".join(lines))
    env = {**UNLIMITED, **importing_from(host.port)}
    with running(tmp_path / "data", env) as server:
        run = brought(server.data, "urls", listed, "--nobody", "--keep-links", code=3)
        assert run.outcomes("brought") == sorted([*good, *later, f"{host.base}/dot/60"])
        assert run.outcomes("left_out") == sorted(bad)
        assert run.reason(bad[0]) == "The address answered with status 404."
        assert "not a picture" in run.reason(bad[1]) or "not a picture format" in run.reason(bad[1])
        assert run.reason(bad[2]) == "The address cannot be imported. Port 80 is not among imports.ports."
        for path in ("/busy/50", "/down/51"):
            assert host.times[f"{path} again"] - host.times[path] >= 2
        assert host.most <= 2
        assert ("named.png",) in rows(server.data, "SELECT name FROM images")
        answer = server.get("/dot/7")
        assert server.get(answer.headers["Location"]).body == dot(7)
        asked = len(host.asked)
        again = brought(server.data, "urls", listed, "--nobody", code=3)
        assert (len(again.outcomes("there")), len(host.asked) - asked) == (15, 2)
        assert run.reason(bad[4]).endswith("It is no address of a picture, or one with a login in it.")


def test_from_standard_input_without_a_server(host, tmp_path):
    env = {**UNLIMITED, **importing_from(host.port)}
    data = tmp_path / "data"
    with running(data, env):
        pass
    text = "".join(f"{host.base}/dot/{number}\n" for number in range(3))
    assert brought(data, "urls", "-", "--nobody", env=env, text=text).out == "pictures: 3 brought\n"
    refused = brought(data, "urls", "-", "--nobody", code=3, text=f"{host.base}/dot/9\n")
    # Without the settings: the port first, and with that allowed the loopback, as ever.
    assert refused.reason(f"{host.base}/dot/9").endswith(f"Port {host.port} is not among imports.ports.")
    ports = {"IMGPRO_IMPORTS_PORTS": f"{host.port},1"}
    words = {f"{host.base}/dot/9": "imports.private_networks", "http://127.0.0.1:1/x.png": "imports.private_networks"}
    refused = brought(data, "urls", "-", "--nobody", code=3, text="\n".join(words), env=ports)
    assert {item for item, word in words.items() if word in refused.reason(item)} == set(words)
    silent = {**env, "IMGPRO_IMPORTS_PORTS": "1"}
    refused = brought(data, "urls", "-", "--nobody", code=3, text="http://127.0.0.1:1/x.png\n", env=silent)
    assert refused.reason("http://127.0.0.1:1/x.png") == "The address cannot be imported. Nothing answers there."
    off = brought(
        data,
        "urls",
        "-",
        "--nobody",
        code=1,
        text=text + f"{host.base}/dot/9\n",
        env={"IMGPRO_IMPORTS_ENABLED": "false"},
    )
    assert "imports.enabled" in off.err


def test_a_dry_run_fetches_nothing(host, tmp_path):
    data = tmp_path / "data"
    with running(data, UNLIMITED) as server:
        run = brought(server.data, "urls", "-", "--nobody", "--dry-run", text=f"{host.base}/dot/1\n")
        assert run.outcomes("would_bring") == [f"{host.base}/dot/1"]
        assert host.asked == []
