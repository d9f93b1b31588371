"""Collects the licences of everything that gets into the bundle, and stops the build at a part that nobody judged."""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import PyInstaller
from crates import COMMON, texts

from imgpro.cli.licences import INDEX, Part, installed, parts, plain

# Debian's packages that libraries may come from. Their copyright files name every licence of every source file, build
# scripts among them; this is the licence of the library itself.
DEBIAN: Final = {
    "libbrotli1": "MIT",
    "libbz2-1.0": "bzip2-1.0.6",
    "libcrypt1": "LGPL-2.1-or-later",
    "libdb5.3": "Sleepycat",
    "libexpat1": "MIT",
    "libffi8": "MIT",
    "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libjpeg62-turbo": "IJG AND BSD-3-Clause AND Zlib",
    "liblcms2-2": "MIT",
    "liblzma5": "0BSD",
    "libsqlite3-0": "blessing",
    "libssl3": "Apache-2.0",
    "libssl3t64": "Apache-2.0",
    "libstdc++6": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libuuid1": "BSD-3-Clause",
    "libwebp7": "BSD-3-Clause",
    "libwebpmux3": "BSD-3-Clause",
    "libwebpdemux2": "BSD-3-Clause",
    "libsharpyuv0": "BSD-3-Clause",
    "zlib1g": "Zlib",
}
# Libraries that a wheel brings along, by the beginning of the file's name, where the wheel's own texts only name them.
IN_WHEELS: Final = {"libheif": "LGPL-3.0-or-later", "libde265": "LGPL-3.0-or-later"}
TEXTS_OF: Final = {"LGPL-3.0-or-later": ("LGPL-3", "GPL-3"), "LGPL-2.1-or-later": ("LGPL-2.1",)}
# A licence that binds the whole of what it is linked into has no place here; one with an exception for that, or LGPL
# in a shared library that can be replaced, has.
_BINDING: Final = re.compile(r"(?<!L)GPL(?!.* WITH )|Sleepycat|SSPL", re.IGNORECASE)

Library = tuple[str, str, str]


def write(target: Path, libraries: Iterable[Library]) -> None:
    """Write the file that `imgpro licenses` reads in the executable. `libraries` as PyInstaller lists them."""
    found = [*map(_with_texts, installed()), *_of_libraries(libraries), *_bootloader()]
    for part in found:
        if _BINDING.search(part.licence):
            sys.exit(f"build: {part.name} is under {part.licence}, which must not get into the executable")
        if not any(text.strip() for _, text in part.texts):
            sys.exit(f"build: {part.name} has no licence text")
    target.mkdir(parents=True, exist_ok=True)
    (target / INDEX).write_bytes(msgspec.json.encode(sorted(found, key=lambda part: part.name)))


def _with_texts(part: Part) -> Part:
    """Return a part with its texts, where its wheel brings none but tells what it was compiled from."""
    if part.texts:
        return part
    return next(
        (
            msgspec.structs.replace(part, texts=texts(package))
            for package in parts()
            if plain(package.metadata["Name"]) == part.name
        ),
        part,
    )


def _of_libraries(libraries: Iterable[Library]) -> list[Part]:
    """Return the parts that shared libraries come from, as far as they are not those of a Python package."""
    packages: set[str] = set()
    inside: dict[str, str] = {}
    own = [Path(sysconfig.get_path(name)).resolve() for name in ("platlib", "stdlib")]
    for dest, source, kind in libraries:
        path = Path(source).resolve()
        if kind == "SYMLINK" or path.name.startswith("libpython"):
            continue
        if any(path.is_relative_to(folder) for folder in own):
            inside |= {name: dest for name in IN_WHEELS if path.name.startswith(name)}
            continue
        packages.add(_owner(path))
    return [*map(_debian, sorted(packages)), *(_in_wheel(name, inside[name]) for name in sorted(inside))]


def _owner(path: Path) -> str:
    """Return the Debian package that a file belongs to."""
    for name in (str(path), str(path).removeprefix("/usr")):  # /lib is a link to /usr/lib, and dpkg knows only one
        command = ["dpkg-query", "--search", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    sys.exit(f"build: {path} belongs to no package, so nobody can tell its licence")


def _debian(package: str) -> Part:
    if package not in DEBIAN:
        sys.exit(f"build: {package} is new in the executable: name its licence in packaging/licences.py")
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    text = Path(f"/usr/share/doc/{package}/copyright").read_text("utf-8", errors="replace")
    return Part(package, version, DEBIAN[package], (("copyright", text), *_common(DEBIAN[package])))


def _in_wheel(name: str, dest: str) -> Part:
    licence = IN_WHEELS[name]
    version = re.search(r"\.so\.([\d.]+)$", dest)
    return Part(name, version[1] if version else "", licence, tuple(_common(licence)))


def _common(licence: str) -> list[tuple[str, str]]:
    return [(name, (COMMON / name).read_text("utf-8")) for name in TEXTS_OF.get(licence, ())]


def _bootloader() -> list[Part]:
    """Return PyInstaller's bootloader, which starts the program, and the zlib in it."""
    text = Path(PyInstaller.__file__).with_name("COPYING.txt").read_text("utf-8")
    zlib = Path(PyInstaller.__file__).with_name("zlib.txt").read_text("utf-8")
    version = re.search(r"version ([\d.]+\d)", zlib)
    return [
        Part(
            "pyinstaller", PyInstaller.__version__, "GPL-2.0-or-later WITH Bootloader-exception", (("COPYING", text),)
        ),
        Part("zlib", version[1] if version else "", "Zlib", (("zlib.h", zlib),)),
    ]
