"""`imgpro import`: take pictures over from a folder, a list of addresses or another image host."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import click

from imgpro.cli.options import data_dir
from imgpro.cli.other_hosts import COMMANDS
from imgpro.cli.taking_over import Taking, taking_over
from imgpro.errors import Action, OperatorError, SourceUnusable
from imgpro.sources import load

_DATES: Final = ("exif", "name", "mtime", "none")


@click.group("import")
def import_pictures() -> None:
    """Take pictures over from a folder, a list of addresses or another image host.

    An import can be broken off and begun again: it goes on where it was, and nothing comes twice. What is left out is
    named, and the exit code is 3 then. With --dry-run nothing is stored.

    Example: imgpro import folder ~/Pictures --to ann@example.org --dry-run
    """


@import_pictures.command("folder")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--namespace-from-path", is_flag=True, help="The first folder below it is the namespace.")
@click.option("--tags-from-path", is_flag=True, help="The folders below it are tags.")
@click.option(
    "--dates",
    default="exif,name,mtime",
    show_default=True,
    metavar="LIST",
    help="What tells when a picture was made, the first that does: exif, name, mtime; none: today.",
)
@click.option(
    "--old-path", metavar="PATH", help="The folder was served under this path: links below it lead to the pictures."
)
@taking_over()
def folder_command(
    folder: Path,
    namespace_from_path: bool,
    tags_from_path: bool,
    dates: str,
    old_path: str | None,
    taking: Taking,
) -> None:
    """Bring the pictures in a folder and below it. Hidden files are passed over, symbolic links are not followed.

    A folder that `imgpro export` wrote is taken back as what it is: see `imgpro import export`.

    \b
    Example: imgpro import folder /mnt/nas/photos --to ann@example.org --tags-from-path
             imgpro import folder /var/www/img --nobody --old-path /img
    """  # \b is click's: these lines stay as they are
    from imgpro.movers.export_folder import is_export
    from imgpro.movers.folder import Folder, Rules

    if is_export(folder):
        label = f"imgpro import export {folder}; or import the folders in it one by one"
        raise OperatorError(f"{folder} is an export of imgpro, with more in it than files.", Action("fix", label=label))
    taking.need_owner()
    order = tuple(part.strip() for part in dates.split(","))
    if not order or not set(order) <= set(_DATES):
        raise click.BadParameter(f"{dates!r} is no list of {', '.join(_DATES)}.", param_hint="--dates")
    if old_path is not None and not old_path.startswith("/"):
        raise click.BadParameter("a path begins with a slash.", param_hint="--old-path")
    rules = Rules(
        namespace_from_path=namespace_from_path and not taking.namespace,
        tags_from_path=tags_from_path,
        dates=order,  # type: ignore[arg-type]  # checked above
        old_path=old_path,
    )
    taking.run(Folder(os.fspath(folder), rules, _own_data(taking)), keep_links=old_path is not None)


@import_pictures.command("urls")
@click.argument("file", metavar="FILE | -", type=click.Path(allow_dash=True, dir_okay=False))
@taking_over(keeps_links=False)
def urls_command(file: str, taking: Taking) -> None:
    """Fetch pictures from the addresses in a file (or standard input), one a line: ADDRESS, or NAME, a tab and ADDRESS.

    The server fetches them, by the rules of its `imports` section. With --keep-links, the paths of the addresses lead
    to the pictures here, for a host whose name is to point to this server.

    Example: imgpro import urls addresses.txt --to ann@example.org
    """
    from imgpro.movers.address_list import AddressList

    taking.need_owner()
    with contextlib.ExitStack() as held:
        try:
            opened = sys.stdin.buffer if file == "-" else held.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise SourceUnusable(f"{file} cannot be read: {error.strerror}.") from None
        taking.run(AddressList(opened))


@import_pictures.command("export")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@taking_over(keeps_links=True)
def export_command(folder: Path, taking: Taking) -> None:
    """Take back what `imgpro export` wrote: the same links, dates, names, tags and owners.

    Pictures go to the accounts that they had, by mail address, unless --to, --map or --nobody says otherwise. What is
    here already stays as it is.

    Example: imgpro import export /mnt/usb/pictures --add-accounts
    """
    from imgpro.movers.export_folder import ExportFolder

    taking.run(ExportFolder(folder))


def _own_data(taking: Taking) -> list[tuple[int, int]]:
    """Return the data directory, which holds pictures under names that nobody looks for."""
    loaded = load({"storage.data": taking.data}, taking.config)
    try:
        seen = os.stat(data_dir(loaded))
    except OSError:
        return []
    return [(seen.st_dev, seen.st_ino)]


for _command in COMMANDS:
    import_pictures.add_command(_command)
