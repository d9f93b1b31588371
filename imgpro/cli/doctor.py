"""`imgpro doctor` and `imgpro version --json`: what this machine offers, what is missing, and what that costs."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import click

from imgpro import __version__, frozen
from imgpro.cli import advice
from imgpro.cli.check_data import data_checks
from imgpro.cli.check_keeping import keeping_checks
from imgpro.cli.check_service import service_checks
from imgpro.cli.verdict import Check
from imgpro.forms import show_bytes
from imgpro.imaging import engine, sandbox
from imgpro.sources import Loaded
from imgpro.store import census
from imgpro.store.schema import SQLITE_VERSION

PARTS: Final = ("aiohttp", "uvloop", "aiosqlite", "blake3", "msgspec", "jinja2", "click", "obstore")
_SQLITE_NEEDS: Final = {"ENABLE_FTS5", "THREADSAFE=1"}
_MARKS: Final[dict[str, tuple[str, str]]] = {"green": ("ok", "green"), "yellow": ("!!", "yellow"), "red": ("NO", "red")}
_SIMD_MACHINES: Final = ("x86_64", "amd64")


def examine(loaded: Loaded, data: Path) -> list[Check]:
    """Look at everything that decides how well imgpro runs here. Changes nothing."""
    return [
        Check("imgpro", "green", _program()),
        _settings(loaded),
        *_engine(),
        _sandbox(),
        _sqlite(),
        _cores(loaded),
        *data_checks(loaded, data),
        *keeping_checks(loaded, data),
        *service_checks(loaded, data),
    ]


def versions() -> dict[str, Any]:
    """Return the versions of imgpro and its parts."""
    found = engine.describe()
    return {
        "imgpro": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "program": frozen.kind(),
        "engine": {"name": found.name, "version": found.version},
        "codecs": found.codecs,
        "sqlite": SQLITE_VERSION,
        "parts": {name: _version(name) for name in PARTS},
    }


def _program() -> str:
    words = f"{__version__}, Python {platform.python_version()}, {platform.machine()}"
    place = frozen.unpacked()
    return words if place is None else f"{words}, unpacked into {place.parent}"


def print_report(checks: list[Check]) -> None:
    """Print the report for a person."""
    for check in checks:
        mark, colour = _MARKS[check.state]
        click.echo(f"{click.style(mark, fg=colour, bold=True)}  {check.name:<11} {check.found}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(loaded: Loaded) -> Check:
    where = str(loaded.config_file) if loaded.config_file else "no configuration file"
    warnings = [*loaded.warnings, *(found.text for found in advice.unwise(loaded.settings))]
    if warnings:
        return Check("settings", "yellow", f"{where}; " + "; ".join(warnings))
    return Check("settings", "green", where)


def _engine() -> list[Check]:
    found, missing = engine.describe(), engine.missing()
    codecs = ", ".join(f"{name} {version}" for name, version in found.codecs.items() if version)
    checks = [Check("codecs", "red" if missing else "green", codecs + _missing_words(missing))]
    if found.name == "pillow-simd":
        words = (
            f"pillow-simd {found.version}: fastest; it lacks the security fixes of Pillow 12.2 and later, "
            "which is why decoding happens in sandboxed workers only"
        )
        return [Check("engine", "green", words), *checks]
    words = f"stock Pillow {found.version}: current security fixes"
    if platform.machine().lower() in _SIMD_MACHINES:
        words += "; transforms cost about 1.2 to 2 times the CPU of pillow-simd, which needs compiler and headers"
        return [Check("engine", "yellow", words), *checks]
    return [Check("engine", "green", words), *checks]


def _missing_words(missing: tuple[str, ...]) -> str:
    return f"; missing: {', '.join(missing)}" if missing else ""


def _sqlite() -> Check:
    options = census.compile_options()
    missing = sorted(_SQLITE_NEEDS - options)
    if missing:
        return Check("sqlite", "red", f"{SQLITE_VERSION}, built without {', '.join(missing)}")
    return Check("sqlite", "green", f"{SQLITE_VERSION}; only the writer checkpoints, so the WAL-reset bug cannot occur")


def _sandbox() -> Check:
    report = sandbox.describe()
    landlock = f"Landlock ABI {report.landlock_abi}" if report.landlock_abi else "no Landlock"
    words = f"{landlock}, {'seccomp' if report.seccomp else 'no seccomp'}"
    words += f", {'no new privileges' if report.no_new_privs else 'privileges not dropped'}"
    if report.denied:
        words += f"; refused to a worker: {', '.join(report.denied)}"
    if report.open:
        return Check("sandbox", "yellow", f"{words}; NOT refused: {', '.join(report.open)}")
    return Check("sandbox", "green", words)


def _cores(loaded: Loaded) -> Check:
    workers = loaded.settings.imaging.workers or os.cpu_count() or 1
    memory = show_bytes(loaded.settings.imaging.worker_memory_bytes)
    return Check("workers", "green", f"{workers}, each with at most {memory} of address space for a picture")
