"""Addresses that pictures had on another host lead to them: to bytes or page, for whoever may see the picture."""

import socket

import pytest

from imgpro.model import OldLink
from tests.moving import dot, handed_over, rows
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, running

PHOTO = encoded(make_image("RGB", (1_600, 1_200)), "JPEG")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server") / "data", UNLIMITED) as found:
        yield found


def test_bytes_page_and_sizes(server):
    links = [
        OldLink("/u/holiday.jpg"), OldLink("/view/holiday", "page"), OldLink("/u/holiday.md.jpg", "m"),
        OldLink("/get.php?id=7&x=a%20b"), OldLink("/u/a%20b%C3%BC.jpg"),
    ]  # fmt: skip
    image_id = handed_over(server.data, PHOTO, old_links=links)
    for path in ("/u/holiday.jpg", "/u/holiday.jpg?v=2", "/get.php?id=7&x=a%20b", "/u/a%20b%c3%bc.jpg"):
        answer = server.get(path)
        assert answer.status == 301, path
        assert answer.headers["Location"] == f"{server.base}/t/{image_id}.jpeg"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert server.get(answer.headers["Location"]).status == 200
    page = server.get("/view/holiday", Accept="text/html")
    assert (page.status, page.headers["Location"]) == (301, f"{server.base}/{image_id}")
    smaller = server.get("/u/holiday.md.jpg").headers["Location"]
    assert smaller == f"{server.base}/t/{image_id}.jpeg?size=m"
    assert len(server.get(smaller).body) < len(PHOTO)
    head = server.request("HEAD", "/u/holiday.jpg")
    assert (head.status, head.body) == (301, b"")
    for path in ("/get.php?id=8", "/get.php", "/u/holiday.jpg/", "/U/holiday.jpg", "/u"):
        assert server.get(path).status == 404, path
    assert server.request("POST", "/u/holiday.jpg").status == 404


def test_the_same_rules_hold_as_for_the_picture(server):
    key, other = server.new_key("owner@example.org"), server.new_key("other@example.org")
    image_id = handed_over(
        server.data, dot(1), account="owner@example.org", public=False, old_links=[OldLink("/p/secret.png")]
    )
    assert server.get("/p/secret.png").status == 404
    assert server.request("GET", "/p/secret.png", headers=bearer(other)).status == 404
    mine = server.request("GET", "/p/secret.png", headers=bearer(key))
    assert (mine.status, mine.headers["Cache-Control"]) == (301, "private, no-store")
    assert server.api("PATCH", f"/v1/media/{image_id}", {"public": True}, key=key).status == 200
    assert server.get("/p/secret.png").status == 301
    assert server.api("DELETE", f"/v1/media/{image_id}", key=key).status == 200
    assert server.get("/p/secret.png").status == 404
    assert rows(server.data, "SELECT count(*) FROM old_links WHERE path = '/p/secret.png'") == [(0,)]
    assert handed_over(server.data, dot(1), old_links=[OldLink("/p/secret.png")]) != image_id
    assert server.get("/p/secret.png").status == 301


def test_what_is_ours_stays_ours(server):
    from tests.moving import Carrier, load

    paths = [
        "/healthz",
        "/v1/media",
        "/static/style.css",
        "/api",
        "/dashboard",
        "/upload",
        "/t/whatever.png",
        "/u/free.png",
    ]
    items = [{"item": path, "account": None, "links": [{"path": path}]} for path in paths]
    with Carrier(load({}, None, {}), server.data) as carrier:
        rows = carrier.ask("bring-in-look", {"source": "a test", "items": items})["items"]
    against = {path: " ".join(row["notes"]) for path, row in zip(paths, rows, strict=True)}
    assert [path for path, note in against.items() if not note] == ["/t/whatever.png", "/u/free.png"]
    before = server.get("/healthz").status
    handed_over(server.data, dot(2), old_links=[OldLink(path) for path in paths])
    assert server.get("/healthz").status == before == 200
    assert server.get("/v1/media").status == 401
    assert server.get("/t/whatever.png").status == 301
    assert server.get("/u/free.png").status == 301


def test_a_picture_of_ours_goes_before_an_old_link(server):
    ours = server.must_upload(dot(3))
    handed_over(server.data, dot(4), old_links=[OldLink(f"/{ours['id']}"), OldLink("/AbCdEfGh1234")])
    assert server.get(f"/{ours['id']}").status == 200
    assert server.get("/AbCdEfGh1234").status == 301


def test_the_first_of_two_keeps_an_address(server):
    first = handed_over(server.data, dot(20), old_links=[OldLink("/twice.png")])
    second = handed_over(server.data, dot(21), old_links=[OldLink("/twice.png"), OldLink("/once.png")])
    assert server.get("/twice.png").headers["Location"].endswith(f"{first}.png")
    assert server.get("/once.png").headers["Location"].endswith(f"{second}.png")


def test_a_request_line_that_no_browser_sends(server):
    handed_over(server.data, dot(5), old_links=[OldLink("/odd/name.png")])
    for line in (b"GET /odd/%zz%00%ff HTTP/1.1", b"GET //odd/name.png HTTP/1.1", b"GET /odd/\xff\xfe.png HTTP/1.1"):
        with socket.create_connection((server.host, server.port)) as conn:
            conn.sendall(line + b"\r\nHost: img.test\r\nConnection: close\r\n\r\n")
            answer = b""
            while more := conn.recv(65_536):
                answer += more
        assert answer.split()[1] in (b"404", b"400"), answer
    assert server.get("/healthz").status == 200


def test_below_a_path_of_a_host(tmp_path):
    env = {**UNLIMITED, "IMGPRO_BASE_URL": "https://example.org/img/"}
    with running(tmp_path / "data", env) as server:
        image_id = handed_over(server.data, dot(6), old_links=[OldLink("/u/a.png"), OldLink("/img/u/b.png")])
        where = f"https://example.org/img/t/{image_id}.png"
        for path in ("/u/a.png", "/img/u/a.png", "/img/u/b.png", "/u/b.png"):
            answer = server.get(path)
            assert (answer.status, answer.headers.get("Location")) == (301, where), path


def test_nothing_is_looked_up_where_no_picture_has_any(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        assert server.get("/u/a.png").status == 404
        handed_over(server.data, dot(7), old_links=[OldLink("/u/a.png")])
        assert server.get("/u/a.png").status == 301
        server.stop()
        server.start()
        assert server.get("/u/a.png").status == 301
