"""A browser's session changes things only for our own pages: a token that they know, sent from our own origin."""

import time

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, multipart, running
from tests.signed_in import SignedIn, by_key

JPEG = encoded(make_image("RGB", (40, 30)), "JPEG")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("csrf"), UNLIMITED) as found:
        yield found


class Browser(SignedIn):
    """One that also calls the API, as scripts of our pages do."""

    def api(self, method, path, body=None, **headers):
        return self.server.api(method, path, body, Cookie=self.cookie, **headers)

    def upload(self, path, **headers):
        content, kind = multipart([("file", "a.jpg", JPEG)])
        return self.server.request("POST", path, content, {"Content-Type": kind, "Cookie": self.cookie, **headers})


def signed_in(server, key):
    return Browser(server, by_key(server, key).cookie)


@pytest.fixture
def key(server):
    return server.new_key(f"ann{time.time_ns()}@example.org")


@pytest.fixture
def browser(server, key):
    return signed_in(server, key)


@pytest.fixture
def own(server, key):
    return server.must_upload(JPEG, key=key)


def still_there(server, key, image):
    return server.api("GET", f"/v1/media/{image['id']}", key=key).status == 200


def test_a_page_of_ours_may_do_all_that_a_key_may(server, browser, own):
    ours = {"Origin": server.base, "X_CSRF_Token": browser.token}
    answer = browser.api("PATCH", f"/v1/media/{own['id']}", {"name": "new.jpg"}, **ours)
    assert answer.json()["name"] == "new.jpg"
    assert browser.api("GET", "/v1/keys").status == 200
    assert browser.api("DELETE", f"/v1/media/{own['id']}", **ours).status == 200
    assert browser.api("GET", f"/v1/media/{own['id']}").status == 404


def test_a_browser_that_says_where_its_request_came_from_is_believed(server, browser, own):
    ours = {"Sec_Fetch_Site": "same-origin", "X_CSRF_Token": browser.token}
    assert browser.api("PATCH", f"/v1/media/{own['id']}", {"name": "x.jpg"}, **ours).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_another_site_may_not_even_with_the_token(server, key, browser, own, headers):
    answer = browser.api("DELETE", f"/v1/media/{own['id']}", X_CSRF_Token=browser.token, **headers)
    assert answer.status == 403
    assert still_there(server, key, own)


@pytest.mark.parametrize("spoil", [lambda t: "", lambda t: "x", lambda t: t[:-1] + "~", lambda t: "é"])
def test_without_the_right_token_nothing_is_done(server, key, browser, own, spoil):
    sent = spoil(browser.token)
    headers = {"X_CSRF_Token": sent} if sent.isascii() else {}
    path = f"/v1/media/{own['id']}" + ("" if sent.isascii() else "?csrf=%C3%A9")
    answer = browser.api("DELETE", path, Origin=server.base, **headers)
    assert answer.status in (401, 403)
    assert still_there(server, key, own)


def test_the_token_of_another_session_is_none(server, key, browser, own):
    second = signed_in(server, key)
    assert second.token != browser.token
    answer = browser.api("DELETE", f"/v1/media/{own['id']}", Origin=server.base, X_CSRF_Token=second.token)
    assert answer.status == 403
    assert still_there(server, key, own)


def test_a_session_that_ended_is_told_so(server, browser, own):
    answer = server.api("DELETE", f"/v1/media/{own['id']}", Origin=server.base, X_CSRF_Token=browser.token)
    assert answer.status == 401
    assert "not signed in" in answer.json()["message"]


def test_an_upload_belongs_to_who_is_signed_in_if_the_form_was_ours(server, key, browser):
    def owner_sees(answer):
        assert answer.status == 201, answer
        return server.api("GET", f"/v1/media?ids={answer.json()['id']}", key=key).json()["data"] != []

    assert owner_sees(browser.upload(f"/v1/upload?csrf={browser.token}", Origin=server.base))
    assert owner_sees(browser.upload("/v1/upload", **{"Origin": server.base, "X-CSRF-Token": browser.token}))
    assert not owner_sees(browser.upload("/v1/upload", Origin=server.base))
    assert browser.upload(f"/v1/upload?csrf={browser.token}", Origin="http://evil.example").status == 403


def test_a_key_needs_no_token(server, key, browser, own):
    answer = server.api("DELETE", f"/v1/media/{own['id']}", key=key, Origin="http://other.example")
    assert answer.status == 200


@pytest.mark.parametrize("path", ["keys", "revoke", "sign-out"])
def test_forms_need_the_token_too(server, key, browser, path):
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.base, "Cookie": browser.cookie}
    before = server.api("GET", "/v1/keys", key=key).json()
    assert server.request("POST", f"/dashboard/{path}", b"name=x", kind).status == 403
    assert server.request("POST", f"/dashboard/{path}", b"name=x&csrf=wrong", kind).status == 403
    assert server.api("GET", "/v1/keys", key=key).json() == before
    assert server.get("/dashboard/account", Cookie=browser.cookie).status == 200
