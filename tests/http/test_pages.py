"""Pages and link previews: complete, absolute where they must be, escaped everywhere, calm when something is gone."""

import io
import json
import re
import shutil
import subprocess
import time
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image, ImageOps

from tests.markup import Page
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, film, make_image
from tests.servers import UNLIMITED, multipart, running

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="9" height="9" fill="red"/></svg>'
HOSTILE = [
    '"><script>alert(1)</script>',
    "'\"><img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}",
    "](javascript:alert(1)) ![x",
    "[/img][url=javascript:alert(1)]",
    "&lt;b&gt; &amp; &quot;",
    "</title><h1>taken over</h1>",
    "--><svg onload=alert(1)>",
]


@pytest.fixture(scope="module")
def peer_port():
    with picture_peer(PNG) as port:
        yield port


@pytest.fixture(scope="module")
def open_server(tmp_path_factory, peer_port):
    """A server whose operator wants to be found, and who imports from this machine."""
    env = {
        **UNLIMITED,
        "IMGPRO_PAGES_INDEXING": "true",
        "IMGPRO_PAGES_SITE_NAME": "Bilder & <Co>",
        **importing_from(peer_port),
    }
    with running(tmp_path_factory.mktemp("pages") / "data", env) as found:
        yield found


def browse(server, path):
    """Open a page as a browser does; return the answer and its markup."""
    answer = server.get(path, **HTML)
    return answer, Page(answer.body)


def viewer(server, body=PNG, filename="picture.png", /, **fields):
    found = server.must_upload(body, filename, **fields)
    answer, page = browse(server, found["url"])
    assert answer.status == 200
    return found, answer, page


PREVIEWED = {
    "jpeg, 12 MP": lambda photos: (photos / "photo-12mp-gps.jpg").read_bytes(),
    "jpeg, on its side": lambda photos: (photos / "portrait-orientation6.jpg").read_bytes(),
    "png, transparent": lambda photos: (photos / "window-alpha.png").read_bytes(),
    "gif, animated": lambda photos: film("GIF", 3),
    "webp, animated": lambda photos: film("WEBP", 3),
    "png, tiny": lambda photos: encoded(make_image("RGB", (16, 16)), "PNG"),
    "bmp": lambda photos: encoded(make_image("RGB", (700, 500)), "BMP"),
    "jpeg, tall": lambda photos: encoded(make_image("RGB", (400, 3000)), "JPEG"),
    "webp, transparent": lambda photos: encoded(make_image("RGBA", (1500, 900)), "WEBP"),
}


@pytest.mark.parametrize("kind", PREVIEWED)
def test_a_preview_is_complete_and_its_picture_is_as_announced(server, photos, kind):
    found, _, page = viewer(server, PREVIEWED[kind](photos), "shown.bin", description="Seen from the path.")
    meta = page.meta()
    assert meta["og:title"] == meta["twitter:title"] == "shown.bin"
    assert meta["og:description"] == meta["twitter:description"] == "Seen from the path."
    assert meta["og:url"] == found["url"] == f"{server.base}/{found['id']}"
    assert meta["og:type"] == "website"
    assert meta["og:site_name"] == "imgpro"
    assert meta["og:image"] == meta["twitter:image"]
    assert meta["twitter:card"] == "summary_large_image"
    assert meta["og:image:alt"] == "shown.bin"
    assert meta["og:image"].startswith(f"{server.base}/t/{found['id']}.")
    assert meta["og:image:type"] in ("image/jpeg", "image/png")
    picture = server.get(meta["og:image"])
    assert picture.status == 200
    assert picture.headers["Content-Type"] == meta["og:image:type"]
    seen = Image.open(io.BytesIO(picture.body))
    assert seen.format == meta["og:image:type"].removeprefix("image/").upper()
    announced = (int(meta["og:image:width"]), int(meta["og:image:height"]))
    shown = ImageOps.exif_transpose(seen)
    assert shown.size == announced
    assert shown.width <= 1200


def test_a_preview_shows_the_largest_size_that_fits(server, photos):
    _, _, page = viewer(server, (photos / "photo-12mp-gps.jpg").read_bytes())
    assert page.meta()["og:image:width"] == "853"
    _, _, page = viewer(server, (photos / "portrait-orientation6.jpg").read_bytes())
    assert (page.meta()["og:image:width"], page.meta()["og:image:height"]) == ("1028", "1544")


