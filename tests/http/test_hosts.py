"""Three hosts for one server: pages, API and pictures, each with an address of its own."""

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
HOSTS = {
    "IMGPRO_SERVER_BASE_URL": "https://img.example",
    "IMGPRO_SERVER_API_URL": "https://api.img.example",
    "IMGPRO_SERVER_SRC_URL": "https://src.img.example",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hosts") / "data", {**UNLIMITED, **HOSTS}) as found:
        yield found


def path(link):
    return "/" + link.partition("://")[2].partition("/")[2]


def test_links_name_the_host_that_is_for_them(server):
    key = server.new_key("ann@example.org")
    found = server.must_upload(PNG, key=key)
    assert found["url"].startswith("https://img.example/")
    assert found["delete_url"].startswith("https://img.example/")
    for link in (found["src"], found["thumb"], *(size["src"] for size in found["sizes"].values())):
        assert link.startswith("https://src.img.example/t/")
    page = server.get(f"/{found['id']}").body.decode()
    assert 'property="og:image" content="https://src.img.example/t/' in page
    assert f'property="og:url" content="https://img.example/{found["id"]}"' in page
    assert "https://api.img.example/v1/upload" in server.get("/api/quick-start.md").body.decode()


def test_pictures_are_shown_under_their_host_and_nothing_else_is(server):
    found = server.must_upload(PNG)
    there = {"Host": "src.img.example"}
    assert server.get(path(found["src"]), **there).status == 200
    assert server.get(path(found["sizes"]["s"]["src"]), **there).status == 200
    for place in ("/", f"/{found['id']}", "/dashboard", "/v1/usage", "/api", "/healthz", "/static/imgpro.css"):
        answer = server.get(place, **there)
        assert answer.status == 404, place
        assert "Set-Cookie" not in answer.headers
    assert server.request("POST", "/v1/upload", PNG, {**there, "Content-Type": "image/png"}).status == 404


@pytest.mark.parametrize("link", ["https://img.example/{}", "https://src.img.example/t/{}.png"])
def test_oembed_knows_both(server, link):
    found = server.must_upload(PNG)
    answer = server.get(f"/oembed?url={link.format(found['id'])}")
    assert answer.status == 200
    assert answer.json()["url"].startswith("https://src.img.example/t/")
    assert answer.json()["provider_url"] == "https://img.example"


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    """A server behind a proxy, under a path, that its people at home open by its address."""
    env = {**UNLIMITED, "IMGPRO_BASE_URL": "https://img.example.org/pictures"}
    with running(tmp_path_factory.mktemp("below") / "data", env) as found:
        yield found


@pytest.mark.parametrize(
    ("origin", "secure", "where"), [("https://img.example.org", True, "/pictures"), ("", False, "/")]
)
def test_cookies_are_for_the_address_that_the_browser_has_open(below, origin, secure, where):
    key = below.new_key(f"ann-{secure}@example.org")
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin or below.base}
    answer = below.request("POST", "/dashboard/sign-in", f"key={key}".encode(), sent)
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status, "; Secure" in cookie, f"Path={where};" in f"{cookie};") == (303, secure, True)

    uploaded = below.upload(PNG, "mine.png", headers={"Origin": origin or below.base})
    cookie, image = uploaded.headers["Set-Cookie"], uploaded.json()["id"]
    assert ("; Secure" in cookie, f"Path={where.rstrip('/')}/{image};" in f"{cookie};") == (secure, True)


def test_another_site_is_given_no_cookie(below):
    assert "Set-Cookie" not in below.upload(PNG, "its.png", headers={"Origin": "https://evil.example"}).headers
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
    assert below.request("POST", "/dashboard/sign-in", b"key=x", sent).status == 403
