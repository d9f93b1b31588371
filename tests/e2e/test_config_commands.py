"""`imgpro config`, `paths` and `health`, as a person, a script or a container calls them."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tomllib

import pytest

from imgpro.cli.example import example
from tests.servers import ROOT, UNLIMITED, running


@pytest.fixture
def imgpro(tmp_path):
    """Run a command the way a person does, with a home of its own."""

    def run(*args, env=None):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("IMGPRO_", "XDG_"))}
        command = [sys.executable, "-m", "imgpro", *map(str, args)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**inherited, "HOME": str(tmp_path / "home"), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_every_mistake_at_once_with_file_and_line(imgpro, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[server]\nbase_url = "example"\ntrusted_proxies = ["0.0.0.0/0"]\n[pags]\n[imaging]\nworkers = -1\n'
    )
    told = imgpro("config", "check", file, env={"IMGPRO_LOG_LEVEL": "loud", "IMGPRO_LOG_LEVL": "info"})
    assert (told.returncode, told.stderr) == (78, "")
    lines = told.stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines if line.startswith(str(file))] == [
        f"{file}:2:", f"{file}:4:", f"{file}:6:"
    ]  # fmt: skip
    assert any(line.startswith("IMGPRO_LOG_LEVEL: error: log.level") for line in lines)
    assert any("IMGPRO_LOG_LEVL is not a setting; did you mean IMGPRO_LOG_LEVEL?" in line for line in lines)
    rows = json.loads(imgpro("config", "check", file, "--json").stdout)
    assert {row["line"] for row in rows} == {2, 4, 6}

    # What is unwise is told once nothing is wrong; a start goes on with names that it does not know.
    file.write_text('[server]\n\ntrusted_proxies = ["0.0.0.0/0"]\n')
    told = imgpro("config", "check", "--config", file)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"{file}:3: warning: server.trusted_proxies: 0.0.0.0/0")
    file.write_text("[pags]\n")
    assert imgpro("config", "check", file).returncode == 78
    assert imgpro("config", "check", tmp_path / "none.toml").returncode == 78
    file.write_text("[server\n")
    told = imgpro("config", "check", file)
    assert (told.returncode, told.stdout.startswith(f"{file}:1:8: error: is not TOML")) == (78, True), told.stdout
    with running(tmp_path / "data", {}, "--config", str(_unknown(tmp_path))) as server:
        assert "did you mean pages?" in server.log()


def _unknown(folder):
    file = folder / "unknown.toml"
    file.write_text("[pags]\n")
    return file


def test_the_certificate_is_looked_at(imgpro, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[server]\nlisten = ["https://:8443"]\n')
    told = imgpro("config", "check", file)
    assert (told.returncode, "server.tls_cert" in told.stdout) == (78, True), told
    file.write_text(f'[server]\ntls_cert = "{tmp_path}/none.pem"\n')
    told = imgpro("config", "check", file)
    assert (told.returncode, "none.pem cannot be read" in told.stdout) == (78, True)
    assert told.stdout.startswith(f"{file}:2: error: ")


def test_what_is_in_force_and_where_it_came_from(imgpro, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[uploads]\nmax_bytes = "1 GB"\n[mail]\n\npassword = "hush-hush"\n')
    env = {"IMGPRO_CONFIG": str(file), "IMGPRO_PAGES_SITE_NAME": "x"}
    told = imgpro("config", "show", "--sources", "--data", tmp_path / "d", env=env)
    assert (told.returncode, told.stderr) == (0, "")
    assert f'max_bytes = "1 GB"  # {file}:2\n' in told.stdout
    assert f"# password = (set, not shown)  # {file}:5\n" in told.stdout
    assert 'site_name = "x"  # IMGPRO_PAGES_SITE_NAME\n' in told.stdout
    assert f'data = "{tmp_path}/d"  # command line\n' in told.stdout
    assert "hush" not in told.stdout
    assert tomllib.loads(told.stdout) == {
        "storage": {"data": f"{tmp_path}/d"}, "uploads": {"max_bytes": "1 GB"}, "mail": {}, "pages": {"site_name": "x"}
    }  # fmt: skip
    everything = json.loads(imgpro("config", "show", "--all", "--json", env=env).stdout)
    assert everything["uploads.max_bytes"] == {"value": "1 GB", "source": f"{file}:2"}
    assert everything["mail.password"]["value"] == "(set, not shown)"
    assert everything["anonymous.retention_s"] == {"value": "30d", "source": "default"}
    assert len(everything) > 60
    assert imgpro("config", "show").stdout == ""
    env["IMGPRO_BACKUP_TO"], env["IMGPRO_BACKUP_S3_ENDPOINT"] = (
        "s3://AKIA:hush@shed/x",
        "https://me:hush@s3.example.org",
    )
    told = imgpro("config", "show", env=env)
    assert 'to = "s3://(secret)@shed/x"\ns3_endpoint = "https://(secret)@s3.example.org"' in told.stdout
    file.write_text("[log]\nlevel = 'loud'\n")
    broken = imgpro("config", "show", "--all", env=env)
    assert (broken.returncode, 'level = "info"' in broken.stdout) == (78, True)


def test_a_new_file_is_written_and_none_overwritten(imgpro, tmp_path):
    made = imgpro("config", "init", tmp_path / "new" / "c.toml")
    path = tmp_path / "new" / "c.toml"
    assert (made.returncode, made.stdout, made.stderr) == (0, f"{path}\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == example()
    path.write_text("mine")
    again = imgpro("config", "init", path)
    assert (again.returncode, path.read_text()) == (1, "mine")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert imgpro("config", "init", path).returncode == 1
    assert not (tmp_path / "elsewhere").exists()
    assert imgpro("config", "init", "-").stdout == example()
    # Without a name it goes where a start looks.
    for env in (
        {"CONFIGURATION_DIRECTORY": str(tmp_path / "etc")},
        {"IMGPRO_CONFIG": str(tmp_path / "named.toml")},
    ):
        path = imgpro("config", "init", env=env).stdout.strip()
        assert imgpro("config", "check", env=env).returncode == 0
        found = {row["name"]: row for row in json.loads(imgpro("paths", "--json", env=env).stdout)}
        assert (found["configuration"]["path"], found["configuration"]["exists"]) == (path, True)


def test_paths_of_a_server_that_runs(imgpro, tmp_path):
    with running(tmp_path / "data") as server:
        told = imgpro("paths", "--data", server.data, "--json")
        found = {row["name"]: row for row in json.loads(told.stdout)}
        for name in ("data", "format", "pictures", "cache", "temporary files", "backups", "secret key", "admin socket",
                     "lock", "database", "database log", "ballast"):  # fmt: skip
            assert found[name]["exists"], name
        assert found["secret key"]["mode"] == "0600"
        assert found["admin socket"]["state"] == "socket"
        assert found["database"]["bytes"] == (server.data / "imgpro.db").stat().st_size
        assert found["log"]["path"] == os.readlink(f"/proc/{server.pid}/fd/2")
    missing = imgpro("paths", "--data", tmp_path / "none")
    assert (missing.returncode, missing.stderr) == (0, "")
    assert re.search(rf"^data +{tmp_path}/none  \(not there\)$", missing.stdout, re.MULTILINE)
    assert not (tmp_path / "none").exists()


# Health


def test_health_of_a_server_by_every_way(imgpro, tmp_path):
    path = tmp_path / "h.sock"
    with running(tmp_path / "data", UNLIMITED, "--listen", f"unix:{path}") as server:
        proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "socks5://x"}
        by_settings = {"IMGPRO_LISTEN": f"fd:3,127.0.0.1:0,:{server.port}", **proxies}
        for args, env in (
            (["--url", server.base], proxies),
            (["--url", f"unix:{path}", "--ready"], {}),
            (["--ready"], by_settings),
            ([], {"IMGPRO_LISTEN": f"unix:{path}"}),
            ([], {"IMGPRO_LISTEN": f"127.0.0.1:{server.port}"}),
        ):
            told = imgpro("health", *args, env=env)
            assert (told.returncode, told.stdout, told.stderr) == (0, "ok\n", ""), (args, told)
        # Where only systemd or the kernel knows the port, the data directory tells.
        told = imgpro("health", "--ready", "--data", server.data, env={"IMGPRO_LISTEN": "127.0.0.1:0"})
        assert (told.returncode, told.stdout) == (0, "ok\n"), told
        answer = json.loads(imgpro("health", "--json", "--url", server.base).stdout)
        assert answer["status"] == "ok"
        gone = imgpro("health", "--url", f"{server.base}/nowhere")
        assert (gone.returncode, "404" in gone.stderr) == (1, True)
        server.stop()
    for url in (server.base, f"unix:{path}"):
        told = imgpro("health", "--url", url)
        assert (told.returncode, told.stdout) == (69, ""), told
        assert told.stderr.startswith(f"imgpro: {url} does not answer: ")


def test_health_says_what_is_not_well(imgpro, tmp_path):
    with running(tmp_path / "data", {"IMGPRO_STORAGE_RESERVE_BYTES": "900 TB"}) as server:
        assert imgpro("health", "--url", server.base).returncode == 0, "it lives"
        told = imgpro("health", "--url", server.base, "--ready")
        assert (told.returncode, told.stdout) == (1, "")
        assert "is not well: disk" in told.stderr
        machine = imgpro("health", "--url", server.base, "--ready", "--json")
        assert (machine.returncode, json.loads(machine.stdout)["checks"]["disk"]) == (1, "failed")


def test_health_does_not_wait_for_ever_and_needs_an_address(imgpro):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = imgpro("health", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert told.returncode == 69
    assert imgpro("health", env={"IMGPRO_LISTEN": "127.0.0.1:0"}).returncode == 78
    assert imgpro("health", "--url", "img.example.org").returncode == 78


def test_health_speaks_tls_with_the_servers_own_certificate(imgpro, tmp_path):
    pem = tmp_path / "server.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=img.example.org", "-keyout", tmp_path / "key.pem", "-out", pem],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("no openssl")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {"IMGPRO_SERVER_TLS_CERT": str(pem), "IMGPRO_SERVER_TLS_KEY": str(tmp_path / "key.pem")}
    with running(tmp_path / "data", env, "--listen", f"https://127.0.0.1:{port}"):
        by_settings = {**env, "IMGPRO_LISTEN": f"https://127.0.0.1:{port}"}
        assert imgpro("health", env=by_settings).returncode == 0
        assert imgpro("config", "check", env=by_settings).returncode == 0
        # A stranger's address has to have a certificate that holds.
        told = imgpro("health", "--url", f"https://127.0.0.1:{port}")
        assert (told.returncode, "certificate" in told.stderr) == (69, True)
