"""`imgpro check`: hold database, originals and cache against each other."""

from pathlib import Path
from typing import Any

import click

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint
from imgpro.errors import Action, DataUnusable, OperatorError
from imgpro.forms import counted, show_bytes
from imgpro.sources import load


@click.command("check")
@data_option
@click.option("--repair", is_flag=True, help="Mend what can be mended; pictures are never deleted.")
@click.option("--deep", is_flag=True, help="Also read all originals (as `imgpro scrub`) and compare every word.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def check(data: str | None, repair: bool, deep: bool, as_json: bool, config: Path | None) -> None:
    """Hold database, originals, cache and the rest against each other; name what disagrees.

    Example: imgpro check --repair
    """
    from imgpro.cli import (  # load asyncio, which a command that only sends pictures does not wait for
        finding_lines,
        office,
    )

    loaded = load({"storage.data": data}, config)
    try:
        with ProgressLine(quiet=as_json) as progress:
            values = {"repair": repair, "deep": deep}
            result = office.errand(loaded, data_dir(loaded), "check", values, progress, told=finding_lines.TOLD)
    except DataUnusable as problem:
        if "imgpro rebuild" in (problem.action.label or ""):  # it says the way already
            raise
        ways = "imgpro rebuild makes the database anew from the journal; imgpro backup restore takes one from a backup"
        raise DataUnusable(problem.message, Action("fix", label=f"{problem.action.label}. Or: {ways}")) from problem
    found, left, broken = result["found"], result["left"], result["broken"]
    looked = f"{counted(result['images'], 'picture')}, {counted(result['blobs'], 'original')}"
    looked += f" of {show_bytes(result['bytes'])}"
    finding_lines.show(result, as_json=as_json)
    if left:
        hint(_of_backups(result))
        raise OperatorError(_words(found, left), Action("fix", label=_way(repair=repair, broken=broken)))
    hint(f"{looked}: {f'{found:,} found wrong and mended' if found else 'nothing is wrong'}.")
    hint(_of_backups(result))


def _of_backups(result: dict[str, Any]) -> str:
    from imgpro.flows.keeping import show_time  # as above

    made, tried = result.get("backup_made_ms"), result.get("backup_tried_ms")
    if made is None:
        return "No backup is known at the place that backup.to names: imgpro backup create"
    words = f"tried out {show_time(tried)}" if tried is not None else "never tried out"
    return f"Backups are not looked into here: the last good one is of {show_time(made)}, {words}. imgpro backup verify"


def _words(found: int, left: int) -> str:
    said = f"{found:,} things are wrong" if found > 1 else "One thing is wrong"
    return f"{said}." if found == left else f"{said}, {left:,} could not be mended."


def _way(*, repair: bool, broken: bool) -> str:
    if broken:
        return "imgpro rebuild, or imgpro backup restore"
    return "what each line says" if repair else "imgpro check --repair"
