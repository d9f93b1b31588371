"""Kill, stop and starve: the server, its workers and their parent, while every kind of request is under way."""

import contextlib
import fcntl
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgpro.imaging.children import zygote_command, zygote_environment
from tests.crash.test_server import all_back, busy, busy_upload, descendants, workers
from tests.law import check_answers, check_disk
from tests.load import Load, small_png
from tests.patience import wait_until
from tests.servers import UNLIMITED, Server, leftovers, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_IMAGING_DEADLINE_S": "3",
}


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", ENV) as found:
        yield found


class Owner:
    """One account that does what `Load` does not: it retries with an Idempotency-Key, edits, and lets things expire."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.dice = random.Random(seed)
        self.key = server.new_key(f"owner{seed}@example.org")
        self.names: dict[str, str] = {}  # what each picture was last acknowledged to be called
        self.maybe: defaultdict[str, set[str]] = defaultdict(set)  # names asked for since, without an answer
        self.sent = 0
        self.answers: dict[str, tuple[bytes, str]] = {}  # by idempotency key: the body, and the id it was given
        self.unanswered: dict[str, bytes] = {}
        self.expiring: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> "Owner":
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(Exception):  # cut connections, in whatever words http.client has for them
                self._step()
            time.sleep(0.002)

    def _step(self) -> None:
        if self.names and self.dice.random() < 0.4:
            self._rename(self.dice.choice(list(self.names)))
        else:
            self.sent += 1
            self.send(f"key {self.sent}", small_png(self.dice))

    def _rename(self, image_id: str) -> None:
        name = f"n{self.dice.randrange(10**6)}"
        self.maybe[image_id].add(name)
        answer = self.server.api("PATCH", f"/v1/media/{image_id}", {"name": name}, key=self.key)
        if answer.status == 200:
            self.names[image_id] = name
            self.maybe[image_id].clear()

    def send(self, key: str, body: bytes) -> None:
        """Upload with an idempotency key, and note what the answer says."""
        self.unanswered[key] = body
        expires = {"ttl": "1d"} if self.dice.random() < 0.3 else {}
        answer = self.server.upload(body, "x.png", key=self.key, headers={"Idempotency-Key": key}, **expires)
        if answer.status == 201:
            found = answer.json()
            self.names[found["id"]] = found["name"]
            self.answers[key] = body, found["id"]
            del self.unanswered[key]

    def check(self) -> None:
        """After a restart: names are those acknowledged, and a repeated request stores nothing twice."""
        for image_id, name in list(self.names.items()):
            found = self.server.api("GET", f"/v1/media/{image_id}", key=self.key).json()
            assert found["name"] in {name, *self.maybe[image_id]}
            self.names[image_id] = found["name"]
            self.maybe[image_id].clear()
        for key, body in list(self.unanswered.items()):
            # Without the field that it may have had: another request by the same key is refused, not stored.
            answer = self.server.upload(body, "x.png", key=self.key, headers={"Idempotency-Key": key})
            assert answer.status in (201, 409), answer
            del self.unanswered[key]
            if answer.status == 201:
                self.names[answer.json()["id"]] = answer.json()["name"]
                again = self.server.upload(body, "x.png", key=self.key, headers={"Idempotency-Key": key})
                assert again.json()["id"] == answer.json()["id"]


def test_killed_while_accounts_retry_and_edit(tmp_path):
    dice = random.Random(time.time())
    with running(tmp_path / "data", ENV) as server:
        owner = Owner(server, 1)
        for number in range(3):
            load = Load(server, clients=3, seed=number).start()
            owner.start()
            load.wait_for(dice.randrange(5, 25))
            os.kill(server.pid, signal.SIGKILL)
            assert load.wait_until_dead() == -signal.SIGKILL
            owner.stop()
            server.start()
            assert check_disk(server.data) <= 8 * (number + 1)
            check_answers(server, load)
            owner.check()
            assert "Traceback" not in server.log()
        assert server.stop() == 0


def parents(server: Server) -> list[int]:
    """Return the process that forks the workers."""
    return [pid for pid in descendants(server.pid) if descendants(pid)]


def test_workers_and_their_parent_killed_again_and_again_under_load(server):
    """As the kernel does when memory runs out: any of them, at any time."""
    load = Load(server, clients=4, deletes=0.2).start()
    dice = random.Random(3)
    for number in range(12):
        load.wait_for(5 * (number + 1))
        load.wait_for_everyone()  # what kills two workers in a row is refused, and nobody is to meet two of these rounds
        victims = parents(server) if number % 4 == 3 else workers(server)
        for pid in victims if number % 3 == 0 else victims[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(dice.random() * 0.05)
    load.wait_for(80)
    load.stop()
    # 503: no worker could be had in time.
    assert set(load.statuses) <= {200, 201, 404, 503}, load.statuses
    assert load.statuses[503] <= 5
    all_back(server)
    check_answers(server, load)
    wait_until(lambda: leftovers(server.data) == [])
    assert check_disk(server.data) == 0
    assert "Traceback" not in server.log()


def test_the_parent_of_the_workers_stands_still(server):
    """Workers go on; one that has to be replaced meanwhile is, by a new parent."""
    (zygote,) = parents(server)
    os.kill(zygote, signal.SIGSTOP)
    assert server.upload(small_png(random.Random(1))).status == 201
    for pid in workers(server):
        os.kill(pid, signal.SIGKILL)
    assert server.upload(small_png(random.Random(2))).status in (201, 503)
    wait_until(lambda: server.get("/readyz").status == 200, 40)
    assert server.upload(small_png(random.Random(3))).status == 201
    wait_until(lambda: zygote not in parents(server))
    assert server.stop() == 0


def test_the_whole_server_stands_still_and_goes_on(tmp_path):
    with running(tmp_path / "data", {**ENV, "IMGPRO_UPLOADS_CHUNK_DEADLINE_S": "2"}) as server:
        load = Load(server, clients=4, deletes=0.2).start()
        load.wait_for(10)
        for _ in range(2):
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(2.5)  # longer than a body may be silent
            os.kill(server.pid, signal.SIGCONT)
            done = len(load.kept) + len(load.deleted)
            load.wait_for(done + 20)
        load.stop()
        assert not [status for status in load.statuses if status >= 500], load.statuses
        check_answers(server, load)
        assert server.stop() == 0
        assert check_disk(server.data) == 0


def limited(tmp_path, which: int, count: int) -> Server:
    return Server(tmp_path / "data", ENV, preexec=lambda: resource.setrlimit(which, (count, count)))


def test_too_few_descriptors(tmp_path):
    """More clients than the server can have open: some are turned away, and come again; afterwards all is well."""
    server = limited(tmp_path, resource.RLIMIT_NOFILE, 112)
    try:
        server.start()
        statuses: Counter[int] = Counter()
        stop = time.monotonic() + 40

        def client(number):
            dice, done = random.Random(number), 0
            while done < 2 and time.monotonic() < stop:
                try:
                    status = server.upload(small_png(dice), "x.png").status
                except Exception:
                    status = 0  # no place: the connection was cut
                    time.sleep(dice.random() / 5)
                statuses[status] += 1
                done += status == 201

        with ThreadPoolExecutor(60) as pool:
            list(pool.map(client, range(60)))
        assert set(statuses) <= {0, 201, 503}, (statuses, server.log()[-3000:])
        assert statuses[0] > 0, "there were descriptors enough"
        assert statuses[201] == 120, statuses
        wait_until(lambda: server.get("/readyz").status == 200)
        found = server.must_upload(small_png(random.Random(1000)), "x.png")
        assert server.get(f"/t/{found['id']}.webp?size=s").status == 200
        wait_until(lambda: leftovers(server.data) == [])
        assert server.stop() == 0
        assert check_disk(server.data) <= statuses[0] + statuses[503]
        assert "Traceback" not in server.log()
    finally:
        server.close()


def test_more_descriptors_than_old_calls_can_count(tmp_path):
    """With a thousand files open, the parent of the workers and they themselves can still be replaced."""
    server = Server(tmp_path / "data", {**ENV, "IMGPRO_SERVER_MAX_CONNECTIONS_PER_NETWORK": "2000"})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this user may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    idle = []
    try:
        server.start()
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1_100)]
        wait_until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) > 1_100)
        for pid in parents(server):
            os.kill(pid, signal.SIGKILL)
        all_back(server)
        assert server.upload(small_png(random.Random(1))).status == 201
        assert server.stop() == 0
        # Where the number of the parent's own descriptor is as high, which only chance decides above.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            high = fcntl.fcntl(theirs, fcntl.F_DUPFD, 1_500)
        zygote = subprocess.Popen(zygote_command(high), pass_fds=(high,), env=zygote_environment())
        os.close(high)
        with pytest.raises(subprocess.TimeoutExpired):
            zygote.wait(3)
        ours.close()
        assert zygote.wait(10) == 0
    finally:
        for each in idle:
            each.close()
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_more_processes(server):
    """No worker can be forked any more: what is there works on, requests are told to come again, and it recovers."""
    (zygote,) = parents(server)
    body = busy_upload(server)
    # Root is not held to a number of processes; without memory there is no fork either.
    resource.prlimit(zygote, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
    victim = workers(server)[0]
    os.kill(victim, signal.SIGKILL)
    answers = [server.upload(small_png(random.Random(number))).status for number in range(5)]
    assert set(answers) <= {201, 503}, answers
    assert 201 in answers, "the other one works on"
    resource.prlimit(zygote, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    all_back(server, without=victim)
    assert server.upload(body).status == 201
    assert server.stop() == 0


def test_nobody_is_left_when_the_server_dies_while_workers_work(server):
    body = busy_upload(server)

    def client():
        with contextlib.suppress(Exception):
            server.upload(body)

    thread = threading.Thread(target=client)
    thread.start()
    wait_until(lambda: busy(workers(server)))
    everyone = descendants(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    thread.join()
    assert server.process.wait() == -signal.SIGKILL
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in everyone))
