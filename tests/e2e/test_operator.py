"""The operator's way in and the operator's commands: against a running server, and without one."""

import fcntl
import html
import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest

from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, Server, running
from tests.signed_in import by_key, claimed

PNG = encoded(make_image("RGB", (32, 24)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def imgpro(*args, data=None, **options):
    """Run a command the way a person does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    command = [sys.executable, "-m", "imgpro", *args, *(["--data", str(data)] if data else [])]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60, **options
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("operator") / "data", UNLIMITED) as found:
        yield found


def claim(server, link, email="op@example.org"):
    path, _, query = link.removeprefix(server.base).partition("?")
    return server.request("POST", path, f"{query}&email={email}".encode(), FORM)


def test_the_first_start_prints_a_link_that_makes_the_operator_once(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        link = re.search(r"http://\S+/setup\?t=\w+", server.log())[0]
        assert len(server.log().splitlines()) < 15
        for _ in range(2):
            assert server.get(link).status == 200  # looking at it uses nothing up
        assert server.get(link[:-1]).status == 404
        assert claim(server, link, "no address").status == 422
        made = claim(server, link)
        assert made.status == 200
        key = re.search(rb"img_live_[0-9A-Za-z]{32}", made.body)[0].decode()
        cookie = made.headers["Set-Cookie"].partition(";")[0]
        assert b"op@example.org" in server.get("/dashboard/account", Cookie=cookie).body
        usage = server.api("GET", "/v1/usage", key=key).json()
        assert usage["plan"] == "operator"
        assert usage["uploads"]["limit"] is None
        assert usage["storage"]["limit"] is None
        assert "expires_at" not in server.must_upload(PNG, key=key)
        # Used up, and no way back: not by the link, not by a new one, not at the next start.
        assert claim(server, link, "eve@example.org").status == 404
        assert server.get(link).status == 404
        again = imgpro("setup-link", data=server.data)
        assert (again.returncode, again.stdout) == (1, "")
        assert "operator already" in again.stderr
        server.stop()
        before = len(server.log())
        server.start()
        assert "setup?t=" not in server.log()[before:]


def test_a_new_link_ends_the_one_before(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        first = re.search(r"http://\S+/setup\?t=\w+", server.log())[0]
        done = imgpro("setup-link", data=server.data)
        assert (done.returncode, done.stderr) == (0, "")
        second = done.stdout.strip()
        assert server.get(first).status == 404
        assert claim(server, second).status == 200


def test_keys_of_the_operators_address_from_before_wait_for_the_operators_word(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        mine = server.api("POST", "/v1/keys", {"email": "op@example.org", "name": "mine"}).json()
        found = server.must_upload(PNG, key=mine["key"])
        thief = server.api("POST", "/v1/keys", {"email": "op@example.org", "name": "thief"}).json()
        theirs = server.must_upload(PNG, key=thief["key"])
        page = claim(server, re.search(r"http://\S+/setup\?t=\w+", server.log())[0]).body.decode()
        operator = re.search(r"img_live_\w{32}", page)[0]
        assert [server.api("GET", "/v1/usage", key=made["key"]).status for made in (mine, thief)] == [403, 403]
        link = html.unescape(re.search(r'href="(http[^"]+/verify[^"]+)"', page)[1])
        path, _, query = link.removeprefix(server.base).partition("?")
        assert server.request("POST", path, f"{query}&keep-{mine['key_id']}=on".encode(), FORM).status == 200
        assert [server.api("GET", "/v1/usage", key=made["key"]).status for made in (mine, thief)] == [200, 401]
        rows = server.api("GET", "/v1/media", key=operator).json()["data"]
        assert [row["id"] for row in rows] == [found["id"]]
        assert "expires_at" not in rows[0]
        assert "expires_at" in server.api("GET", f"/v1/media/{theirs['id']}").json()


def test_the_commands_on_a_running_server(server):
    key = server.new_key("ann@example.org", verified=False)
    other = server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "other"}).json()
    rows = json.loads(imgpro("accounts", "list", "--json", data=server.data).stdout)
    (row,) = [row for row in rows if row["email"] == "ann@example.org"]
    assert row["verified"] is False
    assert [key["status"] for key in row["keys"]] == ["unconfirmed", "unconfirmed"]
    assert len(row["links"]) == 2
    shown = imgpro("accounts", "list", data=server.data)
    assert row["links"][0] in shown.stdout
    assert shown.stderr == ""
    done = imgpro("accounts", "verify", "Ann@example.org", "--keep", other["key_id"], data=server.data)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert [server.api("GET", "/v1/usage", key=k).status for k in (key, other["key"])] == [401, 200]
    done = imgpro("accounts", "plan", "ann@example.org", "scale", data=server.data)
    assert done.stdout == "ann@example.org is on the plan scale\n"
    assert server.api("GET", "/v1/usage", key=other["key"]).json()["plan"] == "scale"


def test_blocking_takes_effect_at_once(server):
    key = server.new_key("mallory@example.org")
    found = server.must_upload(PNG, key=key)
    assert imgpro("accounts", "block", "mallory@example.org", data=server.data).returncode == 0
    answer = server.upload(PNG, key=key)
    assert (answer.status, answer.json()["error"]) == (403, "forbidden")
    assert "blocked" in answer.json()["message"]
    assert server.api("POST", "/v1/keys", {"email": "mallory@example.org"}).status == 403
    assert server.get(found["src"]).status == 200
    assert imgpro("accounts", "unblock", "mallory@example.org", data=server.data).returncode == 0
    assert server.upload(PNG, key=key).status == 201
    refused = imgpro("accounts", "block", "mallory@example.org", "--delete-pictures", data=server.data, input="n\n")
    assert refused.returncode == 1
    done = imgpro("accounts", "block", "mallory@example.org", "--delete-pictures", "--yes", data=server.data)
    assert done.stdout == "mallory@example.org is blocked; 2 pictures were deleted\n"
    assert server.get(found["src"]).status == 404


def test_any_picture_can_be_deleted(server):
    found = server.must_upload(PNG, key=server.new_key("bob@example.org"), public="false")
    anonymous = server.must_upload(PNG)
    done = imgpro("accounts", "delete-picture", found["id"], anonymous["id"], "--yes", data=server.data)
    assert done.stdout == "2 pictures were deleted\n"
    assert server.get(anonymous["src"]).status == 404
    assert imgpro("accounts", "delete-picture", "short", "--yes", data=server.data).returncode == 1


def test_the_operators_key_deletes_any_picture_and_sees_no_private_one(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        link = re.search(r"http://\S+/setup\?t=\w+", server.log())[0]
        key = re.search(rb"img_live_[0-9A-Za-z]{32}", claim(server, link).body)[0].decode()
        theirs = server.must_upload(PNG, key=server.new_key("ann@example.org"), public="false")
        anonymous = server.must_upload(PNG)
        assert server.api("GET", f"/v1/media/{theirs['id']}", key=key).status == 404
        assert server.api("PATCH", f"/v1/media/{theirs['id']}", {"public": True}, key=key).status == 404
        for found in (theirs, anonymous):
            assert server.api("DELETE", f"/v1/media/{found['id']}", key=key).status == 200
            assert server.get(found["src"]).status == 404


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("verify", "nobody@example.org"), "no account"),
        (("verify", "not an address"), ""),
        (("verify", "ann@example.org", "--keep", "key_nothing00"), "not a key that waits"),
        (("verify", "two@example.org"), "--keep KEY_ID"),
        (("approve", "ann@example.org"), "asks for no plan"),
        (("decline", "ann@example.org"), "asks for no plan"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(server, args, words):
    for email in ("ann@example.org", "two@example.org", "two@example.org"):
        server.api("POST", "/v1/keys", {"email": email})
    done = imgpro("accounts", *args, data=server.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_vouching_keeps_the_only_key(server):
    key = server.new_key("only@example.org", verified=False)
    found = server.must_upload(PNG, key=key)
    done = imgpro("accounts", "verify", "only@example.org", data=server.data)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.api("GET", "/v1/usage", key=key).json()["verified"] is True
    assert "expires_at" not in server.api("GET", f"/v1/media/{found['id']}").json()
    strangers = [server.api("POST", "/v1/keys", {"email": "none@example.org"}).json() for _ in range(2)]
    done = imgpro("accounts", "verify", "none@example.org", "--drop-others", data=server.data)
    assert done.stdout.splitlines()[1] == f"removed: {', '.join(made['key_id'] for made in strangers)}"


def test_the_command_line_prints_a_link_that_signs_in(server):
    server.new_key("lost@example.org")
    done = imgpro("accounts", "sign-in-link", "Lost@example.org", data=server.data)
    assert (done.returncode, done.stderr) == (0, "")
    link = done.stdout.strip()
    assert re.fullmatch(rf"{server.base}/sign-in\?t=\w{{32}}", link)
    assert b"lost@example.org" in server.get(link).body
    done = imgpro("accounts", "sign-in-link", "nobody@example.org", data=server.data)
    assert done.returncode != 0
    assert "There is no account nobody@example.org." in done.stderr


def test_the_operators_page_shows_what_waits(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}
    with running(tmp_path / "data", env) as server:
        operator = claimed(server)
        ann, bob = server.new_key("ann@example.org"), server.new_key("bob@example.org")
        server.api("POST", "/v1/keys", {"email": "new@example.org"})
        for key in (ann, bob):
            path, _, query = (
                server.upload(PNG, key=key).json()["action"]["url"].removeprefix(server.base).partition("?")
            )
            assert server.request("POST", path, query.encode(), FORM).status == 200
        page = operator.get("/operator").body.decode()
        assert "new@example.org" in page
        assert "/verify?t=" in page
        for email, decision in (("ann@example.org", "approve"), ("bob@example.org", "decline")):
            assert f"<strong>{email}</strong> asks for Pro" in page
            assert operator.post("/operator/decide", email=email, decision=decision).status == 303
        assert [server.api("GET", "/v1/usage", key=key).json()["plan"] for key in (ann, bob)] == ["pro", "free"]
        member = by_key(server, ann)
        assert member.get("/operator").status == 403
        assert member.post("/operator/decide", email="bob@example.org", decision="approve").status == 403


def test_a_terminal_obeys_no_name(server):
    key = server.new_key("esc@example.org")
    answer = by_key(server, key).post("/dashboard/keys", name="x\x1b]0;PWNED\x07", abilities="all")
    assert answer.status == 422
    with sqlite3.connect(server.data / "imgpro.db") as conn:  # even if one gets in some other way
        conn.execute(
            "UPDATE keys SET name = ? WHERE account = (SELECT seq FROM accounts WHERE email = ?)",
            ("x\x1b[2J\x9b\u202e", "esc@example.org"),
        )
    conn.close()
    shown = imgpro("accounts", "list", data=server.data).stdout
    assert "x?[2J??" in shown
    assert "\x1b" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_another_user_is_told_whose_data_it_is(server):
    server.data.chmod(0o700)
    # Loaded first: the other user may have no way to this Python.
    code = "import os, sys, imgpro.cli.office; from imgpro.cli.commands import cli; os.setuid(65534); "
    code += "cli(['accounts', 'list', '--data', sys.argv[1]], prog_name='imgpro')"
    done = subprocess.run(
        [sys.executable, "-c", code, server.data], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search("belongs to|cannot be looked into", done.stderr)
    assert "Try: sudo" in done.stderr


def test_only_the_owner_of_the_data_can_open_the_door(server):
    assert (server.data / "admin.sock").stat().st_mode & 0o777 == 0o600


def test_without_a_server_the_commands_work_on_the_data(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        key = server.new_key("ann@example.org", verified=False)
        key_id = server.api("GET", "/v1/keys", key=key).json()["data"][0]["key_id"]
        assert server.stop() == 0
        assert not (server.data / "admin.sock").exists()
        done = imgpro("accounts", "verify", "ann@example.org", "--keep", key_id, data=server.data)
        assert (done.returncode, done.stderr) == (0, ""), done
        link = imgpro("setup-link", data=server.data).stdout.strip()
        server.start()
        assert server.api("GET", "/v1/usage", key=key).json()["verified"] is True
        assert link.startswith("http://localhost")  # no address was configured, and none is known


def test_a_killed_server_leaves_a_door_that_is_no_obstacle(tmp_path):
    server = Server(tmp_path / "data", UNLIMITED)
    try:
        server.start()
        server.stop(9)
        assert (server.data / "admin.sock").exists()
        assert imgpro("accounts", "list", data=server.data).returncode == 0
        server.start()
        assert imgpro("accounts", "list", data=server.data).returncode == 0
    finally:
        server.close()


def test_a_data_directory_with_a_long_path(tmp_path):
    data = tmp_path / ("long" * 30) / "data"
    data.parent.mkdir()
    with running(data, UNLIMITED) as server:
        assert imgpro("accounts", "list", data=server.data).returncode == 0


def test_no_data_no_command(tmp_path):
    done = imgpro("accounts", "list", data=tmp_path / "nothing")
    assert done.returncode == 10
    assert "Try:" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_a_command_waits_for_a_server_that_is_starting(tmp_path):
    """It holds the lock before it listens."""
    with running(tmp_path / "data", UNLIMITED) as server:
        server.new_key("ann@example.org")
        assert server.stop() == 0
    with (tmp_path / "data/imgpro.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "imgpro", "accounts", "list", "--data", str(tmp_path / "data")]
        waiting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
    said, problems = waiting.communicate(timeout=60)
    assert (waiting.returncode, problems) == (0, "")
    assert "ann@example.org" in said
