"""The pages in a real browser: with script and without, on localhost and on a plain LAN name, by mouse and by keyboard.

Every test ends by asking what the browser complained about: errors on the console, violations of the content
security policy, and requests to any other place must all be none.
"""

import io
import re
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from tests.browser import LAN, until
from tests.e2e.uploads import CLIPBOARD, DROP, choose, opened, picture, uploaded
from tests.peers import importing_from
from tests.pictures import encoded, film, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300"><rect width="400" height="300" fill="#c03020"/></svg>'


@pytest.fixture(scope="module")
def server(tmp_path_factory, peer_port):
    env = {**UNLIMITED, **importing_from(peer_port)}
    with running(tmp_path_factory.mktemp("browser") / "data", env) as found:
        yield found


@pytest.fixture
def lan(server):
    return server.base.replace("127.0.0.1", LAN)


def likeness(page, body):
    """Return the mean difference, 0-255, between what the browser shows and the picture itself."""
    page.wait_for_load_state("load")
    seen = Image.open(io.BytesIO(page.locator(".shown").screenshot())).convert("RGB")
    meant = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    assert abs(seen.width / seen.height - meant.width / meant.height) < 0.05 * meant.width / meant.height
    size = (48, 48)
    difference = ImageChops.difference(
        seen.resize(size, Image.Resampling.BOX), meant.resize(size, Image.Resampling.BOX)
    )
    return sum(ImageStat.Stat(difference).mean) / 3


def natural(page):
    page.wait_for_load_state("load")
    return page.evaluate(
        "(() => { const i = document.querySelector('.shown'); return [i.naturalWidth, i.naturalHeight] })()"
    )


def on_viewer(page, base):
    page.wait_for_url(lambda url: url.startswith(base) and len(urlsplit(url).path) == 13)


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_a_form_without_script_ends_on_the_picture_and_can_take_it_back(visit, server, lan, photos, where):
    base = server.base if where == "loopback" else lan
    body = (photos / "portrait-orientation6.jpg").read_bytes()
    page = visit(script=False, expected=[404])
    page.goto(base + "/")
    assert not page.get_by_text("Drop or paste them anywhere").is_visible()
    choose(page, picture("dogs.jpg", body))
    page.get_by_role("button", name="Upload").click()
    on_viewer(page, base)
    assert page.locator("h1").text_content() == "dogs.jpg"
    assert not page.get_by_role("button", name="Copy Link").is_visible()
    assert likeness(page, body) < 6
    viewer = page.url
    page.get_by_role("link", name="Delete").click()
    assert page.locator("h1").text_content() == "Delete this picture?"
    page.get_by_role("button", name="Delete").click()
    assert page.locator("h1").text_content() == "The picture is deleted"
    page.goto(viewer)
    assert page.locator("h1").text_content() == "There is nothing at this address."


def test_a_form_without_script_that_fails_ends_on_words(visit, server):
    page = visit(script=False, expected=[415])
    page.goto(server.base + "/")
    choose(page, picture("a.png", b"no picture"))
    page.get_by_role("button", name="Upload").click()
    assert page.locator("h1").text_content() == "This is not a picture format that is accepted here."
    page.get_by_role("link", name="Try again").click()
    assert page.locator("h1").text_content() == "Upload pictures"


