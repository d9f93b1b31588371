"""Debian's Caddy and nginx in front of a server, each configured by our own lines; what a visitor meets behind them."""

import contextlib
import gzip
import http.client
import json
import os
import select
import shutil
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import until
from tests.fronts import OTHER, proxied
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, multipart, running
from tests.signed_in import FORM

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
JPEG = encoded(make_image("RGB", (900, 700)), "JPEG")
RAW = {"Content-Type": "application/octet-stream"}
HOURLY = 3
ANONYMOUS_BYTES = 5_000_000
ENV = {
    **UNLIMITED,
    "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": str(HOURLY),
    "IMGPRO_ANONYMOUS_STORAGE_BYTES": str(ANONYMOUS_BYTES),
    "IMGPRO_UPLOADS_MAX_BYTES": "26000000",
}
SPOOFED = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=192.0.2.7;proto=http;host=evil.example",
    "X-Real-IP": "192.0.2.7",
}


def bitmap(size):
    """Return a picture that is as large as it looks."""
    file = BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, "BMP")
    return file.getvalue()


@pytest.fixture(scope="module", params=[("caddy", ""), ("nginx", ""), ("caddy", "/img"), ("nginx", "/img")], ids=str)
def front(request, tmp_path_factory):
    """A proxy: for a name over TCP, below a path over a unix socket."""
    kind, path = request.param
    with proxied(kind, tmp_path_factory.mktemp(kind), ENV, path=path, unix=bool(path)) as found:
        yield found


@pytest.fixture(scope="module")
def key(front):
    return front.server.new_key("ann@example.org")


@pytest.fixture(scope="module")
def server(front):
    """What `visit` opens pages of."""
    return front


def uploaded(front, key, body=PNG, name="shot.png"):
    answer = front.request("PUT", f"/v1/upload/{name}", body, {**RAW, **bearer(key)})
    assert answer.status == 201, answer
    return answer.json()


# What goes through


def test_links_begin_with_the_address_that_visitors_know(front, key):
    found = uploaded(front, key)
    assert front.base.startswith("https://")
    links = [found["url"], found["src"], found["delete_url"], *(size["src"] for size in found["sizes"].values())]
    assert [link for link in links if not link.startswith(f"{front.base}/")] == []
    assert [front.get(link).status for link in links] == [200] * len(links)
    assert front.request("DELETE", found["delete_url"]).status == 200
    assert front.get("/healthz").status == 200