def test_svg_has_a_card_without_a_picture(server):
    _, _, page = viewer(server, SVG, "drawing.svg")
    assert page.meta()["twitter:card"] == "summary"
    assert "og:image" not in page.meta()


def test_links_start_with_the_configured_address_and_the_page_works_under_any(tmp_path):
    with running(
        tmp_path / "data", {**UNLIMITED, "IMGPRO_SERVER_BASE_URL": "https://img.example.org/pictures"}
    ) as server:
        found = server.must_upload(PNG, "a.png")
        assert found["url"] == f"https://img.example.org/pictures/{found['id']}"
        _, page = browse(server, f"/{found['id']}")
        assert page.meta()["og:image"].startswith(f"https://img.example.org/pictures/t/{found['id']}.")
        assert page.fields()[0] == found["url"]
        loaded = [
            attrs.get("src") or attrs.get("srcset") or attrs.get("href")
            for tag, attrs in page.tags
            if tag in ("img", "source", "script", "a") or attrs.get("rel") in ("icon", "stylesheet")
        ]
        local = [link for link in loaded if not link.startswith("data:")]
        assert len(local) >= 6
        for link in local:
            assert link.startswith("./"), link
            assert server.get("/" + link.removeprefix("./")).status == 200, link
        form = server.upload(PNG, "b.png")
        assert form.status == 201


def test_relative_links_of_deeper_pages_lead_somewhere(server):
    found = server.must_upload(PNG, "a.png")
    for path in ("/api/quick-start", urlsplit(found["delete_url"]).path + "?" + urlsplit(found["delete_url"]).query):
        _, page = browse(server, path)
        depth = urlsplit(path).path.count("/") - 1
        for attrs in page.all("link") + page.all("img"):
            link = attrs.get("href") or attrs.get("src")
            assert link.startswith("../" * depth), link
            assert server.get("/" + link.removeprefix("../" * depth)).status == 200, link


def test_a_form_sent_without_script_leads_to_the_page_whatever_the_host_is_called(server):
    body, kind = multipart([("file", "a.png", PNG), ("public", None, b"false"), ("name", None, b"")])
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind, **HTML})
    assert answer.status == 303
    assert re.fullmatch(r"\.\./[0-9A-Za-z]{12}\?sig=[0-9A-Za-z._-]+", answer.headers["Location"])
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert server.get("/" + answer.headers["Location"].removeprefix("../"), **HTML).status == 200


def test_the_browser_that_uploaded_may_delete_and_no_other(server):
    body, kind = multipart([("file", "a.png", PNG)])
    stranger = server.request("POST", "/v1/upload", body, {"Content-Type": kind, "Origin": "http://elsewhere.example"})
    assert "Set-Cookie" not in stranger.headers
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind, "Origin": server.base})
    found, cookie = answer.json(), answer.headers["Set-Cookie"]
    assert f"Path=/{found['id']};" in cookie + ";"
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "/delete?token=" not in server.get(found["url"], **HTML).body.decode()
    path = f"/{found['id']}"
    mine = Page(server.get(path, Cookie=cookie.partition(";")[0], **HTML).body)
    link = next(attrs["href"] for attrs in mine.all("a") if "/delete?token=" in attrs["href"])
    assert server.get("/" + link.removeprefix("./"), **HTML).status == 200
    other = server.must_upload(PNG, "b.png")
    page = server.get(f"/{other['id']}", Cookie=cookie.partition(";")[0], **HTML)
    assert b"/delete?token=" not in page.body


def test_pages_are_not_indexed_unless_the_operator_wants_it(server, open_server):
    _, answer, page = viewer(server)
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert page.meta()["robots"] == "noindex"
    _, answer, page = viewer(open_server)
    assert "X-Robots-Tag" not in answer.headers
    assert "robots" not in page.meta()
    _, answer, page = viewer(open_server, public="false")
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert page.meta()["robots"] == "noindex"


CSP = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}


def page_paths(server):
    found = server.must_upload(PNG, "a.png")
    delete = urlsplit(found["delete_url"])
    private = server.must_upload(PNG, "b.png", public="false")
    return {
        "home": "/",
        "quick start": "/api/quick-start",
        "viewer": f"/{found['id']}",
        "private viewer": private["url"],
        "delete": f"{delete.path}?{delete.query}",
        "gone": "/AAAAAAAAAAAA",
        "gone picture": "/t/AAAAAAAAAAAA.png",
        "nowhere": "/some/where/else",
        "not for browsing": "/v1/upload",
    }


