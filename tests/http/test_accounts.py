"""Keys and accounts over HTTP: created, limited, listed, revoked, confirmed by the mailed link; nobody gains by others."""

import re
import statistics
import time

import pytest

from tests.law import check_disk
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, held_open, multipart, running

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def fresh(tmp_path):
    """A server of its own: what is counted there is ours alone."""
    with running(tmp_path / "data", UNLIMITED) as found:
        yield found


def make_key(server, email, **fields):
    answer = server.api("POST", "/v1/keys", {"email": email, **fields})
    assert answer.status == 201, answer
    return answer.json()


def mailed_link(server, email):
    """Return the last link that would have been mailed, as the operator sees it."""
    (row,) = [row for row in server.operate("list")["accounts"] if row["email"] == email]
    return row["links"][-1]


def fields_of(link):
    return link.partition("?")[2]


def press(server, link, extra=""):
    """Press the button on the page of a mailed link."""
    path = link.removeprefix(server.base).partition("?")[0]
    return server.request("POST", path, (fields_of(link) + extra).encode(), FORM)


def test_a_key_in_one_call_works_at_once(fresh):
    made = make_key(fresh, "Ann@Example.org")
    assert re.fullmatch(r"img_live_[0-9A-Za-z]{32}", made["key"])
    assert re.fullmatch(r"key_[0-9A-Za-z]{6,}", made["key_id"])
    assert made["status"] == "active"
    assert made["verified"] is False
    assert made["limits"] == {"uploads": 100, "storage_mb": 5120, "retention_days": 30}
    assert made["message"]
    found = fresh.must_upload(PNG, key=made["key"])
    assert found["expires_at"] - found["created_at"] == 30 * 86_400
    assert "upgrade" not in found
    for header in ({"Authorization": f"Bearer {made['key']}"}, {"X-API-Key": made["key"]}):
        assert fresh.request("GET", "/v1/usage", headers=header).json()["uploads"] == {"used": 1, "limit": 100}


def test_the_secret_is_nowhere_but_in_the_answer(fresh):
    made = make_key(fresh, "ann@example.org")
    fresh.must_upload(PNG, key=made["key"])
    listed = fresh.api("GET", "/v1/keys", key=made["key"])
    assert made["key"].encode() not in listed.body
    assert fresh.api("POST", "/v1/keys", {"email": made["key"]}).status == 422
    assert fresh.request("GET", f"/v1/media/{made['key'][:12]}").status == 404
    assert made["key"] not in fresh.log()
    secret = made["key"].encode()
    for path in fresh.data.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email"}),
        ({"email": None}, {"email"}),
        ({"email": "nobody"}, {"email"}),
        ({"email": 5}, {"email"}),
        ({"email": "a@b.c\r\nBcc: x@y.z"}, {"email"}),
        ({"email": "a@b.c, d@e.f"}, {"email"}),
        ({"email": "ann@example.org", "name": "a\x00b"}, {"name"}),
        ({"email": "ann@example.org", "name": "x" * 101}, {"name"}),
        ({"email": "ann@example.org", "abilities": ["fly"]}, {"abilities"}),
        ({"email": "ann@example.org", "abilities": []}, {"abilities"}),
        ({"email": "ann@example.org", "abilities": 7}, {"abilities"}),
        ({"email": "ann@example.org", "namespace": "-"}, {"namespace"}),
        ({"email": "x", "name": 1, "namespace": "A"}, {"email", "name", "namespace"}),
    ],
)
def test_every_bad_field_is_named_and_nothing_is_made(server, body, fields):
    before = len(server.operate("list")["accounts"])
    answer = server.api("POST", "/v1/keys", body)
    assert answer.status == 422
    assert answer.json()["error"] == "validation_error"
    assert set(answer.json()["details"]) == fields
    assert len(server.operate("list")["accounts"]) == before


