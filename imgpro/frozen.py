"""What differs when this program is one executable: where it lies, and what it must not pass on to others.

Knows PyInstaller's conventions and nothing of imgpro.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# The loader points these into the bundle: a program of the system that inherits them loads our libraries, not its own.
_LOADER_VARIABLES: Final = ("LD_LIBRARY_PATH",)


def is_frozen() -> bool:
    """Tell whether this program was packed by PyInstaller, as one file or as a folder."""
    return bool(getattr(sys, "frozen", False))


def unpacked() -> Path | None:
    """Return the temporary folder that this one-file executable was unpacked into; None for every other kind."""
    folder = getattr(sys, "_MEIPASS", None)
    if not is_frozen() or folder is None or Path(folder).is_relative_to(Path(sys.executable).resolve().parent):
        return None
    return Path(folder)


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
