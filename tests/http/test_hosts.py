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
