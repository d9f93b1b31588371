"""Who is at work in a bucket is seen by other processes and machines, and ends with them, whatever their clocks say."""

import contextlib
import http.server
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from imgpro.errors import TargetFault
from imgpro.store import s3_marks
from imgpro.store.repository import Repository
from imgpro.store.s3_marks import Holder
from imgpro.store.target_s3 import S3Target, _Marking
from tests.objects import BUCKET, object_store
from tests.patience import wait_until
from tests.servers import ROOT
from tests.unit.store.test_target_s3 import settings, target

HOLD = """
import sys, msgspec
from imgpro.settings import Backup
from imgpro.store.target_s3 import S3Target
chosen = msgspec.json.decode(sys.argv[1], type=Backup)
with S3Target(chosen.to, chosen).lock(sys.argv[2], shared=sys.argv[3] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def store():
    with object_store() as found:
        yield found


@contextlib.contextmanager
def process(store, folder, what, how="alone"):
    """Another process that holds a lock, until it is told to end by its standard input."""
    command = [sys.executable, "-c", HOLD, msgspec.json.encode(settings(store, folder)).decode(), what, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as found:
        try:
            assert found.stdout.readline() == b"held\n"
            yield found
        finally:
            found.kill()


def taken(place, what, *, shared=False):
    try:
        with place.lock(what, shared=shared):
            return True
    except TargetFault as error:
        if "under way" not in error.message:
            raise
        return False


def marked(place, what="changing", *, shared=False):
    """Hold a mark as another machine would: nothing of this process is in the way."""
    return s3_marks.held(_Marking(place, reader=shared), what, place.describe, shared=shared)


def elsewhere(store, folder, content=None):
    """Leave the mark of a machine that nobody knows anything of."""
    holder = msgspec.json.encode(Holder("another", 1)) if content is None else content
    target(store, folder).put("locks/changing-alone-0", [holder], len(holder))


def test_another_process_is_in_the_way_until_it_ends(store):
    place = target(store, "ends")
    with process(store, "ends", "changing") as other:
        assert not taken(place, "changing")
        assert taken(place, "reading")
        other.stdin.close()
        assert other.wait() == 0
        assert store.names("ends/") == []
        assert taken(place, "changing")


def test_and_not_when_it_was_killed(store):
    place = target(store, "killed")
    with process(store, "killed", "changing") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert len(store.names("killed/")) == 1
        assert taken(place, "changing")
        assert store.names("killed/") == []


def test_readers_share_and_keep_others_out(store):
    place = target(store, "shared")
    with process(store, "shared", "reading", "shared"):
        assert taken(place, "reading", shared=True)
        assert not taken(place, "reading")
    with process(store, "shared", "reading"):
        assert not taken(place, "reading", shared=True)


@pytest.mark.parametrize(
    "content", [None, b"no holder", b'{"machine": 1}', b""], ids=["whole", "text", "kind", "empty"]
)
def test_what_another_machine_left_ends_by_itself(store, monkeypatch, content):
    place = target(store, "left")
    elsewhere(store, "left", content)
    assert not taken(place, "changing")
    monkeypatch.setattr(s3_marks, "EXPIRES_S", 0.0)  # by the store's times: its clock has seconds
    monkeypatch.setattr("time.time", lambda: 0.0)
    wait_until(lambda: taken(place, "changing"))
    assert store.names("left/") == []


def test_it_is_renewed_while_the_work_goes_on(store, monkeypatch):
    place = target(store, "renewed")
    monkeypatch.setattr(s3_marks, "RENEW_S", 0.05)

    def written():
        return store.client().head_object(Bucket=BUCKET, Key=f"renewed/{mark.name}")["LastModified"]

    with marked(place) as mark:
        first = written()
        wait_until(lambda: written() > first)
        with pytest.raises(TargetFault, match="under way"), marked(place):
            pass
    assert store.names("renewed/") == []


def test_nothing_is_deleted_after_it_was_lost(store, monkeypatch):
    place = target(store, "lost")
    place.put("blob", [b"x"], 1)

    def thin_out():
        with place.lock("changing"):
            place.delete("blob")
            yield
            place.flush()

    def goes_on(meanwhile):
        work = thin_out()
        next(work)
        meanwhile()
        with pytest.raises(TargetFault, match="could not be told for long"):
            next(work)
        place._doomed.clear()
        assert store.content("lost/blob") == b"x"

    def remove():
        [name] = store.names("lost/locks/")
        store.client().delete_object(Bucket=BUCKET, Key=name)

    goes_on(remove)
    goes_on(lambda: monkeypatch.setattr(s3_marks, "TRUSTED_S", 0.0))
    monkeypatch.undo()
    list(thin_out())
    assert store.names("lost/") == []


def test_two_that_begin_at_once_are_never_both_at_work(store):
    at_work, most, began = 0, [0], threading.Barrier(6)
    guard = threading.Lock()

    def work():
        nonlocal at_work
        place = target(store, "race")
        began.wait()
        for _ in range(4):
            with contextlib.suppress(TargetFault), marked(place):
                with guard:
                    at_work += 1
                    most[0] = max(most[0], at_work)
                place.size("none")
                with guard:
                    at_work -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 1


class Forbidding(http.server.BaseHTTPRequestHandler):
    """A store that allows nothing."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>AccessDenied</Code></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.do_PUT()

    def log_message(self, *_):
        pass


def test_who_may_only_read_goes_without(store):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as forbidding:
        threading.Thread(target=forbidding.serve_forever, daemon=True).start()
        chosen = settings(store, s3_endpoint=f"http://127.0.0.1:{forbidding.server_port}")
        place = S3Target(chosen.to, chosen)
        with place.lock("reading", shared=True):
            pass
        with pytest.raises(TargetFault, match="does not allow"), place.lock("changing"):
            pass
        forbidding.shutdown()


def test_a_mark_that_is_left_makes_no_place_used(store):
    elsewhere(store, "unused")
    repository = Repository(target(store, "unused"))
    repository.for_writing("instance", used_before=False)
    assert repository.marker().instance_id == "instance"
