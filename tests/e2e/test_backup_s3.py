"""Backups in an object store by command and from the operator's page: there and back, bad objects, a store that dies.

All tests share a store and a server, in the order in which they stand here.
"""

import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from tests.built import ask, bare
from tests.certificates import make_pair
from tests.load import small_png
from tests.objects import BUCKET, object_store
from tests.servers import ROOT, UNLIMITED, running
from tests.signed_in import claimed

FOLDER = "box"
SOON_S = 60.0
PICTURES = [small_png(random.Random(number), 120) for number in range(5)]


class Desk:
    """A server that backs up to a store, its operator, and the command line on the same machine."""

    def __init__(self, server, store, env):
        self.server, self.store, self.env = server, store, env
        self.operator = claimed(server)
        self.made = [server.must_upload(body, f"{number}.png") for number, body in enumerate(PICTURES)]

    def imgpro(self, *args, **env):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("IMGPRO_", "AWS_"))}
        return subprocess.run(
            [sys.executable, "-m", "imgpro", *args, "--data", str(self.server.data)],
            cwd=ROOT,
            env={**inherited, **self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=SOON_S,
        )

    def backup(self, *args, code=0, **env):
        done = self.imgpro("backup", *args, **env)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def names(self, kind):
        return self.store.names(f"{FOLDER}/{kind}/")

    def card(self):
        page = self.operator.get("/operator").body.decode()
        found = re.search(r'<section class="note" id="backups".*?</section>', page, re.DOTALL)
        assert found is not None
        banners = re.findall(r'<p class="said stop" role="status">(.*?)</p>', page)
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", found[0])), banners, found[0]

    def wait_for_card(self, words):
        deadline = time.monotonic() + SOON_S
        while words not in (found := self.card())[0]:
            assert time.monotonic() < deadline, (found[0], found[1])
            time.sleep(0.05)
        return found

    def metrics(self):
        found = re.findall(r"^(imgpro_\w+) (\S+)$", self.server.get("/metrics").body.decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def check(self, name):
        body = self.server.get("/readyz").json()
        return body["status"], body["checks"][name], body["reasons"][name]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with object_store() as store:
        env = store.settings(FOLDER)
        start = {**UNLIMITED, **env, "IMGPRO_METRICS_ENABLED": "true", "IMGPRO_LOG_LEVEL": "debug"}
        with running(tmp_path_factory.mktemp("s3") / "data", start) as server:
            yield Desk(server, store, env)


def test_before_the_first_backup_the_page_says_so(desk):
    card, banners, html = desk.card()
    assert banners == []
    assert "Last backupNone yet" in card
    assert f"s3://{BUCKET}/{FOLDER}" in card
    assert "on the same disk" not in card
    assert re.search(r'value="verify" disabled', html)
    assert desk.check("backup")[:2] == ("ok", "ok")
    assert desk.metrics()["imgpro_backup_last_success_timestamp_seconds"] == 0


def test_the_page_makes_a_backup_and_tries_it_out(desk):
    assert desk.operator.post("/operator/backups", do="backup").status == 303
    card, banners, _ = desk.wait_for_card("5 pictures")
    assert "1 of at most 7 are there" in card
    assert banners == []
    assert desk.operator.post("/operator/backups", do="verify").status == 303
    desk.wait_for_card("Tried out2")  # a date; before it was: not yet
    deadline = time.monotonic() + SOON_S
    while not (found := desk.metrics())["imgpro_verify_last_success_timestamp_seconds"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert abs(found["imgpro_backup_last_success_timestamp_seconds"] - time.time()) < 300
    assert abs(found["imgpro_verify_last_success_timestamp_seconds"] - time.time()) < 300
    assert (found["imgpro_backup_failed"], found["imgpro_backup_failures_total"]) == (0, 0)
    assert desk.operator.post("/operator/backups", do="dance").status == 422
    assert len(desk.names("blobs")) == len(PICTURES)
    assert not desk.operator.get("/operator").body.count(b"said stop")


def test_commands_list_prune_and_restore(desk, tmp_path):
    desk.backup("create")
    listed = json.loads(desk.backup("list", "--json").stdout)
    rows = listed["backups"] if isinstance(listed, dict) else listed
    assert len(rows) == 2
    desk.backup("prune", "--keep", "1")
    assert len([name for name in desk.names("backups") if name.endswith("manifest.json")]) == 1
    place, target = f"s3://{BUCKET}/{FOLDER}", tmp_path / "again"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("IMGPRO_", "AWS_"))}
    words = [sys.executable, "-m", "imgpro", "backup", "restore", "--from", place, "--data", str(target)]
    done = subprocess.run(words, cwd=ROOT, env={**inherited, **desk.env}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with running(target, UNLIMITED) as again:
        for made, body in zip(desk.made, PICTURES, strict=True):
            assert again.get("/t/" + made["src"].rpartition("/t/")[2]).body == body


def test_bad_objects_are_found_and_copied_again(desk):
    short, exchanged, gone, *_ = desk.names("blobs")
    desk.store.replace(short, desk.store.content(short)[:100])
    content = desk.store.content(exchanged)
    desk.store.replace(exchanged, bytes([content[0] ^ 1]) + content[1:])
    desk.store.remove(gone)
    done = desk.backup("verify", code=3)
    assert all(name.rpartition("/")[2] in done.stdout for name in (short, exchanged, gone))
    card, banners, _ = desk.card()
    assert "The newest backup, tried out, is not good: 3 of its pictures" in card
    assert len(banners) == 1
    assert desk.check("verify")[:2] == ("degraded", "degraded")
    assert desk.metrics()["imgpro_verify_corrupt_blobs"] == 3
    desk.backup("create")
    desk.backup("verify")
    assert desk.store.content(exchanged) == content
    assert desk.check("verify")[:2] == ("ok", "ok")


@pytest.mark.parametrize(
    ("change", "words", "todo"),
    [
        ({"S3_SECRET": "wrong-secret-77aa"}, "refuses the signature", "Correct backup.s3_secret"),
        ({"S3_KEY_ID": ""}, "backup.s3_key_id is not set", "Set backup.s3_key_id"),
        ({"TO": "s3://no-such-bucket/x"}, "has no bucket no-such-bucket", "Make the bucket there"),
    ],
    ids=["secret", "key", "bucket"],
)
def test_what_is_set_wrongly_is_said(desk, change, words, todo):
    env = {f"IMGPRO_BACKUP_{name}": value for name, value in change.items()}
    done = desk.imgpro("backup", "list", **env)
    assert done.returncode == (78 if "S3_KEY_ID" in change else 74)
    assert words in done.stderr
    assert f"Try: {todo}" in done.stderr
    assert "wrong-secret-77aa" not in done.stderr
    assert desk.store.key[1] not in done.stderr


def test_a_store_that_does_not_answer_is_shown_while_it_is_tried(desk):
    desk.store.freeze()
    try:
        desk.operator.post("/operator/backups", do="backup")
        _, _, html = desk.card()
        assert "data-under-way" in html
        assert "<progress" in html
        assert re.search(r'value="backup" disabled', html)
        # A second press changes nothing.
        assert desk.operator.post("/operator/backups", do="backup").status == 303
    finally:
        desk.store.thaw()
    deadline = time.monotonic() + SOON_S
    while "data-under-way" in desk.card()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_dead_store_is_told_everywhere(desk):
    desk.store.kill()
    done = desk.backup("create", code=74)
    assert f"{desk.store.endpoint} refuses connections" in done.stderr
    assert "Try: Start the store, or correct backup.s3_endpoint" in done.stderr
    card, banners, _ = desk.card()
    assert f"The last backup failed: {desk.store.endpoint} refuses connections" in card
    assert [banner.startswith("The last backup failed") for banner in banners] == [True]
    status, verdict, reason = desk.check("backup")
    assert (status, verdict) == ("degraded", "degraded")
    assert "refuses connections" in reason
    found = desk.metrics()
    assert (found["imgpro_backup_failed"], found["imgpro_backup_failures_total"]) == (1, 1)
    assert found["imgpro_backup_last_success_timestamp_seconds"] > 0
    lines = [json.loads(line) for line in desk.server.log().splitlines() if line.startswith("{")]
    assert [line for line in lines if line.get("level") == "error" and "refuses connections" in line["event"]]
    report = desk.imgpro("doctor")
    assert report.returncode == 1
    assert re.search(r"^NO  backup +.*refuses connections", report.stdout, re.MULTILINE)


def test_a_stop_does_not_wait_for_a_store_that_does_not_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        values = {"to": "s3://bucket/box", "s3_key_id": "key", "s3_secret": "secret"}
        values["s3_endpoint"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {f"IMGPRO_BACKUP_{name.upper()}": value for name, value in values.items()}
        with running(tmp_path / "data", {**UNLIMITED, **env}) as server:
            command = [sys.executable, "-m", "imgpro", "backup", "create", "--data", str(server.data)]
            with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as asked:
                under_way, _ = silent.accept()
                assert server.stop() == 0
                assert asked.wait() != 0
            under_way.close()


def test_the_key_is_shown_nowhere(desk):
    shown = desk.imgpro("config", "show")
    assert "# s3_secret = (set, not shown)" in shown.stdout
    bundle = subprocess.run(
        [sys.executable, "-m", "imgpro", "support-bundle", "--to", "-", "--data", str(desk.server.data)],
        cwd=ROOT,
        env={**os.environ, **desk.env},
        capture_output=True,
        check=True,
        timeout=60,
    )
    with tarfile.open(fileobj=io.BytesIO(bundle.stdout)) as tar:
        packed = b"".join(tar.extractfile(name).read() for name in tar.getnames())
    pages = b"".join(desk.operator.get(f"/operator{part}").body for part in ("", "/settings", "/log"))
    database = b"".join(path.read_bytes() for path in desk.server.data.glob("imgpro.db*"))
    everything = packed + pages + database + f"{shown.stdout}{shown.stderr}{desk.server.log()}".encode()
    for part in desk.store.key:
        assert part.encode() not in everything


def test_the_executable_does_it_too_by_the_certificates_of_the_machine(program, place, tmp_path):
    data, pair = tmp_path / "data", make_pair(tmp_path)
    with running(data, UNLIMITED) as server:
        server.must_upload(PICTURES[0], "one.png")
    with object_store(pair) as store:
        env = {**bare(place), **store.settings(FOLDER)}
        refused = ask(program, "backup", "create", "--data", str(data), env=env)
        assert refused.returncode == 74
        assert f"{store.endpoint} shows no certificate that this machine trusts" in refused.stderr
        made = ask(program, "backup", "create", "--data", str(data), env={**env, "SSL_CERT_FILE": str(pair.cert)})
        assert made.returncode == 0, made.stderr
        tried = ask(program, "backup", "verify", "--data", str(data), env={**env, "SSL_CERT_FILE": str(pair.cert)})
        assert tried.returncode == 0, tried.stderr
