"""What an export costs: `imgpro export` beside `cp` of the same originals, and what visitors feel meanwhile.

`python -m bench.exporting` prints a table: pictures and megabytes a second, the most memory that the command held, and
the p99 of a picture's delivery beside that of a quiet server.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

from bench import servers
from bench.backups import command, size_of, timed
from bench.moving import MIB, QUIET_S, Row, lay_out, run, upload
from bench.visitors import Visitors


def measure(work: Path, count: int) -> tuple[list[Row], int]:
    """Return the rows, and the bytes of the originals."""
    server = servers.Imgpro(work, work)
    data = work / "imgpro/data"
    out, plain = work / "out", work / "plain"
    there = ["export", str(out), "--data", str(data)]
    server.start()
    try:
        views = asyncio.run(upload(server, lay_out(work / "files", count, 5)))[-100:]
        with Visitors(server.port, views) as quiet:
            time.sleep(QUIET_S)
        rows = [Row("nothing", 0, QUIET_S, 0, quiet.p99_ms)]
        rows.append(run("export, somebody looks", count, server, views, there))
        rows.append(run("the same again: all there", count, server, views, there))
        shutil.rmtree(out)
        rows.append(Row("export, nobody looks", count, *timed(command(*there))))
    finally:
        server.stop()
    rows.append(Row("no server, no gallery", count, *timed(command("export", str(plain), *there[2:], "--no-gallery"))))
    shutil.rmtree(data / "cache")
    shutil.rmtree(out)
    rows.append(Row("no server, no cache: thumbnails are made", count, *timed(command(*there))))
    rows.append(
        Row("cp -r of the originals, then sync", count, *timed(["sh", "-c", f"cp -r {data}/blobs {work}/cp && sync"]))
    )
    return rows, size_of(data / "blobs")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.exporting", description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    options = parser.parse_args()
    os.environ.pop("IMGPRO_DATA", None)
    with tempfile.TemporaryDirectory(prefix="imgpro-bench-", ignore_cleanup_errors=True) as temporary:
        rows, size = measure(Path(temporary), options.pictures)
    print("| what | pictures/s | MB/s | peak MB | p99 ms |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        speed = f"{row.per_s:,.0f} | {size / MIB / row.seconds:,.0f}" if row.pictures else " | "
        peak = f"{row.peak_bytes / MIB:.0f}" if row.peak_bytes else ""
        print(f"| {row.what} | {speed} | {peak} | {f'{row.p99_ms:.2f}' if row.p99_ms else ''} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
