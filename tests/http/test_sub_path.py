"""A server that is shown below a path of a host, whether the proxy takes that path off or leaves it on."""

import html
import json
import re
import time
from urllib.parse import urljoin, urlsplit

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, blobs, multipart, running
from tests.signed_in import FORM, SignedIn, cookie_of
from tests.terminals import Person

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
HOST = "https://example.org"
PAGE = {"Accept": "text/html"}
RAW = {"Content-Type": "image/png"}
PROXY = {"Host": "example.org", "X-Forwarded-Proto": "https"}
TRUSTING = {"IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1"}


class Below:
    """What a proxy that shows a server below `/img` does to requests."""

    def __init__(self, server, left, headers):
        self.server, self.left, self.headers = server, left, headers

    def ask(self, method, path, body=None, headers=None):
        """Ask for a path of the host, as a browser does."""
        assert path.startswith("/img/"), path
        sent = path if self.left else path.removeprefix("/img")
        return self.server.request(method, sent, body, {**self.headers, **(headers or {})})

    def get(self, path, **headers):
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def follow(self, link, **headers):
        """Ask for a link as it stands in an answer."""
        assert link.startswith(f"{HOST}/img/"), link
        return self.get(link.removeprefix(HOST), **headers)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A server whose settings name the path."""
    env = {**UNLIMITED, **TRUSTING, "IMGPRO_BASE_URL": f"{HOST}/img/", "IMGPRO_PAGES_INDEXING": "true"}
    with running(tmp_path_factory.mktemp("told") / "data", env) as found:
        yield found


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    """A server that believes what its proxy says."""
    with running(tmp_path_factory.mktemp("trusting") / "data", {**UNLIMITED, **TRUSTING}) as found:
        yield found


@pytest.fixture(params=["left", "taken off", "header", "header, left"])
def below(request, told, trusting):
    left = request.param.endswith("left")
    if request.param.startswith("header"):
        return Below(trusting, left, {**PROXY, "X-Forwarded-Prefix": "/img"})
    return Below(told, left, PROXY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A server that has the rest of the host."""
    env = {**UNLIMITED, **TRUSTING, "IMGPRO_BASE_URL": HOST}
    with running(tmp_path_factory.mktemp("whole") / "data", env) as found:
        yield found


@pytest.fixture
def key(below):
    return below.server.new_key(f"ann{time.time_ns()}@example.org")


def resolved(page, link):
    """Return the path of a link on a page."""
    return urljoin(f"{HOST}{page}", link).removeprefix(HOST)


def links_of(page, answer):
    text = html.unescape(answer.body.decode())
    found = re.findall(r'(?:href|src|action|data-root|data-page|data-src)="([^"#][^"]*)"', text)
    return [resolved(page, link) for link in found if not link.startswith(("data:", "mailto:", "javascript:"))]


# Links


def test_links_of_an_upload(below, key):
    found = below.ask("POST", "/img/v1/upload", PNG, {**RAW, **bearer(key)}).json()
    sizes = [size["src"] for size in found["sizes"].values()]
    for link in (found["url"], found["src"], found["thumb"], *sizes, found["delete_url"]):
        assert below.follow(link).status == 200, link
    assert below.follow(f"{HOST}/img/v1/media/{found['id']}").json()["src"] == found["src"]
    line = below.ask("POST", "/img/v1/upload?link=page", PNG, RAW).body.decode()
    assert re.fullmatch(rf"{HOST}/img/\w{{12}}\n", line)
    assert below.ask("DELETE", found["delete_url"].removeprefix(HOST)).status == 200


@pytest.mark.parametrize(
    "page", ["/", "/{id}", "/dashboard", "/dashboard/sign-in", "/api", "/api/reference", "/nothing"]
)
def test_pages_lead_to_what_is_there(below, page):
    image = below.ask("POST", "/img/v1/upload", PNG, RAW).json()["id"]
    page = f"/img{page.format(id=image)}"
    answer = below.get(page, **PAGE)
    assert answer.status == (404 if page.endswith("nothing") else 200)
    links = [link for link in links_of(page, answer) if not link.startswith("http")]
    assert any("/static/" in link for link in links)
    for link in dict.fromkeys(links):
        assert link.startswith("/img/"), link
        assert below.get(link, **PAGE).status in (200, 303, 405), link


