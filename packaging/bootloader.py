"""Gets PyInstaller and compiles its bootloader with our launcher.c in it. Both are kept in build/ until they change."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
REQUIREMENTS: Final = HERE.parent / "requirements" / "pack.txt"
# Functions of the bootloader and of libc that launcher.c stands in for.
WRAPPED: Final = (
    "pyi_create_temporary_application_directory",
    "pyi_launch_initialize",
    "pyi_recursive_rmdir",
    "realpath",
    "__realpath_chk",
    "signal",
    "waitpid",
)


def packer(build: Path) -> Path:
    """Return a folder to put on PYTHONPATH: PyInstaller of the pinned version, with our bootloader.

    It is no part of the environment that imgpro runs in, so nothing that is installed there changes by building.
    """
    inputs = [REQUIREMENTS, HERE / "launcher.c", Path(__file__)]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in inputs) + sys.version.encode()).hexdigest()
    stamp = build / "packer.stamp"
    folder = build / "packer"
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == key:
        return folder
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    _pip(["install", "--target", str(folder), "--only-binary", ":all:", "-r", str(REQUIREMENTS)])
    _compile(_source(build, folder), folder)
    stamp.write_text(key)
    return folder


def _pip(words: list[str], path: Path | None = None) -> None:
    command = [sys.executable, "-m", "pip", words[0], "-q", "--no-deps", "--require-hashes", *words[1:]]
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    _run(command, environment, "PyInstaller could not be fetched")


def _run(command: list[str], environment: dict[str, str], failure: str, folder: Path | None = None) -> None:
    """Run a tool; only where it fails is there something to read."""
    done = subprocess.run(  # noqa: S603
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nbuild: {failure}")


def _source(build: Path, folder: Path) -> Path:
    """Return the unpacked source of PyInstaller, of the version and hash that the requirements pin."""
    pinned = re.search(r"^pyinstaller==(?:.*\\\n)+.*\n", REQUIREMENTS.read_text(), re.MULTILINE)
    assert pinned is not None
    target = build / "bootloader"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "pinned.txt").write_text(pinned[0])
    words = ["download", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(target)]
    _pip([*words, "-r", str(target / "pinned.txt")], folder)
    archive = next(target.glob("*.tar.gz"))
    _run(["tar", "-xzf", str(archive), "-C", str(target)], dict(os.environ), "its source could not be unpacked")
    return next(path for path in target.iterdir() if path.is_dir())


def _compile(source: Path, folder: Path) -> None:
    """Compile the bootloader and put it into the installed PyInstaller. zlib comes with its source, so that the
    executable needs nothing of the machine but the C library."""
    shutil.copy(HERE / "launcher.c", source / "bootloader" / "src" / "launcher.c")
    options = " ".join(f"-Wl,--wrap={name}" for name in WRAPPED) + " -Wl,--build-id=none"
    command = [sys.executable, "./waf", "configure", "build_release", "install_release", "--static-zlib"]
    environment = {name: value for name, value in os.environ.items() if name not in ("CFLAGS", "CPPFLAGS")}
    environment["LDFLAGS"] = options
    _run(command, environment, "the bootloader could not be compiled", source / "bootloader")
    made = next((source / "PyInstaller" / "bootloader").glob("Linux-*/run"))
    shutil.copy(made, folder / "PyInstaller" / "bootloader" / made.parent.name / "run")
    shutil.copy(source / "COPYING.txt", folder / "PyInstaller" / "COPYING.txt")
    header = (source / "bootloader" / "zlib" / "zlib.h").read_text("utf-8")
    (folder / "PyInstaller" / "zlib.txt").write_text(header[: header.index("*/")], "utf-8")
