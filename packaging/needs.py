"""What a folder of programs and libraries asks of the system that it runs on, as Debian names it."""

import re
import subprocess
from pathlib import Path
from typing import Final

from elf import needed_glibc

# Where a library that is not in the folder comes from. One that is not named here is an error: better at the build than
# on somebody's machine.
_PACKAGES: Final = {
    "libz.so.1": "zlib1g",
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
    "libcrypt.so.1": "libcrypt1",
}
_LIBC: Final = re.compile(r"(ld-linux[\w-]*|libc|libm|libdl|libpthread|librt|libutil|libresolv)\.so\.\d+")
_ARCHITECTURES: Final = {62: "amd64", 183: "arm64", 40: "armhf", 243: "riscv64"}  # by e_machine of elf.h


def architecture(program: Path) -> str:
    """Return Debian's name of the machine that a program is for. Raises ValueError."""
    head = program.read_bytes()[:20]
    machine = int.from_bytes(head[18:20], "little")
    if head[:4] != b"\x7fELF" or machine not in _ARCHITECTURES:
        raise ValueError(f"{program} is no program for a machine that is known here")
    return _ARCHITECTURES[machine]


def dependencies(folder: Path, program: Path) -> list[str]:
    """Return the packages that everything in `folder` needs; `program` starts before the folder's libraries are found.

    Raises ValueError for a library whose package is not known.
    """
    libraries = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".so" in path.name]
    inside = {path.name for path in libraries}
    wanted = _needed(_dump([program])) | (_needed(_dump(libraries)) - inside)
    unknown = sorted(name for name in wanted if not _LIBC.fullmatch(name) and name not in _PACKAGES)
    if unknown:
        raise ValueError(f"no package is known for {', '.join(unknown)}: name it in needs.py, or bundle the library")
    known = sorted({_PACKAGES[name] for name in wanted if name in _PACKAGES})
    return [f"libc6 (>= {needed_glibc([program, *libraries])})", *known]


def _needed(dump: str) -> set[str]:
    return set(re.findall(r"^\s+NEEDED\s+(\S+)$", dump, re.MULTILINE))


def _dump(paths: list[Path]) -> str:
    words = ["objdump", "--private-headers", *map(str, paths)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603
