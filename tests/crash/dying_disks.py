"""A real disk whose last part dies: the kernel itself answers EIO there, to whoever reads or writes. Needs root.

An ext4 on a loop device over memory. Reading beyond the end of what a loop device lies on is an input/output error of
the device; so is writing there once the memory may not grow.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

_SET_FD, _CLR_FD, _GET_FREE = 0x4C00, 0x4C01, 0x4C82
_ADD_SEALS, _SEAL_GROW = 1033, 4
_FIEMAP = 0xC020660B
_PIECE_BYTES = 1 << 20


class DyingDisk:
    """An ext4 at `root`. What `move_to_the_end` moves, and nothing else, lies in the part that dies."""

    def __init__(self, memory: int, root: Path) -> None:
        self.root = root
        self._memory = memory
        self._size = os.fstat(memory).st_size
        self._kept = b""

    def move_to_the_end(self, paths: Sequence[Path], spare_bytes: int = 0) -> int:
        """Write files anew at the end of the disk, with `spare_bytes` of free room; return where that part begins.

        The rest of the disk is filled for the moment, so that there is no other place for them.
        """
        wanted = sum(path.stat().st_size + 65_536 for path in paths) + spare_bytes
        pieces = self._filled("pieces")
        at = {_first_byte(piece): piece for piece in pieces}
        freed = []
        for start in sorted(at, reverse=True)[: -(-wanted // _PIECE_BYTES)]:
            at[start].unlink()
            freed.append(start)
        self._sync()
        for path in paths:
            anew = path.with_name(f"{path.name}.anew")
            shutil.copy2(path, anew)
            anew.replace(path)
        self._sync()
        border = min(freed) if spare_bytes else min(_first_byte(path) for path in paths)
        assert all(_first_byte(path) >= border for path in paths)
        if not spare_bytes:
            self._filled("rest")  # nobody else is to have room there
            for piece in pieces:
                piece.unlink(missing_ok=True)
        self._sync()
        return border

    def die(self, border: int, paths: Sequence[Path] = (), *, for_good: bool = False) -> None:
        """Have everything from a byte of the disk on fail; `paths` are what lies there, and in no memory any more."""
        self._sync()
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._kept = os.pread(self._memory, self._size - border, border)
        os.ftruncate(self._memory, border)
        if for_good:
            fcntl.fcntl(self._memory, _ADD_SEALS, _SEAL_GROW)
        for path in paths:
            with pytest.raises(OSError, match="Input/output error"):
                path.read_bytes()

    def recover(self) -> None:
        """Have it all there again."""
        os.pwrite(self._memory, self._kept, self._size - len(self._kept))

    def _filled(self, name: str) -> list[Path]:
        """Take all room; return the pieces of full size."""
        pieces: list[Path] = []
        folder = self.root / name
        folder.mkdir()
        with contextlib.suppress(OSError):
            while True:
                pieces.append(folder / str(len(pieces)))
                with pieces[-1].open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, _PIECE_BYTES)
        pieces.pop()
        return pieces

    def _sync(self) -> None:
        subprocess.run(["sync", "-f", str(self.root)], check=True)


def _first_byte(path: Path) -> int:
    """Return where on its disk the lowest block of a file lies."""
    with path.open("rb") as file:
        extents = 64
        request = bytearray(struct.pack("=QQLLLL", 0, 2**63, 1, 0, extents, 0) + bytes(56 * extents))
        fcntl.ioctl(file.fileno(), _FIEMAP, request)
    (found,) = struct.unpack_from("=L", request, 20)
    assert 0 < found < extents, path
    return min(struct.unpack_from("=Q", request, 32 + 56 * n + 8)[0] for n in range(found))


@contextlib.contextmanager
def dying_disk(folder: Path, megabytes: int) -> Iterator[DyingDisk]:
    """Make, mount and remove a disk; skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("a loop file system needs root")
    tool = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if tool is None:
        pytest.skip("mkfs.ext4 is not installed")
    root = folder / "disk"
    root.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        memory = os.memfd_create("disk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, memory)
        os.ftruncate(memory, megabytes << 20)
        device, loop = _loop_over(memory)
        stack.callback(os.close, loop)
        stack.callback(fcntl.ioctl, loop, _CLR_FD)
        # All that the file system itself needs lies at the beginning.
        made = [tool, "-q", "-m", "0", "-b", "4096", "-E", "packed_meta_blocks=1,nodiscard", device]
        subprocess.run(made, check=True, capture_output=True)
        try:
            subprocess.run(["mount", "-o", "errors=remount-ro", device, str(root)], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no loop devices here: {error.stderr!r}")
        stack.callback(subprocess.run, ["umount", "-l", str(root)], check=False, capture_output=True)
        # Room that ext4 holds back for itself would be a place outside of the part that dies.
        Path("/sys/fs/ext4", Path(device).name, "reserved_clusters").write_text("0")
        yield DyingDisk(memory, root)


def _loop_over(memory: int) -> tuple[str, int]:
    try:
        with open("/dev/loop-control", "rb") as control:
            for _ in range(20):  # somebody else may take the same one in this moment
                device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
                loop = os.open(device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(loop, _SET_FD, memory)
                except OSError:
                    os.close(loop)
                    continue
                return device, loop
    except OSError as error:
        pytest.skip(f"no loop devices here: {error}")
    pytest.skip("no loop device is free")
