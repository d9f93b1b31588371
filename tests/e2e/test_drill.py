"""The drill of docs/drill.md, run as it is written: real pictures, everything broken, everything there again or named."""

import json
import os
import re
import subprocess

import pytest

from tests.law import check_disk
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, Server

PAGE = ROOT / "docs/drill.md"
BLOCK = re.compile(r"(?ms)^```sh (drill|refused|part|wrong)\n(.*?)^```")
EXITS = {"drill": {0}, "refused": {65}, "part": {3}, "wrong": {1}}
LOST = re.compile(r"(?m)^lost picture: (\w{12}) ")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


class Drill:
    """The shell of whoever does the drill: one block after the other, variables kept."""

    def __init__(self, place, data):
        self.place = place
        self.blocks = iter(BLOCK.findall(PAGE.read_text()))
        program = place / "bin/imgpro"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{ROOT}/.venv/bin/python" -m imgpro "$@"\n')
        program.chmod(0o755)
        self.variables = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(place),
            "PYTHONPATH": str(ROOT),
            "DATA": str(data),
            "BACKUPS": str(place / "backups"),
        }

    def next(self):
        """Run the next block; return what its lines printed on both streams."""
        kind, block = next(self.blocks)
        said = ""
        codes = set()
        for line in block.strip().splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self.variables[name] = os.path.expandvars(
                    value.strip('"').replace("$BACKUPS", self.variables["BACKUPS"])
                )
                continue
            code, words = self._run(line)
            said += words
            codes.add(code)
        assert codes & EXITS[kind], (codes, said)
        assert codes <= EXITS[kind] | {0}, (codes, said)
        return said

    def _run(self, line):
        # Variables that a line sets are there for the next ones.
        script = f"[ -f .variables ] && . ./.variables; {line}\ncode=$?; set | grep '^victim=' > .variables; exit $code"
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.place, env=self.variables, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr


class Box:
    """What was stored, as whoever stored it knows it."""

    def __init__(self, server):
        self.server = server
        self.keys = {}
        self.pictures = {}  # id -> (path, bytes as they were served, facts for the owner)

    def upload(self, body, name, owner=None, **fields):
        if owner is not None and owner not in self.keys:
            self.keys[owner] = self.server.new_key(owner)
        found = self.server.must_upload(body, name, key=self.keys.get(owner), **fields)
        path = found["src"].removeprefix(self.server.base)
        answer = self.server.get(path)
        assert answer.status == 200
        facts = None
        if owner is not None:
            facts = self.server.api("GET", f"/v1/media/{found['id']}", key=self.keys[owner]).json()
        self.pictures[found["id"]] = (path, answer.body, owner, facts)
        return found["id"]

    def lost(self, ids=None):
        """Look at all of them; return those whose bytes are not there, and fail where anything else is not as before."""
        missing = set()
        for image_id, (path, body, owner, facts) in self.pictures.items():
            if ids is not None and image_id not in ids:
                continue
            answer = self.server.get(path)
            if answer.status == 503:
                assert answer.json()["error"] == "image_damaged"
                missing.add(image_id)
            else:
                assert answer.status == 200, (image_id, answer)
                assert answer.body == body, image_id
            if owner is not None:
                now = self.server.api("GET", f"/v1/media/{image_id}", key=self.keys[owner]).json()
                assert without_host(now) == without_host(facts)
        return missing


def without_host(facts):
    """Return what is said of a picture without the port, which is another one after each start."""
    return json.loads(re.sub(r"http://127\.0\.0\.1:\d+", "", json.dumps(facts)))


def digest_of(box, image_id):
    from blake3 import blake3

    return blake3(box.pictures[image_id][1]).hexdigest()


@pytest.fixture
def box(tmp_path, photos):
    server = Server(tmp_path / "data", UNLIMITED)
    try:
        server.start()
        box = Box(server)
        files = sorted(path for path in photos.iterdir() if path.suffix in (".jpg", ".png", ".gif", ".webp"))
        for number, path in enumerate(files):
            owner = (None, "ann@example.org", "bob@example.org")[number % 3]
            fields = {"namespace": "travel", "tags": "sea,früh"} if owner else {}
            box.upload(path.read_bytes(), path.name, owner, **fields)
        for number in range(24):
            body = encoded(make_image("RGB", (90 + number, 60)), "PNG")
            box.upload(body, f"screenshot {number}.png", "ann@example.org", tags="screen")
        yield box
    finally:
        server.close()


def test_the_drill(box, tmp_path):
    server, drill = box.server, Drill(tmp_path, box.server.data)
    drill.next()  # backup and verify, while the server runs
    before = set(box.pictures)
    for number in range(8):
        box.upload(encoded(make_image("RGB", (50, 70 + number)), "PNG"), f"late {number}.png", "cid@example.org")
    late = set(box.pictures) - before
    assert server.stop() == 0
    drill.next()  # broken
    gone = {image_id for image_id in box.pictures if not has_original(server.data, digest_of(box, image_id))}
    assert len(gone) >= len(box.pictures) // 3
    assert "imgpro rebuild" in drill.next()
    assert set(LOST.findall(drill.next())) == gone  # rebuilt
    said = drill.next()  # healed
    lost = late & gone
    victim = {image_id for image_id in late if is_altered(server.data, digest_of(box, image_id))}
    assert {digest_of(box, image_id) for image_id in lost | victim} <= set(DIGEST.findall(said))
    said = drill.next()  # what is left
    assert {digest_of(box, image_id) for image_id in lost | victim} == set(DIGEST.findall(said)), said
    server.start()
    assert box.lost() == lost | victim
    for image_id in lost:  # the same file again, and it is whole
        box.server.must_upload(box.pictures[image_id][1], "again.png", key=box.keys["cid@example.org"])
    assert box.lost() <= victim
    assert server.stop() == 0
    drill.next()  # the whole disk
    server.start()
    assert box.lost(before) == set()
    for image_id in late:
        assert server.get(box.pictures[image_id][0]).status == 404
    assert server.stop() == 0
    assert check_disk(server.data) == 0
    assert next(drill.blocks, None) is None


def has_original(data, digest):
    return (data / "blobs" / digest[:2] / digest[2:4] / digest).is_file()


def is_altered(data, digest):
    return (data / "quarantine" / digest).exists()
