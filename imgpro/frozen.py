"""What differs when this program is one executable: where it lies, and what it must not pass on to others.

Knows PyInstaller's conventions and nothing of imgpro.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

OBJECT_STORES: Final = "obstore/_obstore.abi3.so"
FOLDED: Final = ".gz"

# The loader points these into the bundle: a program of the system that inherits them loads our libraries, not its own.
_LOADER_VARIABLES: Final = ("LD_LIBRARY_PATH",)
# By these a child of ours finds the unpacked program.
_KEPT_VARIABLES: Final = ("_PYI_", *_LOADER_VARIABLES)


def is_frozen() -> bool:
    """Tell whether this program was packed by PyInstaller, as one file or as a folder."""
    return bool(getattr(sys, "frozen", False))


def unpacked() -> Path | None:
    """Return the temporary folder that this one-file executable was unpacked into; None for every other kind."""
    folder = Path(getattr(sys, "_MEIPASS", ""))
    return folder if is_frozen() and folder.name.startswith("_MEI") else None


def unfold(library: str) -> None:
    """Put a library into place that the one-file executable brings packed: 15 MB at each start would be felt.

    Raises OSError where there is no room for it.
    """
    folder = unpacked()
    if folder is None or (folder / library).exists():
        return
    import gzip
    import secrets
    import shutil

    target = folder / library
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with gzip.open(folder / f"{library}{FOLDED}") as packed, new.open("xb") as file:
        shutil.copyfileobj(packed, file, 1024 * 1024)
    new.chmod(0o700)
    new.rename(target)


def kind() -> Literal["file", "folder", "source"]:
    """Tell how this program was delivered."""
    if not is_frozen():
        return "source"
    return "folder" if unpacked() is None else "file"


def running_file() -> str:
    """Return a path of the file that this process runs.

    It leads there even after an upgrade has put another file in its place; in a folder, where the libraries beside it
    were replaced as well, it leads to the new one.
    """
    try:
        replaced = os.readlink("/proc/self/exe").endswith(" (deleted)")
    except OSError:
        replaced = False
    return f"/proc/{os.getpid()}/exe" if replaced and unpacked() is not None else sys.executable


def loader_environment() -> dict[str, str]:
    """Return what a child that runs `running_file` needs in order not to unpack itself again."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
    if running_file() != sys.executable:
        found["_PYI_ARCHIVE_FILE"] = "/proc/self/exe"  # what the child will take itself to be
    return found


def command() -> list[str]:
    """Return the words that start this program, by absolute paths."""
    return [sys.executable] if is_frozen() else [sys.executable, "-m", "imgpro"]


def system_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for programs of the system: as it was before the loader changed it for ours."""
    found = dict(os.environ if environ is None else environ)
    if not is_frozen():
        return found
    for name in _LOADER_VARIABLES:
        original = found.pop(f"{name}_ORIG", None)
        found.pop(name, None)
        if original is not None:
            found[name] = original
    return {name: value for name, value in found.items() if not name.startswith("_PYI_")}
