"""What callers without a key may do: exact counts, whose counts they are, room on the disk, and exact ends."""

import contextlib
import http.client
import json
import sqlite3
import threading
import time

import pytest

from tests.containers import encode, picture
from tests.patience import wait_until
from tests.servers import UNLIMITED, blobs, leftovers, running
from tests.wire import Wire, ask, assert_shape, complaints

PNG = encode(picture("RGB", (60, 40)), "PNG")
HOST = b"Host: pictures.test\r\n"
HOUR = "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR"


def put(server, body=PNG, *, sender=None):
    return server.request("PUT", "/v1/upload/x.png", body, {"X-Forwarded-For": sender} if sender else {})


def settled(server):
    deadline = time.monotonic() + 10
    while leftovers(server.data) and time.monotonic() < deadline:
        time.sleep(0.02)
    wait_until(lambda: leftovers(server.data) == [])


def rows(server, question):
    connection = sqlite3.connect(f"{(server.data / 'imgpro.db').as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(question).fetchone()[0]
    finally:
        connection.close()


# Counts


def test_twenty_an_hour_are_the_default_and_outlive_a_restart(tmp_path):
    data = tmp_path / "data"
    with running(data) as server:
        found = [put(server) for _ in range(20)]
        assert [answer.status for answer in found] == [201] * 20
        # Only the head is sent: the answer must come without the body.
        head = b"PUT /v1/upload/x.png HTTP/1.1\r\n%sContent-Length: 100000\r\n" % HOST
        for request in (head + b"\r\n", head + b"Expect: 100-continue\r\n\r\n"):
            answer = ask(server, request)
            assert_shape(answer, 429, "rate_limited")
            assert 3500 < answer.json()["action"]["seconds"] <= 3600
            assert answer.json()["action"]["type"] == "wait"
            assert answer.headers["Connection"] == "close"
        # Bad files and deleted pictures neither count nor give anything back.
        link = found[0].json()["delete_url"].removeprefix(server.base)
        assert server.request("DELETE", link).status == 200
        assert_shape(put(server), 429, "rate_limited")
        assert server.get(found[1].json()["src"]).body == PNG
        assert server.stop() == 0
    with running(data) as server:
        assert_shape(put(server), 429, "rate_limited")
        assert server.get(f"/t/{found[1].json()['id']}.png").body == PNG


def test_refused_files_do_not_count(tmp_path):
    with running(tmp_path / "data", {HOUR: "2"}) as server:
        for bad in (b"no picture", b"", PNG[:50]):
            assert put(server, bad).status in (415, 422)
        assert [put(server).status for _ in range(3)] == [201, 201, 429]


def test_the_day_has_its_own_limit(tmp_path):
    env = {HOUR: "unlimited", "IMGPRO_ANONYMOUS_UPLOADS_PER_DAY": "3"}
    with running(tmp_path / "data", env) as server:
        assert [put(server).status for _ in range(3)] == [201] * 3
        answer = put(server)
        assert_shape(answer, 429, "rate_limited")
        assert 86_000 < answer.json()["action"]["seconds"] <= 86_400


@pytest.mark.parametrize("different", [False, True], ids=["same bytes", "different bytes"])
def test_a_hundred_at_once_take_exactly_what_is_left(tmp_path, different):
    allowed = 7
    with running(tmp_path / "data", {HOUR: str(allowed)}) as server:
        bodies = [encode(picture("RGB", (20 + number if different else 20, 10)), "PNG") for number in range(100)]
        answers = []
        gate = threading.Barrier(len(bodies))

        def send(body):
            gate.wait(20)
            answers.append(put(server, body))

        threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status for answer in answers]
        assert sorted(statuses) == [201] * allowed + [429] * 93
        for answer in answers:
            if answer.status == 429:
                assert_shape(answer, 429, "rate_limited")
            else:
                assert server.get(answer.json()["src"]).status == 200
        settled(server)
        assert rows(server, "SELECT count(*) FROM images") == allowed
        assert len(blobs(server.data)) == rows(server, "SELECT count(*) FROM blobs") == (allowed if different else 1)
        assert complaints(server) == []


def test_attempts_count_whatever_comes_of_them(tmp_path):
    with running(tmp_path / "data", UNLIMITED | {"IMGPRO_ANONYMOUS_ATTEMPTS_PER_MINUTE": "3"}) as server:
        assert [put(server, b"no").status for _ in range(3)] == [415] * 3
        answer = ask(server, b"PUT /v1/upload/x.png HTTP/1.1\r\n%sContent-Length: 9\r\n\r\n" % HOST)
        assert_shape(answer, 429, "rate_limited")
        assert 15 <= answer.json()["action"]["seconds"] <= 20
        assert server.get("/healthz").status == 200


