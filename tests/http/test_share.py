"""What an installed app's share sheet and a bookmark send, and as whom it is taken."""

import io
import json
import re
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from tests.markup import Page
from tests.peers import importing_from
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, multipart, running

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = "application/x-www-form-urlencoded"
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
GIF = encoded(make_image("RGB", (30, 20)), "GIF")


@pytest.fixture(scope="module")
def server(tmp_path_factory, peer_port):
    with running(tmp_path_factory.mktemp("share") / "data", {**UNLIMITED, **importing_from(peer_port)}) as found:
        yield found


@pytest.fixture
def cookie(server, ann):
    answer = server.request("POST", "/dashboard/sign-in", f"key={ann}".encode(), {"Content-Type": FORM})
    return answer.headers["Set-Cookie"].partition(";")[0]


def share(server, *parts, **headers):
    content, kind = multipart(list(parts))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", "/share", content, {"Content-Type": kind, **HTML, **sent})


def file(name="a.png", body=PNG):
    return ("file", name, body)


def field(name, text):
    return (name, None, text.encode())


def own(server, key):
    return [one["name"] for one in server.api("GET", "/v1/media", key=key).json()["data"]]


def opened(server, answer):
    assert answer.status == 303, answer
    assert answer.headers["Location"].startswith("./")
    return Page(server.get("/" + answer.headers["Location"].removeprefix("./"), **HTML).body)


def heading(answer):
    return re.search("<h1>(.*?)</h1>", answer.body.decode(), re.DOTALL)[1]


# The manifest


def test_the_manifest_describes_an_app_that_takes_pictures(server):
    answer = server.get("/manifest.webmanifest")
    assert answer.headers["Content-Type"] == "application/manifest+json"
    found = answer.json()
    assert found["name"] == "imgpro"
    assert found["display"] == "standalone"
    target = found["share_target"]
    assert (target["action"], target["method"], target["enctype"]) == ("share", "POST", "multipart/form-data")
    assert target["params"]["files"] == [{"name": "file", "accept": ["image/*"]}]
    assert {"192x192", "512x512"} <= {icon["sizes"] for icon in found["icons"]}
    assert "maskable" in {icon.get("purpose") for icon in found["icons"]}
    for icon in found["icons"]:
        picture = server.get("/" + icon["src"])
        assert picture.headers["Content-Type"] == icon["type"]
        if icon["type"] == "image/png":
            assert "{}x{}".format(*Image.open(io.BytesIO(picture.body)).size) == icon["sizes"]


def test_everything_in_it_is_relative_so_that_it_works_under_any_address(tmp_path):
    env = {"IMGPRO_SERVER_BASE_URL": "https://img.example.org/pictures", "IMGPRO_PAGES_SITE_NAME": 'Bilder "&" Co'}
    with running(tmp_path / "data", {**UNLIMITED, **env}) as server:
        body = server.get("/manifest.webmanifest").body
        found = json.loads(body)
        assert found["name"] == 'Bilder "&" Co'
        assert b"http" not in body
        links = [
            found["start_url"],
            found["scope"],
            found["share_target"]["action"],
            *(i["src"] for i in found["icons"]),
        ]
        assert not [link for link in links if link.startswith("/")]
        assert opened(server, share(server, file())).text.count("a.png")


def test_every_page_names_it_and_an_icon_for_the_home_screen(server):
    page = Page(server.get("/api/quick-start", **HTML).body)
    links = {attrs["rel"]: attrs["href"] for attrs in page.all("link")}
    assert links["manifest"] == "../manifest.webmanifest"
    icon = server.get("/" + links["apple-touch-icon"].removeprefix("../"))
    assert Image.open(io.BytesIO(icon.body)).size == (180, 180)


# What is shared


def test_one_picture_ends_on_its_page_with_the_right_to_delete_it(server):
    answer = share(
        server, field("title", "ignored"), file("shot.png"), field("text", "https://elsewhere.example/x.png")
    )
    assert "shot.png" in opened(server, answer).text
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    page = server.get("/" + answer.headers["Location"].removeprefix("./"), Cookie=f"{name}={value}", **HTML)
    assert b"/delete?token=" in page.body


