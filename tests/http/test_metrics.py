"""`/metrics`: there for those who may read it, in the form that Prometheus reads, and without a single id."""

import random
import re
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.load import small_png
from tests.servers import UNLIMITED, bearer, running
from tests.wire import Wire

ON = {**UNLIMITED, "IMGPRO_METRICS_ENABLED": "true", "IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": "500000"}
PNG = small_png(random.Random(1), 64)
NAMES = {
    "imgpro_build_info": "gauge",
    "imgpro_http_requests": "counter",
    "imgpro_http_request_duration_seconds": "histogram",
    "imgpro_uploads": "counter",
    "imgpro_upload_bytes": "counter",
    "imgpro_transforms": "counter",
    "imgpro_transform_duration_seconds": "histogram",
    "imgpro_cache_requests": "counter",
    "imgpro_images": "gauge",
    "imgpro_storage_bytes": "gauge",
    "imgpro_storage_free_bytes": "gauge",
    "imgpro_storage_low": "gauge",
    "imgpro_db_write_queue": "gauge",
    "imgpro_db_write_duration_seconds": "histogram",
    "imgpro_db_busy": "counter",
    "imgpro_db_wal_bytes": "gauge",
    "imgpro_backup_last_success_timestamp_seconds": "gauge",
    "imgpro_verify_last_success_timestamp_seconds": "gauge",
    "imgpro_backup_failures": "counter",
    "imgpro_backup_failed": "gauge",
    "imgpro_backup_late": "gauge",
    "imgpro_verify_failures": "counter",
    "imgpro_verify_corrupt_blobs": "gauge",
    "imgpro_journal_bytes": "gauge",
    "imgpro_journal_failed": "gauge",
    "imgpro_scrub_checked_blobs": "gauge",
    "imgpro_scrub_damaged_blobs": "gauge",
    "imgpro_worker_restarts": "counter",
    "imgpro_worker_kills": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_open_fds": "gauge",
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    with running(tmp_path_factory.mktemp("metrics") / "data", ON) as server:
        yield server


def families(server, **headers):
    answer = server.get("/metrics", **headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def samples(server):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(server).values()
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, *sorted(labels.items())), 0)


def plain(answer):
    own = ("X-Request-Id", "Date")
    return answer.status, answer.body, {name: text for name, text in answer.headers.items() if name not in own}


def test_off_it_is_like_any_unknown_path(server):
    for method in ("GET", "POST", "DELETE"):
        assert plain(server.request(method, "/metrics")) == plain(server.request(method, "/nothing"))


def test_names_types_and_the_law_of_the_format(counted):
    found = counted.must_upload(PNG)
    counted.get(found["src"])
    seen = families(counted)
    assert {name: seen[name].type for name in NAMES} == NAMES
    assert all(family.documentation for family in seen.values())
    text = counted.get("/metrics").body.decode()
    for kind in ("HELP", "TYPE"):
        heads = re.findall(rf"^# {kind} (\S+)", text, re.MULTILINE)
        assert len(heads) == len(set(heads)) == len(seen)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    # Each series once; buckets grow, and the last one holds them all.
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    for family in seen.values():
        buckets = {}
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            if sample.name.endswith("_bucket"):
                buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        for labels, rows in buckets.items():
            assert [bound for bound, _ in rows] == sorted(bound for bound, _ in rows)
            assert [held for _, held in rows] == sorted(held for _, held in rows)
            assert rows[-1][0] == float("inf")
            count = [s.value for s in family.samples
                     if s.name.endswith("_count") and tuple(sorted(s.labels.items())) == labels]  # fmt: skip
            assert count == [rows[-1][1]]
    version = seen["imgpro_build_info"].samples[0]
    assert set(version.labels) == {"version", "python", "sqlite", "pillow"}
    assert all(version.labels.values())