@pytest.mark.parametrize("name", [HOUR, "IMGPRO_ANONYMOUS_UPLOADS_PER_DAY", "IMGPRO_ANONYMOUS_ATTEMPTS_PER_MINUTE"])
def test_none_at_all_is_a_limit_too(tmp_path, name):
    with running(tmp_path / "data", UNLIMITED | {name: "0"}) as server:
        assert_shape(put(server), 429, "rate_limited")


def test_too_many_at_once_are_told_to_wait(tmp_path):
    env = {"IMGPRO_UPLOADS_MAX_IN_FLIGHT_PER_NETWORK": "2", "IMGPRO_UPLOADS_PATIENCE_S": "0.3"}
    with running(tmp_path / "data", UNLIMITED | env) as server:
        slow = [Wire(server) for _ in range(2)]
        head = b"PUT /v1/upload/x.png HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        for wire in slow:
            wire.send(head % (HOST, len(PNG)))
            assert wire.answer().status == 100
        assert_shape(put(server), 503, "busy")
        neighbour = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10, source_address=("127.0.0.2", 0))
        with contextlib.closing(neighbour):
            neighbour.request("PUT", "/v1/upload/x.png", PNG)
            assert neighbour.getresponse().status == 201
        for wire in slow:
            wire.send(PNG)
            assert wire.answer().status == 201
            wire.__exit__()
        assert put(server).status == 201


# Whose count it is


