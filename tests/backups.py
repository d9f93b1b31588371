"""What tests of backups share: the command, boxes with pictures in them, and harm that is done to files."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from click.testing import CliRunner

from imgpro.cli.commands import cli
from tests.law import check_disk
from tests.load import small_png
from tests.servers import ROOT, UNLIMITED, Server, blobs, running

Pictures = Mapping[str, tuple[str, bytes]]
"""Path and bytes of pictures by their id."""


class Done(msgspec.Struct, frozen=True):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def imgpro(*args: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end, here: starting Python a hundred times would be most of the time."""
    found = CliRunner().invoke(cli, [str(arg) for arg in args], env=dict(env or {}))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Done(found.exit_code, found.stdout, found.stderr)


def imgpro_apart(*args: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """Run a command in a process of its own, which may be killed or become another user."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IMGPRO_")}
    done = subprocess.run(
        [sys.executable, "-m", "imgpro", *map(str, args)],
        cwd=ROOT,
        env={**inherited, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def backup(*args: str | Path, code: int = 0) -> Done:
    """Run a command about backups and see how it ends."""
    done = imgpro("backup", *args)
    assert done.returncode == code, (args, done)
    if not code:
        assert done.stderr == "", done
    return done


def answer(*args: str | Path, code: int = 0) -> Any:
    """Run a command about backups and return what it says as JSON."""
    return json.loads(backup(*args, "--json", code=code).stdout)


def box(data: Path, pictures: int = 6, *, seed: int = 1) -> Pictures:
    """Fill a data directory and stop; return path and bytes of each picture by its id."""
    dice = Random(seed)
    with running(data, UNLIMITED) as server:
        key = server.new_key("ann@example.org")
        found = {}
        for number in range(pictures):
            body = small_png(dice)
            made = server.must_upload(body, f"p{number}.png", key=key, tags="sea")
            found[made["id"]] = made["src"].removeprefix(server.base), body
        assert server.stop() == 0
    return found


def check_box(data: Path, pictures: Pictures, database_dir: Path | None = None) -> None:
    """Check that a restored box holds exactly these pictures, and serves them."""
    args = ["--db-dir", str(database_dir)] if database_dir else []
    with running(data, UNLIMITED, *args) as server:
        check_served(server, pictures)
        assert server.stop() == 0
    assert check_disk(data, database_dir) == 0
    assert len(blobs(data)) == len(pictures)


def check_served(server: Server, pictures: Pictures) -> None:
    for path, body in pictures.values():
        found = server.get(path)
        assert (found.status, found.body) == (200, body), path


def flip(path: Path, at: int = 100) -> None:
    """Do to a file what a tired disk does."""
    path.chmod(0o640)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 0x04
    path.write_bytes(content)


def stored(place: Path) -> list[Path]:
    """Return the originals at a place for backups."""
    return sorted(path for path in (place / "blobs").rglob("*") if path.is_file())