def test_counters_count_and_never_go_back(counted):
    before = samples(counted)
    picture = small_png(random.Random(time.time_ns()), 90)
    key = counted.new_key("ann@example.org")
    found = counted.must_upload(picture)
    counted.must_upload(picture, key=key)
    repeated = {"Idempotency-Key": "once"}
    assert [counted.upload(picture, key=key, headers=repeated).status for _ in range(2)] == [201, 201]
    assert counted.upload(b"no picture").status == 415
    assert counted.upload(b"x" * 600_000).status == 413
    with Wire(counted) as wire:
        wire.send(b"PUT /v1/upload/x.png HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + picture[:300])
        time.sleep(0.2)
    for _ in range(3):
        assert counted.get(found["src"]).status == 200
    avif = found["src"].replace(".png", ".avif?size=s")
    assert counted.get(avif).status == 200
    assert counted.get(f"/t/{found['id']}.png?download=1").status == 200
    assert counted.request("PROPFIND", "/nothing").status in (404, 405)
    time.sleep(0.3)
    after = samples(counted)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("imgpro_uploads_total", result="stored", client="anonymous") == 1
    assert more("imgpro_uploads_total", result="stored", client="key") == 2
    assert more("imgpro_uploads_total", result="repeated", client="key") == 1
    assert more("imgpro_uploads_total", result="unsupported_format", client="anonymous") == 1
    assert more("imgpro_uploads_total", result="bad_request", client="anonymous") == 1
    assert more("imgpro_upload_bytes_total") == 3 * len(picture)
    assert more("imgpro_images") == 3
    assert more("imgpro_transforms_total", op="ingest", result="ok") == 1
    assert more("imgpro_transforms_total", op="avif", result="ok") == 1
    assert more("imgpro_transform_duration_seconds_count", op="avif") == 1
    assert more("imgpro_cache_requests_total", result="miss") == 1
    assert more("imgpro_cache_requests_total", result="memory") >= 2
    assert more("imgpro_cache_requests_total", result="original") >= 1
    assert more("imgpro_http_requests_total", method="POST", route="/v1/upload", code="201") == 4
    assert more("imgpro_http_requests_total", method="GET", route="/t/{id}.{ext}", code="200") == 5
    assert more("imgpro_http_request_duration_seconds_count", method="GET", route="/t/{id}.{ext}") == 5
    assert more("imgpro_db_write_duration_seconds_count") >= 4
    gauges = {name for name, kind in NAMES.items() if kind == "gauge"} | {"process", "imgpro_workers"}
    for row, count in before.items():
        if not any(row[0].startswith(name) for name in gauges) and "_free_" not in row[0]:
            assert after[row] >= count, row


def test_labels_are_those_of_the_program(counted):
    found = counted.must_upload(PNG)
    for path in (found["src"], f"/{found['id']}", "/secret-path-of-mine", f"/v1/media/{found['id']}", "/t/x.y"):
        counted.get(path)
    for method in ("PROPFIND", "MKCOL", "BREW"):
        counted.request(method, "/")
    text = counted.get("/metrics").body.decode()
    assert found["id"] not in text
    for word in ("secret-path", "BREW", "MKCOL", "PROPFIND", "127.0.0.1"):
        assert word not in text
    seen = families(counted)
    methods = {sample.labels["method"] for sample in seen["imgpro_http_requests"].samples}
    assert methods <= {"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
    routes = {sample.labels["route"] for sample in seen["imgpro_http_requests"].samples}
    assert all(route == "-" or "{" in route or route.count("/") < 4 for route in routes)


def test_two_at_once(counted):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(counted.get("/metrics"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200}


def test_who_may_read(tmp_path):
    env = {**ON, "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1", "IMGPRO_METRICS_NETWORKS": "127.0.0.0/8,10.1.0.0/16"}
    with running(tmp_path / "data", env) as server:
        nothing = plain(server.get("/nothing", X_Forwarded_For="203.0.113.9"))
        assert server.get("/metrics", X_Forwarded_For="10.1.2.3").status == 200
        for method in ("GET", "POST"):
            assert plain(server.request(method, "/metrics", headers={"X-Forwarded-For": "203.0.113.9"})) == nothing
        assert server.get("/metrics").status == 200, "from this machine, by no proxy"
        # By one that names nobody, or whoever it was told to name.
        for name, text in (("X-Real-IP", "203.0.113.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "127.0.0.1"),
                           ("X-Forwarded-For", "unknown"), ("Host", "img.example.org")):  # fmt: skip
            assert server.request("GET", "/metrics", headers={name: text}).status == 404, name
        refused = server.request("POST", "/metrics")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
        assert server.request("HEAD", "/metrics").status == 200


def test_a_proxy_that_nobody_told_us_of_opens_it_to_nobody(counted):
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert counted.request("GET", "/metrics", headers={name: "203.0.113.9"}).status == 404
    for host, status in (("img.example.org", 404), ("evil.test:80", 404), ("localhost:80", 200), ("[::1]:80", 200)):
        assert counted.request("GET", "/metrics", headers={"Host": host}).status == status, host
    # A key, whoever's it is, makes no difference.
    key = counted.new_key("key@example.org")
    assert counted.request("GET", "/metrics", headers={"Via": "1.1 x", **bearer(key)}).status == 404


def test_a_socket_of_its_own_goes_with_the_server(tmp_path):
    path = tmp_path / "metrics.sock"
    with running(tmp_path / "data", {**ON, "IMGPRO_METRICS_LISTEN": f"unix:{path}"}) as server:
        deadline = time.monotonic() + 20
        while not path.is_socket():  # the banner comes a moment earlier
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.01)
        assert server.stop() == 0
        assert not path.exists()


def test_a_listener_of_its_own(tmp_path):
    with running(tmp_path / "data", {**ON, "IMGPRO_METRICS_LISTEN": "127.0.0.1:0"}) as server:
        deadline = time.monotonic() + 20
        while (told := re.search(r"metrics are told at http://127\.0\.0\.1:(\d+)/metrics", server.log())) is None:
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.01)
        port = int(told[1])
        assert port != server.port
        assert plain(server.get("/metrics")) == plain(server.get("/nothing"))
        server.must_upload(PNG)
        main, server.port = server.port, port
        assert value(samples(server), "imgpro_uploads_total", result="stored", client="anonymous") == 1
        for path in ("/", "/readyz", "/v1/usage", "/t/AAAAAAAAAAAA.png", "/metrics/"):
            assert server.get(path).status == 404
        assert server.request("POST", "/metrics").status == 405
        server.port = main
        assert server.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 2)
