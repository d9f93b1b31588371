"""Sharing and the bookmark in a real browser, and whether it takes the site for an app."""

from urllib.parse import quote

import pytest

from tests.axe import serious
from tests.browser import LAN
from tests.e2e.uploads import copied, signed_in
from tests.peers import importing_from
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
SEND = """([bytes, names]) => {
    const form = Object.assign(document.createElement("form"), {action: "share", method: "post", enctype: "multipart/form-data"});
    const input = Object.assign(document.createElement("input"), {type: "file", name: "file", multiple: true});
    const data = new DataTransfer();
    for (const name of names) data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
    input.files = data.files;
    form.append(input);
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, peer_port):
    with running(tmp_path_factory.mktemp("shared") / "data", {**UNLIMITED, **importing_from(peer_port)}) as found:
        yield found


def test_the_browser_takes_the_site_for_an_app(visit, server):
    page = visit()
    page.goto(server.base + "/api/quick-start")
    session = page.context.new_cdp_session(page)
    found = session.send("Page.getAppManifest")
    assert found["errors"] == []
    assert found["url"] == f"{server.base}/manifest.webmanifest"
    target = found["manifest"]["shareTarget"]
    assert target["action"] == f"{server.base}/share"
    assert found["manifest"]["startUrl"] == f"{server.base}/"
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] in (
        [],
        [{"errorId": "in-incognito", "errorArguments": []}],
    )


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_several_shared_pictures_belong_to_whoever_is_signed_in(visit, server, where):
    key = server.new_key(f"{where}@example.org")
    base = server.base if where == "loopback" else server.base.replace("127.0.0.1", LAN)
    page = visit(
        width=390, height=844, **({"permissions": ["clipboard-read", "clipboard-write"]} if where == "loopback" else {})
    )
    signed_in(page, server, key)
    page.context.add_cookies([{**page.context.cookies()[0], "domain": LAN}])
    page.goto(base + "/")
    page.evaluate(SEND, [list(PNG), ["a.png", "b.png"]])
    page.get_by_role("heading", name="2 pictures are uploaded").wait_for()
    assert page.get_by_role("link", name="Pictures", exact=True).is_visible()
    assert sorted(one["name"] for one in server.api("GET", "/v1/media", key=key).json()["data"]) == ["a.png", "b.png"]
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Copy all links").click()
    page.get_by_role("button", name="Copied").wait_for()
    if where == "loopback":
        links = [field.input_value() for field in page.locator(".link").all()]
        assert copied(page) == "\n".join(links)
    page.get_by_role("link", name="Open a.png").click()
    page.get_by_role("heading", name="a.png").wait_for()


def test_one_shared_picture_ends_on_its_page(visit, server):
    page = visit()
    page.goto(server.base)
    page.evaluate(SEND, [list(PNG), ["only.png"]])
    page.get_by_role("heading", name="only.png").wait_for()


@pytest.mark.parametrize("script", [True, False])
def test_a_bookmark_imports_what_it_names(visit, server, peer_port, script):
    address = f"http://127.0.0.1:{peer_port}/marked.png"
    page = visit(script=script)
    page.goto(f"{server.base}/import?url={quote(address, safe='')}")
    if script:
        assert serious(page) == []
    page.get_by_role("button", name="Import this picture").click()
    page.get_by_role("heading", name="marked.png").wait_for()


def test_an_address_is_imported_without_script(visit, server, peer_port):
    page = visit(script=False)
    page.goto(server.base)
    page.get_by_label("Web address of a picture").fill(f"http://127.0.0.1:{peer_port}/typed.png")
    page.get_by_role("button", name="Import").click()
    page.get_by_role("button", name="Import this picture").click()
    page.get_by_role("heading", name="typed.png").wait_for()
