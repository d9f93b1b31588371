"""What the operator's pages show and do, and that nobody else gets there."""

import logging
import re
import sqlite3
import time

import pytest

from imgpro.cli.logs import set_up_logging
from imgpro.flows.log_lines import MAX_CHARS, MAX_LINES, LogLine, LogLines
from imgpro.flows.overview import Disk
from imgpro.settings import Log
from imgpro.store.queries_operator import Growth
from imgpro.web.operator import chart, forecast
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running
from tests.signed_in import FORM, by_key, claimed

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
KEY = re.compile(r"img_live_[0-9A-Za-z]{32}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    env = {
        **UNLIMITED,
        "IMGPRO_PLANS_FREE_UPLOADS": "50",
        "IMGPRO_PLANS_CHECKOUT_SECRET": "checkout-secret-of-this-test",
        "IMGPRO_MAIL_PASSWORD": "password-of-this-test",
    }
    with running(tmp_path_factory.mktemp("operator") / "data", env) as found:
        yield found


@pytest.fixture(scope="module")
def operator(server):
    return claimed(server)


@pytest.fixture
def email():
    return f"ann{time.time_ns()}@example.org"


def row_of(server, email):
    return next(row for row in server.operate("list")["accounts"] if row["email"] == email)


def page_of(server, email):
    return f"/operator/accounts/{row_of(server, email)['id']}"


def text(answer):
    assert answer.status == 200, answer
    return answer.body.decode()


# Who gets in


def test_members_and_strangers_see_and_do_nothing(server, operator, email):
    key = server.new_key(email)
    member, victim = by_key(server, key), f"victim{email}"
    server.new_key(victim)
    target = page_of(server, victim)
    for path in ("/operator", "/operator/settings", "/operator/log", "/operator/accounts", target):
        answer = member.get(path)
        assert answer.status == 403
        assert victim.encode() not in answer.body
        assert server.get(path).status == 303
    for path, fields in (
        (target, {"do": "block", "sure": "1"}),
        (target, {"do": "sign-in-link"}),
        ("/operator/invite", {}),
        ("/operator/pictures", {"links": "4fT0a1b2c3d4", "sure": "1"}),
        ("/operator/decide", {"email": email, "decision": "approve"}),
    ):
        answer = member.post(path, **fields)
        assert answer.status == 403, path
        assert b"sign-in?t=" not in answer.body
    assert row_of(server, victim)["blocked"] is False


def test_who_is_no_operator_any_more_is_judged_at_once(server, operator, email):
    server.new_key(email)
    with sqlite3.connect(server.data / "imgpro.db") as conn:
        conn.execute("UPDATE accounts SET role = 'operator' WHERE email = ?", (email,))
    conn.close()
    link = server.operate("sign-in-link", email=email)["link"]
    answer = server.request("POST", "/sign-in", link.partition("?")[2].encode(), {**FORM, "Origin": server.base})
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert server.get("/operator", Cookie=cookie).status == 200
    with sqlite3.connect(server.data / "imgpro.db") as conn:
        conn.execute("UPDATE accounts SET role = 'member' WHERE email = ?", (email,))
    conn.close()
    assert server.get("/operator", Cookie=cookie).status == 403


# Accounts


def test_accounts_are_found_and_paged(server, operator):
    with sqlite3.connect(server.data / "imgpro.db") as conn:
        conn.executemany(
            "INSERT INTO accounts (id, email, role, plan, created_ms, verified_ms) VALUES (?, ?, 'member', 'free', 1, 1)",
            [(f"acc_paged{n:04}", f"paged{n:04}@many.example") for n in range(120)],
        )
    conn.close()
    found, path = [], "/operator/accounts?q=%40MANY.example"
    while path:
        page = text(operator.get(path))
        found += re.findall(r"(paged\d{4})@many", page)
        following = re.search(r'rel="next" href="\.\./(operator/accounts[^"]+)"', page)
        path = f"/{following[1]}".replace("&amp;", "&") if following else None
    assert found == [f"paged{n:04}" for n in range(119, -1, -1)]
    assert "No address has" in text(operator.get("/operator/accounts?q=%25nobody%27"))
    assert operator.get("/operator/accounts?before=%D9%A3").status == 200
    assert operator.get("/operator/accounts/acc_doesnotexist").status == 404


