"""What a start of this version would do to the data, tried on a copy: the settings, the schema, the room it takes."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from imgpro import __version__
from imgpro.cli import advice
from imgpro.cli.options import data_dir
from imgpro.cli.words import plain
from imgpro.errors import (
    Action,
    ConfigError,
    DataDirMissing,
    DataUnusable,
    ImgproError,
    OperatorError,
    StorageFault,
    StorageFull,
)
from imgpro.forms import show_bytes
from imgpro.sources import Gathered
from imgpro.store import copies, dry_run, layout, room, schema
from imgpro.store.dry_run import Before, Outcome
from imgpro.store.holder import Holder, holder

_GRAVEST: Final = (65, 74, 78, 10)  # which exit code is told where several would do


class Problem(msgspec.Struct, frozen=True):
    """What stands against an upgrade: the exit code that a start would end with, what it is, and what to do."""

    exit_code: int
    what: str
    fix: str = ""


class Report(msgspec.Struct):
    """What was found. What could not be looked at is None."""

    config_file: str | None = None
    server: Holder | None = None
    before: Before | None = None
    outcome: Outcome | None = None
    problems: list[Problem] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if a start would go well."""
        found = {problem.exit_code for problem in self.problems}
        return next((code for code in _GRAVEST if code in found), max(found, default=0))


def rehearse(gathered: Gathered, tmp: Path | None) -> Report:
    """Check the settings, try the migration on a copy, and return what was found. Changes nothing of the data."""
    report = Report(str(gathered.loaded.config_file) if gathered.loaded.config_file else None)
    _check_settings(gathered, report)
    try:
        _try(gathered, tmp, report)
    except ImgproError as problem:
        report.problems.append(Problem(problem.exit_code, problem.message, problem.action.label or ""))
    return report


def print_report(report: Report, *, as_json: bool) -> None:
    """Print what was found on standard output, and for people what stands against an upgrade on standard error."""
    if as_json:
        click.echo(json.dumps(_as_dict(report), indent=2))
        return
    for line in _lines(report):
        click.echo(plain(line))
    for found in report.problems:
        said = f"NO: {found.what}\nTry: {found.fix}" if found.fix else f"NO: {found.what}"
        click.echo("\n".join(map(plain, said.split("\n"))), err=True)


def _check_settings(gathered: Gathered, report: Report) -> None:
    findings = [*gathered.findings]
    if not gathered.errors:
        findings += advice.certificate(gathered.loaded.settings.server)
    for found in findings:
        if found.level in ("error", "unknown"):
            report.problems.append(Problem(ConfigError.exit_code, found.text))
        else:
            report.warnings.append(found.text)


def _try(gathered: Gathered, tmp: Path | None, report: Report) -> None:
    """Look at the data and try the migration on a copy. Raises what a start would raise."""
    data = Path(os.path.abspath(data_dir(gathered.loaded)))
    home = Path(os.path.abspath(Path(gathered.loaded.settings.storage.database_dir or data).expanduser()))
    database, backups = home / layout.DATABASE_NAME, data / "backups"
    if data.exists() and not os.access(data, os.R_OK | os.X_OK):
        raise OperatorError(
            f"{data} is not for this user to see.", Action("fix", label="sudo imgpro upgrade-check ...")
        )
    marker = layout.read_marker(data)
    if not database.exists():
        raise DataDirMissing(
            f"There is no database at {database}.", Action("fix", label="Name its place with --db-dir")
        )
    with contextlib.suppress(OSError):
        report.server = holder(data)
    for place in {data, home}:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            what = f"{place} lies on a file system that is mounted read-only."
            report.problems.append(Problem(StorageFault.exit_code, what, "Mount it writable"))
    steps = schema.packaged_migrations()
    with _workplace(tmp, data, room.database_bytes(database)) as folder:
        copy = folder / layout.DATABASE_NAME
        began = time.monotonic()
        report.before = before = dry_run.look(database, backups, copy, steps)
        copy_s = time.monotonic() - began
        lacking = before.lacking
        if lacking is not None:
            problem = copies.no_room(*lacking)
            report.problems.append(Problem(problem.exit_code, problem.message, problem.action.label or ""))
        report.outcome = dry_run.carry_out(copy, before, copy_s, steps, marker.instance_id)
    report.problems += [Problem(DataUnusable.exit_code, problem) for problem in report.outcome.problems]


@contextlib.contextmanager
def _workplace(chosen: Path | None, data: Path, database_bytes: int) -> Iterator[Path]:
    """Lend a folder with room for the trial that only this user can look into. Raises StorageFull."""
    wanted = dry_run.working_bytes(database_bytes)
    places = [chosen] if chosen is not None else [Path(tempfile.gettempdir()), Path("/var/tmp")]  # noqa: S108 - private inside
    for place in places:
        outside = not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(data))
        with contextlib.suppress(OSError):
            found = os.statvfs(place)
            if outside and found.f_bavail * found.f_frsize >= wanted and os.access(place, os.W_OK):
                with tempfile.TemporaryDirectory(prefix="imgpro-upgrade-", dir=place) as folder:
                    yield Path(folder)
                return
    raise StorageFull(
        f"There is no room to try it in {' or '.join(map(str, places))}: {show_bytes(wanted)} are needed.",
        Action("fix", label="--tmp DIR on a disk with room, outside of the data directory"),
    )


def _lines(report: Report) -> Iterator[str]:
    """Yield the report for a person."""
    yield f"settings  {report.config_file or 'no configuration file'}"
    for warning in report.warnings:
        yield f"          warning: {warning}"
    if report.server is not None:
        yield f"server    runs{f' as process {report.server.pid}' if report.server.pid else ''}; it is not disturbed"
    before, outcome = report.before, report.outcome
    if before is not None:
        steps = f"to {before.target}: {', '.join(before.steps)}" if before.steps else "as this version has it"
        yield f"schema    {before.schema}, {steps}"
        for place, wanted in before.wanted.items() if before.steps else ():
            yield f"room      {show_bytes(wanted)} wanted in {place}, {show_bytes(_free(place))} free"
    if outcome is not None and not outcome.problems:
        rows = sum(outcome.rows.values())
        done = f", migrated in {outcome.migrate_s:.1f} s" if before and before.steps else ""
        yield f"trial     copied in {outcome.copy_s:.1f} s{done}; sound; all {rows:,} rows are there"
    if not report.problems:
        yield f"ready     for imgpro {__version__}: stop the server, exchange the program, start it"


def _as_dict(report: Report) -> dict[str, Any]:
    before, outcome = report.before, report.outcome
    return {
        "ready": not report.problems,
        "exit_code": report.exit_code,
        "version": __version__,
        "config_file": report.config_file,
        "server_pid": report.server.pid if report.server else None,
        "schema": before and {"found": before.schema, "target": before.target, "steps": list(before.steps)},
        "database_bytes": before and before.bytes,
        "room": before
        and [
            {"path": str(place), "wanted_bytes": wanted, "free_bytes": _free(place)}
            for place, wanted in (before.wanted.items() if before.steps else ())
        ],
        "trial": outcome and msgspec.structs.asdict(outcome),
        "warnings": report.warnings,
        "problems": [msgspec.structs.asdict(problem) for problem in report.problems],
    }


def _free(place: Path) -> int:
    return room.file_system(place).free_bytes
