"""The command as a person or a service manager runs it: words, exit codes, signals, sockets, users."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.law import check_answers, check_disk
from tests.load import Load, small_png
from tests.patience import comes_true
from tests.servers import ROOT, UNLIMITED, Server, multipart, running

PNG = small_png(random.Random(1))
IMGPRO = [sys.executable, "-m", "imgpro"]
NOBODY = 65_534


def imgpro(*args, env=None, python=(), **more):
    """Run a command that ends by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IMGPRO_")}
    command = [sys.executable, *python, "-m", "imgpro", *args]
    return subprocess.run(
        command, env={**clean, **(env or {})}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **more
    )


def family(pid: int) -> set[int]:
    """Return a process's descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Words


def test_the_banner_says_where_it_is_and_its_addresses_answer(tmp_path):
    with running(tmp_path / "data", None, "--listen", ":0") as server:
        banner = server.log().splitlines()
        assert len(banner) < 15
        assert banner[0].startswith("imgpro 0.")
        assert any(line.split() == ["data", str(tmp_path / "data")] for line in banner)
        assert f"  pid      {server.pid}" in banner
        addresses = [line.split()[1] for line in banner if line.split()[0] == "open"]
        assert server.base in addresses
        everywhere = {int(address.rpartition(":")[2]) for address in addresses} - {server.port}
        assert len(everywhere) == 1
        for address in addresses:
            if ".local:" not in address:  # needs multicast DNS
                with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
                    assert answer.status == 200


def test_help_and_version():
    top = imgpro("--help")
    assert top.returncode == 0
    assert {"run", "doctor", "version"} <= set(re.findall(r"^  (\w+)", top.stdout, re.MULTILINE))
    for command in ("run", "doctor", "version"):
        told = imgpro(command, "-h")
        assert (told.returncode, told.stderr) == (0, "")
        assert "Example: imgpro" in told.stdout
    plain, full = imgpro("version"), imgpro("version", "--json")
    assert plain.stdout.startswith("imgpro 0.")
    report = json.loads(full.stdout)
    assert plain.stdout.split()[1] == report["imgpro"]
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["codecs"]["jpeg"] or report["codecs"]
    assert report["engine"]["name"] in ("pillow-simd", "Pillow", "pillow")
    assert imgpro("no-such-command").returncode == 2
    assert imgpro("run", "--no-such-option").returncode == 2


def test_doctor_in_words_and_as_json(tmp_path):
    data = tmp_path / "data"
    text, machine = imgpro("doctor", "--data", str(data)), imgpro("doctor", "--data", str(data), "--json")
    checks = {check["name"]: check for check in json.loads(machine.stdout)}
    assert {"imgpro", "settings", "codecs", "engine", "sandbox", "sqlite", "data", "workers"} <= set(checks)
    assert text.stdout.count("\n") == len(checks)
    red = any(check["state"] == "red" for check in checks.values())
    assert (text.returncode, machine.returncode) == (int(red), int(red))
    assert not red, checks
    assert not data.exists(), "looking must change nothing"


def test_doctor_takes_a_relative_path(tmp_path):
    with running(tmp_path / "data", UNLIMITED):
        pass
    told = imgpro("doctor", "--data", os.path.relpath(tmp_path / "data", ROOT))
    assert told.returncode == 0, told
    assert "Traceback" not in told.stderr


def test_doctor_is_red_when_the_data_directory_cannot_work(tmp_path):
    found = imgpro("doctor", "--data", "/proc/imgpro", "--json")
    assert found.returncode == 1
    assert [check["name"] for check in json.loads(found.stdout) if check["state"] == "red"] == ["data"]
    full = imgpro("doctor", "--data", str(tmp_path), "--json", env={"IMGPRO_STORAGE_RESERVE_BYTES": "900 TB"})
    assert full.returncode == 1


# Settings


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[server]\nbase_url = "http://file.example"\n[pages]\nsite_name = "file"\nindexing = true\n'
        '[uploads]\nanonymous_max_bytes = "2 KB"\nanonymus_max = 1\n[nonsense]\n'
    )
    secret = tmp_path / "name"
    secret.write_text("from a file\n")
    env = {
        "IMGPRO_CONFIG": str(config),
        "IMGPRO_BASE_URL": "http://environment.example",
        "IMGPRO_PAGES_SITE_NAME_FILE": str(secret),
        "IMGPRO_UPLOADS_MAX_BITES": "3",
    }
    with running(tmp_path / "data", env, "--base-url", "http://flag.example") as server:
        assert "  links    http://flag.example" in server.log().splitlines()
        assert b"from a file" in server.get("/").body
        assert "Disallow: /\n" not in server.get("/robots.txt").body.decode()
        assert server.upload(PNG).status == 413
        for words in ("uploads.anonymus_max", "[nonsense]", "IMGPRO_UPLOADS_MAX_BITES", "did you mean"):
            assert words in server.log()


def test_every_mistake_in_the_settings_is_listed(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[imaging]\nworkers = -1\ndeadline_s = "soon"\n[server]\nlisten = ["nowhere"]\n')
    env = {"IMGPRO_CACHE_MAX_BYTES": "lots", "IMGPRO_LOG_LEVEL": "loud", "IMGPRO_PAGES_SITE_NAME": "a",
           "IMGPRO_PAGES_SITE_NAME_FILE": "/x"}  # fmt: skip
    data = tmp_path / "data"
    told = imgpro("run", "--data", str(data), "--config", str(config), "--base-url", "example", env=env)
    assert told.returncode == 78
    for name in ("imaging.workers", "imaging.deadline_s", "nowhere", "cache.max_bytes", "log.level", "SITE_NAME_FILE"):
        assert name in told.stderr, name
    assert not data.exists()
    assert imgpro("run", "--config", str(tmp_path / "none.toml")).returncode == 78


# What it refuses


def test_a_busy_port_is_told_in_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = imgpro("run", "--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{port}")
    assert told.returncode == 74
    assert told.stderr.startswith(f"imgpro: Cannot listen on 127.0.0.1:{port}: ")
    assert "--listen :0" in told.stderr
    assert "Traceback" not in told.stderr


def test_two_servers_on_one_data_directory(tmp_path):
    with running(tmp_path / "data") as server:
        told = imgpro("run", "--data", str(server.data), "--listen", "127.0.0.1:0")
        assert told.returncode == 11
        assert f"process {server.pid}" in told.stderr
        assert server.upload(PNG).status == 201


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    told = imgpro("run", "--data", str(tmp_path), "--listen", "127.0.0.1:0")
    assert told.returncode == 10
    assert "Traceback" not in told.stderr
    assert os.listdir(tmp_path) == ["holiday.txt"]


@pytest.fixture(scope="module")
def used_data(tmp_path_factory):
    """A data directory that a server made."""
    data = tmp_path_factory.mktemp("used") / "data"
    with running(data) as server:
        assert server.stop() == 0
    return data


def newer_layout(data):
    (data / "FORMAT").write_text('{"layout": 99, "shape": "new"}')


def newer_schema(data):
    with contextlib.closing(sqlite3.connect(data / "imgpro.db")) as conn:
        conn.execute("PRAGMA user_version = 999")


def other_application(data):
    with contextlib.closing(sqlite3.connect(data / "imgpro.db")) as conn:
        conn.execute("PRAGMA application_id = 7")


def damaged(data):
    (data / "imgpro.db").write_bytes(b"no database" * 1000)


def contents(data):
    """Return what a restart with the right program would find; looking at a log leaves an empty one behind."""
    passing = ("imgpro.lock", "imgpro.db-wal", "imgpro.db-shm")
    assert not (data / "imgpro.db-wal").exists() or (data / "imgpro.db-wal").stat().st_size == 0
    return {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name not in passing}


@pytest.mark.parametrize("change", [newer_layout, newer_schema, other_application, damaged])
def test_data_it_does_not_know_is_refused_and_not_touched(used_data, tmp_path, change):
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", str(used_data), str(data)], check=True)
    change(data)
    before = contents(data)
    told = imgpro("run", "--data", str(data), "--listen", "127.0.0.1:0")
    assert told.returncode == 65, told.stderr
    assert "Try: " in told.stderr
    assert "Traceback" not in told.stderr
    assert contents(data) == before


def test_python_without_its_checks_is_refused(tmp_path):
    told = imgpro("run", "--data", str(tmp_path / "data"), python=("-O",))
    assert told.returncode == 1
    assert "-O" in told.stderr
    assert not (tmp_path / "data").exists()


# Sockets


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


def ask_unix(path, method, target, body=None, headers=None):
    connection = UnixConnection(path)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_unix_socket(tmp_path):
    path = tmp_path / "http.sock"
    with running(tmp_path / "data", None, "--listen", f"unix:{path}") as server:
        assert f"  open     unix:{path}" in server.log()
        assert path.stat().st_mode & 0o777 == 0o660
        status, body = ask_unix(path, "PUT", "/v1/upload/x.png", PNG, {"Host": "img.example"})
        assert status == 201
        source = json.loads(body)["src"]
        assert source.startswith("http://img.example/t/")
        assert ask_unix(path, "GET", source.removeprefix("http://img.example")) == (200, PNG)
        # Another server cannot take a socket that is in use, and the first one keeps its own.
        told = imgpro("run", "--data", str(tmp_path / "other"), "--listen", f"unix:{path}")
        assert told.returncode == 74
        assert ask_unix(path, "GET", "/healthz")[0] == 200
        server.stop(signal.SIGKILL)
    assert path.exists()
    with running(tmp_path / "data", None, "--listen", f"unix:{path}") as server:
        assert ask_unix(path, "GET", "/healthz")[0] == 200
        assert server.stop() == 0
    assert not path.exists(), "a clean stop takes its socket with it"


def test_something_that_is_no_socket_is_not_replaced(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    told = imgpro("run", "--data", str(tmp_path / "data"), "--listen", f"unix:{path}")
    assert told.returncode == 74
    assert path.read_text() == "data"


def test_an_inherited_socket(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as ready:
        os.set_inheritable(ready.fileno(), True)
        number, port = ready.fileno(), ready.getsockname()[1]
        process = subprocess.Popen(
            [*IMGPRO, "run", "--data", str(tmp_path / "data"), "--listen", f"fd:{number}"],
            cwd=ROOT, pass_fds=(number,), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            # The connection waits in the socket until the server is up: no client is turned away meanwhile.
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
                assert answer.status == 200
            process.terminate()
            _, words = process.communicate(timeout=30)
            assert process.returncode == 0
            assert f"http://127.0.0.1:{port}" in words
        finally:
            process.kill()
            process.wait()
    told = imgpro("run", "--data", str(tmp_path / "data"), "--listen", "fd:99")
    assert told.returncode == 74
    assert "Traceback" not in told.stderr


# Life and death


def half_upload(server, body=PNG):
    """Send an upload without its last byte; return the socket and that byte."""
    content, kind = multipart([("file", "half.png", body)])
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    sock.sendall(head.encode() + content[:-1])
    return sock, content[-1:]


def keep_alive(connection, path):
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def answer_of(sock):
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, response.read()


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_upload_under_way_and_nothing_else_is_let_in(tmp_path, number):
    with running(tmp_path / "data", UNLIMITED) as server:
        sock, rest = half_upload(server)
        old = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        assert keep_alive(old, "/readyz") == 200
        server.process.send_signal(number)
        assert comes_true(lambda: refuses(server.port))
        assert server.process.poll() is None
        assert keep_alive(old, "/readyz") == 503, "who is connected already is told"
        old.close()
        sock.sendall(rest)
        status, body = answer_of(sock)
        sock.close()
        assert status == 201
        assert server.process.wait(20) == 0
        path = json.loads(body)["src"].removeprefix("http://x")
        server.start()
        assert server.get(path).body == PNG
        assert check_disk(server.data) == 0


def test_an_upload_that_never_ends_does_not_hold_up_the_stop(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_SERVER_STOP_DEADLINE_S": "1"}) as server:
        sock, _ = half_upload(server)
        time.sleep(0.3)
        assert server.stop(timeout=15) == 0
        sock.close()
        assert "Traceback" not in server.log()
        assert os.listdir(server.data / "tmp") == []


def test_a_second_signal_ends_at_once(tmp_path):
    with running(tmp_path / "data") as server:
        sock, _ = half_upload(server)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        assert comes_true(lambda: refuses(server.port))
        children = family(server.pid)
        server.process.send_signal(signal.SIGINT)  # within a moment it is the same one, passed on by another process
        time.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(5) == 130
        sock.close()
        assert comes_true(lambda: not any(map(alive, children)), 2)
        server.start()
        assert check_disk(server.data) == 0


def test_a_stop_under_load_loses_nothing_and_fails_nobody(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        load = Load(server, clients=8, deletes=0.1).start()
        load.wait_for(60)
        assert server.stop() == 0
        load.stop()
        assert not [status for status in load.statuses if status >= 500], load.statuses
        assert "Traceback" not in server.log()
        server.start()
        check_answers(server, load)
        assert check_disk(server.data) == 0
        # And once more: a restart changes nothing.
        some = next(iter(load.kept.values()))
        first = server.get(some.path)
        assert server.stop() == 0
        server.start()
        again = server.get(some.path)
        assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])


def test_no_worker_outlives_the_server(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_IMAGING_WORKERS": "2"}) as server:
        children = family(server.pid)
        assert len(children) == 3, "a zygote and two workers"
        server.stop(signal.SIGKILL)
        assert comes_true(lambda: not any(map(alive, children)), 2)
        server.start()
        children = family(server.pid)
        assert server.stop() == 0
        assert not any(map(alive, children))


def test_an_unready_server_says_so(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_STORAGE_RESERVE_BYTES": "900 TB"}) as server:
        answer = server.get("/readyz")
        assert answer.status == 503
        checks = {"serving": "ok", "database": "ok", "disk": "failed", "workers": "ok"}
        assert answer.json()["checks"].items() >= checks.items()
        assert server.get("/healthz").status == 200
        assert server.upload(PNG).status == 507


def test_idle_workers_that_die_are_replaced(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_IMAGING_WORKERS": "2"}) as server:
        before = family(server.pid)
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert comes_true(lambda: not any(map(alive, before)))
        assert comes_true(lambda: server.get("/readyz").status == 200)
        assert server.upload(PNG).status == 201
        assert comes_true(lambda: len([pid for pid in family(server.pid) if alive(pid)]) == 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_an_ordinary_user_can_run_it(tmp_path):
    home = Path(f"/tmp/imgpro-nobody-{os.getpid()}")
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)

    def become_nobody():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    server = Server(home / "data", {**UNLIMITED, "HOME": str(home)}, preexec=become_nobody)
    try:
        try:
            reached = imgpro("version", preexec_fn=become_nobody).returncode == 0
        except PermissionError:
            reached = False
        if not reached:
            pytest.skip("another user can reach neither this checkout nor its Python")
        server.start()
        assert os.stat(f"/proc/{server.pid}").st_uid == NOBODY
        found = server.must_upload(PNG)
        assert server.get(found["src"]).body == PNG
        assert server.get(f"/t/{found['id']}.webp?size=s").status == 200
        assert (home / "data/secret.key").stat().st_mode & 0o777 == 0o600
        assert server.stop() == 0
        told = imgpro("doctor", "--data", str(home / "data"), "--json", preexec_fn=become_nobody)
        assert told.returncode == 0, told.stdout
    finally:
        server.close()
        subprocess.run(["rm", "-rf", str(home)], check=True)