def test_every_page_is_light_strict_and_free_of_inline_and_foreign_parts(server):
    for name, path in page_paths(server).items():
        answer, page = browse(server, path)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8", name
        rules = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert CSP.items() <= rules.items(), name
        assert rules["img-src"] == "'self' data: blob:"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer")
        weight = len(answer.body)
        for tag, attrs in page.tags:
            assert "style" not in attrs, name
            assert not any(key.startswith("on") for key in attrs), name
            assert tag != "style", name
            assert tag != "script" or attrs["src"], name
            for key in ("src", "srcset", "href", "action"):
                link = attrs.get(key, "")
                absolute = link.startswith(("http:", "https:", "//"))
                assert not absolute or (tag, attrs.get("rel")) == ("link", "alternate"), (name, link)
            if tag == "script" or attrs.get("rel") in ("stylesheet", "icon"):
                target = re.sub(r"^(\.\.?/)+", "/", attrs.get("src") or attrs["href"])
                weight += len(server.get(target).body)
        assert weight < 60_000, name
        assert page.all("html")[0]["lang"] == "en"
        assert page.text.strip()


def test_a_signed_page_gives_its_address_to_nobody(server):
    found = server.must_upload(PNG, "b.png", public="false")
    assert "?sig=" in found["url"]
    answer, page = browse(server, found["url"])
    assert answer.status == 200
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]
    assert not [attrs for attrs in page.all("link") if attrs.get("rel") == "alternate"]
    assert all("sig=" in text for text in page.fields())
    answer, _ = browse(server, found["delete_url"])
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_what_is_gone_private_or_never_was_looks_the_same(server, tmp_path):
    private = server.must_upload(PNG, "b.png", public="false")
    deleted = server.must_upload(PNG, "c.png")
    assert (
        server.request("DELETE", urlsplit(deleted["delete_url"])._replace(scheme="", netloc="").geturl()).status == 200
    )
    paths = [f"/{private['id']}", f"/{private['id']}?sig=1ffffffff.AAAA", f"/{deleted['id']}", "/AAAAAAAAAAAA"]
    pages = [browse(server, path) for path in paths]
    assert [answer.status for answer, _ in pages] == [404] * 4
    # The way back after signing in names the address that was asked for.
    asked = [path.partition("?")[0].encode() for path in paths]
    assert len({answer.body.replace(path, b"") for (answer, _), path in zip(pages, asked, strict=True)}) == 1
    page = pages[0][1]
    assert page.meta()["robots"] == "noindex"
    way_back = f"./dashboard/sign-in?next=/{private['id']}"
    assert [attrs["href"] for attrs in page.all("a")] == ["./", "./dashboard", way_back, "./"]
    for path in paths:
        plain = server.get(path)
        assert plain.status == 404
        assert plain.json()["error"] == "not_found"