FIXTURES = {
    "landscape.jpg": lambda photos: (photos / "photo-12mp-gps.jpg").read_bytes(),
    "portrait.jpg": lambda photos: (photos / "portrait-orientation6.jpg").read_bytes(),
    "photo.webp": lambda photos: (photos / "photo.webp").read_bytes(),
    "screenshot.png": lambda photos: (photos / "screenshot-1440p.png").read_bytes(),
    "panorama.jpg": lambda photos: encoded(make_image("RGB", (6000, 400)), "JPEG"),
    "still.gif": lambda photos: film("GIF", 1),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_the_viewer_shows_the_picture_itself(visit, server, photos, name):
    body = FIXTURES[name](photos)
    page = visit()
    page.goto(server.must_upload(body, name)["url"])
    assert likeness(page, body) < 6
    assert min(natural(page)) >= 320


@pytest.mark.parametrize(
    ("name", "size"), [("animation-16f.gif", (360, 200)), ("animation-16f.webp", None), ("photo-cmyk.jpg", None)]
)
def test_the_viewer_shows_what_moves_and_what_is_made_for_print(visit, server, photos, name, size):
    found = server.must_upload((photos / name).read_bytes(), name)
    page = visit()
    page.goto(found["url"])
    assert tuple(natural(page)) == (size or (found["sizes"]["l"]["width"], found["sizes"]["l"]["height"]))
    seen = Image.open(io.BytesIO(page.locator(".shown").screenshot())).convert("L")
    assert ImageStat.Stat(seen).stddev[0] > 10


def test_the_viewer_shows_a_drawing_and_checks_behind_what_is_transparent(visit, server):
    page = visit(color_scheme="light")
    page.goto(server.must_upload(SVG, "a.svg")["url"])
    page.wait_for_load_state("load")
    box = page.locator(".shown").bounding_box()
    assert (box["width"], box["height"]) == (400, 300)
    drawn = Image.open(io.BytesIO(page.locator(".shown").screenshot())).convert("RGB")
    assert drawn.getpixel((200, 150)) == (0xC0, 0x30, 0x20)
    clear = encoded(Image.new("RGBA", (200, 100), (0, 0, 0, 0)), "PNG")
    page.goto(server.must_upload(clear, "clear.png")["url"])
    page.wait_for_load_state("load")
    seen = Image.open(io.BytesIO(page.locator(".shown").screenshot())).convert("RGB")
    counts = sorted(seen.getcolors(), reverse=True)
    assert len(counts) >= 2
    assert abs(counts[0][0] - counts[1][0]) < 0.1 * 200 * 100


def test_a_small_picture_is_not_blown_up_and_a_large_one_fits(visit, server, photos):
    small = server.must_upload(encoded(make_image("RGB", (16, 16)), "PNG"), "dot.png")["url"]
    large = server.must_upload((photos / "photo-12mp-gps.jpg").read_bytes(), "a.jpg")["url"]
    tall = server.must_upload((photos / "portrait-orientation6.jpg").read_bytes(), "b.jpg")["url"]
    for width, height in ((320, 640), (390, 844), (1440, 900), (2560, 1600)):
        page = visit(width=width, height=height)
        page.goto(small)
        box = page.locator(".shown").bounding_box()
        assert (box["width"], box["height"]) == (16, 16)
        for url, ratio in ((large, 4 / 3), (tall, 1028 / 1544)):
            page.goto(url)
            box = page.locator(".shown").bounding_box()
            assert box["width"] / box["height"] == pytest.approx(ratio, rel=0.01)
            assert box["width"] <= width
            assert box["y"] + box["height"] <= height
            fills = box["width"] > width - 2 or box["height"] >= height - 170 or box["height"] >= 1543
            assert fills, (width, height, url)


def test_nothing_moves_when_the_picture_comes(visit, server, photos):
    url = server.must_upload((photos / "photo-2mp.jpg").read_bytes(), "a.jpg")["url"]
    page = visit()
    held = []
    page.route("**/t/**", lambda route: held.append(route))
    page.goto(url, wait_until="domcontentloaded")
    until(page, "document.querySelector('.frame').complete")
    before = [page.locator(part).bounding_box() for part in (".stage a", "h1", ".shown")]
    placeholder = Image.open(io.BytesIO(page.locator(".stage a").screenshot())).convert("L")
    assert ImageStat.Stat(placeholder).stddev[0] > 10, "the placeholder stands in meanwhile"
    for route in held:
        route.continue_()
    page.wait_for_load_state("load")
    assert natural(page)[0] > 0
    assert before == [page.locator(part).bounding_box() for part in (".stage a", "h1", ".shown")]


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_a_picture_dropped_anywhere_ends_on_its_page(visit, server, lan, where):
    base = server.base if where == "loopback" else lan
    page = visit()
    page.goto(base + "/")
    assert page.evaluate("isSecureContext") is (where == "loopback")
    assert page.evaluate(DROP, [list(PNG), "dropped.png", "image/png", ""]) == [True, True]
    opened(page)
    assert page.locator("h1").text_content() == "dropped.png"
    assert likeness(page, PNG) < 6


def test_a_link_dropped_or_pasted_is_imported(visit, server, lan, peer_port):
    address = f"http://127.0.0.1:{peer_port}/far/away.png"
    page = visit()
    page.goto(lan + "/")
    page.evaluate(DROP, [None, "", "", address])
    opened(page)
    assert page.locator("h1").text_content() == "away.png"
    page.goto(lan + "/")
    page.evaluate(
        "text => { const a = document.createElement('textarea'); a.id = 'from'; a.value = text; document.body.append(a) }",
        address,
    )
    page.focus("#from")
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+X")
    page.evaluate("document.getElementById('from').remove()")
    page.keyboard.press("Control+V")
    opened(page)
    assert natural(page) == [600, 450]


def test_a_pasted_picture_ends_on_its_page(visit, server):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.goto(server.base + "/")
    page.evaluate(CLIPBOARD, list(PNG))
    page.keyboard.press("Control+V")
    opened(page)
    assert likeness(page, PNG) < 6


def test_text_pasted_into_a_field_stays_there(visit, server):
    page = visit()
    page.goto(server.base + "/")
    page.get_by_text("Options").click()
    name = page.get_by_label("Name, for one picture")
    name.fill("https://elsewhere.example/a.png")
    name.press("Control+A")
    name.press("Control+X")
    name.press("Control+V")
    assert name.input_value() == "https://elsewhere.example/a.png"
    assert page.url == server.base + "/"


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_an_upload_shows_how_far_it_is_and_can_be_cancelled(visit, server, lan, photos, where):
    page = visit()
    page.goto((server.base if where == "loopback" else lan) + "/")
    slow = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000}
    slow.send("Network.emulateNetworkConditions", limits)
    file = photos / "photo-12mp-gps.jpg"
    choose(page, file)
    until(page, "(v => v > 0.05 && v < 0.9)(document.querySelector('.row progress').value)")
    row = page.locator(".row")
    assert row.locator(".name").text_content() == file.name
    assert re.fullmatch(r"[0-9.]+ [KM]B of 2\.8 MB, [0-9.]+ KB/s", row.locator(".quiet").text_content())
    page.get_by_role("button", name="Cancel").click()
    assert row.locator(".quiet").text_content() == "Cancelled."
    assert not row.locator("progress").is_visible()
    slow.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": -1})
    page.get_by_role("button", name="Retry").click()
    opened(page)
    assert page.locator("h1").text_content() == file.name
    page.go_back()
    page.get_by_text("Choose pictures").wait_for()
    assert not page.locator("progress:visible").count()