def test_what_pages_and_programs_are_told(below):
    image = below.ask("POST", "/img/v1/upload", PNG, RAW).json()["id"]
    page = below.get(f"/img/{image}").body.decode()
    assert f'property="og:url" content="{HOST}/img/{image}"' in page
    assert f'property="og:image" content="{HOST}/img/t/{image}.' in page
    discovery = re.search(r'href="([^"]*/oembed[^"]*)"', page)[1].replace("&amp;", "&")
    told = below.follow(discovery).json()
    assert (told["provider_url"], urlsplit(told["url"]).path.startswith("/img/t/")) == (f"{HOST}/img", True)
    assert below.get(f"/img/oembed?url={HOST}/imgevil/{image}").status == 404
    assert below.get(f"/img/oembed?url={HOST}/{image}").status == 404
    for path in ("/img/llms.txt", "/img/llms-full.txt", "/img/api/quick-start.md", "/img/openapi.yaml"):
        text = below.get(path).body.decode()
        assert f"{HOST}/img/" in text, path
        assert re.findall(rf"{HOST}/(?!img)\S*", text) == [], path
    assert below.get("/img/openapi.json").json()["servers"][0]["url"] == f"{HOST}/img"
    robots = below.get("/img/robots.txt")
    assert (
        f"{'Disallow: /img/v1/' if 'X-Forwarded-Prefix' not in below.headers else 'Allow: /img/'}"
        in robots.body.decode()
    )
    assert "public" not in robots.headers["Cache-Control"]


def test_the_app_that_can_be_installed(below):
    manifest = below.get("/img/manifest.webmanifest").json()
    here = "/img/manifest.webmanifest"
    assert resolved(here, manifest["scope"]) == resolved(here, manifest["start_url"]) == "/img/"
    assert resolved(here, manifest["share_target"]["action"]) == "/img/share"
    for icon in manifest["icons"]:
        assert below.get(resolved(here, icon["src"])).status == 200
    body, kind = multipart([("file", "a.png", PNG)])
    answer = below.ask("POST", "/img/share", body, {"Content-Type": kind, "Origin": HOST})
    assert below.get(resolved("/img/share", answer.headers["Location"])).status == 200


def test_other_ways_in(below, key):
    body, kind = multipart([("file", "a.png", PNG)])
    answer = below.ask(
        "POST",
        f"/img/upload?key={below.server.new_key(f'up{time.time_ns()}@example.org', abilities=['upload'])}",
        body,
        {"Content-Type": kind},
    )
    assert below.follow(answer.json()["result"][0]).status == 200
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "create_upload", "arguments": {}}}
    sent = {"Content-Type": "application/json", "Accept": "application/json", **bearer(key)}
    told = below.ask("POST", "/img/mcp", json.dumps(call).encode(), sent).body.decode()
    ticket = re.search(rf"{HOST}/img/v1/upload\?ticket=[\w-]+", told)[0]
    stored = below.ask("PUT", ticket.removeprefix(HOST).replace("/upload?", "/upload/t.png?"), PNG, RAW)
    assert stored.status == 201
    form = below.ask("POST", "/img/v1/upload", body, {"Content-Type": kind, "Origin": HOST, **PAGE})
    assert (form.status, resolved("/img/v1/upload", form.headers["Location"])[:5]) == (303, "/img/")
    preflight = below.ask("OPTIONS", "/img/v1/media", headers={"Origin": "https://elsewhere.example"})
    assert preflight.status == 204


def test_a_picture_asked_for_twice_comes_from_memory(below):
    own = encoded(make_image("RGB", (64, time.time_ns() % 1000 + 50)), "PNG")
    before = set(blobs(below.server.data))
    src = below.ask("POST", "/img/v1/upload", own, RAW).json()["src"]
    (blob,) = set(blobs(below.server.data)) - before
    first = below.follow(src)
    blob.unlink()
    assert below.follow(src).body == first.body == own
    assert below.follow(src, If_None_Match=first.headers["ETag"]).status == 304


# Sessions


def sign_in(below, key, **fields):
    body = "&".join(f"{name}={value}" for name, value in {"key": key, **fields}.items()).encode()
    return below.ask("POST", "/img/dashboard/sign-in", body, {**FORM, "Origin": HOST})