PROXIED = {HOUR: "1", "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    with running(tmp_path_factory.mktemp("proxied") / "data", PROXIED) as found:
        yield found


def test_ipv6_is_counted_by_64(proxied):
    assert put(proxied, sender="2001:db8:1:1::1").status == 201
    assert put(proxied, sender="2001:db8:1:1:ffff::9").status == 429
    assert put(proxied, sender="2001:0DB8:0001:0001::2").status == 429
    assert put(proxied, sender="2001:db8:1:2::1").status == 201


def test_mapped_addresses_are_the_ipv4_ones(proxied):
    assert put(proxied, sender="::ffff:198.51.100.1").status == 201
    assert put(proxied, sender="198.51.100.1").status == 429


def test_the_first_stranger_from_the_right_counts(proxied):
    assert put(proxied, sender="198.51.100.2, 10.1.2.3").status == 201
    assert put(proxied, sender="1.2.3.4, 198.51.100.2").status == 429
    assert put(proxied, sender="garbage, 198.51.100.2, 10.9.9.9, 10.1.1.1").status == 429
    assert put(proxied, sender="198.51.100.2, 198.51.100.3").status == 201


def test_several_header_lines_are_one_list(proxied):
    def send(*lines):
        head = (
            b"PUT /v1/upload/x.png HTTP/1.1\r\n" + HOST + b"".join(b"X-Forwarded-For: %s\r\n" % line for line in lines)
        )
        return ask(proxied, head + b"Content-Length: %d\r\n\r\n" % len(PNG) + PNG).status

    assert send(b"1.1.1.1", b"198.51.100.4") == 201
    assert send(b"2.2.2.2", b"198.51.100.4", b"10.0.0.1") == 429
    assert send(b"198.51.100.4", b"198.51.100.5") == 201


def test_garbage_from_a_proxy_counts_for_the_proxy(proxied):
    assert put(proxied, sender="unknown").status == 201
    for text in (
        "198.51.100.9, unknown",
        "198.51.100.9:1234",
        "[2001:db8:7::1]",
        "_hidden",
        "198.51.100.9,",
        "fe80::1%eth0",
        "1.2.3",
    ):
        assert put(proxied, sender=text).status == 429, text
    assert put(proxied).status == 429


@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8, unix"])
def test_strangers_cannot_name_an_address(tmp_path, proxies):
    with running(tmp_path / "data", {HOUR: "1", "IMGPRO_SERVER_TRUSTED_PROXIES": proxies}) as server:
        assert put(server, sender="198.51.100.1").status == 201
        assert put(server, sender="198.51.100.2").status == 429
        assert put(server).status == 429


# Who may upload at all


def test_uploads_without_a_key_can_be_turned_off(tmp_path):
    with running(tmp_path / "data", {"IMGPRO_ANONYMOUS_ENABLED": "false"}) as server:
        assert_shape(ask(server, b"PUT /v1/upload/x HTTP/1.1\r\n%sContent-Length: 9\r\n\r\n" % HOST), 403, "forbidden")
        assert_shape(server.upload(PNG), 403, "forbidden")
        answer = server.request("POST", "/v1/import", json.dumps({"url": "http://192.0.2.1/"}).encode())
        assert_shape(answer, 403, "forbidden")
        assert server.get("/").status == 200


def test_uploads_from_the_local_network_only(tmp_path):
    env = PROXIED | {"IMGPRO_ANONYMOUS_NETWORKS": "private"}
    with running(tmp_path / "data", env) as server:
        for sender in ("8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "192.168.1.5, 8.8.8.8"):
            assert_shape(put(server, sender=sender), 403, "forbidden")
        for sender in ("192.168.1.5", "fd00:1::1", "8.8.8.8, 172.16.0.9", None):
            assert put(server, sender=sender).status == 201, sender


# Room


def test_the_ceiling_for_all_anonymous_pictures(tmp_path):
    env = UNLIMITED | {"IMGPRO_ANONYMOUS_STORAGE_BYTES": str(len(PNG) * 5 // 2)}
    with running(tmp_path / "data", env) as server:
        first, second = server.must_upload(PNG), server.must_upload(PNG)
        other = encode(picture("RGB", (61, 41)), "PNG")
        for body in (PNG, other):
            assert_shape(put(server, body), 507, "storage_full")
        settled(server)
        assert len(blobs(server.data)) == 1
        assert server.get(second["src"]).body == PNG
        assert server.request("DELETE", first["delete_url"].removeprefix(server.base)).status == 200
        assert put(server).status == 201


def test_below_the_reserve_reading_and_deleting_go_on(tmp_path):
    data = tmp_path / "data"
    with running(data, UNLIMITED) as server:
        found, kept = server.must_upload(PNG), server.must_upload(encode(picture("RGB", (64, 41)), "PNG"))
        assert server.stop() == 0
    with running(data, UNLIMITED | {"IMGPRO_STORAGE_RESERVE_BYTES": "100000 TB"}) as server:
        answer = ask(server, b"PUT /v1/upload/x HTTP/1.1\r\n%sContent-Length: 9\r\n\r\n" % HOST)
        assert_shape(answer, 507, "storage_full")
        assert_shape(server.upload(PNG), 507, "storage_full")
        wait_until(lambda: leftovers(data) == [])
        assert server.get(f"/t/{found['id']}.png").body == PNG
        assert server.get(f"/t/{found['id']}.webp?size=s").status == 200
        assert server.get(f"/{kept['id']}").status == 200
        link = "/" + found["delete_url"].partition("://")[2].partition("/")[2]
        assert server.request("DELETE", link).status == 200
        assert server.get(f"/t/{found['id']}.png").status == 404
        assert (server.get("/healthz").status, server.get("/readyz").status) == (200, 503)


# Ends


def test_without_an_end_pictures_are_immutable(tmp_path):
    with running(tmp_path / "data", UNLIMITED | {"IMGPRO_ANONYMOUS_RETENTION_S": "unlimited"}) as server:
        found = server.must_upload(PNG)
        assert "expires_at" not in found
        for path in (found["src"], found["sizes"]["s"]["src"], f"/t/{found['id']}.webp"):
            for _ in range(2):
                assert server.get(path).headers["Cache-Control"] == "public, max-age=31536000, immutable, s-maxage=300"
        short = server.must_upload(PNG, ttl="300")
        assert short["expires_at"] == short["created_at"] + 300


def test_ttl_never_lengthens(tmp_path):
    with running(tmp_path / "data", UNLIMITED | {"IMGPRO_ANONYMOUS_RETENTION_S": "10m"}) as server:
        for ttl, kept_s in (("90d", 600), ("1h", 600), ("5m", 300)):
            found = server.must_upload(PNG, ttl=ttl)
            assert found["expires_at"] == found["created_at"] + kept_s


def test_the_end_is_exact_wherever_a_picture_is_read(tmp_path):
    with running(tmp_path / "data", UNLIMITED | {"IMGPRO_ANONYMOUS_RETENTION_S": "2s"}) as server:
        sent = time.time()
        found = server.must_upload(PNG)
        answered = time.time()
        picture_id = found["id"]
        oembed = f"/oembed?url={found['url']}"
        etag = server.get(found["src"]).headers["ETag"]
        paths = {
            "stored": (found["src"], {}),
            "warm": (found["sizes"]["s"]["src"], {}),
            "made": (f"/t/{picture_id}.webp?size=s", {}),
            "range": (found["src"], {"Range": "bytes=0-9"}),
            "known": (found["src"], {"If_None_Match": etag}),
            "download": (found["src"] + "?download=1", {}),
            "page": (found["url"], {}),
            "api": (f"/v1/media/{picture_id}", {}),
            "oembed": (oembed, {}),
        }
        ends = {}
        while len(ends) < len(paths) and time.time() < sent + 20:
            for name, (path, headers) in paths.items():
                before = time.time()
                answer = server.get(path, **headers)
                if name in ends:
                    assert answer.status == 404, name
                elif answer.status == 404:
                    ends[name] = (before, time.time())
                else:
                    assert answer.status in (200, 206, 304), answer
                    assert before <= answered + 2, f"{name} was served after its end"
                    age = answer.headers["Cache-Control"]
                    assert "immutable" not in age or int(age.split("max-age=")[1].split(",")[0]) <= 2
            time.sleep(0.05)
        for name, (_, seen_gone) in ends.items():
            assert seen_gone >= sent + 2, f"{name} ended too early"
        assert len(ends) == len(paths)
        token = found["delete_url"].partition("token=")[2]
        assert server.get(f"/{picture_id}/delete?token={token}").status == 404
