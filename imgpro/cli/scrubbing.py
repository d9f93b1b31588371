"""`imgpro scrub`: read all originals again and find bytes that the disk has changed."""

from pathlib import Path

import click

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint
from imgpro.errors import Action, DoneInPart
from imgpro.forms import counted, show_bytes
from imgpro.sources import load


@click.command("scrub")
@data_option
@click.option("--rest", is_flag=True, help="Only what the round that is under way has not read yet.")
@click.option("--rate", metavar="BYTES", help="Most bytes read a second, e.g. 50MiB; without it as fast as it goes.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def scrub(data: str | None, rest: bool, rate: str | None, as_json: bool, config: Path | None) -> None:
    """Read all originals again; put back from a backup what the disk has changed or lost.

    Example: imgpro scrub --rate 50MiB
    """
    from imgpro.cli import (  # load asyncio, which a command that only sends pictures does not wait for
        finding_lines,
        office,
    )

    loaded = load({"storage.data": data, "scrub.max_rate_bytes": rate}, config)
    values = {"rest": rest, "rate": loaded.settings.scrub.max_rate_bytes if rate else None}
    with ProgressLine(quiet=as_json) as progress:
        result = office.errand(loaded, data_dir(loaded), "scrub", values, progress, told=finding_lines.TOLD)
    checked, size, healed, left = (result[name] for name in ("checked", "bytes", "healed", "left"))
    finding_lines.show(result, as_json=as_json)
    read = f"read again: {counted(checked, 'original')}, {show_bytes(size)}"
    if left:
        raise DoneInPart(
            f"{read}; {left:,} {'is' if left == 1 else 'are'} damaged and could not be put back. They are not served.",
            Action("fix", label="upload the same files again, or imgpro backup list; imgpro check names them"),
        )
    hint(f"{read}; {f'{healed:,} damaged and whole again' if healed else 'all are whole'}.")
