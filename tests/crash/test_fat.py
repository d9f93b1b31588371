"""A FAT stick: an export and a backup on a file system without hard links, modes, fine times and case in names."""

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpro.errors import TargetFault
from imgpro.store.durable import filesystem_type
from imgpro.store.target_directory import DirectoryTarget
from tests.backups import answer, check_box, imgpro
from tests.load import small_png
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.crash

MB = 1 << 20
# As they are stored, and as FAT, which takes no colon and knows no case, can have them.
NAMES = {
    "Harbour.png": "Harbour.png",
    "harbour.png": "harbour (2).png",
    "HARBOUR.PNG": "HARBOUR (3).PNG",
    "12:30?.png": "12_30_.png",
    "con.png": "_con.png",
    "trailing. ": "trailing.png",
}


@contextlib.contextmanager
def fat(folder: Path) -> Iterator[Path]:
    """Make and mount a FAT, by the kernel or, where it knows none, in user space; skips where neither can."""
    if os.geteuid() != 0:
        pytest.skip("a loop file system needs root")
    tool = shutil.which("mkfs.vfat", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if tool is None:
        pytest.skip("mkfs.vfat is not installed")
    image, root = folder / "fat.img", folder / "stick"
    root.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MB)
    subprocess.run([tool, "-F", "32", str(image)], check=True, capture_output=True)
    ways = [["mount", "-t", "vfat", "-o", "loop", str(image), str(root)]]
    if shutil.which("fusefat"):
        ways.append(["fusefat", "-o", "rw+", str(image), str(root)])
    if not any(subprocess.run(way, capture_output=True, check=False).returncode == 0 for way in ways):
        pytest.skip("nothing here mounts a FAT")
    try:
        yield root
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False, capture_output=True)


def test_an_export_and_a_backup_on_a_stick(tmp_path):
    dice = random.Random(5)
    data = tmp_path / "data"
    with fat(tmp_path) as stick:
        with running(data, UNLIMITED) as server:
            key = server.new_key("ann@example.org")
            bodies = {name: small_png(dice) for name in NAMES}
            made = {name: server.must_upload(body, name, key=key) for name, body in bodies.items()}
            assert server.stop() == 0
        pictures = {one["id"]: (one["src"].removeprefix(server.base), bodies[name]) for name, one in made.items()}

        taken = stick / "taken"
        for words in (f"{len(NAMES)} new", f"{len(NAMES)} there already"):
            done = imgpro("export", "--data", data, taken)
            assert done.returncode == 0, done
            assert words in done.stdout, "it has the times that a FAT gives"
        there = {path.name: path.read_bytes() for path in (taken / "ann@example.org").iterdir()}
        assert there == {NAMES[name]: body for name, body in bodies.items()}
        assert (taken / "index.html").is_file()

        kept = stick / "kept"
        for new in (len(NAMES), 0):
            assert answer("create", "--data", data, "--to", kept)["new_blobs"] == new
        assert answer("verify", "--data", data, "--from", kept)["bad"] == 0
        assert imgpro("backup", "restore", "--data", tmp_path / "again", "--from", kept).returncode == 0
        check_box(tmp_path / "again", pictures)
        assert filesystem_type(stick) in (0x4D44, 0x65735546)


def test_a_file_that_a_place_cannot_hold_for_its_length(tmp_path):
    """FAT ends at 4 GiB. A limit on the length of files says the same, sooner."""
    target = DirectoryTarget(tmp_path / "kept")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MB, before[1]))
    try:
        with pytest.raises(TargetFault, match="takes no file so long"):
            target.put("blobs/aa/long", iter([bytes(MB)] * 3), 3 * MB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []
