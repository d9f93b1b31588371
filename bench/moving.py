"""What an import costs: `imgpro import` beside plain uploads of the same pictures, and what visitors feel meanwhile.

`python -m bench.moving` prints a table: pictures a second and as a share of the plain uploads' rate, the most memory
that the command held, and the p99 of a picture's delivery beside that of a quiet server. An import goes at full speed
while nobody looks, and slower while somebody does.
"""

import argparse
import asyncio
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import load, servers
from bench.backups import SIZES, VIEWED, command, timed
from bench.soak import picture
from bench.visitors import Visitors

MIB = 1024 * 1024
AT_ONCE = 4  # as many as the command sends at once
QUIET_S = 15.0
WARMTH = 20
MANY = 20_000
ENOUGH = 500  # visits for a percentile


@dataclass(frozen=True)
class Row:
    """One line of the table. Latencies in milliseconds, 0 where nobody looked."""

    what: str
    pictures: int
    seconds: float
    peak_bytes: int = 0
    p99_ms: float = 0.0

    @property
    def per_s(self) -> float:
        return self.pictures / self.seconds


def lay_out(folder: Path, count: int, seed: int) -> list[Path]:
    """Write so many pictures, no two alike."""
    dice = random.Random(seed)
    folder.mkdir()
    paths = []
    for number in range(count):
        name, body = picture(dice, SIZES)
        paths.append(folder / f"{number:06}-{name}")
        paths[-1].write_bytes(body)
    return paths


def multiplied(paths: Sequence[Path], folder: Path, count: int) -> Path:
    """Write so many files of these pictures, no two alike, for what looks at them from outside."""
    folder.mkdir()
    for number in range(count):
        path = paths[number % len(paths)]
        (folder / f"{number:06}{path.suffix}").write_bytes(path.read_bytes() + number.to_bytes(4, "big"))
    return folder


async def upload(server: servers.Imgpro, paths: Sequence[Path]) -> list[str]:
    """Upload files over HTTP, `AT_ONCE` at once; return the paths of their thumbnails."""
    waiting = iter(paths)
    found: list[str] = []

    async def some() -> None:
        connection = load.Connection(server.port)
        for path in waiting:
            image_id = await server.upload(connection, path.name, path.read_bytes())
            found.append(f"/t/{image_id}.webp?size=s")
        connection.close()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return found


def run(what: str, count: int, server: servers.Imgpro, views: Sequence[str], words: Sequence[str]) -> Row:
    """Measure a command while visitors look at pictures; what is too short for a percentile has none."""
    with Visitors(server.port, views) as during:
        began = time.perf_counter()
        subprocess.run(command(*words), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    return Row(what, count, seconds, 0, during.p99_ms if len(during.latencies_s) >= ENOUGH else 0.0)


def measure(work: Path, count: int) -> list[Row]:
    server = servers.Imgpro(work, work)
    data = work / "imgpro/data"
    sent, moved = lay_out(work / "sent", count, 1), lay_out(work / "moved", count, 2)
    for number, name in enumerate(("unseen", "alone"), 3):
        lay_out(work / name, count, number)
    server.start()
    try:
        views = asyncio.run(upload(server, lay_out(work / "first", max(WARMTH, VIEWED // 4), 5)))
        with Visitors(server.port, views) as quiet:
            time.sleep(QUIET_S)
        rows = [Row("nothing", 0, QUIET_S, 0, quiet.p99_ms)]
        with Visitors(server.port, views) as during:
            began = time.perf_counter()
            asyncio.run(upload(server, sent))
            seconds = time.perf_counter() - began
        rows.append(Row("uploads over HTTP", count, seconds, 0, during.p99_ms))
        unseen = command("import", "folder", str(work / "unseen"), "--nobody", "--data", str(data))
        rows.append(Row("import, nobody looks", count, *timed(unseen)))
        there = ["import", "folder", str(moved[0].parent), "--nobody", "--data", str(data)]
        many = ["import", "folder", str(multiplied(moved, work / "many", MANY)), *there[3:], "--dry-run"]
        rows.append(run("import, dry run", MANY, server, views, many))
        rows.append(run("import, somebody looks", count, server, views, there))
        rows.append(run("the same again: all there", count, server, views, there))
    finally:
        server.stop()
    alone = command("import", "folder", str(work / "alone"), "--nobody", "--data", str(data))
    rows.append(Row("import without a server", count, *timed(alone)))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.moving", description=__doc__)
    parser.add_argument("--pictures", type=int, default=2_000)
    options = parser.parse_args()
    os.environ.pop("IMGPRO_DATA", None)
    with tempfile.TemporaryDirectory(prefix="imgpro-bench-", ignore_cleanup_errors=True) as temporary:
        rows = measure(Path(temporary), options.pictures)
        plain = next(row for row in rows if row.what.startswith("uploads")).per_s
        print("| what | pictures/s | share of uploads | peak MB | p99 ms |\n| --- | --- | --- | --- | --- |")
        for row in rows:
            shown = f"{row.per_s:,.0f} | {row.per_s / plain:.2f}" if row.pictures else " | "
            peak = f"{row.peak_bytes / MIB:.0f}" if row.peak_bytes else ""
            print(f"| {row.what} | {shown} | {peak} | {f'{row.p99_ms:.2f}' if row.p99_ms else ''} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
