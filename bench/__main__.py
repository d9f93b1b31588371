"""`./run bench`: the whole table in under ten minutes, `--quick` in under two, or single rows."""

import argparse
import fnmatch
import os
import sys
import tempfile
import time
from pathlib import Path

from bench import pictures, report, rows, servers
from bench.figures import Bench, Figure

EPILOG = """rows: memory cached-30kb original-3mb first-view coalesce-200 upload-3mb
list-{page-1,page-10000,tags-all-2,q-common,...} (a million pictures; see bench/lists.py)
cold-{12mp,24mp}-{s,m,l}-{jpeg,webp} cold-shot-m-{png,webp}; patterns like 'cold-12mp-*' work"""
QUICK_ROWS = ("memory", "cached-30kb", "original-3mb", "first-view", "coalesce-200", "upload-3mb")
QUICK_COLD = ("cold-12mp-m-jpeg", "cold-24mp-l-webp", "cold-shot-m-png")
PEERS: list[type[servers.Server]] = [servers.Ipx, servers.Sharp, servers.Thumbor, servers.Nginx]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__, epilog=EPILOG)
    parser.add_argument("rows", nargs="*", help="rows to measure (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round")
    parser.add_argument("--seconds", type=float, help="length of one measurement")
    parser.add_argument("--rounds", type=int, help="measurements per server and row; the median counts")
    parser.add_argument("--peers", help="comma list out of ipx,sharp,thumbor,nginx (default: all that are there)")
    parser.add_argument("--no-imgpro", action="store_true", help="measure the peers alone")
    return parser.parse_args()


def chosen_peers(names: str | None) -> list[type[servers.Server]]:
    kinds = [kind for kind in PEERS if names is None or kind.name in names.split(",")]
    if any(kind is not servers.Nginx for kind in kinds):
        for failure in servers.install_peers():
            print(f"not measured: {failure}", file=sys.stderr)
    for kind in kinds:
        if needs := kind.missing():
            print(f"not measured: {kind.name}; it needs {needs}", file=sys.stderr)
    return [kind for kind in kinds if kind.missing() is None]


def main() -> int:
    options = arguments()
    if not pictures.present():
        print("The photographs to measure with are not there; nothing was measured.", file=sys.stderr)
        return 1
    patterns = options.rows or ([*QUICK_ROWS, *QUICK_COLD] if options.quick else ["*"])
    seconds = options.seconds or (1.5 if options.quick else 2.5)
    rounds = options.rounds or (1 if options.quick else 3)
    begun = time.monotonic()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="imgpro-bench-", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        os.chmod(work, 0o755)
        folder = work / "photos"
        folder.mkdir()
        names = pictures.lay_out(folder)
        peers = chosen_peers(options.peers)
        bench = Bench(folder, work, names, seconds, rounds, peers, not options.no_imgpro)
        print(report.HEADER, flush=True)
        for group in rows.GROUPS:
            for figure in group(bench, lambda row: any(fnmatch.fnmatch(row, pattern) for pattern in patterns)):
                figures.append(figure)
                print(report.line(figure), flush=True)
    path = report.write(figures)
    short = [figure for figure in figures if figure.met is False]
    spent = time.monotonic() - begun
    print(f"\n{len(figures)} figures in {spent:.0f} s, {len(short)} targets short; {path}")
    print("; ".join(f"{name} {value}" for name, value in report.machine().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
