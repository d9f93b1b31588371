"""Plans and quotas: counted in the transaction that stores, told on every answer, with the right way out."""

import concurrent.futures
import hashlib
import hmac
import re
import sqlite3
import time

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, multipart, running

PNG = encoded(make_image("RGB", (32, 24)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LIMITED = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "7", "IMGPRO_PLANS_UNVERIFIED_UPLOADS": "3"}


def another(number):
    return encoded(make_image("RGB", (32 + number, 24)), "PNG")


def follow(server, url):
    """Press the button on the page of an upgrade link."""
    path, _, query = url.removeprefix(server.base).partition("?")
    return server.request("POST", path, query.encode(), FORM)


def test_a_hundred_uploads_at_once_take_exactly_what_is_left(tmp_path):
    with running(tmp_path / "data", {**LIMITED, "IMGPRO_UPLOADS_MAX_IN_FLIGHT_PER_NETWORK": "64"}) as server:
        key = server.new_key("ann@example.org")
        server.must_upload(PNG, key=key)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: server.upload(another(n % 5), key=key), range(100)))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [201] * 6 + [403] * 94
        refused = next(answer for answer in answers if answer.status == 403).json()
        assert refused["error"] == "quota_exceeded"
        usage = server.api("GET", "/v1/usage", key=key).json()
        assert usage["uploads"] == {"used": 7, "limit": 7}
        with sqlite3.connect(server.data / "imgpro.db") as conn:
            assert conn.execute("SELECT count(*) FROM images").fetchone() == (7,)
        conn.close()


def test_storage_is_counted_with_the_same_exactness(tmp_path):
    room = 5 * len(PNG) + 3
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_STORAGE_BYTES": str(room)}) as server:
        key = server.new_key("ann@example.org")
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: server.upload(PNG, key=key), range(30)))
        stored = [answer.json() for answer in answers if answer.status == 201]
        assert len(stored) == 5  # the same bytes count each time
        refused = next(answer for answer in answers if answer.status == 403).json()
        assert refused["message"].startswith("The storage")
        assert refused["action"]["label"] == "Upgrade to Pro ($10/mo) for 50 GB"
        other = server.new_key("bob@example.org")
        assert server.upload(PNG, key=other).status == 201  # and for each account
        assert server.api("DELETE", f"/v1/media/{stored[0]['id']}", key=key).status == 200
        assert server.upload(PNG, key=key).status == 201  # deleting gives storage back
        usage = server.api("GET", "/v1/usage", key=key).json()
        assert usage["storage"] == {"used": 5 * len(PNG), "limit": room}
        assert usage["uploads"]["used"] == 6  # but not uploads


@pytest.mark.parametrize(
    ("verified", "plan", "kind", "label"),
    [
        (False, "free", "verify", None),
        (True, "free", "upgrade", "Upgrade to Pro ($10/mo) for 1,000 uploads"),
        (True, "max", "redirect", None),
    ],
)
def test_the_way_out_fits_the_plan(tmp_path, verified, plan, kind, label):
    env = {**UNLIMITED, **{f"IMGPRO_PLANS_{name}_UPLOADS": "1" for name in ("UNVERIFIED", "FREE", "MAX")}}
    with running(tmp_path / "data", env) as server:
        key = server.new_key("ann@example.org", verified=verified)
        if plan != "free":
            server.operate("plan", email="ann@example.org", plan=plan)
        server.must_upload(PNG, key=key)
        for answer in (
            server.upload(PNG, key=key),
            server.api("POST", "/v1/import", {"url": "http://192.0.2.1/x.png"}, key=key),
        ):
            assert (answer.status, answer.json()["error"]) == (403, "quota_exceeded")
            body = answer.json()
            assert body["action"]["type"] == kind
            assert body["action"]["url"].startswith(server.base)
            assert label in (None, body["action"]["label"])
            assert body["usage"]["uploads_used"] == 1
            assert body["usage"]["uploads_limit"] == 1
            assert body["usage"]["plan"] == (plan if verified else "unverified")
            assert body["usage"]["storage_used_bytes"] == len(PNG)


def test_a_refused_upload_is_refused_before_its_body(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}) as server:
        key = server.new_key("ann@example.org")
        content, kind = multipart([("file", "x", b"x" * 1000)])
        headers = {**bearer(key), "Content-Type": kind, "Content-Length": "60000000", "Expect": "100-continue"}
        answer = server.request("POST", "/v1/upload", content[:10], headers)
        assert (answer.status, answer.json()["error"]) == (403, "quota_exceeded")