def test_vouching_for_an_address_says_which_keys(server, operator, email):
    made = [server.api("POST", "/v1/keys", {"email": email, "name": name}).json() for name in ("mine", "<b>thief</b>")]
    page = text(operator.get(page_of(server, email)))
    assert "&lt;b&gt;thief&lt;/b&gt;" in page
    assert email in text(operator.get("/operator"))
    answer = operator.post(page_of(server, email), do="verify", **{f"keep-{made[0]['key_id']}": "on"})
    assert answer.status == 303
    assert [server.api("GET", "/v1/usage", key=one["key"]).status for one in made] == [200, 401]
    assert row_of(server, email)["verified"] is True


def test_turning_an_address_down(server, operator, email):
    made = server.api("POST", "/v1/keys", {"email": email}).json()
    image = server.must_upload(PNG, key=made["key"])
    path = page_of(server, email)
    assert b"Turn" in operator.post(path, do="refuse").body  # asks first
    assert server.api("GET", "/v1/usage", key=made["key"]).status == 200
    assert operator.post(path, do="refuse", sure="1").status == 303
    assert server.api("GET", "/v1/usage", key=made["key"]).status == 401
    assert row_of(server, email)["images"] == 0
    assert server.get(image["src"]).status == 200
    # An account that somebody vouched for is not turned down.
    kept = f"kept{email}"
    server.new_key(kept)
    assert operator.post(page_of(server, kept), do="refuse", sure="1").status == 422


def test_plans_are_changed_and_decided(server, operator, email):
    key = server.new_key(email)
    path = page_of(server, email)
    assert operator.post(path, do="plan", plan="scale").status == 303
    assert server.api("GET", "/v1/usage", key=key).json()["plan"] == "scale"
    assert operator.post(path, do="plan", plan="golden").status == 422
    offer = re.search(r'href="\.\./(upgrade/max[^"]+)"', text(by_key(server, key).get("/dashboard/account")))[1]
    target, _, query = offer.replace("&amp;", "&").partition("?")
    assert server.request("POST", f"/{target}", query.encode(), FORM).status == 200
    assert "You asked for Max" in text(by_key(server, key).get("/dashboard/account"))
    assert f"<strong>{email}</strong> asks for Max" in text(operator.get("/operator"))
    # What is granted is what was seen.
    wrong = operator.post("/operator/decide", email=email, plan="pro", decision="approve")
    assert wrong.status == 422
    answer = operator.post("/operator/decide", email=email, plan="max", decision="approve")
    assert (answer.status, answer.headers["Location"]) == (303, "../operator?said=approved")
    assert "The plan is granted." in text(operator.get("/operator?said=approved"))
    assert server.api("GET", "/v1/usage", key=key).json()["plan"] == "max"


def test_blocking_and_deleting_all_pictures(server, operator, email):
    key = server.new_key(email)
    member = by_key(server, key)
    image = server.must_upload(PNG, key=key)
    path = page_of(server, email)
    assert operator.post(path, do="delete", sure="1", typed=email).status == 422  # not while it may upload
    assert operator.post(path, do="block").status == 200
    assert row_of(server, email)["blocked"] is False
    assert operator.post(path, do="block", sure="1").status == 303
    assert server.api("GET", "/v1/usage", key=key).status == 403
    assert member.get("/dashboard/account").status == 303
    assert server.get(image["src"]).status == 200
    for typed in ("", "somebody@else.example"):
        answer = operator.post(path, do="delete", sure="1", typed=typed)
        assert answer.status == 422
        assert b"That is not" in answer.body
    assert server.get(image["src"]).status == 200
    assert operator.post(path, do="delete", sure="1", typed=email.upper()).status == 303
    assert server.get(image["src"]).status == 404
    assert operator.post(path, do="unblock", sure="1").status == 303
    assert server.api("GET", "/v1/usage", key=key).status == 200


