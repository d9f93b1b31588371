"""Backups in an object store, against a real one on loopback: what is written, read, listed, and said when it fails."""

import gc
import http.server
import random
import re
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from imgpro.errors import ConfigError, OperatorError, TargetFault
from imgpro.settings import Backup
from imgpro.store import target_s3
from imgpro.store.target import CHUNK_BYTES, Absent, process_locks
from imgpro.store.target_s3 import PART_BYTES, S3Target
from imgpro.store.targets import target_of
from tests.certificates import make_pair
from tests.objects import BUCKET, ObjectStore, object_store
from tests.patience import wait_until


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as found:
        yield found


@pytest.fixture(autouse=True)
def no_ambient_keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def settings(store: ObjectStore, folder: str = "box", **changes: str) -> Backup:
    key, secret = store.key
    made = Backup(to=f"s3://{BUCKET}/{folder}", s3_endpoint=store.endpoint, s3_key_id=key, s3_secret=secret)
    return msgspec.structs.replace(made, **changes)


def target(store: ObjectStore, folder: str = "box", **changes: str) -> S3Target:
    chosen = settings(store, folder, **changes)
    return S3Target(chosen.to, chosen)


def test_what_is_put_is_read_again(store):
    place = target(store, "a/b")
    place.put("one/two", iter([b"he", b"llo"]), 5)
    place.put("empty", iter([]), 0)
    assert b"".join(place.read("one/two")) == b"hello"
    assert b"".join(place.read("empty")) == b""
    assert (place.size("one/two"), place.size("empty"), place.size("none")) == (5, 0, None)
    assert store.content("a/b/one/two") == b"hello"
    place.put("one/two", iter([b"again"]), 5)
    assert b"".join(place.read("one/two")) == b"again"
    with pytest.raises(Absent):
        next(place.read("none"))
    assert place.describe() == f"s3://{BUCKET}/a/b"
    assert place.free_bytes() is None


def test_a_large_file_goes_and_comes_in_pieces(store):
    place, size = target(store, "large"), 5 * PART_BYTES + 12345
    content = random.Random(7).randbytes(size)
    place.put("file", (content[at : at + 100_000] for at in range(0, size, 100_000)), size)
    lengths, got = [], bytearray()
    for chunk in place.read("file"):
        lengths.append(len(chunk))
        got += chunk
    assert bytes(got) == content
    assert max(lengths) <= CHUNK_BYTES
    assert store.client().head_object(Bucket=BUCKET, Key="large/file")["ETag"].endswith('-6"')


