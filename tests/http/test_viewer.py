"""The page of a picture over HTTP: what its owner sees and nobody else, and its forms without a script."""

import re
from urllib.parse import urlencode, urlsplit

import pytest
import segno

from tests.markup import Page
from tests.pictures import encoded, film, make_image
from tests.servers import UNLIMITED, running

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = "application/x-www-form-urlencoded"
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
GONE = "There is nothing at this address."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("viewer") / "data", UNLIMITED) as found:
        yield found


class Person:
    """Somebody who is signed in."""

    def __init__(self, server, key):
        self.server = server
        self.key = key
        answer = server.request(
            "POST", "/dashboard/sign-in", urlencode({"key": self.key}).encode(),
            {"Content-Type": FORM, "Origin": server.base, **HTML},
        )  # fmt: skip
        assert answer.status == 303, answer
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def upload(self, name="a.png", body=PNG, **fields):
        return self.server.must_upload(body, name, key=self.key, **fields)

    def get(self, path):
        answer = self.server.get(path, Cookie=self.cookie, **HTML)
        return answer, Page(answer.body)

    def csrf(self, path):
        _, page = self.get(path)
        return page.meta()["csrf"]

    def post(self, path, fields, **headers):
        sent = {"Content-Type": FORM, "Cookie": self.cookie, "Origin": self.server.base, **HTML, **headers}
        return self.server.request("POST", path, urlencode(fields).encode(), sent)


@pytest.fixture(scope="module")
def ann(server):
    return Person(server, server.new_key("ann@example.org"))


@pytest.fixture(scope="module")
def bob(server):
    return Person(server, server.new_key("bob@example.org"))


def path_of(found):
    return f"/{found['id']}"


def beside(page):
    return {attrs["rel"]: attrs["href"] for attrs in page.all("a") if attrs.get("rel") in ("prev", "next")}


def values_of(page):
    """Return what stands in the fields of the form."""
    fields = {attrs["name"]: attrs["value"] for attrs in page.all("input") if attrs.get("id", "").startswith("edit-")}
    assert set(fields) == {"name", "tags", "namespace", "date"}
    return fields


# Who sees what


def test_a_stranger_sees_nothing_of_the_account(server, ann, bob):
    around = [ann.upload(f"secret-{n}.png", namespace="hush-hush", tags="inner") for n in range(3)]
    path = path_of(around[1])
    _, mine = ann.get(path)
    assert set(beside(mine)) == {"prev", "next"}
    assert "hush-hush" in mine.text
    for answer, page in ((server.get(path, **HTML), None), bob.get(path)):
        body = answer.body.decode()
        page = page or Page(answer.body)
        assert answer.status == 200
        for word in ("hush-hush", "inner", "ann@example.org", "secret-0", "secret-2", around[0]["id"], around[2]["id"]):
            assert word not in body, word
        assert beside(page) == {}
        assert not [attrs for attrs in page.all("form") if "edit" in attrs.get("action", "")]
        assert "/remove" not in body
        assert "/delete" not in body


def test_neighbours_are_of_the_namespace_or_else_of_all(ann):
    home = [ann.upload(f"{n}.png", namespace="garden") for n in range(2)]
    loose = ann.upload("loose.png")
    last = ann.upload("last.png", namespace="garden")
    assert beside(ann.get(path_of(home[1]))[1]) == {"prev": f"./{last['id']}", "next": f"./{home[0]['id']}"}
    assert beside(ann.get(path_of(last))[1]) == {"next": f"./{home[1]['id']}"}
    assert beside(ann.get(path_of(loose))[1]) == {"prev": f"./{last['id']}", "next": f"./{home[1]['id']}"}


