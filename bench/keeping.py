"""What it costs to look after a million pictures, and to read originals again.

`python -m bench.keeping` prints a table. Check: a database of 1,000,000 pictures, each with its own original (of the
right length, without blocks on the disk), beside the least that any check has to do: SQLite's own look at its file,
and a walk over the same directories. Scrub: real photographs, beside a plain loop that reads and hashes the same files;
both find nothing in the page cache.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from bench import backups, lists, load, servers
from bench.backups import Keeper, Peak
from bench.pictures import PHOTOS, SOURCES, variant
from imgpro.appliance import Appliance
from imgpro.flows.errands import Progress
from imgpro.settings import Settings

MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, and its figures by name."""

    what: str
    figures: dict[str, float]

    def line(self) -> str:
        """Return it as a row of Markdown."""
        return f"| {self.what} | " + ", ".join(f"{name} {value:,.2f}" for name, value in self.figures.items()) + " |"


def _imgpro(data: Path, *arguments: str) -> tuple[float, int, dict[str, object]]:
    """Run a command to its end; return how long it took, the most memory it held, and its JSON."""
    program = [str(servers.ROOT / ".venv/bin/imgpro"), *arguments, "--json", "--data", str(data)]
    begun = time.perf_counter()
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process, Peak(lambda: process.pid) as peak:
        said, _ = process.communicate()
    found: dict[str, object] = json.loads(said)
    return time.perf_counter() - begun, peak.bytes, found


def _lay_out(data: Path) -> None:
    """Make the originals that the database names: as long as it says, without a byte in them."""
    with contextlib.closing(sqlite3.connect(data / "imgpro.db")) as conn:
        for digest, size in conn.execute("SELECT hex(digest), stored_bytes FROM blobs ORDER BY digest"):
            name = digest.lower()
            folder = data / "blobs" / name[:2] / name[2:4]
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o440)
            os.ftruncate(fd, size)
            os.fchmod(fd, 0o440)
            os.close(fd)


def _least(data: Path) -> tuple[float, float]:
    """Return the seconds of SQLite's own check and of a walk over all originals."""
    begun = time.perf_counter()
    with contextlib.closing(sqlite3.connect(f"{(data / 'imgpro.db').as_uri()}?mode=ro", uri=True)) as conn:
        conn.execute("PRAGMA quick_check").fetchall()
    checked = time.perf_counter()
    for folder, _, names in os.walk(data / "blobs"):
        for name in names:
            os.lstat(os.path.join(folder, name))
    return checked - begun, time.perf_counter() - checked


def check(work: Path) -> Iterator[Row]:
    """Hold a million pictures against their originals: alone, mended, deeply, and while the server serves others."""
    server = servers.Imgpro(PHOTOS, work)
    archive = lists.Archive(server.work / "data", shared=False)
    archive.make()
    _lay_out(archive.data)
    begun, _, found = _imgpro(archive.data, "check", "--repair")  # what was filled in by hand is counted again
    yield Row("check --repair, 1,000,000 pictures, the first time", {"s": begun, "found": float(str(found["found"]))})
    quick_s, walk_s = _least(archive.data)
    yield Row("the least: quick_check, walk", {"quick_check s": quick_s, "walk s": walk_s})
    seconds, peak, found = _imgpro(archive.data, "check")
    assert found["found"] == 0, found
    yield Row("check", {"s": seconds, "peak MB": peak / MIB, "of the least": seconds / (quick_s + walk_s)})
    server.start()
    try:
        name = SOURCES["12mp"]
        asyncio.run(server.upload_all([name]))
        paths = [f"/t/{server.ids[name]}.jpeg?size={size}" for size in "sml"]
        keeper = Keeper(server, archive.data, paths, 0)
        row = keeper.row("check", "check", lambda: {"repair": False, "deep": False})
        yield Row("check by the running server", {"s": row.seconds, **_while_served(row)})
    finally:
        server.stop()


