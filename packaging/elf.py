"""Prepares shared libraries for the bundle: no debugging data, no paths of the machine that compiled them.

Knows the ELF format as far as that needs, and nothing of imgpro.
"""

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_DT_STRTAB: Final = 5
_DT_RPATH: Final = 15
_DT_RUNPATH: Final = 29
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2


def prepared(source: Path, folder: Path, dest: str) -> Path:
    """Return a copy of a library below `folder` without what does not belong into a bundle.

    Debugging data and the build id differ with the folder that a library was compiled in, so that without them two
    builds are the same. A library that a wheel brought along is left as it is: its tables were moved by the tool that
    put it there, and stripping may tear them apart.
    """
    target = (folder / dest).with_name(source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)
    if not _is_patched(source):
        command = ["objcopy", "--strip-debug", "--remove-section=.note.gnu.build-id", "--remove-section=.comment"]
        subprocess.run([*command, str(target)], check=True)  # noqa: S603
        target.write_bytes(without_search_path(target.read_bytes()))
    return target


def _is_patched(source: Path) -> bool:
    """Tell whether the wheel's maker has moved the tables of this library."""
    return source.parent.name.endswith(".libs") or b"$ORIGIN" in source.read_bytes()


def without_search_path(library: bytes) -> bytes:
    """Return a 64-bit library whose search path for other libraries (RPATH, RUNPATH) is empty."""
    if library[:6] != b"\x7fELF\x02\x01":
        return library
    out = bytearray(library)
    start, size, count = *struct.unpack_from("<Q", out, 32), *struct.unpack_from("<HH", out, 54)
    heads = [struct.unpack_from("<IIQQQQ", out, start + i * size) for i in range(count)]
    loads = [(address, offset, length) for kind, _, offset, address, _, length in heads if kind == _PT_LOAD]
    for kind, _, offset, _, _, length in heads:
        if kind != _PT_DYNAMIC:
            continue
        entries = [struct.unpack_from("<QQ", out, offset + i) for i in range(0, length, 16)]
        table = next(value for tag, value in entries if tag == _DT_STRTAB)
        base = next(table - address + place for address, place, length in loads if address <= table < address + length)
        for tag, value in entries:
            if tag in (_DT_RPATH, _DT_RUNPATH):
                end = out.index(0, base + value)
                out[base + value : end] = bytes(end - base - value)
    return bytes(out)


def needed_glibc(files: list[Path]) -> str:
    """Return the oldest glibc that all these files run with, e.g. "2.36"."""
    found = {match for file in files for match in re.findall(rb"\0GLIBC_(\d+\.\d+)", file.read_bytes())}
    newest: tuple[int, ...] = max((tuple(map(int, version.split(b"."))) for version in found), default=(0,))
    return ".".join(map(str, newest))
