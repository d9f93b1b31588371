"""What it costs to keep 10,000 pictures: backups beside cp and rsync of the same files, and what visitors feel.

`python -m bench.backups` prints a table: seconds, megabytes a second, the most memory that was held, and the p99 of a
picture's delivery while the work goes on beside that of a quiet server. Peers copy the same data directory.
"""

import argparse
import asyncio
import itertools
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench import load, servers
from bench.cost import pss_bytes
from bench.soak import picture
from bench.visitors import Visitors
from imgpro.cli.office import errand_there

MIB = 1024 * 1024
SIZES = ((320, 240), (640, 480), (1000, 700))
AT_ONCE = 8
VIEWED = 200
WATCHED_S = 15.0


@dataclass(frozen=True)
class Row:
    """One line of the table. Seconds, bytes; the latencies in milliseconds, 0 where no server ran."""

    what: str
    seconds: float
    bytes: int
    peak_bytes: int = 0
    quiet_p99_ms: float = 0.0
    p99_ms: float = 0.0


class Peak:
    """The most memory that some processes hold together, looked at ten times a second. Bytes.

    Not while visitors are watched: each look takes a processor for some milliseconds, and they would feel it.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.bytes = max(self.bytes, pss_bytes(self._pid()))
            except (OSError, StopIteration):
                continue


async def fill(server: servers.Imgpro, count: int) -> list[str]:
    """Upload so many pictures, no two alike; return the paths of their thumbnails."""
    dice = random.Random(1)
    paths: list[str] = []

    async def some(share: int) -> None:
        connection = load.Connection(server.port)
        for _ in range(share):
            name, body = picture(dice, SIZES)
            found = await server.upload(connection, name, body)
            paths.append(f"/t/{found}.webp?size=s")
        connection.close()

    await asyncio.gather(*(some(count // AT_ONCE) for _ in range(AT_ONCE)))
    return paths


def command(*words: str) -> list[str]:
    return [str(servers.ROOT / ".venv/bin/imgpro"), *words]


def timed(words: Sequence[str]) -> tuple[float, int]:
    """Run a command; return how long it took and the most memory it held."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with Peak(lambda: process.pid) as peak:
        _, said = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} exited {process.returncode}: {said.decode()[-500:]}")
    return time.perf_counter() - began, peak.bytes


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Keeper:
    """Gives a running server the work that its own hours give it, and watches its visitors meanwhile.

    Not by a command: what a Python takes to start is felt on two processors, whatever it is for.
    """

    server: servers.Imgpro
    data: Path
    paths: Sequence[str]
    size: int

    def row(self, what: str, kind: str, values: Callable[[], Mapping[str, object]]) -> Row:
        """Measure one kind of work: once by itself, then while visitors look, until there are enough of them."""
        with Peak(lambda: self.server.pid) as peak:
            seconds = self._timed(kind, values())
        with Visitors(self.server.port, self.paths) as quiet:
            time.sleep(WATCHED_S)
        with Visitors(self.server.port, self.paths) as during:
            began = time.perf_counter()
            while time.perf_counter() - began < WATCHED_S:
                self._timed(kind, values())
        return Row(what, seconds, self.size, peak.bytes, quiet.p99_ms, during.p99_ms)

    def _timed(self, kind: str, values: Mapping[str, object]) -> float:
        began = time.perf_counter()
        errand_there(self.data, kind, values, lambda _: None)
        return time.perf_counter() - began


def measure(work: Path, count: int) -> Iterator[Row]:
    server = servers.Imgpro(work, work)
    data, place = work / "imgpro/data", work / "backups"
    server.start()
    try:
        began = time.perf_counter()
        paths = asyncio.run(fill(server, count))[:VIEWED]
        yield Row(f"upload of {count:,} pictures", time.perf_counter() - began, size_of(data / "blobs"))
        size = size_of(data / "blobs")
        keeper = Keeper(server, data, paths, size)
        time.sleep(WATCHED_S)  # what the uploads left to do
        numbers = itertools.count(1)
        yield keeper.row("backup, the first", "backup-create", lambda: {"to": f"{place}-{next(numbers)}"})
        place = Path(f"{place}-1")
        yield keeper.row("backup, the second", "backup-create", lambda: {"to": str(place)})
        yield keeper.row("verify", "backup-verify", lambda: {"name": None, "from": str(place)})
        yield keeper.row("scrub", "scrub", dict)
        yield keeper.row("check", "check", lambda: {"repair": False, "deep": False})
    finally:
        server.stop()
    restored = work / "restored"
    seconds, peak = timed(command("backup", "restore", "--from", str(place), "--data", str(restored)))
    yield Row("restore", seconds, size, peak)
    for path in data.glob("imgpro.db*"):
        path.unlink()
    seconds, peak = timed(command("rebuild", "--data", str(data)))
    yield Row("rebuild from the journal", seconds, 0, peak)
    yield peer("cp -a, then sync", ["sh", "-c", f"cp -a {data}/blobs {work}/copied && sync"], size)
    if shutil.which("rsync"):
        again = ["rsync", "-a", f"{data}/blobs/", f"{work}/copied/"]
        yield peer("rsync -a, nothing new", again, size)
        yield peer("rsync -a --checksum, nothing new", [*again, "--checksum"], size)


def peer(what: str, words: Sequence[str], size: int) -> Row:
    seconds, peak = timed(words)
    return Row(what, seconds, size, peak)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.backups", description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    options = parser.parse_args()
    os.environ.pop("IMGPRO_DATA", None)
    print("| work | s | MB/s | peak MB | p99 ms quiet | p99 ms meanwhile |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="imgpro-bench-", ignore_cleanup_errors=True) as temporary:
        for row in measure(Path(temporary), options.pictures):
            rate = f"{row.bytes / MIB / row.seconds:,.0f}" if row.bytes else ""
            peak = f"{row.peak_bytes / MIB:,.0f}" if row.peak_bytes else ""
            felt = f"{row.quiet_p99_ms:.2f} | {row.p99_ms:.2f}" if row.p99_ms else " | "
            print(f"| {row.what} | {row.seconds:.2f} | {rate} | {peak} | {felt} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