def test_more_than_three_keys_wait_for_the_address(fresh):
    keys = [make_key(fresh, "ann@example.org", name=f"k{n}") for n in range(3)]
    answer = fresh.api("POST", "/v1/keys", {"email": "ann@example.org"})
    assert answer.status == 403
    assert answer.json()["error"] == "key_limit_reached"
    assert answer.json()["action"]["type"] == "verify"
    assert answer.json()["action"]["url"] == f"{fresh.base}/dashboard"
    fresh.operate("verify", email="ann@example.org", keep=[keys[0]["key_id"]])
    added = fresh.api("POST", "/v1/keys", {"name": "fourth"}, key=keys[0]["key"])
    assert (added.status, added.json()["status"], added.json()["verified"]) == (201, "active", True)
    assert added.json()["limits"]["retention_days"] is None


@pytest.mark.parametrize(
    ("setting", "count", "address"),
    [
        ("IMGPRO_ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR", 5, "ann@example.org"),
        ("IMGPRO_ACCOUNTS_KEYS_PER_NETWORK_PER_HOUR", 20, "ann{}@example.org"),
    ],
)
def test_requests_for_keys_are_limited_by_default(tmp_path, setting, count, address):
    env = {key: value for key, value in UNLIMITED.items() if key != setting}
    with running(tmp_path / "data", env) as server:
        for number in range(count):
            status = server.api("POST", "/v1/keys", {"email": address.format(number)}).status
            assert status == (201 if number < 3 or "{}" in address else 403)
        answer = server.api("POST", "/v1/keys", {"email": address.format(count)})
        assert answer.status == 429
        assert answer.json()["error"] == "rate_limited"
        assert answer.json()["action"]["type"] == "wait"
        assert 3_000 < answer.json()["action"]["seconds"] <= 3_600
        assert answer.headers["Retry-After"] == str(answer.json()["action"]["seconds"])
        other = server.api("POST", "/v1/keys/verify", {"email": address.format(count)})
        assert other.status == 429


@pytest.mark.parametrize(("mode", "words"), [("closed", "no new accounts"), ("invitation", "invites people")])
def test_registration_can_be_closed(tmp_path, mode, words):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ACCOUNTS_REGISTRATION": mode}) as server:
        answer = server.api("POST", "/v1/keys", {"email": "ann@example.org"})
        assert answer.status == 403
        assert answer.json()["error"] == "registration_closed"
        assert words in answer.json()["message"]
        assert answer.json()["action"]["type"] == "redirect"
        assert answer.json()["action"]["url"] == f"{server.base}/dashboard"


