"""`./run build`: one executable file, the same program as a folder in an archive, and their checksums, into dist/.

Run in the environment that imgpro itself runs in: what is tested is what is packed.
"""

import argparse
import fcntl
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
BUILD: Final = ROOT / "build"
DIST: Final = ROOT / "dist"

sys.path.insert(0, str(ROOT))

from bootloader import packer  # noqa: E402
from elf import needed_glibc  # noqa: E402

from imgpro import __version__  # noqa: E402

NAME: Final = f"imgpro-{__version__}-linux-{platform.machine()}"


def main() -> None:
    """Build everything, or stop with a sentence."""
    options = argparse.ArgumentParser(prog="./run build", description=__doc__)
    options.add_argument("--deb", action="store_true", help="also make a Debian package of the folder")
    wanted = options.parse_args()
    for tool in ("gcc", "objcopy", "dpkg-query"):
        if shutil.which(tool) is None:
            sys.exit(
                f"build: {tool} is not here. Building needs Debian or a system made from it, with gcc and binutils"
            )
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(_commit_time()))
    BUILD.mkdir(exist_ok=True)
    DIST.mkdir(exist_ok=True)
    lock = (BUILD / "build.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # until the end: two at once would write into each other's folders
    folder = packer(BUILD)
    made = _pack(folder)
    artefacts = [_place(made / "imgpro", DIST / "imgpro"), _archive(made / NAME)]
    if wanted.deb:
        artefacts += _deb(made / NAME)
    _write_sums(artefacts)
    floor = needed_glibc([path for path in made.rglob("*") if path.is_file() and not path.is_symlink()])
    for artefact in artefacts:
        print(f"{artefact.relative_to(ROOT)}  {artefact.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    print(f"needs glibc {floor} or newer", file=sys.stderr)


def _commit_time() -> int:
    """Return the time that files in the archives bear: the last commit's, so that all who build it agree."""
    command = ["git", "-c", "safe.directory=*", "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return 315_532_800  # no history here: 1980, the oldest that every archive format can say
    return int(done.stdout)


def _pack(folder: Path) -> Path:
    """Run PyInstaller and return the folder with its results."""
    made = BUILD / "made"
    shutil.rmtree(made, ignore_errors=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "IMGPRO_"))},
        "PYTHONPATH": str(folder),
        "PYTHONHASHSEED": "0",  # sets are written in the order of their hashes
        "PYINSTALLER_CONFIG_DIR": str(BUILD / "cache"),
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN"]
    places = ["--distpath", str(made), "--workpath", str(BUILD / "work")]
    log = BUILD / "pyinstaller.log"
    with log.open("w") as words:
        done = subprocess.run(  # noqa: S603
            [*command, *places, str(ROOT / "imgpro.spec")],
            cwd=ROOT, env=environment, stdout=words, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"{log.read_text()}\nbuild: PyInstaller failed")
    return made


def _place(source: Path, target: Path) -> Path:
    """Put a file where it belongs in one step: an older one may be running."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.copy2(source, fresh)
    fresh.replace(target)
    return target


def _archive(folder: Path) -> Path:
    """Pack the folder, the same way wherever and by whomever it is built."""
    shutil.copy2(ROOT / "LICENSE", folder / "LICENSE")
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    target = DIST / f"{folder.name}.tar.gz"
    fresh = target.with_name(f".{target.name}.new")
    with (
        fresh.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in [folder, *sorted(folder.rglob("*"))]:
            entry = archive.gettarinfo(path, path.relative_to(folder.parent).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = moment
            entry.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    fresh.replace(target)
    return target


def _deb(folder: Path) -> list[Path]:
    """Make the Debian package of the folder. packaging/deb.py prints the path of each file that it made."""
    command = [sys.executable, str(HERE / "deb.py"), "--folder", str(folder), "--dist", str(DIST)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit("build: the Debian package could not be made")
    return [Path(line) for line in done.stdout.splitlines()]


def _write_sums(artefacts: list[Path]) -> None:
    """Write SHA256SUMS, in the form that `sha256sum --check` reads, and print it."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in artefacts]
    (DIST / "SHA256SUMS").write_text("".join(lines))
    print("".join(lines), end="")


if __name__ == "__main__":
    main()