def test_memory_does_not_grow_with_the_file(store):
    place, size = target(store, "memory"), 24 * PART_BYTES
    piece = bytes(1024 * 1024)
    place.put("warm", (piece for _ in range(6)), 6 * len(piece))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    place.put("file", (piece for _ in range(size // len(piece))), size)
    assert sum(map(len, place.read("file"))) == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024  # KiB; the file has twice that


def test_what_breaks_the_source_leaves_nothing(store):
    class Broken(Exception):
        pass

    def chunks() -> Iterator[bytes]:
        yield bytes(PART_BYTES)
        yield bytes(PART_BYTES)
        raise Broken

    place = target(store, "broken")
    for size in (3 * PART_BYTES, 10):
        with pytest.raises(Broken):
            place.put("file", chunks(), size)
    assert store.names("broken/") == []
    assert "Uploads" not in store.client().list_multipart_uploads(Bucket=BUCKET)


def test_names_come_in_order_and_go_in_batches(store, monkeypatch):
    monkeypatch.setattr(target_s3, "_PAGE", 100)
    place = target(store, "many")
    client = store.client()
    names = sorted([f"blobs/{number:04x}" for number in range(205)] + ["blobs-not/x", "manifests/1"])
    for name in names:
        client.put_object(Bucket=BUCKET, Key=f"many/{name}", Body=b"12345")
    found = list(place.list("blobs/"))
    assert [item.name for item in found] == [name for name in names if name.startswith("blobs/")]
    assert {item.size for item in found} == {5}
    assert abs(found[0].mtime_s - time.time()) < 300
    assert [item.name for item in place.list("")] == names
    assert list(place.list("nothing/")) == []
    for item in found:
        place.delete(item.name)
    place.delete("blobs/gone already")
    place.put("blobs/00cc", iter([b"new"]), 3)  # wanted after all
    place.flush()
    assert store.names("many/") == ["many/blobs-not/x", "many/blobs/00cc", "many/manifests/1"]


def test_a_file_exchanged_while_it_is_read_is_not_taken_for_one(store):
    place, size = target(store, "exchanged"), 6 * PART_BYTES
    place.put("file", iter([bytes(size)]), size)
    chunks = place.read("file")
    next(chunks)
    store.replace("exchanged/file", b"\1" * size)
    with pytest.raises(TargetFault):
        for _ in chunks:
            pass


def test_work_of_two_at_once_is_refused(store):
    first, second = target(store, "locked"), target(store, "locked")
    with (
        first.lock("changing"),
        pytest.raises(TargetFault, match=f"under way at .*s3://{BUCKET}/locked"),
        second.lock("changing"),
    ):
        pass
    with (
        first.lock("reading", shared=True),
        second.lock("reading", shared=True),
        target(store, "other").lock("changing"),
    ):
        pass


ACTIONS = {
    "writing": lambda place: place.put("file", iter([b"x"]), 1),
    "writing much": lambda place: place.put("file", iter([bytes(2 * PART_BYTES)]), 2 * PART_BYTES),
    "reading": lambda place: list(place.read("file")),
    "looking": lambda place: place.size("file"),
    "listing": lambda place: list(place.list("blobs/")),
    "deleting": lambda place: (place.delete("file"), place.flush()),
}
FAULTS = {
    "wrong secret": ({"s3_secret": "wrong-secret-5d1c"}, r"refuses the signature", "Correct backup.s3_secret"),
    "unknown key": ({"s3_key_id": "AKIAUNKNOWN5D1C"}, r"does not know the access key", "Correct backup.s3_key_id"),
    "stranger": ({}, r"does not allow this access key what is needed in bucket", "Allow the key"),
    "no bucket": ({"to": "s3://no-such-bucket/box"}, r"has no bucket no-such-bucket", "Make the bucket there"),
}


@pytest.mark.parametrize("doing", ACTIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_refusal_has_its_sentence(store, name, doing):
    changes, words, label = FAULTS[name]
    if name == "stranger":
        changes = {"s3_key_id": store.stranger[0], "s3_secret": store.stranger[1]}
    place = target(store, **changes)
    with pytest.raises(TargetFault) as caught:
        ACTIONS[doing](place)
    told = str(caught.value)
    assert told.startswith(f"{store.endpoint} "), told
    assert re.search(words, told), told
    assert label in (caught.value.action.label or "")
    assert caught.value.exit_code == 74
    chosen = settings(store, **changes)
    everything = f"{told} {caught.value.action} {caught.value.__cause__} {caught.value.args}"
    assert chosen.s3_secret not in everything
    assert chosen.s3_key_id not in everything
    assert caught.value.__cause__ is None  # whose text may hold the key


def test_nobody_listens_and_no_such_name(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TargetFault, match=r"refuses connections: nothing listens there") as caught:
        next(target(store, s3_endpoint=dead).list(""))
    assert str(caught.value).startswith(dead)
    with pytest.raises(TargetFault, match=r"store\.invalid cannot be found: its name is not known"):
        next(target(store, s3_endpoint="https://store.invalid").list(""))


class Odd(http.server.BaseHTTPRequestHandler):
    """A server that answers with what its folder asks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "short" in self.path:
            self.send_response(200)
            for name, value in (("Content-Length", "1000"), ("ETag", '"x"')):
                self.send_header(name, value)
            self.send_header("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
            return
        status, body = {
            "region": (
                400,
                b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>",
            ),
            "clock": (403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>"),
            "full": (507, b""),
            "page": (404, b"<html>not found</html>"),
            "expired": (403, b"<Error><Code>ExpiredToken</Code><AWSAccessKeyId>AKIASHOWN</AWSAccessKeyId></Error>"),
        }[self.path.partition("?")[0].rpartition("/")[2].partition("-")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("bucket", "words", "label"),
    [
        ("region-x", "keeps bucket region-x in the region eu-central-1", "backup.s3_region to eu-central-1"),
        ("clock-x", "the clock of this machine is wrong", "Set the clock"),
        ("full-x", "has no room for more", "Make room"),
        ("page-x", r"refused listing \(404\)", "backup.s3_endpoint"),
        ("expired-x", "they have expired", "AWS_"),
    ],
)
def test_other_refusals(store, odd, bucket, words, label):
    place = target(store, to=f"s3://{bucket}", s3_endpoint=odd)
    with pytest.raises(TargetFault, match=words) as caught:
        next(place.list(""))
    assert label in (caught.value.action.label or "")
    assert "AKIASHOWN" not in repr(caught.value.args)


def test_an_answer_cut_short_is_a_fault(store, odd):
    with pytest.raises(TargetFault, match="short"):
        list(target(store, to="s3://bucket", s3_endpoint=odd).read("short"))


def test_a_certificate_counts_once_the_machine_trusts_it(store, tmp_path, monkeypatch):
    pair = make_pair(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        changes = {"to": "s3://clock-x", "s3_endpoint": f"https://127.0.0.1:{server.server_address[1]}"}
        with pytest.raises(TargetFault, match="no certificate that this machine trusts"):
            next(target(store, **changes).list(""))
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
        with pytest.raises(TargetFault, match="the clock of this machine"):  # what the server says
            next(target(store, **changes).list(""))
        server.shutdown()


def test_a_store_that_dies_under_an_upload_is_named():
    with object_store() as dying:
        place = target(dying)
        place.put("small", iter([b"x"]), 1)

        def chunks() -> Iterator[bytes]:
            yield bytes(PART_BYTES)
            dying.kill()
            for _ in range(3):
                yield bytes(PART_BYTES)

        with pytest.raises(TargetFault, match=r"refuses connections|broke off"):
            place.put("file", chunks(), 4 * PART_BYTES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"to": "s3://"}, "no place in an object store"),
        ({"to": "s3://b/../x"}, "no place in an object store"),
        ({"to": "s3://AKIA:hush-5d1c@bucket/x"}, "backup.to holds an access key"),
        ({"s3_endpoint": "minio:9000"}, 'backup.s3_endpoint = "minio:9000" is no address'),
        ({"s3_endpoint": "https://me:hush-5d1c@host"}, "backup.s3_endpoint holds a password"),
        ({"s3_secret": ""}, "backup.s3_secret is not set"),
        ({"s3_key_id": ""}, "backup.s3_key_id is not set"),
        ({"s3_key_id": "", "s3_secret": ""}, "no access key for the object store"),
    ],
)
def test_settings_that_cannot_be_meant(store, tmp_path, changes, words):
    with pytest.raises(ConfigError) as caught:
        target_of(settings(store, **changes), tmp_path)
    assert words in str(caught.value)
    assert "hush-5d1c" not in f"{caught.value} {caught.value.action}"


def test_keys_of_the_environment(store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.key[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.key[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    place = target(store, "ambient", s3_key_id="", s3_secret="", s3_endpoint="")
    place.put("file", iter([b"x"]), 1)
    assert store.content("ambient/file") == b"x"
    # A session's token is part of its own key, not of the one in the settings.
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    target(store, "ambient").put("file", iter([b"y"]), 1)
    assert store.content("ambient/file") == b"y"


def test_a_store_that_does_not_answer_is_left_and_keeps_its_lock_until_it_does(store):
    """What was on its way may still arrive; whatever prunes the place meanwhile would not know of it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = target(store, s3_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        other = target(store, s3_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        ended: list[BaseException] = []

        def put() -> None:
            try:
                with place.lock("changing"):
                    place.put("manifest", [b"late"], 4)
            except OperatorError as error:
                ended.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        asked, _ = silent.accept()
        place.abort()
        thread.join()
        assert len(ended) == 1
        with pytest.raises(OperatorError):
            place.size("manifest")
        with pytest.raises(TargetFault, match="under way"), other.lock("changing"):
            pass
        asked.sendall(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')
        key = f"{settings(store, s3_endpoint=f'http://127.0.0.1:{silent.getsockname()[1]}').s3_endpoint} {place.describe()}"
        wait_until(lambda: _is_free(key))
        asked.close()


def _is_free(key: str) -> bool:
    try:
        with process_locks.hold(key, "changing", shared=False):
            return True
    except TargetFault:
        return False
