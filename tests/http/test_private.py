"""Private pictures: their owner's, and whoever holds a signed link; from the moment they are private."""

import re

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running
from tests.signed_in import SignedIn

PNG = encoded(make_image("RGB", (400, 300)), "PNG")
SHORT = "public, max-age=31536000, immutable, s-maxage=300"


@pytest.fixture(scope="module")
def owner(server):
    return server.new_key("owner@private.example")


@pytest.fixture(scope="module")
def other(server):
    return server.new_key("other@private.example")


def places(server, found):
    """Return every address at which a picture could be seen."""
    image_id = found["id"]
    return [
        f"/{image_id}",
        f"/t/{image_id}.png",
        f"/t/{image_id}.jpeg?size=s",
        f"/t/{image_id}.webp?size=m&download=1",
        f"/oembed?url={server.base}/{image_id}",
        f"/v1/media/{image_id}",
    ]


def statuses(server, found, **headers):
    return [server.get(place, **headers).status for place in places(server, found)]


def test_nobody_else_sees_it(server, owner, other):
    found = server.must_upload(PNG, key=owner, public="false")
    assert statuses(server, found) == [404] * 6
    assert statuses(server, found, Authorization=f"Bearer {other}") == [404] * 6
    assert statuses(server, found, Authorization=f"Bearer {owner}") == [200] * 6
    missing = server.get("/v1/media/000000000000")
    hidden = server.get(f"/v1/media/{found['id']}")
    assert (hidden.status, hidden.body) == (missing.status, missing.body)
    assert server.api("PATCH", f"/v1/media/{found['id']}", {"public": True}, key=other).status == 404
    assert server.api("DELETE", f"/v1/media/{found['id']}", key=other).status == 404
    assert server.request("HEAD", f"/t/{found['id']}.png").status == 404
    assert server.get(f"/t/{found['id']}.png", Range="bytes=0-9").status == 404
    assert found["id"] not in [row["id"] for row in server.api("GET", "/v1/media", key=other).json()["data"]]


def test_no_cache_keeps_it(server, owner):
    found = server.must_upload(PNG, key=owner, public="false")
    for place in places(server, found):
        answer = server.get(place, Authorization=f"Bearer {owner}")
        assert answer.headers["Cache-Control"] == "private, no-store", place
    assert server.get(found["signed_src"]).headers["Cache-Control"] == "private, no-store"


def test_a_key_that_may_not_read_sees_nothing(server, owner):
    found = server.must_upload(PNG, key=owner, public="false")
    key = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=owner).json()["key"]
    assert statuses(server, found, Authorization=f"Bearer {key}") == [404] * 6


def test_a_signed_link_works_for_a_while(server, owner):
    found = server.must_upload(PNG, key=owner, public="false")
    assert "sig=" not in found["src"]
    assert "sig=" not in found["url"]
    assert server.get(found["signed_src"]).status == 200
    token = re.search(r"sig=1([0-9a-f]+)\.", found["signed_src"])
    assert int(token[1], 16) - found["created_at"] == pytest.approx(7 * 86_400, abs=5)
    wrong = [
        found["signed_src"][:-1],
        found["signed_src"].replace("sig=1", "sig=1f"),
        found["signed_src"].replace(found["id"], server.must_upload(PNG, key=owner, public="false")["id"]),
    ]
    for link in wrong:
        assert server.get(link).status == 404
    for row in (
        server.api("GET", f"/v1/media/{found['id']}", key=owner).json(),
        server.api("GET", f"/v1/media?ids={found['id']}", key=owner).json()["data"][0],
        server.api("PATCH", f"/v1/media/{found['id']}", {"name": "new.png"}, key=owner).json(),
    ):
        assert server.get(row["signed_src"]).status == 200


def test_a_signed_link_is_not_made_longer_by_those_who_use_it(server, owner):
    found = server.must_upload(PNG, key=owner, public="false")
    sig = found["signed_src"].partition("sig=")[2]
    shown = server.get(f"/v1/media/{found['id']}?sig={sig}").json()
    assert "signed_src" not in shown
    assert shown["src"].endswith(f"sig={sig}")
    page = server.get(f"/{found['id']}?sig={sig}").body.decode()
    assert set(re.findall(r"sig=([\w.-]+)", page)) == {sig}


def test_a_short_lived_picture_signs_no_longer_than_it_lives(server, owner):
    found = server.must_upload(PNG, key=owner, public="false", ttl="1h")
    token = re.search(r"sig=1([0-9a-f]+)\.", found["signed_src"])
    assert int(token[1], 16) == found["expires_at"]


def test_from_public_to_private_at_once_and_back(server, owner):
    found = server.must_upload(PNG, key=owner)
    for place in places(server, found):
        assert server.get(place).status == 200  # now hot in memory and on disk
        assert server.get(place).status == 200
    assert server.get(found["src"]).headers["Cache-Control"] == SHORT
    etag = server.get(found["src"]).headers["ETag"]
    assert server.api("PATCH", f"/v1/media/{found['id']}", {"public": False}, key=owner).status == 200
    assert statuses(server, found) == [404] * 6
    assert server.get(found["src"], If_None_Match=etag).status == 404
    assert server.get(found["src"], Range="bytes=0-3").status == 404
    assert server.get(found["src"], Authorization=f"Bearer {owner}").status == 200
    assert server.get(found["src"]).status == 404  # the owner's look did not put it back into memory
    assert server.api("PATCH", f"/v1/media/{found['id']}", {"public": True}, key=owner).status == 200
    assert statuses(server, found) == [200] * 6


