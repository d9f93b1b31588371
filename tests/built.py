"""The built executable for tests: built once for each state of what it is made of, whoever asks first.

Each state keeps its own files under build/tested, so that a server that runs goes on running while another state is
built; the newest few are kept.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.servers import ROOT

BUILD = ROOT / "build"
KEPT = 3


def inputs() -> list[Path]:
    """Return every file that the executable depends on."""
    folders = [ROOT / "imgpro", ROOT / "packaging", ROOT / "requirements"]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found += [ROOT / "imgpro.spec", ROOT / "LICENSE", ROOT / "pyproject.toml"]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def checksum() -> str:
    """Return what tells one state of the inputs from another."""
    digest = hashlib.sha256(f"{sys.version} {sys.prefix}".encode())
    for path in inputs():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


@functools.cache
def _state() -> Path:
    """Return the folder with what was built from the files as they are now; build it if nobody has yet."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "tested.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers wait here, and find it done
        folder = BUILD / "tested" / checksum()
        if not (folder / "done").exists():
            _build(folder)
        (folder / "done").touch()
        return folder


def _build(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "packaging" / "build.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "Building needs Debian" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "dist").mkdir(parents=True)
    for path in (ROOT / "dist").iterdir():
        if path.is_file() and not path.name.startswith("."):
            os.link(path, folder / "dist" / path.name)
    made = next(path for path in (BUILD / "made").iterdir() if path.is_dir())
    shutil.copytree(made, folder / made.name, symlinks=True, copy_function=os.link)
    states = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in states[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def built_executable() -> Path:
    """Return the executable that is one file."""
    return _state() / "dist" / "imgpro"


def built_folder() -> Path:
    """Return the executable in the folder that is the same program."""
    return next(path for path in _state().glob("imgpro-*") if path.is_dir()) / "imgpro"


def built_archive() -> Path:
    """Return the archive of that folder."""
    return next((_state() / "dist").glob("imgpro-*.tar.gz"))


def bare(place: Path, **more: str) -> dict[str, str]:
    """Return an environment with nothing in it that a program could lean on."""
    return {"PATH": "", "HOME": "/nonexistent", "TMPDIR": str(place), **more}


def ask(
    program: Path | str, *args: str, env: Mapping[str, str], prefix: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a command of the executable that ends by itself."""
    return subprocess.run(
        [*prefix, str(program), *args],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
