"""`imgpro upgrade-check`: what a start of this version would do to the data, tried on a copy."""

import signal
import sys
from pathlib import Path

import click

from imgpro.cli.options import config_option, data_option
from imgpro.sources import gather


@click.command("upgrade-check")
@data_option
@click.option("--db-dir", metavar="DIR", help="Directory of the database, where the data is on a network disk.")
@click.option("--tmp", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to try it.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@config_option
def upgrade_check(data: str | None, db_dir: str | None, tmp: Path | None, as_json: bool, config: Path | None) -> None:
    """Tell what starting THIS version would do to the data, while the old version still runs.

    Settings are checked, the database is copied elsewhere and migrated there, and what comes out is held against what
    was there. Nothing of the data directory is changed. Exits 0 if it would go well; else as the start would.

    Example: ./imgpro-new upgrade-check --data /srv/img
    """
    from imgpro.cli import rehearsal  # other commands need no database

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the copy has to go, whatever comes
    report = rehearsal.rehearse(gather({"storage.data": data, "storage.database_dir": db_dir}, config), tmp)
    rehearsal.print_report(report, as_json=as_json)
    sys.exit(report.exit_code)