def test_private_neighbours_show_to_the_session_and_are_not_fetched_early(ann, bob):
    hidden = ann.upload("hidden.png", namespace="cellar", public="false")
    shown = ann.upload("shown.png", namespace="cellar")
    answer, page = ann.get(path_of(shown))
    (link,) = [attrs for attrs in page.all("a") if attrs.get("rel") == "next"]
    assert (link["href"], link["data-ahead"]) == (f"./{hidden['id']}", "")
    answer, page = ann.get(path_of(hidden))
    assert answer.status == 200
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    (link,) = [attrs for attrs in page.all("a") if attrs.get("rel") == "prev"]
    assert link["data-ahead"] == f"./t/{shown['id']}.png?size=l"
    assert bob.get(path_of(hidden))[0].status == 404


def test_the_owner_of_a_private_picture_is_given_links_that_others_can_use(server, ann):
    found = ann.upload("p.png", public="false")
    _, page = ann.get(path_of(found))
    assert "Each of these works for 7 days" in page.text
    links = page.fields()
    assert len(links) == 5
    for link in links:
        path = urlsplit(re.search(r"http://[^\s\"\]\[)]+", link)[0].replace("&amp;", "&"))
        assert server.get(f"{path.path}?{path.query}", **HTML).status == 200, link
    assert server.get(path_of(found), **HTML).status == 404
    # The page itself needs no signature: what it shows, its owner's session shows.
    shown = next(attrs["src"] for attrs in page.all("img") if attrs.get("class") == "shown")
    assert "sig=" not in shown


def test_gone_and_private_are_the_same_page_to_each_who_asks(server, ann, bob):
    private, gone = ann.upload("b.png", public="false"), ann.upload("c.png")
    assert server.api("DELETE", f"/v1/media/{gone['id']}", key=ann.key).status == 200
    paths = [path_of(private), path_of(gone), "/AAAAAAAAAAAA"]
    outside = [server.get(path, **HTML) for path in paths]
    signed_in = [bob.get(path)[0] for path in paths]
    for answers in (outside, signed_in):
        assert [answer.status for answer in answers] == [404] * 3
        # The way back after signing in names the address that was asked for.
        same = {answer.body.replace(path.encode(), b"") for answer, path in zip(answers, paths, strict=True)}
        assert len(same) == 1
        assert GONE in answers[0].body.decode()
    assert "Sign in" in Page(outside[0].body).text
    assert "Sign in" not in Page(signed_in[0].body).text


def test_the_code_for_phones_is_the_link_and_as_private(server, ann, bob):
    found, hidden = ann.upload("q.png"), ann.upload("r.png", public="false")
    answer = server.get(f"{path_of(found)}/qr.svg")
    assert answer.headers["Content-Type"] == "image/svg+xml"
    body = answer.body.decode()
    assert "#fff" in body
    assert "#000" in body
    assert "script" not in body
    meant = segno.make_qr(found["url"], error="m").svg_inline(border=4, omitsize=True)
    assert (
        re.search(r'stroke="#000"[^>]* d="([^"]+)"', body)[1] == re.search(r'stroke="#000"[^>]* d="([^"]+)"', meant)[1]
    )
    assert server.get(f"{path_of(hidden)}/qr.svg").status == 404
    assert bob.get(f"{path_of(hidden)}/qr.svg")[0].status == 404
    assert ann.get(f"{path_of(hidden)}/qr.svg")[0].status == 200


# What it says


def test_times_and_ends_are_in_words(server, ann):
    for ttl, words in (("3d", "Ends in 3 days"), ("90m", "Ends in 90 minutes"), ("36h", "Ends in 36 hours")):
        _, page = ann.get(path_of(ann.upload("t.png", ttl=ttl)))
        assert words in page.text
    dated = ann.upload("d.png", date="2026-05-31T18:30:00+02:00")
    _, page = ann.get(path_of(dated))
    assert "Dated 31 May 2026, 18:30 UTC+02:00, uploaded" in page.text
    assert "Ends" not in page.text.partition("Share")[0].partition("Edit")[0]
    assert page.all("time")[0]["datetime"] == "2026-05-31T18:30:00+02:00"