def test_a_failure_is_told_in_the_server_s_words_and_leaves_the_form_usable(visit, server, tmp_path):
    page = visit(expected=[415, 502, 422])
    page.goto(server.base + "/")
    choose(page, picture("a.png", b"no picture"))
    told = page.locator(".row").first
    told.get_by_text("This is not a picture format that is accepted here.").wait_for()
    assert "Send JPEG, PNG, GIF" in told.text_content()
    page.evaluate(DROP, [None, "", "", "http://127.0.0.1:1/a.png"])
    page.locator(".row", has_text="127.0.0.1:1").locator(".problem").get_by_text("address").first.wait_for()
    page.evaluate(DROP, [None, "", "", "just words"])
    page.get_by_text("That is neither a picture nor the address of one.").wait_for()
    big = tmp_path / "big.png"
    big.write_bytes(bytes(20 * 1024 * 1024 + 1))
    choose(page, big)
    assert told.locator(".problem").text_content() == "The file is too large. Send one of at most 20 MB."
    assert not told.get_by_role("button", name="Retry").is_visible()
    choose(page, picture("a.png", PNG))
    opened(page)


def test_a_private_picture_shows_through_its_link_only(visit, server, lan):
    page = visit(expected=[404])
    page.goto(lan + "/")
    page.get_by_text("Options").click()
    page.get_by_label("Who can see it").select_option("false")
    page.get_by_label("Name, for one picture").fill("secret.png")
    page.get_by_label("Keep for").select_option("3600")
    choose(page, picture("a.png", PNG))
    assert "sig=" in uploaded(page)[0]
    opened(page)
    assert "sig=" in page.url
    assert page.locator("h1").text_content() == "secret.png"
    assert page.get_by_text("Private: only people").is_visible()
    assert likeness(page, PNG) < 6
    assert all(
        "sig=" in value for value in page.locator(".copy input").evaluate_all("all => all.map(one => one.value)")
    )
    page.goto(page.url.partition("?")[0])
    assert page.locator("h1").text_content() == "There is nothing at this address."


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_links_select_themselves_and_are_copied(visit, server, lan, where):
    base = server.base if where == "loopback" else lan
    found = server.must_upload(PNG, "a.png")
    page = visit(permissions=["clipboard-read", "clipboard-write"] if where == "loopback" else [])
    page.goto(f"{base}/{found['id']}")
    assert page.evaluate("'clipboard' in navigator") is (where == "loopback")
    page.get_by_text("All formats").click()
    for label, text in {
        "Link": f"{base}/{found['id']}",
        "Picture": f"{base}/t/{found['id']}.png",
        "Markdown": f"![a.png]({base}/t/{found['id']}.png)",
        "HTML": f'<a href="{base}/{found["id"]}"><img src="{base}/t/{found["id"]}.png" width="600" height="450" alt=""></a>',
        "BBCode": f"[url={base}/{found['id']}][img]{base}/t/{found['id']}.png[/img][/url]",
    }.items():
        field = page.get_by_role("textbox", name=label, exact=True)
        field.click()
        assert field.evaluate("one => one.value.slice(one.selectionStart, one.selectionEnd)") == text
        button = page.get_by_role("button", name=f"Copy {label}")
        button.click()
        page.get_by_text(f"{label} copied.").wait_for()
        assert button.text_content() == "Copied"
        page.evaluate(
            "(() => { const a = document.createElement('textarea'); a.id = 'to'; document.body.append(a); a.focus() })()"
        )
        page.keyboard.press("Control+V")
        assert page.evaluate("document.getElementById('to').value") == text
        page.evaluate("document.getElementById('to').remove()")


