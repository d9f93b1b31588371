"""The licences of the Rust crates in a wheel that brings no texts, by the list (CycloneDX) that it does bring."""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Final

import msgspec

TEXTS: Final = Path(__file__).resolve().parent / "texts"
COMMON: Final = Path("/usr/share/common-licenses")
_LIST: Final = ".cyclonedx.json"
# Where a crate may be taken under one of several licences, the first of these that it names.
_PREFERRED: Final = (
    "MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "ISC", "Unicode-3.0", "CC0-1.0",
    "Apache-2.0 WITH LLVM-exception",
)  # fmt: skip


def texts(package: Distribution) -> tuple[tuple[str, str], ...]:
    """Return the crates of a package, each with its authors and licence, and the texts of these; none without a list.

    Stops the build at a crate under a licence that nobody has judged.
    """
    lists = [file for file in package.files or () if file.name.endswith(_LIST)]
    if not lists:
        return ()
    crates = [crate for file in lists for crate in msgspec.json.decode(file.read_text("utf-8"))["components"]]
    rows, used = [f"{package.metadata['Name']} and the crates that were compiled into it:", ""], {_own(package)}
    for crate in sorted(crates, key=lambda crate: (crate["name"], crate["version"])):
        expression = _expression(crate)
        used |= _chosen(expression, f"{crate['name']} {crate['version']} in {package.metadata['Name']}")
        by = f", by {crate['author']}" if crate.get("author") else ""
        rows.append(f"{crate['name']} {crate['version']} ({expression}){by}")
    found = [("crates", "\n".join(rows))]
    names = sorted({name.partition(" WITH ")[0] for name in used})
    return (*found, *((name, _text(name)) for name in names))


def _own(package: Distribution) -> str:
    """Return the licence of the package itself, which says it by a classifier."""
    if any("MIT License" in line for line in package.metadata.get_all("Classifier") or ()):
        return "MIT"
    sys.exit(f"build: nobody knows the licence of {package.metadata['Name']}")


def _expression(crate: dict[str, Any]) -> str:
    found: Iterable[dict[str, Any]] = crate.get("licenses", ())
    words = [each.get("expression") or each["license"].get("id") or each["license"].get("name", "") for each in found]
    return re.sub(r"\s+", " ", " AND ".join(words))


def _chosen(expression: str, where: str) -> set[str]:
    """Return the licences under which a crate is taken: of each choice one, of what it adds up all."""
    chosen = set()
    for part in re.split(r" AND (?![^(]*\))", expression):
        choices = part.strip("()").split(" OR ")
        best = next((name for name in _PREFERRED if name in choices), None)
        if best is None:
            sys.exit(f"build: {where} is under {expression or 'no licence'}: judge it in packaging/crates.py")
        chosen.add(best)
    return chosen


def _text(name: str) -> str:
    own = TEXTS / f"{name}.txt"
    return (own if own.exists() else COMMON / name).read_text("utf-8")
