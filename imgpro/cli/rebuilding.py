"""`imgpro rebuild`: make a lost database again from the journal beside the pictures."""

import json
import os
from pathlib import Path

import click

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint, plain
from imgpro.errors import Action, DoneInPart
from imgpro.forms import counted
from imgpro.sources import load


@click.command("rebuild")
@data_option
@click.option("--db-dir", metavar="DIR", help="Directory of the database, where it is not in the data directory.")
@click.option("--journal", metavar="DIR", help="Make it from this journal instead, for example one that was set aside.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@click.option("--force", is_flag=True, help="Also where the database is sound, or secret.key is gone.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def rebuild(
    data: str | None,
    db_dir: str | None,
    journal: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Make a lost or damaged database again from the journal beside the pictures. The server must be stopped.

    Also where an older database was put back. Accounts, keys, pictures and links are what they were; people sign in
    again. The database that was there is kept beside the new one. Exits 3 if something is lost, and names it.

    Example: imgpro rebuild --data /srv/img
    """
    from imgpro.cli import rebuild_work  # loads SQLite, which a command that only sends pictures does not wait for

    loaded = load({"storage.data": data, "storage.database_dir": db_dir}, config)
    root = Path(os.path.abspath(data_dir(loaded)))
    home = Path(os.path.abspath(Path(loaded.settings.storage.database_dir or root).expanduser()))
    with ProgressLine(quiet=as_json) as progress:

        def show(stage: str, done: int, total: int, unit: str) -> None:
            progress({"stage": stage, "done": done, "total": total, "unit": unit})

        other = Path(os.path.abspath(Path(journal).expanduser())) if journal is not None else None
        found = rebuild_work.rebuild(root, home, show, dry_run=dry_run, force=force, journal=other)
    if as_json:
        click.echo(json.dumps({**rebuild_work.plain(found), "whole": found.whole, "dry_run": dry_run}, indent=2))
    else:
        for line in rebuild_work.lines(found, root):
            click.echo(plain(line))
    pictures, accounts = counted(found.images, "picture"), counted(found.accounts, "account")
    counts = f"{pictures}, {accounts} and {counted(found.keys, 'key')}"
    if not found.whole:
        raise DoneInPart(
            f"{'There would be' if dry_run else 'There are'} {counts}; what is named above is not.",
            Action("fix", label=rebuild_work.way(found, root)),
        )
    hint(f"{counts} {'would be' if dry_run else 'are'} there{'' if dry_run else ' again'}.")
