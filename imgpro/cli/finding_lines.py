"""How the command line shows what a look at the data has found: a line each, as it is read from the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from imgpro.cli.words import plain
from imgpro.store.findings import Finding, read_findings

FIRST = 3  # pictures that a line names
TOLD = ("imgpro.flows.healing", "imgpro.flows.scrub", "imgpro.flows.checkup")  # what these log, the lines say


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print what an errand has found; as JSON one object with everything in it, written as it is read."""
    found = read_findings(Path(result.pop("findings")))
    if not as_json:
        for finding in found:
            click.echo(plain(line(finding)))
        return
    click.echo(json.dumps(result)[:-1] + ', "findings": [', nl=False)
    for part in _parts(found):
        click.echo(part, nl=False)
    click.echo("]}")


def line(finding: Finding) -> str:
    """Return one finding in words."""
    words = f"{finding.kind}  {finding.where}: {finding.what}"
    if finding.count:
        names = [f"{name} {image_id}" for image_id, name in finding.pictures]
        more = finding.count - len(names)
        words += f" ({', '.join(names)}{f' and {more:,} more' if more else ''})"
    if finding.done:
        return f"{words}; {finding.done}"
    return f"{words}. Try: {finding.todo}" if finding.todo else words


def _parts(found: Iterator[Finding]) -> Iterator[str]:
    comma = ""
    for finding in found:
        pictures = [{"id": image_id, "name": name} for image_id, name in finding.pictures]
        yield comma + json.dumps({**msgspec.structs.asdict(finding), "pictures": pictures})
        comma = ", "