def test_an_expired_picture_is_a_calm_page_at_once(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ANONYMOUS_RETENTION_S": "2s"}) as server:
        found, _, _ = viewer(server)
        while time.time() < found["created_at"] + 3.2:
            time.sleep(0.05)
        answer, page = browse(server, found["url"])
        assert answer.status == 404
        assert "may have expired" in page.text
        assert server.get(f"/oembed?url={found['url']}").status == 404


def test_a_page_for_a_wrong_method_says_which_are_right(server):
    answer, page = browse(server, "/v1/upload")
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    assert "does not support" in page.text


def test_a_form_that_fails_is_answered_with_a_page_that_says_why(server):
    body, kind = multipart([("file", "a.png", PNG), ("ttl", None, b"soon")])
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind, **HTML})
    assert answer.status == 422
    page = Page(answer.body)
    assert "at least 300 seconds" in page.text
    assert all(attrs["href"].startswith("../") for attrs in page.all("a"))
    body, kind = multipart([("file", "a.png", b"no picture at all")])
    answer = server.request("POST", "/v1/upload", body, {"Content-Type": kind, **HTML})
    assert answer.status == 415
    assert "not a picture format" in Page(answer.body).text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_descriptions_stay_text(server, text):
    found, answer, page = viewer(server, PNG, "x.png", name=text.replace("/", "|"), description=text)
    name = found["name"]
    raw = answer.body.decode()
    assert {tag for tag, _ in page.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "body",
        "header",
        "a",
        "img",
        "main",
        "figure",
        "picture",
        "source",
        "div",
        "section",
        "h1",
        "h2",
        "p",
        "br",
        "time",
        "ul",
        "li",
        "span",
        "label",
        "input",
        "button",
        *("nav", "bdi", "details", "summary", "dialog", "form", "fieldset", "legend", "output"),
        *("dl", "dt", "dd", "kbd", "template"),
    }
    assert [attrs["src"] for attrs in page.all("script")] == ["./static/viewer.js"]
    assert page.all("h1") == [{}, {"tabindex": "-1"}]  # the second in the template of what is shown when it is gone
    assert name in page.text
    assert text in page.text
    assert "49" not in raw.partition("og:title")[2][:40]
    assert page.meta()["og:title"] == " ".join(name.split())
    assert page.meta()["og:description"] == " ".join(text.split())
    shown = next(attrs for attrs in page.all("img") if attrs.get("class") == "shown")
    assert shown["alt"] == text
    link, picture, markdown, html, bbcode = page.fields()
    assert re.fullmatch(r"!\[(?:[^\[\]\\]|\\.)*\]\(" + re.escape(found["src"]) + r"\)", markdown)
    inner = Page(html.encode())
    assert [tag for tag, _ in inner.tags] == ["a", "img"]
    assert (inner.all("a")[0]["href"], inner.all("img")[0]["src"]) == (found["url"], found["src"])
    assert bbcode == f"[url={found['url']}][img]{found['src']}[/img][/url]"
    assert (link, picture) == (found["url"], found["src"])
    delete = urlsplit(found["delete_url"])
    _, page = browse(server, f"{delete.path}?{delete.query}")
    assert name in page.text
    assert not page.all("script")


def test_the_site_name_is_text_too(open_server):
    _, _, page = viewer(open_server)
    assert page.meta()["og:site_name"] == "Bilder & <Co>"
    assert page.text.count("Bilder & <Co>") >= 2


def test_titles_and_descriptions_are_cut_by_bytes_between_characters(server):
    name, description = "ä" * 100 + ".png", "日本語の説明" * 100
    found, _, page = viewer(server, PNG, "x.png", name=name, description=description)
    title, summary = page.meta()["og:title"], page.meta()["og:description"]
    assert found["name"] == name
    assert 60 <= len(title.encode()) <= 66
    assert 340 <= len(summary.encode()) <= 346
    assert title.endswith("ä…")
    assert description.startswith(summary[:-1])
    assert "\N{REPLACEMENT CHARACTER}" not in title + summary
    _, _, page = viewer(server, PNG, "x.png", name="a" * 66, description="b" * 346)
    assert page.meta()["og:title"] == "a" * 66
    assert page.meta()["og:description"] == "b" * 346


def oembed(server, url, **query):
    rest = "".join(f"&{key}={quote(value)}" for key, value in query.items())
    return server.get(f"/oembed?url={quote(url, safe='')}{rest}")


def test_oembed_is_discovered_and_describes_the_picture(server, photos):
    found, _, page = viewer(server, (photos / "photo-12mp-gps.jpg").read_bytes(), "x", name='a "coast".jpg')
    discovery = next(attrs for attrs in page.all("link") if attrs.get("type") == "application/json+oembed")
    assert discovery["href"].startswith(f"{server.base}/oembed?")
    answer = server.get(discovery["href"])
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    body = json.loads(answer.body)
    assert body["version"] == "1.0"
    assert body["type"] == "photo"
    assert body["title"] == 'a "coast".jpg'
    assert (body["url"], body["width"], body["height"]) == (found["src"], 4000, 3000)
    assert (body["thumbnail_width"], body["thumbnail_height"]) == (426, 320)
    assert Image.open(io.BytesIO(server.get(body["thumbnail_url"]).body)).size == (426, 320)
    assert body["provider_url"] == server.base
    by_picture = oembed(server, found["sizes"]["m"]["src"])
    assert by_picture.json()["title"] == 'a "coast".jpg'


