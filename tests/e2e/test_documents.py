"""The documents in a real browser: calls are tried from the page, under any name, and nothing overflows or complains."""

import json

import pytest

from tests.browser import LAN
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
FILE = {"name": "tried.png", "mimeType": "image/png", "buffer": PNG}
UPLOAD = "#operations-Upload-uploadPicture"
USAGE = "#operations-Keys-getUsage"
LIST = "#operations-Media-listMedia"
PAGES = ("/api", "/api/quick-start", "/api/reference", "/api/errors", "/api/ai-agents")
# Contrast of a text with what is behind it, by WCAG's formula; transparent grounds let the one below through.
CONTRAST = """selector => [...document.querySelectorAll(selector)].filter(one => one.checkVisibility()).map(one => {
    const draw = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const grounds = [];
    for (let node = one; node; node = node.parentElement) grounds.unshift(getComputedStyle(node).backgroundColor);
    const paint = (colours) => {
        draw.clearRect(0, 0, 1, 1);
        for (const colour of colours) { draw.fillStyle = colour; draw.fillRect(0, 0, 1, 1); }
        return [...draw.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const [a, b] = [light(paint(grounds)), light(paint([...grounds, getComputedStyle(one).color]))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose links start with a name that leads nowhere here: the page must call the one it was opened at."""
    env = {**UNLIMITED, "IMGPRO_SERVER_BASE_URL": "https://pictures.home.arpa"}
    with running(tmp_path_factory.mktemp("documents") / "data", env) as found:
        yield found


@pytest.fixture(params=["loopback", "lan", "below a path"])
def opened_at(request, server):
    host = server.base if request.param == "loopback" else server.base.replace("127.0.0.1", LAN)
    return host + ("/pictures" if request.param == "below a path" else "")


def open_api(page, base):
    if base.endswith("/pictures"):
        # As a proxy does that serves this site below a path.
        page.route(f"{base}/**", lambda route: route.continue_(url=route.request.url.replace("/pictures/", "/", 1)))
    page.goto(f"{base}/api")
    page.locator(UPLOAD).wait_for()


def execute(page, operation):
    """Press the button; return the status and the body of the answer."""
    page.locator(f"{operation} .execute").click()
    live = page.locator(f"{operation} .live-responses-table")
    live.wait_for()
    status = live.locator("tbody .response-col_status").first.text_content()
    return int(status), json.loads(live.locator(".highlight-code code").first.text_content())


def unfold(page, operation):
    page.locator(f"{operation} .opblock-summary-control").click()
    page.locator(f"{operation} .execute").wait_for()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_a_picture_is_uploaded_from_the_page(visit, server, opened_at, scheme, width):
    page = visit(width=width, height=900, color_scheme=scheme)
    open_api(page, opened_at)
    unfold(page, UPLOAD)
    page.set_input_files(f"{UPLOAD} input[type=file]", FILE)
    with page.expect_request(f"{opened_at}/v1/upload") as sent:
        status, found = execute(page, UPLOAD)
    assert sent.value.method == "POST"
    assert status == 201
    assert (found["name"], found["width"], found["height"]) == ("tried.png", 600, 450)
    assert found["src"].startswith("https://pictures.home.arpa/t/")
    assert server.get(f"/t/{found['id']}.png").body == PNG
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_key_is_sent_and_kept_in_memory_only(visit, server):
    key = server.new_key("ann@example.org")
    page = visit(expected=[401])
    open_api(page, server.base)
    page.locator(".btn.authorize").first.click()
    dialog = page.locator(".modal-ux")
    assert dialog.locator("input").count() == 1
    dialog.locator("input").fill(key)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    unfold(page, USAGE)
    status, usage = execute(page, USAGE)
    assert (status, usage["plan"]) == (200, "free")
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert key not in kept
    assert json.loads(kept)[:3] == [{}, {}, ""]
    assert page.context.cookies() == []
    page.reload()
    page.locator(USAGE).wait_for()
    if not page.locator(f"{USAGE} .execute").is_visible():
        unfold(page, USAGE)
    assert execute(page, USAGE)[0] == 401