def test_a_large_file_arrives_while_it_is_sent(front, key):
    body = bitmap((3000, 2800))
    assert len(body) > 25_000_000
    half = len(body) // 2
    with contextlib.closing(front.connect()) as connection:
        connection.putrequest("PUT", f"{front.path}/v1/upload/large.bmp")
        for name, value in {**RAW, **bearer(key), "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(body[:half])
        deadline = time.monotonic() + 10
        while sum(path.stat().st_size for path in (front.server.data / "tmp").iterdir()) < half - 1_000_000:
            assert time.monotonic() < deadline, "the proxy keeps the file to itself until it is whole"
            time.sleep(0.02)
        connection.send(body[half:])
        answer = connection.getresponse()
        stored = json.loads(answer.read())
        assert (answer.status, stored["width"], stored["height"]) == (201, 3000, 2800)
    assert front.get(stored["sizes"]["s"]["src"]).status == 200


def test_events_are_told_at_once(front, key):
    with contextlib.closing(front.connect()) as connection:
        connection.sock.settimeout(10)
        connection.request("GET", f"{front.path}/v1/events", headers=bearer(key))
        answer = connection.getresponse()
        assert answer.readline().startswith(b"retry:")
        stored = front.server.must_upload(JPEG, "told.jpg", key=key)
        lines = [answer.readline() for _ in range(3)]
        assert lines[1] == b"event: uploaded\n"
        told = json.loads(lines[2].removeprefix(b"data: "))
        assert (told["id"], told["src"]) == (stored["id"], stored["src"])


def test_parts_conditions_and_heads(front, key):
    src = uploaded(front, key, JPEG, "parts.jpg")["src"]
    whole = front.get(src)
    assert whole.body == JPEG
    part = front.get(src, Range="bytes=100-199")
    assert (part.status, part.body) == (206, JPEG[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(JPEG)}"
    again = front.get(src, If_None_Match=whole.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    head = front.request("HEAD", src)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(JPEG)), b"")


def test_what_is_packed_is_whole(front):
    plain = front.get("/static/api.js")
    packed = front.get("/static/api.js", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    for path in ("/", "/api/reference"):
        page = front.get(path, Accept_Encoding="gzip")
        body = gzip.decompress(page.body) if page.headers.get("Content-Encoding") == "gzip" else page.body
        assert (page.status, body.rstrip().endswith(b"</html>")) == (200, True)


def test_refusals_are_our_own(front, key):
    for body, sent, status, code in (
        (bitmap((3000, 2900)), {**RAW, **bearer(key)}, 413, "file_too_large"),
        (bitmap((1400, 1300)), RAW, 507, "storage_full"),
    ):
        answer = front.request("PUT", "/v1/upload/large.bmp", body, sent, source="127.0.0.9")
        assert (answer.status, answer.json()["error"]) == (status, code)


def test_a_server_that_starts_again_is_found_again(front, key):
    src = uploaded(front, key)["src"]
    with contextlib.closing(front.connect()) as connection:

        def ask():
            connection.request("GET", front.path + src.removeprefix(front.base))
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert ask() == (200, PNG)
        front.server.stop()
        found = []
        if front.kind == "caddy":  # it lets visitors wait
            asking = threading.Thread(target=lambda: found.append(ask()))
            asking.start()
            time.sleep(0.3)
            front.server.start()
            asking.join()
        else:
            front.server.start()
            found.append(ask())
        assert found == [(200, PNG)]
    uploaded(front, key)


@pytest.mark.parametrize("trusted", [True, False])
def test_an_idle_connection_of_a_proxy_is_kept_longer_than_it_keeps_it_itself(tmp_path, trusted):
    env = {"IMGPRO_SERVER_IDLE_DEADLINE_S": "0.5", "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1" if trusted else ""}
    with (
        running(tmp_path / "data", env) as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection,
    ):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        ended, _, _ = select.select([connection.sock], [], [], 2.5)
        assert bool(ended) is not trusted


# Who asks


def statuses(front, source, count, headers=None):
    sent = {"Content-Type": "image/png", **(headers or {})}
    return [front.request("POST", "/v1/upload", PNG, sent, source=source).status for _ in range(count)]


def test_every_caller_has_limits_of_their_own_whatever_they_claim(front):
    assert statuses(front, "127.0.0.2", HOURLY + 1) == [201] * HOURLY + [429]
    assert statuses(front, "127.0.0.2", 1, SPOOFED) == [429]
    assert statuses(front, "127.0.0.2", 1, {"X-Forwarded-For": "127.0.0.3, 127.0.0.4"}) == [429]
    assert statuses(front, "127.0.0.3", 1, SPOOFED) == [201]


@pytest.mark.parametrize("kind", ["caddy", "nginx"])
def test_a_server_that_is_not_told_its_address_learns_it_from_the_proxy_and_from_nobody_else(kind, tmp_path):
    with proxied(kind, tmp_path, ENV, guess=True) as front:
        for headers in ({}, SPOOFED):
            answer = front.request("POST", "/v1/upload", PNG, {"Content-Type": "image/png", **headers})
            assert answer.json()["src"].startswith(f"{front.base}/t/")
        key = front.server.new_key("ann@example.org")
        body = f"key={key}".encode()
        answer = front.request("POST", "/dashboard/sign-in", body, {**FORM, "Origin": front.base, **SPOOFED})
        assert (answer.status, "; Secure" in answer.headers["Set-Cookie"]) == (303, True)
        assert "; Path=/;" in f"{answer.headers['Set-Cookie']};"


def test_below_a_path_the_rest_of_the_host_is_not_ours(front):
    if not front.path:
        pytest.skip("all of this host is ours")
    with contextlib.closing(front.connect()) as connection:

        def ask(path):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read().decode()

        for path in ("/", "/imgevil", "/dashboard", "/t/AAAAAAAAAAAA.png"):
            assert ask(path)[2] == OTHER, path
        assert ask("/img")[1].removeprefix(front.base.removesuffix("/img")) == "/img/"
        for path in ("/img//evil.example", "/img//evil.example/", "/img/%2fevil.example", "/img/%2e%2e/x", "/img/img"):
            status, location, said = ask(path)
            assert (status, location) == (404, "") or said == OTHER, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run nginx as somebody else")
@pytest.mark.parametrize(("user", "status"), [("nobody root", 200), ("nobody nogroup", 502)])
def test_a_unix_socket_is_for_its_group(user, status):
    folder = Path(tempfile.mkdtemp(prefix="imgpro-group-"))
    try:
        folder.chmod(0o755)
        with proxied("nginx", folder, ENV, unix=True, user=user) as front:
            assert front.get("/healthz").status == status
    finally:
        shutil.rmtree(folder)


# In a browser


@pytest.mark.browser
def test_people_use_it_as_ever(front, key, visit):
    if not front.path:
        pytest.skip("as without a proxy")
    uploaded(front, key)
    page = visit(ignore_https_errors=True)
    page.goto(f"{front.base}/")
    page.set_input_files("input[type=file]", {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": JPEG})
    page.locator("a", has_text="mine.jpg").first.wait_for()
    page.goto(f"{front.base}/dashboard/account")
    assert page.url.startswith(f"{front.base}/dashboard/sign-in?next=")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{front.base}/dashboard/account")
    (cookie,) = [one for one in page.context.cookies() if one["name"].startswith("imgpro_session")]
    assert (cookie["path"], cookie["secure"]) == (front.path, True)
    page.goto(f"{front.base}/dashboard")
    page.locator(".live .tile").first.wait_for()
    front.server.must_upload(JPEG, "live.jpg", key=key)
    page.locator('.live .tile a[data-name="live.jpg"]').wait_for()
    page.locator('.live .tile a[data-name="live.jpg"]').click()
    page.locator("#whole").click()
    page.locator("#lens[open]").wait_for()
    until(page, "document.querySelector('.glass img').naturalWidth > 0")
    page.keyboard.press("Escape")
    until(page, "!location.hash && !document.querySelector('#lens[open]')")
    page.goto(f"{front.base}/dashboard")
    with page.expect_download() as download:
        page.locator(".live .tile", has=page.locator('a[data-name="live.jpg"]')).hover()
        page.get_by_role("checkbox", name="Select live.jpg").click()
        page.get_by_role("toolbar").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename
    page.goto(f"{front.base}/api")
    page.locator(".swagger-ui .opblock").first.wait_for()


def test_the_app_that_can_be_installed_stays_below_its_path(front):
    manifest = front.get("/manifest.webmanifest").json()
    assert (manifest["start_url"], manifest["scope"], manifest["share_target"]["action"]) == ("./", "./", "share")
    body, kind = multipart([("file", "shared.png", PNG)])
    answer = front.request("POST", "/share", body, {"Content-Type": kind, "Origin": front.base}, source="127.0.0.8")
    assert answer.status == 303
    assert front.get(f"/{answer.headers['Location'].removeprefix('./')}").status == 200
    assert f"; Path={front.path}/" in answer.headers["Set-Cookie"]
