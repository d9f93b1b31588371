"""`imgpro backup`: copies of database and pictures: make, list, try out, thin out, restore."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from imgpro.cli.options import config_option, data_dir, data_option, whole_place
from imgpro.cli.progress import ProgressLine
from imgpro.cli.restoring import restore
from imgpro.cli.words import hint, note, plain
from imgpro.errors import Action, DoneInPart
from imgpro.forms import counted, show_bytes
from imgpro.sources import Loaded, load

NAMED: Final = 20
_OWN_DISK: Final = (
    "They lie on the disk of the data itself: they help against mistakes, not against a broken disk. "
    "Name another place with backup.to."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
from_option = click.option(
    "--from",
    "place",
    metavar="PLACE",
    help="Where they are: a directory or s3://bucket/folder; else as backup.to says.",
)


@click.group("backup")
def backup() -> None:
    """Copies of database and pictures: make, list, try out, thin out, restore.

    Example: imgpro backup create --to /mnt/nas/imgpro
    """


backup.add_command(restore)


@backup.command("create")
@click.option("--to", metavar="PLACE", help="Where it goes: a directory or s3://bucket/folder; else as backup.to says.")
@click.option("--begin-anew", is_flag=True, help="The place is empty now, and that is right.")
@data_option
@json_option
@config_option
def create(to: str | None, begin_anew: bool, data: str | None, as_json: bool, config: Path | None) -> None:
    """Make a backup, while the server runs or while it does not; only what the place lacks is copied.

    Example: imgpro backup create --to /mnt/usb/imgpro
    """
    values = {"to": whole_place(to), "begin_anew": begin_anew}
    result = _errand(data, config, "backup-create", values, quiet=as_json)
    click.echo(json.dumps(result, indent=2) if as_json else plain(result["backup"]))
    if result["missing"]:
        for row in result["named"] if not as_json else ():
            click.echo(plain(f"{row['damage']}  {row['digest']}"), err=True)
        raise DoneInPart(
            f"{result['missing']:,} of {result['blobs']:,} originals are missing or damaged in the data directory, and "
            f"not in the backup {result['backup']}. Older backups may still have them.",
            Action("fix", label="imgpro scrub, which puts back what a backup has"),
        )
    hint(
        f"{counted(result['images'], 'picture')}, {show_bytes(result['bytes'])}; "
        f"new: {counted(result['new_blobs'], 'original')}, "
        f"{show_bytes(result['new_bytes'])}. At {result['place']}."
    )


@backup.command("list")
@from_option
@data_option
@json_option
@config_option
def list_backups(place: str | None, data: str | None, as_json: bool, config: Path | None) -> None:
    """List backups, the oldest first: when each was made, and what it holds.

    Example: imgpro backup list --from /mnt/nas/imgpro
    """
    from imgpro.store.repository import Repository
    from imgpro.store.targets import own_place, target_of

    loaded = load({"storage.data": data}, config)
    with contextlib.closing(target_of(loaded.settings.backup, data_dir(loaded), whole_place(place))) as target:
        repository = Repository(target)
        repository.for_reading()
        found = repository.backups()
    rows = [_row(each.name, each.manifest, damaged=each.damaged) for each in found]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(plain(_line(row)))
    if not rows:
        hint("There are no backups there yet.")
    elif repository.place == str(own_place(data_dir(loaded))):
        hint(_OWN_DISK)


@backup.command("verify")
@click.argument("name", required=False)
@from_option
@data_option
@json_option
@config_option
def verify(name: str | None, place: str | None, data: str | None, as_json: bool, config: Path | None) -> None:
    """Try a backup out, else the newest: open its database, read every picture and compare its hash.

    Example: imgpro backup verify --from /mnt/nas/imgpro
    """
    result = _errand(data, config, "backup-verify", {"name": name, "from": whole_place(place)}, quiet=as_json)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        for row in result["named"]:
            click.echo(plain(f"{row['fault']}  {row['digest']}"))
    if result["bad"]:
        raise DoneInPart(
            f"{result['bad']:,} of {counted(result['bad'] + result['blobs'], 'original')} missing or damaged in the "
            f"backup {result['backup']}; {result['blobs']:,} good, and so is its database.",
            Action("fix", label="imgpro backup create, which copies them again if they are whole here"),
        )
    hint(
        f"{result['backup']} is good: {counted(result['images'], 'picture')}, {counted(result['blobs'], 'original')}, "
        f"{show_bytes(result['bytes'])} were read."
    )


@backup.command("prune")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="How many stay; else as backup.keep says.")
@from_option
@data_option
@json_option
@config_option
def prune(keep: int | None, place: str | None, data: str | None, as_json: bool, config: Path | None) -> None:
    """Remove all but the newest backups, and the pictures that none of them needs.

    Example: imgpro backup prune --keep 3
    """
    result = _errand(data, config, "backup-prune", {"keep": keep, "from": whole_place(place)}, quiet=as_json)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name in result["removed"]:
        click.echo(plain(name))
    hint(
        f"Left: {result['left']:,}. Removed because none of them needs it: {counted(result['blobs'], 'original')}, "
        f"{show_bytes(result['bytes'])}."
    )


def _errand(
    data: str | None, config: Path | None, kind: str, values: Mapping[str, Any], *, quiet: bool
) -> dict[str, Any]:
    from imgpro.cli import office  # loads asyncio, which a command that only sends pictures does not wait for

    loaded: Loaded = load({"storage.data": data}, config)
    values = {**values, "setting": loaded.settings.backup.to}
    with ProgressLine(quiet=quiet) as progress:
        result = office.errand(loaded, data_dir(loaded), kind, values, progress)
    if not (values.get("to") or values.get("from") or result.pop("agrees", True)):
        note(f"the running server goes by another backup.to than the settings here: it was {result['place']}")
    return result


def _row(name: str, manifest: Any, *, damaged: bool) -> dict[str, Any]:
    if manifest is None:
        return {"backup": name, "state": "damaged" if damaged else "incomplete"}
    return {
        "backup": name,
        "state": "partial" if manifest.missing_blobs else "whole",
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.created_ms / 1000)),
        "images": manifest.images,
        "blobs": manifest.blobs,
        "bytes": manifest.blob_bytes + manifest.database_bytes,
        "new_bytes": manifest.new_bytes,
        "missing": manifest.missing_blobs,
        "app_version": manifest.app_version,
    }


def _line(row: Mapping[str, Any]) -> str:
    if "images" not in row:
        return f"{row['backup']}  {row['state'].upper()}"
    words = [row["backup"], f"{row['images']:>9,} pictures", f"{show_bytes(row['bytes']):>10}"]
    words.append(f"{show_bytes(row['new_bytes']):>10} new")
    words += [f"LACKS {counted(row['missing'], 'original')}"] if row["missing"] else []
    return "  ".join(words)
