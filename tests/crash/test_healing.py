"""Killed while originals are put back: by a scrub from a backup, and by an upload of the same bytes."""

import contextlib
import random
import shutil
import signal
from pathlib import Path

import pytest
from blake3 import blake3

from imgpro.store.layout import blob_path
from tests.backups import Done, answer, flip, imgpro, imgpro_apart
from tests.law import check_disk
from tests.load import small_png
from tests.servers import UNLIMITED, Server, leftovers, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "1",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_BACKUP_DAILY": "false",
}
LOST = ("altered", "missing")


class Box:
    """A data directory with a backup beside it, harmed again for each round."""

    def __init__(self, folder: Path) -> None:
        dice = random.Random(11)
        self.data, self.kept, self.away = folder / "data", folder / "kept", folder / "away"
        self.bodies = {name: small_png(dice) for name in (*LOST, "good")}
        self.digests = {name: blake3(body).hexdigest() for name, body in self.bodies.items()}
        self.webps: dict[str, bytes] = {}
        with running(self.data, ENV) as server:
            found = {name: server.must_upload(body, f"{name}.png") for name, body in self.bodies.items()}
            self.paths = {name: one["src"].removeprefix(server.base) for name, one in found.items()}
            for name in self.bodies:
                self.webps[name] = server.get(self.webp(name)).body
            assert server.stop() == 0
        assert answer("create", "--data", self.data, "--to", self.kept)["missing"] == 0

    def webp(self, name: str) -> str:
        return self.paths[name].replace(".png", ".webp")

    def blob(self, name: str) -> Path:
        return self.data / "blobs" / blob_path(self.digests[name])

    def harm(self) -> None:
        """Change one original, and what was made of it since; lose another."""
        for name in LOST:
            self.blob(name).unlink(missing_ok=True)
        self.blob("altered").write_bytes(self.bodies["altered"])
        flip(self.blob("altered"))
        folder = self.data / "cache" / self.digests["altered"][:2] / self.digests["altered"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "o-1.webp").write_bytes(self.webps["good"])

    def check_after_kill(self, server: Server) -> None:
        """What is not whole says so, before anybody has looked at it."""
        for name in self.bodies:
            blob = self.blob(name)
            if blob.exists() and blake3(blob.read_bytes()).hexdigest() != self.digests[name]:
                continue  # nobody has come upon it yet
            found = server.get(self.paths[name])
            assert found.status in (200, 503), (name, found)
            assert found.body == self.bodies[name] if found.status == 200 else found.json()["error"] == "image_damaged"

    def check_whole(self, server: Server) -> None:
        """All is as it was, what was made of bad bytes is gone, and nothing lies about."""
        for name, body in self.bodies.items():
            assert server.get(self.paths[name]).body == body, name
            assert server.get(self.webp(name)).body == self.webps[name], name
        assert server.stop() == 0
        assert check_disk(self.data) == 0
        assert {path.name for path in (self.data / "quarantine").iterdir()} <= {self.digests["altered"]}
        assert leftovers(self.data) == []
        assert "Traceback" not in server.log()


def scrub(box: Box, *, code: int) -> Done:
    done = imgpro("scrub", "--data", box.data)
    assert done.returncode == code, done
    return done


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Box:
    return Box(tmp_path_factory.mktemp("healing"))


SCRUBBING = ("quarantine.moved:1", "blob.renamed:1")


@pytest.mark.parametrize("point", SCRUBBING)
def test_a_scrub_killed_while_it_puts_back(box, point):
    box.harm()
    done = imgpro_apart("scrub", "--data", box.data, env={"IMGPRO_CRASH_AT": point})
    assert done.returncode == -signal.SIGKILL, done
    with running(box.data, ENV) as server:
        assert leftovers(box.data) == []
        box.check_after_kill(server)
        scrub(box, code=0)
        box.check_whole(server)


def test_a_scrub_killed_at_each_of_its_commits(box):
    """Whatever has been written down by then, the next scrub ends well."""
    killed = 0
    while True:
        box.harm()
        done = imgpro_apart("scrub", "--data", box.data, env={"IMGPRO_CRASH_AT": f"commit.after:{killed + 1}"})
        if done.returncode != -signal.SIGKILL:
            break
        killed += 1
    assert done.returncode == 0, done
    assert killed >= 3, "nothing was written down"
    with running(box.data, ENV) as server:
        box.check_whole(server)


UPLOADING = ("blob.renamed", "commit.after")


@pytest.mark.parametrize("point", UPLOADING)
def test_killed_while_an_upload_puts_back(box, point):
    box.harm()
    shutil.move(box.kept, box.away)
    try:
        scrub(box, code=3)
        with running(box.data, {**ENV, "IMGPRO_CRASH_AT": f"{point}:{3 if point == 'commit.after' else 1}"}) as server:
            with contextlib.suppress(OSError):
                for number in range(20):
                    server.upload(box.bodies[LOST[number % 2]], "again.png")
            assert server.process.wait() == -signal.SIGKILL
            del server.env["IMGPRO_CRASH_AT"]
            server.start()
            assert leftovers(box.data) == []
            box.check_after_kill(server)
            for name in LOST:
                server.must_upload(box.bodies[name], "again.png")
            scrub(box, code=0)
            box.check_whole(server)
    finally:
        shutil.move(box.away, box.kept)