def test_every_answer_to_somebody_known_says_what_is_used(server):
    key = server.new_key("headers@example.org")
    found = server.must_upload(PNG, key=key)
    asked = [
        ("GET", "/v1/media", None, 200),
        ("GET", f"/v1/media/{found['id']}", None, 200),
        ("PATCH", f"/v1/media/{found['id']}", {"name": "x"}, 200),
        ("PATCH", f"/v1/media/{found['id']}", {}, 422),
        ("GET", "/v1/media/000000000000", None, 404),
        ("GET", "/v1/usage", None, 200),
        ("GET", "/v1/keys", None, 200),
        ("GET", "/v1/tags", None, 200),
        ("POST", "/v1/upload", None, 422),
    ]
    for method, path, body, status in asked:
        answer = server.api(method, path, body, key=key)
        assert answer.status == status, (path, answer)
        assert answer.headers["X-Monthly-Uploads-Used"] == "1"
        assert answer.headers["X-Monthly-Uploads-Limit"] == "100"
        assert answer.headers["X-Storage-Used-Bytes"] == str(len(PNG))
        assert answer.headers["X-Storage-Limit-Bytes"] == str(5 * 1024**3)
        assert "X-Storage-Used-Bytes" in answer.headers["Access-Control-Expose-Headers"]
    for answer in (server.get("/v1/media/000000000000"), server.upload(PNG)):
        assert "X-Monthly-Uploads-Used" not in answer.headers