def test_several_are_listed_each_with_its_link(server):
    answer = share(server, file("a.png"), file("b.gif", GIF), file("c.png"))
    assert answer.status == 200
    assert heading(answer) == "3 pictures are uploaded"
    page = Page(answer.body)
    links = [attrs["value"] for attrs in page.all("input") if "link" in attrs.get("class", "")]
    assert len(links) == 3
    assert all(server.get(link).status == 200 for link in links)
    deletes = [attrs["href"] for attrs in page.all("a") if "/delete?token=" in attrs["href"]]
    assert all(server.get("/" + link.removeprefix("./"), **HTML).status == 200 for link in deletes)
    assert len(deletes) == 3
    thumbs = [attrs["src"] for attrs in page.all("img") if "/t/" in attrs["src"]]
    assert all(server.get("/" + link.removeprefix("./")).status == 200 for link in thumbs)


def test_one_that_is_no_picture_keeps_the_others_not_out(server):
    answer = share(server, file("a.png"), file("<b>.png", b"no picture"), file("c.png"))
    assert answer.status == 200
    assert heading(answer) == "2 pictures are uploaded"
    text = answer.body.decode()
    assert "<bdi>&lt;b&gt;.png</bdi></strong>: This is not a picture format that is accepted here." in " ".join(
        text.split()
    )
    answer = share(server, file("a.png", b"x"), file("b.png", b""))
    assert answer.status == 415
    assert heading(answer) == "Nothing was uploaded"
    answer = share(server, file("a.png", b"x"))
    assert answer.status == 415
    assert heading(answer) == "This is not a picture format that is accepted here."


def test_a_file_that_is_too_large_keeps_the_others_not_out(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "100000"}) as server:
        answer = share(server, file("a.png"), file("big.png", PNG + bytes(300_000)), file("c.png"))
        assert heading(answer) == "2 pictures are uploaded"
        assert "big.png</bdi></strong>: The file is" in answer.body.decode()
        answer = share(server, file("huge.png", PNG + bytes(3_000_000)))
        assert answer.status == 413


def test_more_than_a_form_may_hold_leaves_what_came_before(server):
    answer = share(server, *(file(f"{number}.png") for number in range(22)))
    assert answer.status == 200
    assert heading(answer) == "20 pictures are uploaded"
    assert "A form has at most 20 parts." in answer.body.decode()


def test_when_the_limit_is_reached_what_came_before_stays(tmp_path):
    env = {**UNLIMITED, "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "2"}
    with running(tmp_path / "data", env) as server:
        answer = share(server, *(file(f"{number}.png") for number in range(4)))
        assert heading(answer) == "2 pictures are uploaded"
        assert answer.body.count(b"Too many uploads from this address.") == 1
        answer = share(server, file())
        assert answer.status == 429
        assert heading(answer) == "Too many uploads from this address."


@pytest.mark.parametrize("where", ["url", "text", "title"])
def test_an_address_is_imported_wherever_the_app_puts_it(server, peer_port, where):
    address = f"http://127.0.0.1:{peer_port}/far.png"
    words = address if where == "url" else f"Look at this: {address}"
    assert "far.png" in opened(server, share(server, field(where, words))).text


def test_nothing_and_nonsense_are_told_calmly(server):
    for parts in ([field("text", "only words")], [field("url", "")]):
        answer = share(server, *parts)
        assert answer.status == 422
        assert "Share one or more pictures, or the address of one." in answer.body.decode()
    answer = server.request("POST", "/share", b"file=1", {"Content-Type": FORM, **HTML})
    assert answer.status == 422
    assert server.request("POST", "/share", b"x", {"Content-Type": "multipart/form-data", **HTML}).status == 400
    answer = share(server, field("url", "http://127.0.0.1:1/a.png"))
    assert answer.status == 422
    assert server.get("/share").headers["Location"] == "./"


def test_a_closed_server_says_so(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_ANONYMOUS_ENABLED": "false"}) as server:
        answer = share(server, file(), Sec_Fetch_Site="none")
        assert answer.status == 403
        assert heading(answer) == "This server takes no uploads without an API key."
        assert b"Sign in" in server.get("/import?url=x", **HTML).body


# As whom


@pytest.mark.parametrize(
    ("headers", "taken_as"),
    [
        ({"Sec_Fetch_Site": "none", "Origin": "null"}, "ann"),  # the share sheet
        ({"Sec_Fetch_Site": "none"}, "ann"),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "{base}"}, "ann"),
        ({"Origin": "{base}"}, "ann"),  # plain http: browsers say no more
        ({}, "nobody"),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"}, None),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "null"}, None),
        ({"Sec_Fetch_Site": "cross-site"}, None),
        ({"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:1"}, None),  # the next port is another's
        ({"Origin": "https://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Origin": "{base}.evil.example"}, None),
    ],
)
def test_a_session_counts_only_where_no_other_site_can_have_sent_it(server, ann, cookie, headers, taken_as):
    told = {name: value.format(base=server.base) for name, value in headers.items()}
    answer = share(server, file(), Cookie=cookie, **told)
    assert answer.status == (403 if taken_as is None else 303)
    assert own(server, ann) == (["a.png"] if taken_as == "ann" else [])
    if taken_as is None:
        assert heading(answer) == "This form was sent from another site."