def test_an_invitation_makes_one_account(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ACCOUNTS_REGISTRATION": "invitation"}) as server:
        made = server.operate("invite", email="ann@example.org")
        bob = {"email": "bob@example.org", "invitation": made["invitation"]}
        assert server.api("POST", "/v1/keys", bob).status == 403
        ann = {"email": "ann@example.org", "invitation": made["invitation"]}
        assert server.api("POST", "/v1/keys", ann).status == 201
        assert server.api("POST", "/v1/keys", {**ann, "email": "eve@example.org"}).status == 403
        page = server.operate("invite")["link"]
        assert server.get(page).status == 200
        assert b"img_live_" not in server.get(page).body
        answer = server.request("POST", "/join", f"{fields_of(page)}&email=carl@example.org".encode(), FORM)
        assert answer.status == 200
        key = re.search(rb"img_live_[0-9A-Za-z]{32}", answer.body)[0].decode()
        assert server.api("GET", "/v1/usage", key=key).status == 200
        again = server.request("POST", "/join", f"{fields_of(page)}&email=dan@example.org".encode(), FORM)
        assert again.status == 403


# What a key may do


@pytest.mark.parametrize(
    ("abilities", "allowed"),
    [
        (["read", "write"], {"upload", "list", "change", "delete", "usage"}),
        (["read"], {"list", "usage"}),
        (["write"], {"upload", "change", "delete"}),
        (["upload"], {"upload"}),
        ("read, upload", {"list", "usage", "upload"}),
    ],
)
def test_abilities(server, abilities, allowed):
    owner = server.new_key(f"abilities{hash(str(abilities))}@example.org")
    found = server.must_upload(PNG, key=owner)
    key = server.api("POST", "/v1/keys", {"name": "small", "abilities": abilities}, key=owner).json()["key"]
    asked = {
        "upload": lambda: server.upload(PNG, key=key),
        "list": lambda: server.api("GET", "/v1/media", key=key),
        "usage": lambda: server.api("GET", "/v1/usage", key=key),
        "change": lambda: server.api("PATCH", f"/v1/media/{found['id']}", {"name": "x"}, key=key),
        "delete": lambda: server.api("DELETE", f"/v1/media/{found['id']}", key=key),
    }
    for name, ask in asked.items():
        answer = ask()
        assert (answer.status < 300) == (name in allowed), (name, answer)
        if name not in allowed:
            assert (answer.status, answer.json()["error"]) == (403, "forbidden")
            assert answer.json()["action"]["type"] == "fix"


def test_a_missing_ability_is_told_before_the_body(server):
    owner = server.new_key("before@example.org")
    key = server.api("POST", "/v1/keys", {"abilities": ["read"]}, key=owner).json()["key"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png", "Expect": "100-continue"}
    answer = server.request("POST", "/v1/upload", None, {**headers, "Content-Length": "1000000"})
    assert answer.status == 403


def test_a_key_cannot_make_what_it_is_not(server):
    owner = server.new_key("more@example.org")
    key = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=owner).json()["key"]
    assert server.api("POST", "/v1/keys", {"name": "more"}, key=key).status == 403
    assert server.api("POST", "/v1/keys", {"email": "other@example.org"}, key=owner).status == 422


def test_a_default_namespace(server):
    owner = server.new_key("space@example.org")
    key = server.api("POST", "/v1/keys", {"namespace": "shots"}, key=owner).json()["key"]
    assert server.must_upload(PNG, key=key)["namespace"] == "shots"
    assert server.must_upload(PNG, key=key, namespace="other")["namespace"] == "other"


def test_revoked_is_gone_at_once(server):
    owner = server.new_key("gone@example.org")
    made = server.api("POST", "/v1/keys", {"name": "old phone"}, key=owner).json()
    assert server.api("GET", "/v1/usage", key=made["key"]).status == 200
    listed = server.api("GET", "/v1/keys", key=owner).json()["data"]
    assert [key["name"] for key in listed] == ["Default", "old phone"]
    assert listed[1]["last_used_at"] is not None
    assert server.api("DELETE", f"/v1/keys/{made['key_id']}", key=owner).json() == {"success": True}
    answer = server.api("GET", "/v1/usage", key=made["key"])
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="imgpro"'
    assert server.api("DELETE", f"/v1/keys/{made['key_id']}", key=owner).status == 404
    stranger = server.new_key("stranger@example.org")
    mine = server.api("GET", "/v1/keys", key=owner).json()["data"][0]["key_id"]
    assert server.api("DELETE", f"/v1/keys/{mine}", key=stranger).status == 404


def test_a_last_use_survives_a_restart(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        key = server.new_key("ann@example.org")
        before = server.api("GET", "/v1/keys", key=key).json()["data"][0]["last_used_at"]
        assert server.stop() == 0
        server.start()
        assert server.operate("list")["accounts"][0]["keys"][0]["last_used_at"] >= before


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer img_live_" + "0" * 32,
        "Bearer x",
        "Bearer ",
        "Bearer",
        "Basic !!!",
        "Digest x",
        "Bearer " + "k" * 5000,
        "",
    ],
)
def test_a_credential_that_is_none_is_never_anonymous(server, credential):
    for method, path in (("POST", "/v1/upload"), ("GET", "/v1/usage"), ("GET", "/v1/media"), ("POST", "/v1/keys")):
        answer = server.request(method, path, b"{}", {"Authorization": credential, "Content-Type": "image/png"})
        assert answer.status == 401, (method, path, answer)
        assert answer.json()["error"] == "unauthorized"