def test_the_operator_blocks_nobody_of_the_trade(server, operator):
    path = page_of(server, "op@example.org")
    assert "Block" not in re.sub(r"<style.*", "", text(operator.get(path)))
    assert operator.post(path, do="block", sure="1").status == 403


def test_an_invitation_is_shown_once_with_its_code(server, operator, email):
    page = text(operator.post("/operator/invite", email=email))
    link = re.search(r'value="(http[^"]+/join\?t=\w+)"', page)[1]
    assert link.startswith(server.base)
    assert '<svg viewBox="' in page
    sent = f"{link.partition('?')[2]}&email={email}".encode()
    assert KEY.search(server.request("POST", "/join", sent, FORM).body.decode())
    assert operator.post("/operator/invite", email="no address").status == 422


def test_a_link_that_signs_in(server, operator, email):
    server.new_key(email)
    page = text(operator.post(page_of(server, email), do="sign-in-link"))
    link = re.search(r'value="http[^"]+(/sign-in\?t=\w+)"', page)[1]
    answer = server.request("POST", "/sign-in", link.partition("?")[2].encode(), {**FORM, "Origin": server.base})
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert email.encode() in server.get("/dashboard/account", Cookie=cookie).body


def test_links_are_for_the_address_that_the_operator_uses(server, operator, email):
    page = server.request(
        "POST",
        "/operator/invite",
        f"csrf={operator.token}".encode(),
        {**FORM, "Cookie": operator.cookie, "Host": "nas.local:81", "Origin": "http://nas.local:81"},
    )
    assert b'value="http://nas.local:81/join?t=' in page.body


# Pictures


def test_what_came_lately(server, operator, email):
    key = server.new_key(email)
    public = server.must_upload(PNG, "shown.png", key=key)
    private = server.must_upload(PNG, "hush.png", key=key, public="false")
    page = text(operator.get("/operator"))
    assert f"t/{public['id']}." in page
    assert f'name="id-{private["id"]}"' in page
    # Private means private: not the picture, not its page, not its name, not its signature.
    assert f"t/{private['id']}" not in page
    assert "hush.png" not in page
    assert "sig=" not in page.split('id="lately"')[1]
    assert server.get(private["src"], Cookie=operator.cookie).status == 404


def test_pictures_are_deleted_by_tick_and_by_link(server, operator, email):
    key = server.new_key(email)
    images = [server.must_upload(PNG, key=key, public=public) for public in ("true", "false", "true", "true")]
    fields = {f"id-{images[0]['id']}": "on", "links": f"{images[1]['url']} {images[2]['src']}?size=m"}
    asked = operator.post("/operator/pictures", **fields)
    assert b"Delete 3 pictures?" in asked.body
    assert server.get(images[0]["src"]).status == 200
    assert operator.post("/operator/pictures", sure="1", **fields).status == 303
    left = [server.api("GET", f"/v1/media/{image['id']}", key=key).status for image in images]
    assert left == [404, 404, 404, 200]
    for links in ("", "no id here", "../../etc/passwd"):
        assert operator.post("/operator/pictures", sure="1", links=links).status == 422


# Storage, health, settings, log


def test_storage_and_health_are_those_of_the_server(server, operator):
    page = text(operator.get("/operator"))
    assert re.search(r"<strong>[\d.]+ [KMGT]B free</strong> of [\d.]+ [KMGT]B; imgpro uses [\d.]+ [KM]B; ", page)
    for words in ("Serving", "Takes writes", "Has room", "No mail server", "None yet"):
        assert words in page, words
    (server.data / "backups" / "copy-1.db").write_bytes(b"x" * 2048)
    assert "copy-1.db; 1 copy of the database, 2 KB" in text(operator.get("/operator"))
    added = int(re.search(r"; ([\d,]+) files came", page)[1].replace(",", ""))
    server.must_upload(encoded(make_image("RGB", (33, 21)), "PNG"))
    assert f"; {added + 1:,} files came" in text(operator.get("/operator"))


