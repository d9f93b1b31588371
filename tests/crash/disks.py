"""Small real file systems on loop files, for disks that fill up and disks whose power is cut. Needs root."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2  # what is only in the journal's memory is lost, as at a power cut


class Disk:
    """An ext4 in a file, mounted at `root`."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file = file
        self.root = root

    def mount(self) -> None:
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, str(self.file), str(self.root)], check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.root)], check=True, capture_output=True)

    def cut_power(self) -> None:
        """Stop the file system dead: nothing that has not reached the disk will."""
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def become_read_only(self) -> None:
        """Have the file system find a fault of its own: it then refuses writers, until it is mounted anew."""
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(self.root)], check=True, capture_output=True, text=True
        )
        trigger = Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error")
        if not trigger.exists():
            pytest.skip("this kernel's ext4 has no faults on demand")
        trigger.write_text("1")

    def check(self) -> None:
        """Let the file system's own tool look; it may replay the journal, not repair."""
        done = subprocess.run(["e2fsck", "-n", "-f", str(self.file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def free_bytes(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def filled(self, leave_bytes: int = 0) -> Iterator[None]:
        """Fill the disk with something that is not ours."""
        path = self.root / "holiday-film"
        with path.open("wb", buffering=0) as film:
            with contextlib.suppress(OSError):
                os.posix_fallocate(film.fileno(), 0, max(1, self.free_bytes() - leave_bytes))
            if not leave_bytes:
                with contextlib.suppress(OSError):
                    while True:
                        film.write(b"x" * 4096)
        try:
            yield
        finally:
            path.unlink()


@contextlib.contextmanager
def disk(folder: Path, megabytes: int, *options: str) -> Iterator[Disk]:
    """Make (`options` are for mkfs), mount and remove a disk; skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("a loop file system needs root")
    tool = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if tool is None:
        pytest.skip("mkfs.ext4 is not installed")
    file, root = folder / "disk.img", folder / "disk"
    root.mkdir(parents=True)
    with file.open("wb") as image:
        image.truncate(megabytes << 20)
    subprocess.run([tool, "-q", "-m", "0", *options, str(file)], check=True, capture_output=True)
    found = Disk(file, root)
    try:
        found.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop devices here: {error.stderr!r}")
    try:
        yield found
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False, capture_output=True)