@pytest.mark.parametrize(
    ("bounds", "size"),
    [
        ({}, (4000, 3000)),
        ({"maxwidth": "1440"}, (1440, 1080)),
        ({"maxwidth": "1439"}, (853, 640)),
        ({"maxheight": "700"}, (853, 640)),
        ({"maxwidth": "900", "maxheight": "400"}, (426, 320)),
        ({"maxwidth": "200"}, (200, 150)),
        ({"maxheight": "30"}, (39, 30)),
        ({"maxwidth": "1", "maxheight": "1"}, (1, 1)),
        ({"maxwidth": "0"}, (4000, 3000)),
        ({"maxwidth": "-5"}, (4000, 3000)),
        ({"maxwidth": "²"}, (4000, 3000)),
        ({"maxwidth": "٣"}, (4000, 3000)),
        ({"maxwidth": "wide", "maxheight": "9" * 400}, (4000, 3000)),
    ],
)
def test_oembed_keeps_to_the_bounds(server, photos, bounds, size):
    found = server.must_upload((photos / "photo-12mp-gps.jpg").read_bytes(), "a.jpg")
    answer = oembed(server, found["url"], **bounds)
    assert answer.status == 200
    body = answer.json()
    assert (body["width"], body["height"]) == size
    real = Image.open(io.BytesIO(server.get(body["url"]).body)).size
    assert real == size or (size[0] < 426 and real == (426, 320))


def test_oembed_refuses_what_it_cannot_describe(server):
    found = server.must_upload(PNG, "a.png")
    private = server.must_upload(PNG, "b.png", public="false")
    for url in (
        "",
        server.base,
        f"{server.base}/AAAAAAAAAAAA",
        f"http://elsewhere.example/{found['id']}",
        f"{server.base}.example/{found['id']}",
        f"{server.base}/{found['id']}/delete",
        private["url"],
        f"{server.base}/{private['id']}",
    ):
        answer = oembed(server, url)
        assert answer.status == 404, url
        assert answer.json()["error"] == "not_found"
    assert oembed(server, found["url"], format="xml").status == 501
    assert oembed(server, found["url"], format="json").status == 200


def run_pasted(line, folder):
    """Run a line as a shell would, and return the status and the body of the answer."""
    done = subprocess.run(
        ["sh", "-c", line.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_the_curl_line_works_as_pasted(open_server, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "picture.jpg").write_bytes(PNG)
    _, page = browse(open_server, "/")
    (line,) = page.curl_lines()
    assert open_server.base in line
    status, body = run_pasted(line, tmp_path)
    assert status == 201, (line, body)
    assert Image.open(io.BytesIO(open_server.get(json.loads(body)["src"]).body)).size == (60, 40)


def test_the_form_offers_only_what_the_server_keeps(tmp_path):
    def offered(server):
        _, page = browse(server, "/")
        return [(attrs.get("value"), "disabled" in attrs) for attrs in page.all("option")][:-2], page

    with running(tmp_path / "a", {"IMGPRO_ANONYMOUS_RETENTION_S": "12h"}) as server:
        options, page = offered(server)
        assert options == [("43200", False), ("3600", False)]
        assert "kept for 12 hours" in page.text
    with running(tmp_path / "b", {"IMGPRO_ANONYMOUS_RETENTION_S": "unlimited"}) as server:
        options, page = offered(server)
        assert options == [(None, True), ("3600", False), ("86400", False), ("604800", False)]
        assert "are kept for" not in page.text


def test_a_closed_server_says_so(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_ANONYMOUS_ENABLED": "false", "IMGPRO_IMPORTS_ENABLED": "false"}) as server:
        _, page = browse(server, "/")
        assert not page.all("form")
        assert not page.all("script")
        assert "need an API key" in page.text
        _, page = browse(server, "/api/quick-start")
        calls = [line for code in page.curl_lines() for line in code.splitlines() if "/v1/" in line]
        assert calls
        assert all("$KEY" in line for line in calls)


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(server, scheme):
    """WCAG 2.2 AA: 4.5 for text, 3 for the edges of fields and for the focus ring."""
    sheet = server.get("/static/imgpro.css").body.decode()
    tokens = re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", sheet)
    colours = {name: pair[scheme] for name, *pair in tokens}
    for ground in ("ground", "card", "code"):
        for ink in ("text", "quiet", "accent"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for edge in ("edge", "accent", "danger"):
            assert contrast(colours[edge], colours[ground]) >= 3, (edge, ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["on-danger"], colours["danger"]) >= 4.5
    assert contrast(colours["accent"], colours["stage"]) >= 3