def test_all_pages_fit_every_width_in_both_schemes(visit, server):
    long = "A-very-long-name_" + "x" * 200 + ".png"
    found = server.must_upload(
        encoded(make_image("RGB", (5000, 300)), "PNG"), long, description="y" * 1900, public="false"
    )
    tall = server.must_upload(encoded(make_image("RGB", (40, 3000)), "PNG"), "tall.png")
    urls = [found["url"], found["delete_url"], tall["url"], "/", "/api/quick-start", "/AAAAAAAAAAAA"]
    for scheme in ("light", "dark"):
        page = visit(expected=[404], color_scheme=scheme)
        for url in urls:
            page.goto(url if url.startswith("http") else server.base + url)
            for width in (320, 390, 1440):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (url, width)
        page.goto(server.base + "/")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(246, 246, 243)") is (scheme == "light")


def test_the_keyboard_reaches_everything_and_the_focus_is_seen(visit, server):
    found = server.must_upload(PNG, "a.png")
    page = visit()
    for url, least in ((found["url"], 31), (server.base + "/", 5)):
        page.goto(url)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            here = page.evaluate(
                """(() => { const e = document.activeElement; const s = getComputedStyle(e);
                return e === document.body ? null : [[...document.querySelectorAll("*")].indexOf(e),
                    s.outlineStyle, parseFloat(s.outlineWidth)] })()"""
            )
            if here is None or here[0] in [one[0] for one in reached]:
                break
            reached.append(here)
        assert len(reached) >= least, reached
        assert all(style != "none" and width >= 1 for _, style, width in reached), reached
    page.goto(server.base + "/")
    chooser = page.get_by_label("Choose pictures")
    chooser.focus()
    chooser.set_input_files(picture("typed.png", PNG))
    uploaded(page)
    for _ in range(2):
        page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.locator("h1").text_content() == "typed.png"