def test_a_session_that_has_ended_shares_as_nobody(server, ann):
    assert "a.png" in opened(server, share(server, file(), Cookie="imgpro_session=gone", Sec_Fetch_Site="none")).text
    assert own(server, ann) == []


# The bookmark


def imported(server, url, token="", **headers):
    form = f"url={quote(url, safe='')}" + (f"&csrf={token}" if token else "")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", "/import", form.encode(), {"Content-Type": FORM, **HTML, **sent})


def test_opening_the_bookmark_changes_nothing_and_the_button_imports(server, peer_port, ann, cookie):
    address = f"http://127.0.0.1:{peer_port}/bookmarked.png"
    answer = server.get(f"/import?url={quote(address, safe='')}", Cookie=cookie, **HTML)
    assert heading(answer) == "Import a picture"
    page = Page(answer.body)
    values = {attrs["name"]: attrs.get("value") for attrs in page.all("input") if "name" in attrs}
    assert values["url"] == address
    assert own(server, ann) == []
    answer = imported(server, address, values["csrf"], Cookie=cookie, Origin=server.base)
    assert answer.status == 303
    assert own(server, ann) == ["bookmarked.png"]


def test_a_bookmark_of_nobody_in_particular(server, peer_port):
    answer = imported(server, f"http://127.0.0.1:{peer_port}/b.png", Origin=server.base)
    assert "b.png" in opened(server, answer).text
    assert "delete=" in answer.headers["Set-Cookie"]


def test_what_cannot_be_imported_is_told_on_the_page_with_the_address_kept(server):
    answer = imported(server, "http://127.0.0.1:1/<b>.png", Origin=server.base)
    assert answer.status == 422
    assert heading(answer) == "Import a picture"
    assert 'value="http://127.0.0.1:1/&lt;b&gt;.png"' in answer.body.decode()
    assert 'role="alert"' in answer.body.decode()
    assert imported(server, "", Origin=server.base).status == 422


def test_other_sites_import_nothing(server, peer_port, ann, cookie):
    address = f"http://127.0.0.1:{peer_port}/b.png"
    evil = {"Cookie": cookie, "Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}
    assert imported(server, address, **evil).status == 403
    assert imported(server, address, "wrong", Cookie=cookie, Origin=server.base).status == 403
    assert imported(server, address, "any", Origin=server.base).status == 401, "signed out meanwhile"
    answer = imported(server, address, Cookie=cookie, Origin=server.base)
    assert answer.status == 303, "from a page that was opened signed out: nobody's"
    assert own(server, ann) == []


def test_a_server_that_imports_nothing(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_IMPORTS_ENABLED": "false"}) as server:
        assert server.get("/import?url=x", **HTML).status == 404
        assert imported(server, "http://127.0.0.1:1/", Origin=server.base).status == 404
        assert share(server, field("url", "http://127.0.0.1:1/")).status == 404
        assert b'form="fetch"' not in server.get("/").body


def test_links_on_these_pages_are_relative(server):
    answer = share(server, file("a.png"), file("b.png"))
    for attrs in Page(answer.body).all("a") + Page(answer.body).all("link"):
        assert not urlsplit(attrs["href"]).netloc
        assert not attrs["href"].startswith("/")