def test_a_wrong_key_takes_the_time_of_an_unknown_one(server):
    """Keys that differ from a real one in their last or first character, and ones that are nothing like it."""
    real = server.new_key("timing@example.org")
    server.api("GET", "/v1/usage", key=real)
    flipped = "0" if real[-1] != "0" else "1"
    wrong = {
        "last": real[:-1] + flipped,
        "first": "img_live_" + ("0" if real[9] != "0" else "1") + real[10:],
        "unknown": "img_live_" + "Z" * 32,
        "odd": "x",
    }
    spent = {name: [] for name in wrong}
    for _ in range(60):
        for name, key in wrong.items():
            began = time.perf_counter()
            assert server.api("GET", "/v1/usage", key=key).status == 401
            spent[name].append(time.perf_counter() - began)
    # Relative to each other, by medians of interleaved rounds: far coarser than chance, far finer than a look-up saved.
    medians = {name: statistics.median(times) for name, times in spent.items()}
    assert max(medians.values()) < 1.5 * min(medians.values()), medians


# The mailed link


def test_the_link_changes_nothing_until_its_button_is_pressed(fresh):
    made = make_key(fresh, "ann@example.org", name="Laptop")
    found = fresh.must_upload(PNG, key=made["key"])
    ended = fresh.must_upload(PNG, key=made["key"], ttl="7d")
    link = mailed_link(fresh, "ann@example.org")
    for _ in range(3):
        page = fresh.get(link)
        assert page.status == 200
        assert b"Laptop" in page.body
        assert b"127.0.0.1" in page.body
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["Cache-Control"] == "private, no-store"
    assert fresh.api("GET", "/v1/usage", key=made["key"]).json()["verified"] is False
    assert press(fresh, link).status == 200
    assert fresh.api("GET", "/v1/usage", key=made["key"]).json()["plan"] == "free"
    # What was stored before is permanent now, but for what was to end anyway.
    assert "expires_at" not in fresh.api("GET", f"/v1/media/{found['id']}", key=made["key"]).json()
    kept = fresh.api("GET", f"/v1/media/{ended['id']}", key=made["key"]).json()
    assert kept["expires_at"] - kept["created_at"] == 7 * 86_400
    assert "max-age=31536000" in fresh.get(found["src"]).headers["Cache-Control"]
    assert "expires_at" not in fresh.must_upload(PNG, key=made["key"])


def test_a_link_works_once_and_not_when_changed(fresh):
    make_key(fresh, "ann@example.org")
    link = mailed_link(fresh, "ann@example.org")
    other = make_key(fresh, "bob@example.org")
    theirs = mailed_link(fresh, "bob@example.org")
    mixed = link.replace(re.search("t=([^&]*)", link)[1], re.search("t=([^&]*)", theirs)[1])
    for wrong in (link[:-1], link + "x", link.replace("exp=1", "exp=2"), mixed, link.partition("&sig")[0], "/verify"):
        assert fresh.get(wrong).status == 404, wrong
        assert press(fresh, wrong).status == 404
    assert press(fresh, link).status == 200
    assert press(fresh, link).status == 404
    assert fresh.get(link).status == 404
    assert fresh.api("GET", "/v1/usage", key=other["key"]).json()["verified"] is False