def test_forms_begin_empty(visit, server):
    page = visit()
    open_api(page, server.base)
    unfold(page, UPLOAD)
    fields = page.locator(f"{UPLOAD} :is(input:not([type=file]), select:not(.content-type))")
    values = fields.evaluate_all("all => all.map(one => one.value)")
    assert len(values) >= 8
    assert set(values) <= {"", "multipart/form-data", "application/json"} | set(
        page.locator(f"{UPLOAD} .examples-select select, {UPLOAD} .responses-wrapper select").evaluate_all(
            "all => all.map(one => one.value)"
        )
    )
    names = page.locator(f"{UPLOAD} .parameter__name").evaluate_all("all => all.map(one => one.textContent)")
    plain = [name.split()[0].rstrip("*") for name in names]
    assert sorted(plain) == sorted(set(plain)), "nothing is asked for twice"
    unfold(page, LIST)
    values = page.locator(f"{LIST} .parameters-container :is(input, select)").evaluate_all(
        "all => all.map(one => one.value)"
    )
    assert len(values) >= 8
    assert set(values) == {""}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_interactive_reference_can_be_read(visit, server, scheme):
    page = visit(color_scheme=scheme)
    open_api(page, server.base)
    unfold(page, UPLOAD)
    seen = 0
    for selector in (
        ".opblock-tag",
        ".opblock-summary-method",
        ".opblock-summary-path",
        ".opblock-summary-description",
        ".opblock-description p",
        f"{UPLOAD} .parameter__name",
        f"{UPLOAD} .parameters-col_description p",
        f"{UPLOAD} .renderedMarkdown code",
        f"{UPLOAD} .execute",
        f"{UPLOAD} select",
        f"{UPLOAD} .response-col_status",
        ".btn.authorize",
    ):
        found = page.evaluate(CONTRAST, selector)
        assert all(ratio >= 4.5 for ratio in found), (selector, found)
        seen += len(found)
    assert seen > 60


def test_a_scheme_that_changes_is_followed(visit, server):
    page = visit(color_scheme="light")
    open_api(page, server.base)
    assert not page.evaluate("document.documentElement.classList.contains('dark-mode')")
    page.emulate_media(color_scheme="dark")
    page.locator("html.dark-mode").wait_for()


def test_without_script_there_is_a_way_to_the_reference(visit, server):
    page = visit(script=False)
    page.goto(f"{server.base}/api")
    page.locator("#reference").get_by_role("link", name="reference").click()
    assert page.url == f"{server.base}/api/reference"
    assert page.locator("h1").text_content() == "Reference"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_documents_fit_a_phone_and_a_laptop(visit, server, scheme):
    for width, height in ((390, 844), (1440, 900)):
        page = visit(width=width, height=height, color_scheme=scheme)
        for path in PAGES:
            page.goto(server.base + path)
            if path == "/api":
                page.locator(UPLOAD).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            clipped = page.evaluate(
                """[...document.querySelectorAll("main pre, main p, main li, main table")]
                    .filter(one => one.checkVisibility() && !one.closest(".scroll, .swagger-ui"))
                    .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
                    .map(one => one.textContent.slice(0, 60))"""
            )
            assert clipped == [], (path, width)


def test_a_document_is_found_through_from_its_contents(visit, server):
    for width, where in ((390, ".contents"), (1440, ".beside")):
        page = visit(width=width)
        page.goto(f"{server.base}/api/errors")
        if width == 390:
            page.get_by_text("On this page").click()
        page.locator(f"{where} a", has_text="storage_full").click()
        page.locator("h2#storage_full").wait_for()
        assert page.url.endswith("/api/errors#storage_full")
        box = page.locator("h2#storage_full").bounding_box()
        assert 0 <= box["y"] < 900
        page.get_by_role("navigation", name="Documents").get_by_role("link", name="Quick start").click()
        assert page.locator("h1").text_content() == "Quick start"
