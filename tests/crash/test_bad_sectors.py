"""Input/output errors that the kernel itself gives: originals and backups on a disk of which a part has died."""

import contextlib
import http.client
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from imgpro.store.layout import blob_path
from tests.backups import Done, answer, check_served, imgpro_apart
from tests.crash.dying_disks import dying_disk
from tests.law import check_disk
from tests.load import small_png
from tests.patience import wait_until
from tests.servers import UNLIMITED, Answer, Server, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "1",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_STORAGE_RESERVE_BYTES": "0",
    "IMGPRO_STORAGE_LOW_BYTES": "1 MB",
    "IMGPRO_BACKUP_DAILY": "false",
}
EIO = "Input/output error"


class Box:
    """A stopped server's data directory, what is in it, and the digests of all that by name."""

    def __init__(self, data: Path, **pictures: int) -> None:
        """Upload a picture of so many pixels a side under each name."""
        dice = random.Random(7)
        self.data = data
        self.bodies = {name: small_png(dice, side) for name, side in pictures.items()}
        self.found = {}
        with running(data, ENV) as server:
            for name, body in self.bodies.items():
                self.found[name] = server.must_upload(body, f"{name}.png")
            assert server.get(self.webp("good")).status == 200
            assert server.stop() == 0  # which waits until derivatives are in the cache

    def digest(self, name: str) -> str:
        return blake3(self.bodies[name]).hexdigest()

    def blob(self, name: str) -> Path:
        return self.data / "blobs" / blob_path(self.digest(name))

    def quarantined(self, name: str) -> bool:
        return (self.data / "quarantine" / self.digest(name)).exists()

    def cached(self, name: str) -> list[Path]:
        return [path for path in (self.data / "cache").rglob("*") if path.parent.name == self.digest(name)]

    def path(self, name: str) -> str:
        return "/" + self.found[name]["src"].split("/", 3)[3]

    def webp(self, name: str) -> str:
        return self.path(name).replace(".png", ".webp")

    def served(self, *names: str) -> dict[str, tuple[str, bytes]]:
        return {name: (self.path(name), self.bodies[name]) for name in names}


def ask(server: Server, path: str) -> Answer | None:
    """Ask for a picture; None where the answer broke off."""
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
        return server.get(path)
    return None


def is_refused(server: Server, path: str) -> bool:
    found = ask(server, path)
    return found is not None and found.status == 503 and found.json()["error"] == "image_damaged"


def scrubbed(data: Path, *, code: int) -> Done:
    done = imgpro_apart("scrub", "--data", data)
    assert done.returncode == code, done
    return done


def check_visitors(server: Server, box: Box) -> None:
    """Whichever way the bytes take, nobody gets other ones, or half of them as if they were all."""
    small, large = ask(server, box.path("small")), ask(server, box.path("large"))
    assert small is not None
    assert (small.status, small.json()["error"]) == (503, "image_damaged")
    assert large is None or large.status == 503
    made = ask(server, box.path("asked").replace(".png", ".gif"))
    assert made is not None
    assert (made.status, made.json()["error"]) == (503, "image_damaged"), server.log()
    for name in ("small", "large", "asked"):
        wait_until(lambda name=name: box.quarantined(name))
        assert is_refused(server, box.path(name)), name
    # What was made of a good one is made anew.
    anew = ask(server, box.webp("good"))
    assert anew is not None
    assert anew.status == 200, anew
    assert "made anew" in server.log()


def check_backup(box: Box, place: Path, bad: Sequence[str]) -> None:
    """A backup names them, has the rest, and never says that it is whole."""
    assert not box.quarantined("one")
    done = imgpro_apart("backup", "create", "--data", box.data, "--to", place)
    assert done.returncode == 3, done
    assert all(box.digest(name) in done.stdout + done.stderr for name in bad), done
    (made,) = answer("list", "--from", place)
    assert (made["state"], made["missing"]) == ("partial", len(bad))
    tried = answer("verify", "--data", box.data, "--from", place, code=3)
    assert (tried["bad"], tried["blobs"]) == (len(bad), 1)


def test_originals_that_the_disk_cannot_read(tmp_path):
    kept, second = tmp_path / "kept", tmp_path / "second"
    bad = ("small", "large", "asked", "one", "other")
    with dying_disk(tmp_path, 128) as dying:
        box = Box(dying.root / "data", good=60, small=40, large=600, asked=90, one=64, other=72)
        assert answer("create", "--data", box.data, "--to", kept)["missing"] == 0
        paths = [box.blob(name) for name in bad]
        cached = box.cached("good")
        assert cached
        border = dying.move_to_the_end([*paths, *cached])
        dying.die(border, [*paths, *cached])
        kept.rename(tmp_path / "away")  # else whatever is found comes back from there at once

        # An export names them and has the rest.
        done = imgpro_apart("export", "--data", box.data, tmp_path / "taken")
        assert done.returncode == 3, done
        assert EIO in done.stderr
        assert all(f"{name}.png" in done.stderr for name in bad)
        assert [path.name for path in (tmp_path / "taken" / "without-account").iterdir()] == ["good.png"]

        with running(box.data, ENV) as server:
            check_visitors(server, box)
            check_backup(box, second, bad)
            wait_until(lambda: all(box.quarantined(name) for name in bad))
            # Whoever has the file puts it back; of the others a scrub says what is wrong.
            server.must_upload(box.bodies["small"], "again.png")
            check_served(server, box.served("good", "small"))
            said = scrubbed(box.data, code=3).stdout
            assert all(box.digest(name) in said for name in bad[1:]), said
            assert server.stop() == 0
            # What can be read again is put back as it is.
            dying.recover()
            server.start()
            assert scrubbed(box.data, code=0).stdout.count("it can be read again") == len(bad[1:])
            check_served(server, box.served("good", *bad))
            assert server.stop() == 0
            assert check_disk(box.data) == 0
            assert "Traceback" not in server.log()

        # And with a backup at hand a scrub puts them back by itself.
        (tmp_path / "away").rename(kept)
        dying.die(border, paths[1:])
        with running(box.data, ENV) as server:
            said = scrubbed(box.data, code=0).stdout
            assert said.count(EIO) == said.count("it was put back from a backup") == len(bad[1:]), said
            check_served(server, box.served("good", *bad))
            assert server.stop() == 0
            assert check_disk(box.data) == 0
            assert "Traceback" not in server.log()


def test_a_place_for_backups_that_cannot_be_written(tmp_path):
    with dying_disk(tmp_path, 128) as dying:
        place = dying.root / "kept"
        box = Box(tmp_path / "data", good=60, other=40)
        with running(box.data, {**ENV, "IMGPRO_BACKUP_TO": str(place)}) as server:
            assert imgpro_apart("backup", "create", "--data", box.data).returncode == 0
            for number in range(3):
                server.must_upload(small_png(random.Random(number), 300), "late.png")
            dying.die(dying.move_to_the_end([], 24 << 20), for_good=True)
            before = answer("list", "--data", box.data, "--from", place)
            for _ in range(2):
                done = imgpro_apart("backup", "create", "--data", box.data)
                assert done.returncode == 74, done
                assert str(place) in done.stderr
                assert EIO in done.stderr
                assert "Try:" in done.stderr
                assert answer("list", "--data", box.data, "--from", place) == before
            assert len(before) == 1
            # The one from before is there and good; the server says what has become of the other, and serves.
            assert answer("verify", "--data", box.data, "--from", place)["bad"] == 0
            assert server.get("/readyz").json()["checks"]["backup"] == "degraded"
            check_served(server, box.served("good", "other"))
            assert server.stop() == 0
            assert "Traceback" not in server.log()
