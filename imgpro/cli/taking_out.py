"""`imgpro export`: write pictures as files with their names, an index, and a gallery that opens from disk."""

from pathlib import Path

import click

from imgpro.cli.options import config_option, data_option
from imgpro.sources import load


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--account", "accounts", metavar="EMAIL", multiple=True, help="Pictures of this account; repeatable.")
@click.option("--public-only", is_flag=True, help="Leave private pictures out.")
@click.option("--namespace", metavar="NAME", help="Pictures in this namespace.")
@click.option("--tag", metavar="TAG", help="Pictures with this tag.")
@click.option("--no-addresses", is_flag=True, help="Call accounts by their ids: for an export that strangers will see.")
@click.option("--no-gallery", is_flag=True, help="Write the pictures and index.jsonl only.")
@click.option("--force", is_flag=True, help="Take a folder that holds other files, or an export of other pictures.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; nothing is written.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@data_option
@click.option("--db-dir", metavar="DIR", help="Directory of the database, where the data is on a network disk.")
@config_option
def export_pictures(
    folder: Path,
    accounts: tuple[str, ...],
    public_only: bool,
    namespace: str | None,
    tag: str | None,
    no_addresses: bool,
    no_gallery: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    data: str | None,
    db_dir: str | None,
    config: Path | None,
) -> None:
    """Write pictures as files with their names, an index, and a gallery that opens from disk.

    DIR is made, or brought up to date where it holds an earlier export of the same pictures. The server may run.

    Example: imgpro export /mnt/usb/pictures --account ann@example.org
    """
    from imgpro.cli import exporting  # loads asyncio, which a command that only sends pictures does not wait for

    orders = exporting.Orders(
        folder=folder,
        accounts=accounts,
        public_only=public_only,
        namespace=namespace,
        tag=tag,
        addresses=not no_addresses,
        gallery=not no_gallery,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
    )
    exporting.perform(load({"storage.data": data, "storage.database_dir": db_dir}, config), orders)