PICTURES = {
    "photo": (lambda: encoded(make_image("RGB", (1800, 1200)), "JPEG"), ["JPEG", "PNG", "WebP", "AVIF"]),
    "moving": (lambda: film("GIF", 3, (700, 500)), ["WebP", "GIF", "JPEG", "PNG", "AVIF"]),
    "bitmap": (lambda: encoded(make_image("RGB", (700, 500)), "BMP"), ["JPEG", "PNG", "WebP", "AVIF", "BMP"]),
    "drawing": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>', ["SVG"]),
    "wide": (lambda: encoded(make_image("RGB", (17_000, 40)), "PNG"), ["JPEG", "PNG", "AVIF"]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_size_and_format_that_is_offered_is_there(server, kind):
    make, formats = PICTURES[kind]
    found = server.must_upload(make(), "x")
    page = Page(server.get(path_of(found), **HTML).body)
    links = [attrs for attrs in page.all("a") if attrs.get("rel") == "nofollow"]
    original = [attrs["aria-label"].partition(", ")[2] for attrs in links if "Original" in attrs["aria-label"]]
    assert original == formats
    for attrs in links:
        answer = server.get("/" + attrs["href"].removeprefix("./"))
        wanted = attrs["aria-label"].partition(", ")[2].lower()
        assert answer.status == 200, attrs
        assert wanted in answer.headers["Content-Type"], attrs
    smaller = {attrs["aria-label"].partition(",")[0] for attrs in links} - {"Original"}
    assert smaller == {name.title() for name in ("small", "medium", "large") if _shrinks(found, name)}


def _shrinks(found, name):
    return found["sizes"][name[0]]["width"] < found["width"]


# Changing


def test_the_form_changes_everything_without_a_script(server, ann):
    found = ann.upload("old.png")
    path = path_of(found)
    fields = {
        "csrf": ann.csrf(path), "name": "new.png", "description": "Two\r\nlines", "tags": "One, two", "namespace": "attic",
        "public": "false", "ttl": "604800", "date": "2026-05-31",
    }  # fmt: skip
    answer = ann.post(f"{path}/edit", fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"..{path}")
    now = server.api("GET", f"/v1/media{path}", key=ann.key).json()
    wanted = {"name": "new.png", "description": "Two\nlines", "tags": ["one", "two"], "namespace": "attic",
              "public": False, "date": "2026-05-31"}  # fmt: skip
    assert {name: now[name] for name in wanted} == wanted
    assert "expires_at" in now
    _, page = ann.get(path)
    assert values_of(page) == {"name": "new.png", "tags": "one, two", "namespace": "attic", "date": "2026-05-31"}
    answer = ann.post(f"{path}/edit", {**fields, "tags": "", "namespace": "", "ttl": "", "date": "", "public": "true"})
    assert answer.status == 303
    now = server.api("GET", f"/v1/media{path}", key=ann.key).json()
    assert (now["tags"], now["namespace"], now["date"], now["public"]) == ([], None, None, True)
    assert "expires_at" not in now


def test_an_end_that_is_kept_stays(server, ann):
    found = ann.upload("a.png", ttl="3d")
    path = path_of(found)
    answer = ann.post(f"{path}/edit", {"csrf": ann.csrf(path), "name": "b.png", "ttl": "keep"})
    assert answer.status == 303
    now = server.api("GET", f"/v1/media{path}", key=ann.key).json()
    assert (now["name"], now["expires_at"]) == ("b.png", found["expires_at"])


@pytest.mark.parametrize("public", ["true", "false"])
def test_a_refusal_stands_beside_its_field_and_nothing_typed_is_lost(server, ann, public):
    found = ann.upload("kept.png", public=public)
    path = path_of(found)
    typed = {"name": "", "description": "typed", "tags": "a,b", "namespace": "NOT good", "date": "soon"}
    answer = ann.post(f"{path}/edit", {"csrf": ann.csrf(path), **typed})
    assert answer.status == 422
    page = Page(answer.body)
    assert values_of(page) == {name: typed[name] for name in ("name", "tags", "namespace", "date")}
    assert "Must be 2 to 64 of a-z" in page.text
    assert "A name must have at least one character" in page.text
    assert "Must be a date such as" in page.text
    wrong = {attrs["name"] for _, attrs in page.tags if "aria-invalid" in attrs}
    assert wrong == {"name", "namespace", "date"}
    assert any("open" in attrs for attrs in page.all("details") if attrs.get("id") == "edit")
    # The page lies one level deeper now, and everything on it still leads somewhere.
    assert next(attrs["action"] for attrs in page.all("form") if attrs.get("method") == "post") == f"..{path}/edit"
    assert server.api("GET", f"/v1/media{path}", key=ann.key).json()["name"] == "kept.png"


def test_only_the_owner_changes_and_only_from_an_own_page(server, ann, bob):
    found = ann.upload("a.png")
    path = path_of(found)
    token, others = ann.csrf(path), bob.csrf(path)
    assert bob.post(f"{path}/edit", {"csrf": others, "name": "b.png"}).status == 404
    assert bob.post(f"{path}/edit", {"csrf": others, "namespace": "NOT good"}).status == 404
    assert ann.post(f"{path}/edit", {"name": "b.png"}).status == 403
    assert ann.post(f"{path}/edit", {"csrf": others, "name": "b.png"}).status == 403
    assert ann.post(f"{path}/edit", {"csrf": token, "name": "b.png"}, Origin="http://evil.example").status == 403
    assert ann.post(f"{path}/edit", {"csrf": token, "name": "b.png"}, Cookie="").status == 401
    assert server.api("GET", f"/v1/media{path}", key=ann.key).json()["name"] == "a.png"


# Deleting


def test_the_owner_is_asked_and_deletes_without_a_script(server, ann, bob):
    found = ann.upload("a.png", public="false")
    path = f"{path_of(found)}/remove"
    assert server.get(path, **HTML).status == 404
    assert bob.get(path)[0].status == 404
    answer, page = ann.get(path)
    assert answer.status == 200
    assert "Delete this picture?" in page.text
    shown = next(attrs["src"] for attrs in page.all("img") if attrs.get("class") == "thumb")
    assert server.get("/" + shown.removeprefix("../")).status == 200
    assert ann.post(path, {}).status == 403
    assert bob.post(path, {"csrf": bob.csrf("/dashboard/account")}).status == 404
    assert server.api("GET", f"/v1/media/{found['id']}", key=ann.key).status == 200
    answer = ann.post(path, {"csrf": page.meta()["csrf"]})
    assert answer.status == 200
    assert "The picture is deleted" in Page(answer.body).text
    assert server.api("GET", f"/v1/media/{found['id']}", key=ann.key).status == 404


def test_the_operator_deletes_what_everybody_sees_and_changes_nothing(server, ann):
    token = re.search(r"/setup\?t=(\w+)", server.log())[1]
    headers = {"Content-Type": FORM, "Origin": server.base, **HTML}
    claimed = server.request("POST", "/setup", urlencode({"t": token, "email": "op@example.org"}).encode(), headers)
    operator = Person(server, re.search(r"img_live_\w{32}", claimed.body.decode())[0])
    found = ann.upload("a.png")
    path = path_of(found)
    answer, page = operator.get(path)
    assert f".{path}/remove" in [attrs["href"] for attrs in page.all("a")]
    assert not [attrs for attrs in page.all("form") if "edit" in attrs.get("action", "")]
    assert beside(page) == {}
    answer = operator.post(f"{path}/remove", {"csrf": page.meta()["csrf"]})
    assert answer.status == 200
    assert server.get(path).status == 404