def test_a_picture_that_ends_is_told_to_no_cache_for_longer(server, owner):
    found = server.must_upload(PNG, key=owner, ttl=300 and "5m")
    control = server.get(found["src"]).headers["Cache-Control"]
    assert int(re.search("max-age=([0-9]+)", control)[1]) <= 300
    assert int(re.search("s-maxage=([0-9]+)", control)[1]) <= 300


def test_anonymous_private_pictures_stay_reachable_for_their_uploader(tmp_path):
    env = {**UNLIMITED, "IMGPRO_ANONYMOUS_RETENTION_S": "unlimited"}
    with running(tmp_path / "data", env) as server:
        found = server.must_upload(PNG, public="false")
        assert "expires_at" not in found
        for link in (found["src"], found["url"], found["signed_src"], found["sizes"]["s"]["src"]):
            assert re.search(r"sig=10\.", link), link  # without an end, like the picture
            assert server.get(link).status == 200


def test_a_signed_link_ends_with_the_secret(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        found = server.must_upload(PNG, key=server.new_key("ann@example.org"), public="false")
        path = found["signed_src"].removeprefix(server.base)
        assert server.get(path).status == 200
        delete = found["delete_url"].removeprefix(server.base)
        server.stop()
        (server.data / "secret.key").write_text("5e" * 32)
        server.start()
        assert server.get(path).status == 404
        assert server.get(delete).status == 404


# Sessions


def sign_in(server, key):
    answer = server.request(
        "POST",
        "/dashboard/sign-in",
        f"key={key}".encode(),
        {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.base},
    )
    assert answer.status == 303, answer
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    return cookie.partition(";")[0]


def test_a_session_sees_its_own_and_changes_nothing_by_itself(server, owner, other):
    found = server.must_upload(PNG, key=owner, public="false")
    mine, theirs = sign_in(server, owner), sign_in(server, other)
    assert statuses(server, found, Cookie=mine) == [200] * 6
    assert statuses(server, found, Cookie=theirs) == [404] * 6
    assert statuses(server, found, Cookie="imgpro_session=nothing") == [404] * 6
    for method, path in (("DELETE", f"/v1/media/{found['id']}"), ("PATCH", f"/v1/media/{found['id']}")):
        assert server.request(method, path, b"{}", {"Cookie": mine}).status == 401
    anonymous = server.request("POST", "/v1/upload", PNG, {"Cookie": mine, "Content-Type": "image/png"}).json()
    assert "upgrade" in anonymous  # a cookie alone uploads for nobody


def test_forms_of_other_sites_do_nothing(server, owner):
    cookie = sign_in(server, owner)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/dashboard/keys", "/dashboard/revoke", "/dashboard/sign-out", "/dashboard/sign-in"):
            answer = server.request("POST", path, b"name=x", {**form, **headers})
            assert answer.status == 403, (path, headers, answer)
    assert server.get("/dashboard/account", Cookie=cookie).body.count(b"Revoke") > 0


def test_the_dashboard_makes_and_revokes_keys_and_signs_out_everywhere(server):
    key = server.new_key("dash@private.example")
    first, second = SignedIn(server, sign_in(server, key)), SignedIn(server, sign_in(server, key))
    page = first.post("/dashboard/keys", name="Phone", abilities="upload").body.decode()
    made = re.search("img_live_[0-9A-Za-z]{32}", page)[0]
    assert server.upload(PNG, key=made).status == 201
    assert server.api("GET", "/v1/usage", key=made).status == 403
    assert made not in first.get("/dashboard/account").body.decode()
    key_id = [row["key_id"] for row in server.api("GET", "/v1/keys", key=key).json()["data"] if row["name"] == "Phone"]
    assert first.post("/dashboard/revoke", key_id=key_id[0]).status == 200  # asks first
    assert server.upload(PNG, key=made).status == 201
    assert first.post("/dashboard/revoke", key_id=key_id[0], sure="1").status == 303
    assert server.upload(PNG, key=made).status == 401
    assert first.post("/dashboard/sign-out", all="1").status == 303
    for browser in (first, second):
        assert b"Sign in" in browser.get("/dashboard").body


def test_signing_in_needs_a_key_that_may_do_everything(server):
    owner = server.new_key("signin@private.example")
    small = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=owner).json()["key"]
    unverified = server.new_key("unverified@private.example", verified=False)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.base}
    for key, status in ((small, 403), (unverified, 403), ("img_live_" + "x" * 32, 401), ("", 401)):
        answer = server.request("POST", "/dashboard/sign-in", f"key={key}".encode(), form)
        assert answer.status == status
        assert "Set-Cookie" not in answer.headers