def test_signing_in_leads_back_and_its_cookie_is_for_the_path(below, key):
    asked = below.get("/img/dashboard/account", **PAGE)
    there = resolved("/img/dashboard/account", asked.headers["Location"])
    assert there == "/img/dashboard/sign-in?next=/dashboard/account"
    answer = sign_in(below, key, next="/dashboard/account")
    assert resolved("/img/dashboard/sign-in", answer.headers["Location"]) == "/img/dashboard/account"
    cookie = answer.headers["Set-Cookie"]
    assert "; Path=/img;" in f"{cookie};"
    assert "; Secure" in cookie
    page = below.get("/img/dashboard/account", Cookie=cookie_of(answer))
    token = re.search('<meta name="csrf" content="([^"]+)"', page.body.decode())[1]
    sent = {**FORM, "Origin": HOST, "Cookie": cookie_of(answer)}
    out = below.ask("POST", "/img/dashboard/sign-out", f"csrf={token}".encode(), sent)
    assert resolved("/img/dashboard/sign-out", out.headers["Location"]) == "/img/dashboard"
    assert "; Path=/img;" in f"{out.headers['Set-Cookie']};"


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "/img//evil.example", "https://evil.example", "/../x", "/%2fevil"]
)
def test_signing_in_leads_nowhere_else(below, key, wanted):
    answer = sign_in(below, key, next=wanted)
    assert resolved("/img/dashboard/sign-in", answer.headers["Location"]) == "/img/dashboard"


def test_sites_of_one_host_do_not_sign_each_other_out(below, key, whole):
    """A browser sends the cookie of `/` along to `/img`, after its own."""
    theirs = whole.new_key(f"ann{time.time_ns()}@example.org")
    here = cookie_of(sign_in(below, key))
    there = cookie_of(whole.request("POST", "/dashboard/sign-in", f"key={theirs}".encode(), {**FORM, "Origin": HOST}))
    assert here.partition("=")[0] != there.partition("=")[0]
    for cookies in (f"{here}; {there}", f"{there}; {here}"):
        assert b'name="csrf"' in below.get("/img/dashboard", Cookie=cookies).body
    assert b'name="csrf"' in whole.get("/dashboard", Cookie=there).body
    assert b'name="csrf"' not in below.get("/img/dashboard", Cookie=there).body


def test_mails_lead_below_the_path(told):
    told.api("POST", "/v1/keys", {"email": "mailed@example.org"})
    links = told.operate("list")
    assert f"{HOST}/img/verify?" in json.dumps(links)


def test_the_command_line_sends_below_the_path(told, tmp_path):
    (tmp_path / "shot.png").write_bytes(PNG)
    base, key = f"{told.base}/img", told.new_key("terminal@example.org")
    person = Person(tmp_path)
    done = person.run("login", base, "--key", "-", input=f"{key}\n")
    assert done.returncode == 0, done.stderr
    done = person.run("upload", str(tmp_path / "shot.png"))
    assert done.stdout.startswith(f"{HOST}/img/t/"), done.stderr
    line = person.run("integrations", "show", "curl", "--key", "-", input=f"{key}\n").stdout
    assert f"{base}/v1/upload" in line
    sharex = person.run("integrations", "write", "sharex", "--to", "-").stdout
    assert json.loads(sharex)["RequestURL"] == f"{base}/v1/upload"


# At home, without the proxy


def test_people_at_home_use_its_own_address(told):
    page = told.get("/", **PAGE)
    for link in links_of("/", page):
        assert link.startswith("http") or told.get(link, **PAGE).status in (200, 303, 405), link
    key = told.new_key("home@example.org")
    answer = told.request("POST", "/dashboard/sign-in", f"key={key}".encode(), {**FORM, "Origin": told.base})
    assert "; Path=/;" in f"{answer.headers['Set-Cookie']};"
    home = SignedIn(told, cookie_of(answer))
    for path in ("/dashboard", "/img/dashboard"):
        assert b'name="csrf"' in home.get(path).body
    assert [told.get(path).status for path in ("/healthz", "/readyz", "/img/healthz", "/img/readyz")] == [200] * 4


# What is no path of ours


@pytest.mark.parametrize(
    "path",
    [
        "/imgevil",
        "/imgevil/dashboard",
        "//evil.example",
        "//evil.example/img/",
        "/img//evil.example",
        "/img//evil.example/",
        "/img/../dashboard",
        "/img/..%2fdashboard",
        "/img/%2e%2e/dashboard",
        "/img%2fdashboard",
        "/%69mg/dashboard",
        "/img/img/dashboard",
        "/IMG/dashboard",
        "/img\\dashboard",
        "/img/%2f%2fevil.example",
    ],
)
def test_nothing_else_is_taken_for_the_path(told, trusting, path):
    for server, headers in ((told, {}), (trusting, {**PROXY, "X-Forwarded-Prefix": "/img"})):
        answer = server.request("GET", path, headers={**headers, **PAGE})
        assert (answer.status, answer.headers.get("Location")) == (404, None)


@pytest.mark.parametrize("query", ["", "?a=b", "?a=%0d%0aX-Evil:1", "?//evil.example"])
def test_the_path_alone_leads_to_the_page_below_it(told, trusting, query):
    for server, headers in ((told, {}), (trusting, {**PROXY, "X-Forwarded-Prefix": "/img"})):
        answer = server.request("GET", f"/img{query}", headers=headers)
        assert (answer.status, answer.headers["Location"]) == (308, f"/img/{query}")
        assert "X-Evil" not in answer.headers