def test_unlimited_is_said_as_such(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_UNLIMITED": "true"}) as server:
        key = server.new_key("ann@example.org", verified=False)
        found = server.must_upload(PNG, key=key)
        assert "expires_at" not in found
        answer = server.api("GET", "/v1/usage", key=key)
        assert answer.json()["uploads"] == {"used": 1, "limit": None}
        assert answer.json()["retention_days"] is None
        assert answer.headers["X-Monthly-Uploads-Limit"] == "unlimited"


def test_a_month_is_a_calendar_month_in_utc(tmp_path):
    with running(tmp_path / "data", {**LIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1"}) as server:
        key = server.new_key("ann@example.org")
        server.must_upload(PNG, key=key)
        assert server.upload(PNG, key=key).status == 403
        usage = server.api("GET", "/v1/usage", key=key).json()
        assert time.strftime("%d %H:%M:%S", time.gmtime(usage["resets_at"])) == "01 00:00:00"
        assert 0 < usage["resets_at"] - time.time() <= 31 * 86_400 + 1
        with sqlite3.connect(server.data / "imgpro.db") as conn:  # the month that was is another row
            conn.execute("UPDATE monthly_uploads SET month = '2020-01'")
        conn.close()
        assert server.api("GET", "/v1/usage", key=key).json()["uploads"]["used"] == 0
        assert server.upload(PNG, key=key).status == 201


def test_a_larger_file_with_a_key(tmp_path):
    env = {**UNLIMITED, "IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "2 KB", "IMGPRO_UPLOADS_MAX_BYTES": "64 KB"}
    with running(tmp_path / "data", env) as server:
        body = encoded(make_image("RGB", (120, 120)), "BMP")
        assert 2048 < len(body) < 65_536
        assert server.upload(body).status == 413
        assert server.upload(body, key=server.new_key("ann@example.org")).status == 201


# Upgrades


def offer_link(server, key):
    """Return the upgrade link of a refused upload."""
    answer = server.upload(PNG, key=key)
    assert answer.status == 403, answer
    return answer.json()["action"]["url"]


def plan_of(server, key):
    return server.api("GET", "/v1/usage", key=key).json()["plan"]


def test_by_default_the_operator_is_asked(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}) as server:
        key = server.new_key("ann@example.org")
        link = offer_link(server, key)
        assert re.fullmatch(rf"{server.base}/upgrade/pro\?t=acc_\w+&exp=\d+&sig=[\w-]+", link)
        page = server.get(link).body.decode()
        assert "1,000" in page
        assert "$10/mo" in page
        assert server.operate("list")["accounts"][0]["wants_plan"] is None  # a GET asks for nothing
        assert follow(server, link).status == 200
        assert follow(server, link).status == 200
        assert plan_of(server, key) == "free"
        assert server.operate("list")["accounts"][0]["wants_plan"] == "pro"
        assert server.operate("approve", email="ann@example.org")["plan"] == "pro"
        assert plan_of(server, key) == "pro"
        assert server.upload(PNG, key=key).status == 201
        assert follow(server, link).status == 404  # it had its effect
        assert server.get(link).status == 404


def test_a_request_can_be_declined(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}) as server:
        key = server.new_key("ann@example.org")
        assert follow(server, offer_link(server, key)).status == 200
        server.operate("decline", email="ann@example.org")
        assert server.operate("list")["accounts"][0]["wants_plan"] is None
        assert plan_of(server, key) == "free"


def test_self_service_upgrades_at_once_and_once(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0", "IMGPRO_PLANS_UPGRADE": "self_service"}
    with running(tmp_path / "data", env) as server:
        key = server.new_key("ann@example.org")
        link, again = offer_link(server, key), offer_link(server, key)
        assert follow(server, link).status == 200
        assert plan_of(server, key) == "pro"
        server.operate("plan", email="ann@example.org", plan="free")
        for used in (link, again):
            assert follow(server, used).status == 404
        assert plan_of(server, key) == "free"


def test_an_upgrade_link_is_for_one_account_and_one_plan(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0", "IMGPRO_PLANS_UPGRADE": "self_service"}
    with running(tmp_path / "data", env) as server:
        ann, bob = server.new_key("ann@example.org"), server.new_key("bob@example.org")
        link, other = offer_link(server, ann), offer_link(server, bob)
        account = re.search("t=(acc_[0-9A-Za-z]+)", other)[1]
        wrong = [
            re.sub("t=acc_[0-9A-Za-z]+", f"t={account}", link),
            link.replace("/pro?", "/max?"),
            link.replace("exp=1", "exp=2"),
            link[:-1],
            "/upgrade/pro",
            "/upgrade/pro?t=acc_x&exp=99999999999&sig=",
        ]
        for changed in wrong:
            assert server.get(changed).status == 404, changed
            assert follow(server, changed).status == 404
        assert [plan_of(server, key) for key in (ann, bob)] == ["free", "free"]


SECRET = "a secret of the checkout"
CHECKOUT = {
    **UNLIMITED,
    "IMGPRO_PLANS_FREE_UPLOADS": "0",
    "IMGPRO_PLANS_UPGRADE": "checkout",
    "IMGPRO_PLANS_CHECKOUT_URL": "https://pay.example.org/buy?who={account}&mail={email}&what={plan}&back={return_url}",
    "IMGPRO_PLANS_CHECKOUT_SECRET": SECRET,
}


def paid(token, plan, expires_s, secret=SECRET):
    text = f"{token}\n{plan}\n{expires_s}".encode()
    return f"t={token}&exp={expires_s}&sig={hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()}"


def test_the_checkout_signs_what_was_paid(tmp_path):
    with running(tmp_path / "data", CHECKOUT) as server:
        key = server.new_key("ann+x@example.org")
        link = offer_link(server, key)
        policy = server.get(link).headers["Content-Security-Policy"]
        assert "form-action 'self' https://pay.example.org;" in policy
        answer = follow(server, link)
        assert answer.status == 303
        address = answer.headers["Location"]
        assert address.startswith("https://pay.example.org/buy?who=acc_")
        assert "mail=ann%2Bx%40example.org&what=pro&back=http%3A%2F%2F" in address
        assert plan_of(server, key) == "free"  # not paid yet
        token = re.search(r"return%3Ft%3D(acc_\w+\.\d+)", address)[1]
        ends = int(time.time()) + 600
        wrong = [
            f"t={token}&exp={ends}&sig=",
            paid(token, "pro", ends, "another secret"),
            paid(token, "max", ends),
            paid(token, "pro", 1),
            paid(token.replace(".0", ".7"), "pro", ends),
            paid("acc_nobody.0", "pro", ends),
        ]
        for query in wrong:
            assert server.get(f"/upgrade/pro/return?{query}").status == 404, query
            assert server.request("POST", "/upgrade/pro/return", query.encode(), FORM).status == 404
        good = paid(token, "pro", ends)
        assert server.get(f"/upgrade/pro/return?{good}").status == 200
        assert plan_of(server, key) == "free"
        assert server.request("POST", f"/upgrade/pro/return?{good}", b"", FORM).json() == {"success": True}
        assert plan_of(server, key) == "pro"
        assert server.request("POST", f"/upgrade/pro/return?{good}", b"", FORM).status == 404
        assert SECRET not in server.log()
