"""What changes while a request is under way: its key revoked, its account verified or blocked, its plan another one."""

import json
import re

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, held_open, multipart, running
from tests.signed_in import by_key

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as found:
        yield found


def half_sent(server, method, path, body, key):
    """Send half of a JSON request; the function that comes of it sends the rest."""
    headers = {**bearer(key), "Content-Type": "application/json"}
    return held_open(server, method, path, json.dumps(body).encode(), headers)


def test_a_revoked_key_makes_no_other(server):
    owner = server.new_key("ann@example.org")
    leaked = server.api("POST", "/v1/keys", {"name": "leaked"}, key=owner).json()
    with half_sent(server, "POST", "/v1/keys", {"name": "again"}, leaked["key"]) as rest:
        assert server.api("DELETE", f"/v1/keys/{leaked['key_id']}", key=owner).status == 200
        assert rest().status == 401
    assert len(server.api("GET", "/v1/keys", key=owner).json()["data"]) == 1


def test_a_revoked_key_and_a_blocked_account_change_nothing(server):
    owner = server.new_key("ann@example.org")
    found = server.must_upload(PNG, "a.png", key=owner)
    leaked = server.api("POST", "/v1/keys", {"name": "leaked"}, key=owner).json()
    with half_sent(server, "PATCH", f"/v1/media/{found['id']}", {"name": "b.png"}, leaked["key"]) as rest:
        assert server.api("DELETE", f"/v1/keys/{leaked['key_id']}", key=owner).status == 200
        assert rest().status == 401
    with half_sent(server, "PATCH", f"/v1/media/{found['id']}", {"name": "b.png"}, owner) as rest:
        server.operate("block", email="ann@example.org")
        assert rest().status == 403
    assert server.api("GET", f"/v1/media/{found['id']}").json()["name"] == "a.png"


def test_an_end_that_is_taken_away_is_judged_by_the_plan_of_now(server):
    key = server.new_key("ann@example.org", verified=False)
    found = server.must_upload(PNG, key=key, ttl="1h")
    with half_sent(server, "PATCH", f"/v1/media/{found['id']}", {"ttl": None}, key) as rest:
        server.operate("verify", email="ann@example.org")
        answer = rest()
    assert answer.status == 200
    assert "expires_at" not in answer.json()


def test_revoking_a_key_signs_out_the_browsers_it_signed_in(server):
    owner = server.new_key("ann@example.org")
    leaked = server.api("POST", "/v1/keys", {"name": "leaked"}, key=owner).json()
    browsers = [by_key(server, key) for key in (owner, leaked["key"])]
    assert server.api("DELETE", f"/v1/keys/{leaked['key_id']}", key=owner).status == 200
    assert b"Sign out" in browsers[0].get("/dashboard/account").body
    assert browsers[1].get("/dashboard/account").status == 303
    assert browsers[1].post("/dashboard/keys", name="x").status == 401


def test_vouching_again_lets_no_stranger_in(server):
    owner = server.new_key("ann@example.org")
    stranger = server.api("POST", "/v1/keys", {"email": "ann@example.org"}).json()
    assert stranger["limits"] == {"uploads": 100, "storage_mb": 5120, "retention_days": 30}
    with pytest.raises(Exception, match="may be a stranger's"):
        server.operate("verify", email="ann@example.org")
    assert server.api("GET", "/v1/media", key=stranger["key"]).status == 403
    assert server.operate("verify", email="ann@example.org", drop_others=True)["dropped"] == [stranger["key_id"]]
    assert server.api("GET", "/v1/media", key=owner).status == 200


def test_keys_are_not_made_without_end(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ACCOUNTS_KEYS": "5"}) as server:
        key = server.new_key("ann@example.org", verified=False)
        for _ in range(5):
            made = server.api("POST", "/v1/keys", {}, key=key)
            assert made.status == 201
            assert server.api("DELETE", f"/v1/keys/{made.json()['key_id']}", key=made.json()["key"]).status == 200
        assert server.api("POST", "/v1/keys", {}, key=key).status == 429


def test_the_holder_of_a_ticket_learns_nothing_of_the_account(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1", "IMGPRO_PLANS_UPGRADE": "self_service"}
    with running(tmp_path / "data", env) as server:
        key = server.new_key("ann@example.org")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        call["params"] = {"name": "create_upload", "arguments": {"public": False, "tags": ["x"]}}
        headers = {**bearer(key), "Content-Type": "application/json", "Accept": "application/json"}
        answers = [server.request("POST", "/mcp", json.dumps(call).encode(), headers).body.decode() for _ in range(2)]
        tickets = [re.search(r"ticket=(\w+)", answer)[1] for answer in answers]
        content, kind = multipart([("file", "a.png", PNG), ("public", None, b"true"), ("namespace", None, b"evil")])
        first = server.request("POST", f"/v1/upload?ticket={tickets[0]}&tags=evil", content, {"Content-Type": kind})
        assert first.status == 201
        assert (first.json()["public"], first.json()["tags"]) == (False, ["x"])
        assert "X-Storage-Used-Bytes" not in first.headers
        full = server.request("POST", f"/v1/upload?ticket={tickets[1]}", content, {"Content-Type": kind})
        assert (full.status, full.json()["error"]) == (403, "quota_exceeded")
        assert "usage" not in full.json()
        assert b"/upgrade/" not in full.body
        assert b"acc_" not in full.body
        wrong = server.request(
            "POST", f"/v1/upload?ticket={tickets[1]}", content, {"Content-Type": kind, **bearer("img_live_x")}
        )
        assert wrong.status == 401
        small = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=key).json()["key"]
        assert server.upload(PNG, key=small).json()["action"]["type"] == "redirect"


def test_what_is_approved_is_what_was_seen(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}) as server:
        key = server.new_key("ann@example.org")
        page = by_key(server, key).get("/dashboard/account").body.decode()
        offers = re.findall(r'href="\.\./(upgrade/[^"]+)"', page)
        links = {link.partition("?")[0]: link.replace("&amp;", "&").partition("?")[2] for link in offers}
        for plan in ("upgrade/pro", "upgrade/max"):
            assert server.request("POST", f"/{plan}", links[plan].encode(), FORM).status == 200
        with pytest.raises(Exception, match="asks for max now"):
            server.operate("approve", email="ann@example.org", plan="pro")
        server.operate("decline", email="ann@example.org")
        assert server.request("POST", "/upgrade/pro", links["upgrade/pro"].encode(), FORM).status == 404


@pytest.mark.parametrize("key", [None, "a key"])
def test_a_file_name_that_is_no_text(server, key):
    boundary = b"b"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\xff.png"\r\n\r\n' + PNG + b"\r\n--b--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}", "Idempotency-Key": "k1"}
    if key is not None:
        headers |= bearer(server.new_key("ann@example.org"))
    first = server.request("POST", "/v1/upload", part, headers)
    assert first.status == 201, first
    assert server.request("POST", "/v1/upload", part, headers).body == first.body
