"""`imgpro support-bundle` gives nothing away, and `imgpro doctor` sees what is wrong; both change nothing."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from tests.crash.disks import disk
from tests.fronts import free_port
from tests.pictures import encoded, make_image
from tests.released import hashes, unpacked
from tests.servers import ROOT, UNLIMITED, running

PNG = encoded(make_image("RGB", (32, 24)), "PNG")


def imgpro(*args, env=None, cwd=ROOT, text=True):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    return subprocess.run(
        [sys.executable, "-m", "imgpro", *map(str, args)],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=text,
        check=False,
        timeout=60,
    )


def bundle(*args, env=None):
    """Return the files of a bundle by name, and everything in one text."""
    told = imgpro("support-bundle", "--to", "-", *args, env=env, text=False)
    assert (told.returncode, told.stderr) == (0, b""), told.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(told.stdout)) as tar:
        found = {name.partition("/")[2]: tar.extractfile(name).read().decode() for name in tar.getnames()}
        assert {(entry.uname, entry.gname, entry.uid) for entry in tar.getmembers()} == {("", "", 0)}
    return found, "\n".join(found.values())


def test_no_secret_and_nobodys_data_is_in_a_bundle(tmp_path):
    config, secret = tmp_path / "c.toml", tmp_path / "checkout"
    config.write_text(
        '[server]\nbase_url = "https://pictures-of-ann.example"\ntrusted_proxies = ["203.0.113.77"]\n'
        '[pages]\nsite_name = "Ann and Berts pictures"\n[mail]\nhost = "127.0.0.1"\nport = 9\nsecurity = "none"\n'
        'username = "annslogin"\npassword = "pass-in-the-file"\nsender = "sender@mail-of-ann.example"\n'
        '[header_sign_in]\nuser_header = "Remote-Email"\nproxies = ["203.0.113.77"]\ngroups_header = "Remote-Groups"\n'
        'operator_group = "anns-family"\n[metrics]\nenabled = true\n[log]\nlevel = "debug"\n'
    )
    secret.write_text("secret-from-a-file-0815\n")
    env = {
        **UNLIMITED,
        "IMGPRO_CONFIG": str(config),
        "IMGPRO_PLANS_CHECKOUT_SECRET_FILE": str(secret),
        "IMGPRO_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "IMGPRO_KEY": "img_live_ofWhoeverRunsThisCommand0123456",
    }
    with running(tmp_path / "data", env) as server:
        made = server.api("POST", "/v1/keys", {"email": "carla@people.example", "name": "Carlas laptop"}).json()
        found = server.must_upload(
            PNG, "Carla at Lake Constance.png", key=made["key"], tags="birthday42", namespace="carlas-private",
            description="Words of Carla", public="false",
        )  # fmt: skip
        server.get(found["src"].removeprefix("https://pictures-of-ann.example"))
        server.get(f"/{found['id']}?note=Words+of+Carla")
        link = server.operate("invite", email="dora@people.example")["link"]
        server.operate("verify", email="carla@people.example", keep=[made["key_id"]])
        sign_in = server.operate("sign-in-link", email="carla@people.example")["link"]
        key_file = (server.data / "secret.key").read_text().strip()
        # The log says much by itself: mail that cannot be sent, addresses of callers. And all that it should never say:
        planted = ["carla@people.example", found["id"], "Carla at Lake Constance.png", "Words of Carla",
                   "198.51.100.23", "2001:db8:5::17", link, made["key"], "birthday42", "pass-in-the-file"]  # fmt: skip
        time.sleep(0.3)
        files, text = bundle("--data", server.data, env=env)
        assert json.loads(files["readiness.json"])["checks"]["database"] == "ok"
        assert "imgpro" in files["log.txt"]
        assert "imgpro_build_info" in files["metrics.txt"]
        assert json.loads(files["data.json"])["database"]["totals"]["images"] == 1
        assert json.loads(files["data.json"])["database"]["quick_check"] == ["ok"]
        private = [
            *planted, made["key_id"], sign_in, link.partition("t=")[2], sign_in.partition("t=")[2], key_file,
            "pictures-of-ann", "mail-of-ann", "annslogin", "Ann and Berts", "anns-family", "203.0.113.77",
            "secret-from-a-file", "ofWhoeverRuns", "dora@", "Carlas laptop", "carlas-private", found["src"], os.uname().nodename,
        ]  # fmt: skip
        assert [word for word in private if word in text and word != "localhost"] == []
        assert f"# {config}:9\n" in files["settings.txt"], "but where a setting comes from is there"
    _bundle_of_a_log_that_says_too_much(tmp_path, planted)


def _bundle_of_a_log_that_says_too_much(tmp_path, planted):
    """The same words as lines of the log, as a fault of ours would write them."""
    code = (
        "import json, os, sys; from pathlib import Path; from imgpro.cli import office\n"
        "lines = [{'at_s': 1.0, 'level': 'info', 'name': 'x', 'text': f'failed: {word} ({word!r})'} for word in json.loads(sys.argv[1])]\n"
        "office.ask_about = lambda data, what: {'lines': lines}\n"
        "from imgpro.cli.bundle import Bundle; from imgpro.sources import gather\n"
        "made = Bundle(gather({'storage.data': sys.argv[2]}), os.environ)\n"
        "print(made._made(made._log))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(planted), str(tmp_path / "data")],
        env={**os.environ, "IMGPRO_MAIL_PASSWORD": "pass-in-the-file"}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("failed: ") == len(planted)
    assert [word for word in planted if word in done.stdout] == []


def test_a_bundle_is_made_whatever_is_broken(tmp_path):
    (tmp_path / "c.toml").write_text("[mail]\npassword = 'never-to-be-seen\n[[")
    for args in (
        ["--data", tmp_path / "none"],
        ["--data", tmp_path / "none", "--config", tmp_path / "c.toml"],
        ["--data", "/proc/1/fd", "--config", tmp_path / "not-there.toml"],
    ):
        files, text = bundle(*args)
        assert {
            "README.txt",
            "versions.json",
            "settings.txt",
            "doctor.txt",
            "paths.txt",
            "data.json",
            "log.txt",
        } <= set(files)
        assert "never-to-be-seen" not in text
    (tmp_path / "c.toml").write_text("[mail]\nport = 'password-in-the-wrong-place'\n")
    files, text = bundle("--data", tmp_path / "none", "--config", tmp_path / "c.toml")
    assert "c.toml:2 mail.port" in files["settings.txt"]
    assert "wrong-place" not in text
    data, _ = unpacked(2, tmp_path / "old")
    (data / "imgpro.db").write_bytes(b"damaged" * 5000)
    before = hashes(data)
    files, _ = bundle("--data", data)
    assert "could not be found out" in files["data.json"]
    assert "red     database" in files["doctor.txt"]
    assert hashes(data) == before


def test_a_bundle_goes_into_a_file_and_says_what_is_in_it(tmp_path):
    told = imgpro("support-bundle", "--data", tmp_path / "none", cwd=tmp_path)
    (path,) = tmp_path.glob("imgpro-support-*.tar.gz")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[0] == path.name
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        inside = {name.rpartition("/")[2] for name in tar.getnames()}
    assert inside - {"README.txt"} == {line.split()[0] for line in told.stdout.splitlines()[1:]}
    again = imgpro("support-bundle", "--data", tmp_path / "none", "--to", path)
    assert (again.returncode, "there already" in again.stderr) == (1, True)


# Doctor


def examined(*args, env=None):
    """Return what doctor says by name, and its exit code."""
    told = imgpro("doctor", "--json", *args, env=env)
    return {row["name"]: row for row in json.loads(told.stdout)}, told.returncode


def reds(checks):
    return sorted(name for name, row in checks.items() if row["state"] == "red")


def test_doctor_of_a_server_that_runs_is_green_and_changes_nothing(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        server.must_upload(PNG)
        before = {name: digest for name, digest in hashes(server.data).items() if not name.startswith("cache")}
        checks, code = examined("--data", server.data, env={"IMGPRO_BASE_URL": server.base})
        assert (reds(checks), code) == ([], 0)
        assert str(server.pid) in checks["lock"]["found"]
        assert checks["base_url"] == {"name": "base_url", "state": "green", "found": f"{server.base} leads here"}
        for name in ("sqlite", "disk type", "inodes", "owner", "ballast", "database", "clock", "service"):
            assert checks[name]["state"] == "green", checks[name]
        # An address that leads to somebody else's imgpro, or to no imgpro at all.
        with running(tmp_path / "other") as other:
            checks, code = examined("--data", server.data, env={"IMGPRO_BASE_URL": other.base})
            assert (reds(checks), code) == (["base_url"], 1)
            assert "other data" in checks["base_url"]["found"]
            checks, _ = examined("--data", server.data, env={"IMGPRO_BASE_URL": f"{other.base}/nowhere"})
            assert "no imgpro" in checks["base_url"]["found"]
        checks, code = examined("--data", server.data, env={"IMGPRO_BASE_URL": other.base})
        assert (checks["base_url"]["state"], code) == ("yellow", 0)
        after = {name: digest for name, digest in hashes(server.data).items() if not name.startswith("cache")}
        assert after == before


def test_doctor_sees_a_data_directory_that_is_suddenly_empty(tmp_path):
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with running(tmp_path / "data", env) as server:
        server.stop()
    shutil.rmtree(server.data)
    server.data.mkdir()
    checks, code = examined("--data", server.data, env=env)
    assert (reds(checks), code) == (["data"], 1)
    assert "held the data of imgpro at its last start" in checks["data"]["found"]
    assert list(server.data.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda data: data.chmod(0o777), "owner"),
        (lambda data: (data / "imgpro.db").write_bytes(b"damaged" * 5000), "database"),
        (lambda data: (data / "FORMAT").write_text("{}"), "data"),
        (lambda data: shutil.rmtree(data / "blobs"), "data"),
    ],
)
def test_doctor_is_red_where_something_is_wrong(tmp_path, spoil, name):
    data, _ = unpacked(3, tmp_path / "old")
    spoil(data)
    before = hashes(data)
    checks, code = examined("--data", data)
    assert (reds(checks), code) == ([name], 1)
    assert hashes(data) == before


def test_doctor_says_what_is_unwise_or_waits(tmp_path):
    data, _ = unpacked(2, tmp_path / "old")
    checks, code = examined("--data", data, env={"IMGPRO_SERVER_TRUSTED_PROXIES": "0.0.0.0/0"})
    assert code == 0
    assert (checks["settings"]["state"], "0.0.0.0/0" in checks["settings"]["found"]) == ("yellow", True)
    assert (checks["database"]["state"], "upgrade-check" in checks["database"]["found"]) == ("yellow", True)
    assert checks["ballast"]["state"] == "yellow"
    low = examined("--data", data, env={"IMGPRO_STORAGE_LOW_BYTES": "900 TB"})[0]["data"]
    assert (low["state"], "getting low" in low["found"]) == ("yellow", True)
    os.utime(data / "imgpro.db", (time.time() + 90_000,) * 2)
    assert examined("--data", data)[0]["clock"]["state"] == "yellow"
    if os.geteuid() == 0:
        os.chown(data / "blobs", 65534, 65534)
        checks, code = examined("--data", data)
        assert (reds(checks), code) == (["owner"], 1)
        assert "blobs" in checks["owner"]["found"]


def test_doctor_counts_inodes(tmp_path):
    with disk(tmp_path, 8) as small:
        data, _ = unpacked(3, small.root / "old")
        assert examined("--data", data, env={"IMGPRO_STORAGE_RESERVE_BYTES": "0"})[0]["inodes"]["state"] == "yellow"
        used = small.root / "used"
        used.mkdir()
        free = os.statvfs(small.root).f_favail
        for number in range(free - 50):
            (used / str(number)).touch()
        checks, code = examined("--data", data, env={"IMGPRO_STORAGE_RESERVE_BYTES": "0"})
        assert (reds(checks), code) == (["inodes"], 1)


def test_the_lock_is_looked_at_and_not_taken(tmp_path):
    with running(tmp_path / "data") as server:
        assert str(server.pid) in examined("--data", server.data)[0]["lock"]["found"]
        server.stop(signal.SIGKILL)
        assert examined("--data", server.data)[0]["lock"]["found"] == "no server works on it"