def test_a_proxy_that_names_the_host_in_the_first_line_is_understood(told):
    answer = told.request("GET", "http://example.org/img/dashboard", headers={"Host": "example.org"})
    assert answer.status == 200


# What a proxy says


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "/img//x",
        "/img/..",
        "/./img",
        "img",
        "/img?x",
        "/im%67",
        "/a b",
        "/" + "a" * 300,
        "/a, /b",
        "\\x",
    ],
)
def test_a_prefix_that_is_no_plain_path_is_refused(trusting, prefix):
    answer = trusting.request("POST", "/v1/upload", PNG, {**RAW, **PROXY, "X-Forwarded-Prefix": prefix})
    assert (answer.status, answer.json()["error"]) == (400, "bad_request")
    assert trusting.request("GET", "/healthz", headers={"X-Forwarded-Prefix": prefix}).status == 200


def test_a_prefix_from_anybody_else_is_nothing(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_SERVER_TRUSTED_PROXIES": "192.0.2.0/24"}) as server:
        for prefix in ("/evil", "//evil.example"):
            found = server.request("POST", "/v1/upload", PNG, {**RAW, "X-Forwarded-Prefix": prefix}).json()
            assert found["src"].startswith(f"{server.base}/t/")
            assert server.request("GET", "/evil/healthz", headers={"X-Forwarded-Prefix": prefix}).status == 404
            assert b"evil" not in server.request("GET", "/", headers={"X-Forwarded-Prefix": prefix}).body


def test_settings_weigh_more_than_what_a_proxy_says(told):
    for prefix in ("/evil", "//evil.example"):
        headers = {**RAW, **PROXY, "X-Forwarded-Prefix": prefix, "X-Forwarded-Host": "evil.example"}
        found = told.request("POST", "/v1/upload", PNG, headers).json()
        assert found["src"].startswith(f"{HOST}/img/t/")
        assert b"evil" not in told.request("GET", "/", headers=headers).body


def test_answers_that_others_may_keep_do_not_hold_what_a_proxy_says(trusting):
    """Whatever names an address must not be kept for somebody who came by another."""
    image = trusting.request("POST", "/v1/upload", PNG, RAW).json()["id"]
    src = f"/t/{image}.png"
    for path in ("/", f"/{image}", "/robots.txt", "/manifest.webmanifest", "/openapi.json", "/llms.txt", "/api", src):
        answer = trusting.request("GET", path, headers={**PROXY, "X-Forwarded-Prefix": "/poison"})
        assert b"/poison" not in answer.body or "public" not in answer.headers["Cache-Control"], path
        assert "/poison" not in str(answer.headers)


def test_a_prefix_that_is_a_name_of_ours_is_for_the_proxy_to_take_off(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_BASE_URL": f"{HOST}/api"}) as server:
        assert "the proxy has to take /api off" in server.log()
        assert server.get("/api/quick-start").status == 200
        assert server.must_upload(PNG)["src"].startswith(f"{HOST}/api/t/")
        assert server.get("/").status == 200


@pytest.mark.parametrize("pictures", ["https://cdn.example.org/pictures", f"{HOST}/img/pictures"])
def test_each_address_may_have_a_path_of_its_own(tmp_path, pictures):
    env = {
        **UNLIMITED,
        "IMGPRO_BASE_URL": f"{HOST}/img",
        "IMGPRO_SERVER_API_URL": f"{HOST}/img/calls",
        "IMGPRO_SERVER_SRC_URL": pictures,
    }
    with running(tmp_path / "data", env) as server:
        found = server.request("POST", "/img/calls/v1/upload", PNG, RAW).json()
        assert found["url"] == f"{HOST}/img/{found['id']}"
        assert found["src"].startswith(f"{pictures}/t/")
        path, there = urlsplit(found["src"]).path, {"Host": urlsplit(pictures).netloc}
        for asked in (path, path.removeprefix(urlsplit(pictures).path)):
            assert server.get(asked, **there).body == PNG
        if there["Host"] != "example.org":
            for asked in ("/pictures/", "/pictures", "/img/dashboard", f"/img/{found['id']}"):
                assert server.get(asked, **there).status in (308, 404), asked
        assert f"{HOST}/img/calls/v1/upload" in server.get("/img/api/quick-start.md").body.decode()
        for link in (found["url"], found["src"]):
            assert server.get(f"/img/oembed?url={link}").status == 200