def test_a_link_ends_with_the_secret(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        make_key(server, "ann@example.org")
        link = mailed_link(server, "ann@example.org")
        assert server.get(link).status == 200
        server.stop()
        (server.data / "secret.key").write_text("5e" * 32)
        base = server.base
        server.start()
        assert server.get(link.replace(base, server.base)).status == 404


def test_a_stranger_who_was_first_gains_nothing(fresh):
    thief = make_key(fresh, "ann@example.org", name="thief")["key"]
    stolen = fresh.must_upload(PNG, key=thief)
    mine = make_key(fresh, "ann@example.org", name="mine")
    mine_id = mine["key_id"]
    secret = fresh.must_upload(PNG, key=mine["key"], public="false", namespace="diary", tags="me")
    # Neither sees, changes or revokes what belongs to the other.
    assert fresh.api("GET", f"/v1/media/{secret['id']}", key=thief).status == 404
    assert fresh.get(secret["src"], Authorization=f"Bearer {thief}").status == 404
    assert [row["id"] for row in fresh.api("GET", "/v1/media", key=thief).json()["data"]] == [stolen["id"]]
    assert fresh.api("GET", "/v1/tags", key=thief).json()["data"] == []
    assert fresh.api("GET", "/v1/namespaces", key=thief).json()["data"] == []
    assert fresh.api("GET", "/v1/media?q=picture", key=thief).json()["data"][0]["id"] == stolen["id"]
    assert fresh.api("PATCH", f"/v1/media/{secret['id']}", {"public": True}, key=thief).status == 404
    assert fresh.api("DELETE", f"/v1/media/{secret['id']}", key=thief).status == 404
    assert fresh.api("DELETE", f"/v1/keys/{mine_id}", key=thief).status == 404
    assert [key["name"] for key in fresh.api("GET", "/v1/keys", key=thief).json()["data"]] == ["thief"]
    # The mail about my key: its page names the other, unticked, and drops it.
    link = mailed_link(fresh, "ann@example.org")
    page = fresh.get(link).body.decode()
    assert "“mine”" in page
    assert "“thief”" in page
    assert "checked" not in page
    assert press(fresh, link).status == 200
    assert fresh.api("GET", "/v1/usage", key=thief).status == 401
    assert fresh.api("GET", "/v1/usage", key=mine["key"]).json()["verified"] is True
    # What the stranger put there does not become permanent, and is not mine.
    assert "expires_at" in fresh.api("GET", f"/v1/media/{stolen['id']}").json()
    assert "expires_at" not in fresh.api("GET", f"/v1/media/{secret['id']}", key=mine["key"]).json()


def test_ticked_keys_stay(fresh):
    first = make_key(fresh, "ann@example.org", name="phone")
    second = make_key(fresh, "ann@example.org", name="laptop")
    third = make_key(fresh, "ann@example.org", name="other")
    found = fresh.must_upload(PNG, key=first["key"])
    link = mailed_link(fresh, "ann@example.org")
    assert press(fresh, link, f"&keep-{first['key_id']}=on&keep-key_nothing00=on").status == 200
    statuses = [fresh.api("GET", "/v1/usage", key=key["key"]).status for key in (first, second, third)]
    assert statuses == [200, 401, 200]
    assert "expires_at" not in fresh.api("GET", f"/v1/media/{found['id']}").json()


def test_whoever_did_not_ask_can_say_so(fresh):
    made = make_key(fresh, "ann@example.org")
    link = mailed_link(fresh, "ann@example.org")
    assert press(fresh, link, "&decline=1").status == 200
    assert fresh.api("GET", "/v1/usage", key=made["key"]).status == 401
    assert press(fresh, link).status == 404


def test_a_key_added_to_a_verified_address_waits(fresh):
    owner = fresh.new_key("ann@example.org")
    fresh.must_upload(PNG, key=owner)
    made = make_key(fresh, "ann@example.org", name="new")
    assert made["status"] == "pending"
    assert made["verified"] is True
    answer = fresh.api("GET", "/v1/media", key=made["key"])
    assert (answer.status, answer.json()["error"], answer.json()["action"]["type"]) == (403, "forbidden", "verify")
    assert fresh.upload(PNG, key=made["key"]).status == 403
    statuses = [key["status"] for key in fresh.api("GET", "/v1/keys", key=owner).json()["data"]]
    assert statuses == ["active", "pending"]
    assert press(fresh, mailed_link(fresh, "ann@example.org")).status == 200
    assert len(fresh.api("GET", "/v1/media", key=made["key"]).json()["data"]) == 1


def test_the_mail_can_be_asked_for_again(fresh):
    made = make_key(fresh, "ann@example.org")
    before = len(fresh.operate("list")["accounts"][0]["links"])
    assert fresh.api("POST", "/v1/keys/verify", key=made["key"]).status == 202
    assert fresh.api("POST", "/v1/keys/verify", {"email": "ann@example.org"}).status == 202
    assert len(fresh.operate("list")["accounts"][0]["links"]) == before + 2
    known = fresh.api("POST", "/v1/keys/verify", {"email": "ann@example.org"})
    unknown = fresh.api("POST", "/v1/keys/verify", {"email": "nobody@example.org"})
    assert (known.status, known.body) == (unknown.status, unknown.body)
    assert [row["email"] for row in fresh.operate("list")["accounts"]] == ["ann@example.org"]
    assert fresh.api("POST", "/v1/keys/verify", {}).status == 422


def test_an_owner_whose_three_keys_are_strangers_gets_one(fresh):
    thieves = [make_key(fresh, "ann@example.org", name=f"thief {n}")["key"] for n in range(3)]
    assert fresh.api("POST", "/v1/keys", {"email": "ann@example.org"}).status == 403
    assert fresh.api("POST", "/v1/keys/verify", {"email": "ann@example.org"}).status == 202
    answer = press(fresh, mailed_link(fresh, "ann@example.org"))
    key = re.search(rb"img_live_[0-9A-Za-z]{32}", answer.body)[0].decode()
    assert fresh.api("GET", "/v1/usage", key=key).json()["verified"] is True
    assert [fresh.api("GET", "/v1/usage", key=thief).status for thief in thieves] == [401, 401, 401]


def test_what_a_stranger_brought_and_used_up_leaves_the_account(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "3", "IMGPRO_PLANS_UNVERIFIED_UPLOADS": "3"}
    with running(tmp_path / "data", env) as server:
        thief = make_key(server, "ann@example.org", name="thief")["key"]
        stolen = [server.must_upload(PNG, key=thief, tags="evil", namespace="evil") for _ in range(3)]
        mine = make_key(server, "ann@example.org", name="mine")["key"]
        assert server.upload(PNG, key=mine).status == 403  # the account's month is used up by the stranger
        link = mailed_link(server, "ann@example.org")
        assert "3 pictures" in server.get(link).body.decode()
        assert press(server, link).status == 200
        usage = server.api("GET", "/v1/usage", key=mine).json()
        assert usage["uploads"]["used"] == 0
        assert usage["storage"]["used"] == 0
        for path in ("/v1/media", "/v1/media?q=picture", "/v1/media?tags=evil", "/v1/tags", "/v1/namespaces"):
            assert server.api("GET", path, key=mine).json()["data"] == [], path
        found = server.must_upload(PNG, key=mine)
        assert "expires_at" not in found
        # Nothing is deleted: the links work until their end, for nobody in particular.
        for picture in stolen:
            assert server.get(picture["src"]).status == 200
            shown = server.api("GET", f"/v1/media/{picture['id']}").json()
            assert shown["expires_at"] == picture["expires_at"]
            assert (shown["tags"], shown["namespace"]) == ([], None)
            assert server.api("DELETE", f"/v1/media/{picture['id']}", key=mine).status == 404
        server.stop()
        check_disk(server.data)


def test_declining_a_key_takes_its_pictures_along(fresh):
    made = make_key(fresh, "ann@example.org")
    found = fresh.must_upload(PNG, key=made["key"])
    assert press(fresh, mailed_link(fresh, "ann@example.org"), "&decline=1").status == 200
    assert fresh.operate("list")["accounts"][0]["images"] == 0
    assert fresh.get(found["src"]).status == 200


def test_pictures_of_a_key_that_was_replaced_can_be_kept(fresh):
    old = make_key(fresh, "ann@example.org", name="old phone")
    found = fresh.must_upload(PNG, key=old["key"])
    new = make_key(fresh, "ann@example.org", name="new phone")
    assert fresh.api("DELETE", f"/v1/keys/{old['key_id']}", key=old["key"]).status == 200
    link = mailed_link(fresh, "ann@example.org")
    page = fresh.get(link).body.decode()
    assert "“old phone” (revoked)" in page
    assert "1 picture" in page
    assert press(fresh, link, f"&keep-{old['key_id']}=on").status == 200
    shown = fresh.api("GET", f"/v1/media/{found['id']}", key=new["key"]).json()
    assert "expires_at" not in shown
    assert fresh.api("GET", "/v1/media", key=new["key"]).json()["data"][0]["id"] == found["id"]
    assert fresh.api("GET", "/v1/usage", key=old["key"]).status == 401


def half_an_upload(server, key):
    """Send half of an upload; the function that comes of it sends the rest."""
    content, kind = multipart([("file", "a.png", PNG)])
    return held_open(server, "POST", "/v1/upload", content, {**bearer(key), "Content-Type": kind})


def test_an_upload_under_way_is_judged_by_what_holds_at_its_end(fresh):
    made = make_key(fresh, "ann@example.org")
    with half_an_upload(fresh, made["key"]) as rest:
        assert press(fresh, mailed_link(fresh, "ann@example.org")).status == 200
        answer = rest()
    assert answer.status == 201
    assert "expires_at" not in answer.json()
    with half_an_upload(fresh, made["key"]) as rest:
        assert fresh.api("DELETE", f"/v1/keys/{made['key_id']}", key=made["key"]).status == 200
        answer = rest()
    assert (answer.status, answer.json()["error"]) == (401, "unauthorized")
    other = fresh.new_key("bob@example.org")
    fresh.must_upload(PNG, key=other)
    with half_an_upload(fresh, other) as rest:
        assert fresh.operate("block", email="bob@example.org", delete_pictures=True)["deleted"] == 1
        answer = rest()
    assert (answer.status, answer.json()["error"]) == (403, "forbidden")
    rows = {row["email"]: row["images"] for row in fresh.operate("list")["accounts"]}
    assert rows == {"ann@example.org": 1, "bob@example.org": 0}


def test_links_that_work_no_more_are_not_handed_on(fresh):
    make_key(fresh, "ann@example.org", name="one")
    make_key(fresh, "ann@example.org", name="two")
    first, second = fresh.operate("list")["accounts"][0]["links"]
    assert press(fresh, second).status == 200
    assert fresh.operate("list")["accounts"][0]["links"] == []
    assert fresh.get(first).status == 404


def test_a_form_of_another_site_signs_nobody_in(fresh):
    made = make_key(fresh, "eve@example.org")
    fresh.api("DELETE", f"/v1/keys/{made['key_id']}", key=made["key"])
    fresh.api("POST", "/v1/keys/verify", {"email": "eve@example.org"})
    link = mailed_link(fresh, "eve@example.org")
    path = link.removeprefix(fresh.base).partition("?")[0]
    foreign = {**FORM, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = fresh.request("POST", path, fields_of(link).encode(), foreign)
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers


def test_a_key_that_may_only_write_reads_nothing_by_writing(server):
    owner = server.new_key("writeonly@example.org")
    found = server.must_upload(PNG, key=owner, public="false")
    key = server.api("POST", "/v1/keys", {"abilities": ["write"]}, key=owner).json()["key"]
    shown = server.api("PATCH", f"/v1/media/{found['id']}", {"tags": "x"}, key=key)
    assert shown.status == 200
    assert "signed_src" not in shown.json()
    assert "signed_src" in server.api("PATCH", f"/v1/media/{found['id']}", {"tags": "x"}, key=owner).json()


def test_idempotency_keys_survive_verification(fresh):
    made = make_key(fresh, "ann@example.org")
    first = fresh.upload(PNG, key=made["key"], headers={"Idempotency-Key": "z"})
    assert press(fresh, mailed_link(fresh, "ann@example.org")).status == 200
    again = fresh.upload(PNG, key=made["key"], headers={"Idempotency-Key": "z"})
    assert (again.status, again.json()["id"]) == (201, first.json()["id"])
