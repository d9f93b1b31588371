"""What is deleted is gone: from answers, and from every byte on the disk, of a real server."""

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.archives import multiply
from tests.load import small_png
from tests.needles import found, of_picture, of_text, word
from tests.servers import ROOT, UNLIMITED, Server, blobs, held_open, multipart, running
from tests.signed_in import by_key, claimed

ENV = {**UNLIMITED, "IMGPRO_PLANS_UNLIMITED": "true", "IMGPRO_IMAGING_WORKERS": "1", "IMGPRO_BACKUP_DAILY": "false"}
DEADLINE_S = 120.0


def cli(data: Path, *words: str, expected: int = 0) -> str:
    """Run a command on a data directory and return what it printed."""
    command = [sys.executable, "-m", "imgpro", *words, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == expected, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that happens soon."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Person:
    """Somebody whose every word is one of a kind, with one picture."""

    def __init__(self, server: Server, dice: random.Random) -> None:
        self.email, self.key_name, self.name, self.said = (word(dice) for _ in range(4))
        self.tag, self.namespace = word(dice), word(dice)
        self.address = f"{self.email}@example.org"
        self.key = server.new_key(self.address, name=self.key_name)
        self.content = small_png(dice, 400)
        self.picture = server.must_upload(
            self.content,
            f"{self.name}.png",
            key=self.key,
            description=f"about {self.said}",
            tags=self.tag,
            namespace=self.namespace,
        )
        self.derivative = b""

    def look(self, server: Server) -> None:
        """Have derivatives made, find the picture by its words, and change it: all that leaves something somewhere."""
        self.derivative = server.get(f"/t/{self.picture['id']}.jpeg?size=s").body
        assert server.get(f"/t/{self.picture['id']}.webp").status == 200
        assert server.api("GET", f"/v1/media?search={self.said}", key=self.key).json()["data"] != []
        renamed = {"description": f"about {self.said}, still"}
        assert server.api("PATCH", f"/v1/media/{self.picture['id']}", renamed, key=self.key).status == 200

    def of_picture(self) -> list[bytes]:
        """Return what to look for of the picture."""
        texts = (self.name, self.said, self.tag, self.namespace, self.picture["id"])
        return [*of_picture(self.content), *of_picture(self.derivative), *(n for text in texts for n in of_text(text))]

    def of_account(self) -> list[bytes]:
        """Return what to look for of the account."""
        return [needle for text in (self.email, self.key_name) for needle in of_text(text)]


def cached(server: Server, person: Person) -> bool:
    """Tell whether the derivatives have come to the disk, which they do after the answer."""
    return bool(found(server.data / "cache", of_picture(person.derivative)[:3]))


def test_nothing_is_left_on_the_disk(tmp_path):
    dice = random.Random(61)
    data, kept = tmp_path / "data", tmp_path / "kept"
    with running(data, ENV) as server:
        ann, bob = Person(server, dice), Person(server, dice)
        shared = small_png(dice)
        for person in (ann, bob):
            person.look(server)
            until(lambda person=person: cached(server, person), "the derivatives were not cached")
        common = [server.must_upload(shared, key=person.key) for person in (ann, bob)]
        of_ann, of_bob = ann.of_picture() + ann.of_account(), bob.of_picture()
        # The search finds all of it, but for the derivative's digest, by which nothing is called.
        unnamed = {*of_picture(ann.derivative)[3:], *of_picture(bob.derivative)[3:]}
        there = found(data, of_ann + of_bob)
        assert set(there) == {*of_ann, *of_bob} - unnamed
        assert any(place.startswith("journal/") for place in there[ann.address.split("@")[0].encode()])
        cli(data, "backup", "create", "--to", str(kept))
        earlier = set((kept / "backups").iterdir())
        assert found(kept, of_picture(bob.content)) != {}

        # A picture alone: from the database, its log, the blobs and the cache, without anybody's doing.
        deleted = server.api("DELETE", f"/v1/media/{bob.picture['id']}", key=bob.key)
        assert deleted.status == 200
        # A backup that is made before the database was cleared does not have it either.
        cli(data, "backup", "create", "--to", str(kept))
        (later,) = set((kept / "backups").iterdir()) - earlier
        assert found(later, of_bob) == {}
        until(lambda: not outside_journal(data, of_bob), f"still there: {outside_journal(data, of_bob)}")

        # An account: the command is at its end when all is gone, from the journal too.
        said = cli(data, "accounts", "delete", ann.address, "--yes")
        assert f"{ann.address} is deleted, with 2 pictures" in said
        assert found(data, of_ann + of_bob) == {}

        # What is somebody else's stays.
        assert server.get(common[1]["src"]).body == shared
        assert server.get(common[0]["src"]).status == 404
        listed = server.api("GET", "/v1/media", key=bob.key).json()["data"]
        assert [picture["id"] for picture in listed] == [common[1]["id"]]

        # Later backups do not have it; earlier ones have it until they go.
        cli(data, "backup", "create", "--to", str(kept))
        assert found(max((kept / "backups").iterdir()), of_ann + of_bob) == {}
        assert found(kept, of_picture(ann.content)) != {}
        cli(data, "backup", "prune", "--from", str(kept), "--keep", "1")
        assert found(kept, of_ann + of_bob) == {}
        assert "Traceback" not in server.log()


def outside_journal(data: Path, needles: list[bytes]) -> dict[bytes, list[str]]:
    """Return what is found anywhere but in the journal, which is written anew a little later."""
    hits = {
        needle: [place for place in places if not place.startswith("journal/")]
        for needle, places in found(data, needles).items()
    }
    return {needle: places for needle, places in hits.items() if places}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose operator is known."""
    with running(tmp_path_factory.mktemp("deleted") / "data", ENV) as started:
        started.operator = claimed(started)
        yield started
        assert "Traceback" not in started.log()


def test_the_address_begins_anew(server):
    person = Person(server, random.Random(62))
    person.look(server)
    browser = by_key(server, person.key)
    assert cli(server.data, "accounts", "delete", person.address, "--dry-run").startswith(
        f"{person.address} would be deleted, with 1 picture ("
    )
    assert server.api("GET", "/v1/media", key=person.key).status == 200
    cli(server.data, "accounts", "delete", person.address, "--yes")
    assert server.api("GET", "/v1/media", key=person.key).status == 401
    assert server.get("/dashboard/account", Cookie=browser.cookie).status in (303, 401)
    for path in (f"/{person.picture['id']}", f"/t/{person.picture['id']}.jpeg?size=s", person.picture["src"]):
        assert server.get(path).status == 404, path
    fresh = server.new_key(person.address)
    assert server.api("GET", "/v1/media", key=fresh).json()["data"] == []
    assert server.api("GET", f"/v1/media?search={person.said}", key=fresh).json()["data"] == []
    assert server.api("GET", "/v1/namespaces", key=fresh).json()["data"] == []
    assert server.api("GET", "/v1/tags", key=fresh).json()["data"] == []
    used = server.api("GET", "/v1/usage", key=fresh).json()
    assert person.key_name not in json.dumps(server.api("GET", "/v1/keys", key=fresh).json())
    assert {used[what]["used"] for what in ("uploads", "storage")} == {0}, used
    for page in ("/operator/log", "/operator", "/operator/accounts"):
        assert person.key_name not in server.operator.get(page).body.decode()


def test_the_log_of_the_page_forgets_the_address(server):
    email = f"{word(random.Random(63))}@example.org"
    assert (
        server.api("POST", "/v1/keys", {"email": email}).status == 201
    )  # its link is in the log: no mail server is set
    until(lambda: email in server.operator.get("/operator/log").body.decode(), "the log does not name the address")
    cli(server.data, "accounts", "delete", email, "--yes")
    assert email not in server.operator.get("/operator/log").body.decode()


def test_the_operator_stays(server):
    refused = cli(server.data, "accounts", "delete", "op@example.org", "--yes", expected=1)
    assert "only operator of this server" in refused
    assert "dashboard/leave" not in server.operator.get("/dashboard/account").body.decode()
    typed = server.operator.post("/dashboard/leave", sure="1", typed="op@example.org")
    assert typed.status == 403, typed
    assert server.operator.get("/operator").status == 200


def test_somebody_deletes_their_own(server):
    person = Person(server, random.Random(64))
    browser = by_key(server, person.key)
    other = by_key(server, server.new_key("carl@example.org"))
    assert "Delete my account" in browser.get("/dashboard/account").body.decode()
    asked = browser.post("/dashboard/leave")
    assert asked.status == 200
    assert person.address in asked.body.decode()
    assert browser.post("/dashboard/leave", sure="1", typed="carl@example.org").status == 422
    assert browser.post("/dashboard/leave", sure="1", typed=person.address, csrf=other.token).status == 403
    away = browser.post("/dashboard/leave", headers={"Origin": "http://elsewhere.test"}, sure="1", typed=person.address)
    assert away.status == 403
    assert server.get(person.picture["src"]).status == 200
    done = browser.post("/dashboard/leave", sure="1", typed=person.address)
    assert done.status == 200
    assert "Your account is deleted" in done.body.decode()
    assert server.api("GET", "/v1/media", key=person.key).status == 401
    until(lambda: server.get(person.picture["src"]).status == 404, "the picture is still there")
    assert other.get("/dashboard/account").status == 200


def test_the_operator_deletes_an_account(server):
    person = Person(server, random.Random(65))
    listed = server.operator.get(f"/operator/accounts?q={person.email}").body.decode()
    path = "/operator/accounts/" + listed.split("operator/accounts/acc_", 1)[1].split('"', 1)[0].join(("acc_", ""))
    assert server.operator.post(path, do="remove").status == 200
    assert server.operator.post(path, do="remove", sure="1", typed="x@example.org").status == 422
    done = server.operator.post(path, do="remove", sure="1", typed=person.address)
    assert done.status == 303
    assert done.headers["Location"].endswith("operator?said=gone")
    until(lambda: server.get(person.picture["src"]).status == 404, "the picture is still there")
    until(lambda: server.operator.get(path).status == 404, "the account is still there")


def test_an_upload_meanwhile_comes_to_nothing(server):
    person = Person(server, random.Random(66))
    content = small_png(random.Random(67))
    form, kind = multipart([("file", "late.png", content)])
    headers = {"Content-Type": kind, "Authorization": f"Bearer {person.key}"}
    with held_open(server, "POST", "/v1/upload", form, headers) as rest:
        cli(server.data, "accounts", "delete", person.address, "--yes")
        assert rest().status == 401
    until(lambda: not found(server.data / "blobs", of_picture(content)), "the late picture was kept")


def test_a_kill_between_two_steps_is_made_good(tmp_path):
    data, dice = tmp_path / "data", random.Random(68)
    with running(data, ENV) as server:
        person = Person(server, dice)
        other = server.new_key("other@example.org")
    multiply(data, 2_000)
    with running(data, ENV) as server:
        theirs = server.must_upload(small_png(dice), key=other)
        command = [sys.executable, "-m", "imgpro", "accounts", "delete", person.address, "--yes", "--data", str(data)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as asking:
            until(lambda: 0 < left_of(server) < 2_000, "it did not begin")
            server.process.kill()
            server.process.wait()
            asking.wait()
        assert left_of(None, data) > 0, "it was at its end already"
        server.start()
        # Before its pictures are gone it has no way in, and its address is somebody else's to take.
        assert server.api("GET", "/v1/media", key=person.key).status == 401
        fresh = server.new_key(person.address)
        assert server.api("GET", "/v1/media", key=fresh).json()["data"] == []
        until(lambda: left_of(server) == 0, "it did not go on")
        until(lambda: len(blobs(data)) == 1, "bytes were left")
        assert server.get(theirs["src"]).status == 200
        assert server.api("GET", "/v1/media", key=fresh).json()["data"] == []

        def accounts() -> list[str]:
            return [row["email"] for row in server.operate("list")["accounts"]]

        until(lambda: accounts() == ["other@example.org", person.address], "the account itself was left")


def left_of(server: Server | None, data: Path | None = None) -> int:
    """Return how many pictures the account that is being deleted has still."""
    path = (data or server.data) / "imgpro.db"
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        found = conn.execute("SELECT images FROM accounts WHERE leaving_ms IS NOT NULL").fetchone()
    finally:
        conn.close()
    return 0 if found is None else found[0]