def _plain(files: list[Path]) -> float:
    """Read and hash files one after the other; return the seconds."""
    begun = time.perf_counter()
    for path in files:
        hasher = blake3()
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(MIB):
                hasher.update(chunk)
        assert hasher.hexdigest() == path.name
    return time.perf_counter() - begun


def _forget(files: list[Path]) -> None:
    """Have the system forget what it holds of these files."""
    os.sync()
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


async def _scrubbed(data: Path, forgotten: list[Path]) -> tuple[float, dict[str, object]]:
    appliance = await Appliance.start(Settings(), data, serving=False)
    try:
        _forget(forgotten)
        begun = time.perf_counter()
        found = await appliance.scrub.errand({}, Progress())
        seconds = time.perf_counter() - begun
        Path(str(found["findings"])).unlink()
        return seconds, found
    finally:
        await appliance.close()


def scrub(work: Path, count: int, rounds: int) -> Iterator[Row]:
    """Read photographs again, by a scrub and by a plain loop in turn; then while the server serves others."""
    server = servers.Imgpro(PHOTOS, work)
    server.start()
    body = (PHOTOS / SOURCES["12mp"]).read_bytes()

    async def fill() -> list[str]:
        connection = load.Connection(server.port)
        ids = [await server.upload(connection, f"{n}.jpg", variant(body, n)) for n in range(count)]
        connection.close()
        return [f"/t/{one}.jpeg?size={size}" for one in ids[:20] for size in "sml"]

    paths = asyncio.run(fill())
    server.stop()
    files = sorted(path for path in (server.work / "data/blobs").rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    cases: tuple[tuple[str, list[Path]], ...] = (("from the disk", files), ("from memory", []))
    for name, forgotten in cases:
        plain, ours = [], []
        for _ in range(rounds):
            _forget(forgotten)
            plain.append(_plain(files))
            seconds, found = asyncio.run(_scrubbed(server.work / "data", forgotten))
            assert found["checked"] == len(files), found
            assert found["left"] == 0, found
            ours.append(seconds)
        least, seconds = statistics.median(plain), statistics.median(ours)
        figures = {"MB/s": size / seconds / 1e6, "plain BLAKE3 MB/s": size / least / 1e6}
        yield Row(f"scrub, {len(files)} photographs, {name}", {**figures, "speed of plain": least / seconds})
    server.start()
    try:
        yield from _felt(server, files, paths, size)
    finally:
        server.stop()


def _felt(server: servers.Imgpro, files: list[Path], paths: list[str], size: int) -> Iterator[Row]:
    keeper = Keeper(server, files[0].parents[3], paths, size)
    for name, rate in (("as fast as it goes", None), ("at 20 MiB/s, as the rolling round", 20 * MIB)):

        def values(rate: int | None = rate) -> dict[str, object]:
            _forget(files)
            return {"rest": False, "rate": rate}

        row = keeper.row(name, "scrub", values)
        yield Row(f"scrub by the running server, {name}", {"MB/s": size / row.seconds / 1e6, **_while_served(row)})


def _while_served(row: backups.Row) -> dict[str, float]:
    return {"server peak MB": row.peak_bytes / MIB, "p99 ms": row.p99_ms, "quiet p99 ms": row.quiet_p99_ms}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.keeping", description=__doc__)
    parser.add_argument("what", nargs="*", help="check, scrub (default: both)")
    parser.add_argument("--photographs", type=int, default=200, help="of about 3 MB each, for scrub")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| row | measured |\n| --- | --- |")
    for what in options.what or ("scrub", "check"):
        with tempfile.TemporaryDirectory(prefix="imgpro-keeping-", ignore_cleanup_errors=True) as temporary:
            work = Path(temporary)
            rows = check(work) if what == "check" else scrub(work, options.photographs, options.rounds)
            for row in rows:
                print(row.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
