"""`imgpro import` as a person runs it, folders to bring, and what came of them."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from imgpro.cli.moving_carrier import Carrier
from imgpro.flows.bring_in import Incoming
from imgpro.sources import load
from tests.pictures import encoded
from tests.servers import ROOT


class Run(msgspec.Struct):
    """How a command ended and what it said; `lines` are those of its report."""

    code: int
    out: str
    err: str
    lines: dict[str, dict[str, Any]]

    def outcomes(self, outcome: str) -> list[str]:
        """Return the items with an outcome, in order."""
        return sorted(item for item, line in self.lines.items() if line["outcome"] == outcome)

    def reason(self, item: str) -> str:
        """Return why an item was left out."""
        found: str = self.lines[item]["reason"]
        return found


def command(data: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the command line of an import, and its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    line = [sys.executable, "-m", "imgpro", "import", *map(os.fspath, args), "--data", str(data)]
    return line, {**inherited, **(env or {})}


def brought(data: Path, *args: str | Path, code: int = 0, env: Mapping[str, str] | None = None, text: str = "") -> Run:
    """Run an import to its end, which must be this."""
    report = data.parent / f"report-{time.monotonic_ns()}"
    line, environment = command(data, *args, "--report", report, env=env)
    done = subprocess.run(line, env=environment, cwd=ROOT, input=text.encode(), capture_output=True, timeout=300)
    told = report.read_text().splitlines() if report.exists() else []
    lines = {row["item"]: row for row in map(json.loads, told)}
    assert len(lines) == len(told), "an item was told of twice"
    run = Run(done.returncode, done.stdout.decode(), done.stderr.decode(), lines)
    assert run.code == code, run
    return run


def dots(folder: Path, count: int, *, begin: int = 0) -> list[str]:
    """Write so many small pictures, each like no other; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"dot-{number:04}.png" for number in range(begin, begin + count)]
    for number, name in enumerate(names, begin):
        (folder / name).write_bytes(dot(number))
    return names


def dot(number: int) -> bytes:
    """Return a small PNG that is like no other; it is stored as it is sent."""
    return encoded(Image.new("RGB", (32, 32), (number % 256, number // 256, 77)), "PNG")


def rows(data: Path, sql: str, *values: Any) -> list[Any]:
    """Look into a database that a server may be writing to."""
    conn = sqlite3.connect(f"file:{data / 'imgpro.db'}?mode=ro", uri=True, timeout=20)
    try:
        return conn.execute(sql, values).fetchall()
    finally:
        conn.close()


def handed_over(data: Path, body: bytes, **said: Any) -> str:
    """Hand one picture to a running server as the command does, and return its id."""
    incoming = Incoming(**{"source": "a test", "item": str(time.monotonic_ns()), "account": None, **said})
    with Carrier(load({}, None, {}), data) as carrier:
        answer = carrier.bring(incoming, (len(body), lambda: [body]))
    found: str = answer["id"]
    return found