def test_settings_say_where_they_come_from_and_no_secret(server, operator):
    page = text(operator.get("/operator/settings"))
    rows = dict(re.findall(r"<code>([a-z]+\.\w+)</code>.*?<td>(.*?)</td></tr>", page))
    assert "IMGPRO_PLANS_FREE_UPLOADS" in rows["plans.free_uploads"]
    assert "command line" in rows["server.listen"]
    assert "default" in rows["plans.pro_uploads"]
    for name, source in (("mail.password", "IMGPRO_MAIL_PASSWORD"), ("plans.checkout_secret", "IMGPRO_PLANS")):
        assert source in rows[name]
        assert "(set, not shown)" in rows[name]
    assert "of-this-test" not in page


def test_the_log_is_shown_and_narrowed(server, operator, email):
    server.api("POST", "/v1/keys", {"email": email})
    deadline = time.monotonic() + 10
    while email not in (page := text(operator.get("/operator/log"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"hand this link to {email}" in page
    only = text(operator.get("/operator/log?only=warnings"))
    assert email in only
    assert 'class="info"' not in only


def test_the_tail_is_bounded(monkeypatch):
    lines = LogLines()
    for number in range(MAX_LINES + 10):
        lines.add(LogLine(1.0, "warning" if number % 2 else "info", "imgpro", f"{number} " + "x" * 10 * MAX_CHARS))
    found = lines.newest()
    assert len(found) == MAX_LINES
    assert found[0].text.startswith(f"{MAX_LINES + 9} ")
    assert max(len(line.text) for line in found) < MAX_CHARS + 20
    assert {line.level for line in lines.newest(grave_only=True)} == {"warning"}
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    kept = set_up_logging(Log(level="info")).lines
    logging.getLogger("imgpro.test").info("hello %s", "there")
    logging.getLogger("imgpro.test").debug("not wanted")
    try:
        raise ValueError("in its last line")
    except ValueError:
        logging.getLogger("imgpro.test").exception("a failure")
    assert [line.level for line in kept.newest()] == ["error", "info"]
    assert kept.newest()[1].text == "hello there"
    assert kept.newest()[0].text.endswith("in its last line")


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (None, "more than ten years"),
        (0, "a day or two"),
        (13, "about 13 days"),
        (30, "about 4 weeks"),
        (275, "about 9 months"),
        (1_100, "about 3 years"),
    ],
)
def test_how_long_the_room_lasts_in_words(days, words):
    disk = Disk(total_bytes=100, free_bytes=50, own_bytes=10, reserve_bytes=5, full_in_days=days)
    assert words in forecast(disk)


def test_a_full_disk_says_so():
    disk = Disk(total_bytes=100, free_bytes=4, own_bytes=10, reserve_bytes=5, full_in_days=None)
    assert forecast(disk) == "uploads are refused until there is more room"


def test_the_chart_stays_in_its_picture():
    days = [Growth(n, 1, added, removed) for n, (added, removed) in enumerate([(0, 0), (10, 0), (0, 30), (5, 5)])]
    shown = chart(days)
    assert (shown["sum"], shown["added"]) == (-20, 4)
    assert [bar["less"] for bar in shown["bars"]] == [False, False, True, False]
    for bar in shown["bars"]:
        assert bar["y"] >= 0
        assert bar["y"] + bar["height"] <= 100
    assert chart([Growth(n, 0, 0, 0) for n in range(30)])["sum"] == 0


def test_strangers_hide_no_link_of_somebody_who_waits_to_sign_in(server, operator, email):
    server.new_key(email)
    form = {**FORM, "Origin": server.base}
    assert server.request("POST", "/dashboard/sign-in/link", f"email={email}".encode(), form).status == 202
    deadline = time.monotonic() + 20
    while not row_of(server, email)["links"] and time.monotonic() < deadline:
        time.sleep(0.1)
    for number in range(55):
        server.new_key(f"stranger{number}-{email}", verified=False)
    assert row_of(server, email)["links"][0] in text(operator.get("/operator"))
