"""`imgpro backup restore`: put a backup in the place of what is there. The server must not run."""

import contextlib
import json
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from imgpro import units
from imgpro.cli.options import config_option, data_dir, data_option, whole_place
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint, plain
from imgpro.errors import Action, DoneInPart, TargetFault
from imgpro.forms import counted, show_bytes
from imgpro.sources import load


@click.command("restore")
@click.argument("name", required=False)
@click.option(
    "--from", "place", metavar="PLACE", help="Where it is: a directory or s3://bucket/folder; else as backup.to says."
)
@click.option("--force", is_flag=True, help="Put aside what is there; it is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--fast", is_flag=True, help="Do not hash the pictures of the backup: half the reading, no proof.")
@click.option("--db-dir", metavar="DIR", help="Directory of the database, if not the data directory.")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def restore(
    name: str | None,
    place: str | None,
    force: bool,
    dry_run: bool,
    fast: bool,
    db_dir: str | None,
    data: str | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Restore a backup, else the newest, into a data directory that no server is using. Nothing is merged.

    Example: imgpro backup restore --from /mnt/nas/imgpro --data /srv/img --dry-run
    """
    from imgpro.cli.restore_work import RestoreWork  # loads much that a command that only sends pictures does not need

    loaded = load({"storage.data": data, "storage.database_dir": db_dir}, config)
    root = Path(os.path.abspath(data_dir(loaded)))
    work = RestoreWork(loaded, root, whole_place(place))
    user = _become_owner(root)  # who may not be able to read the program any more: all of it is loaded by now
    with _as_whom(user), ProgressLine(quiet=as_json) as progress:
        result = work.rehearse(name, progress) if dry_run else work.restore(name, progress, force=force, fast=fast)
    _show(result, dry_run=dry_run, as_json=as_json)
    if not dry_run and (words := _whose(root)):
        hint(words)


def _show(result: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo(plain(_summary(result)))
        for digest in result["missing"]:
            click.echo(plain(f"missing  {digest}"))
    if not dry_run:
        for folder in result["replaced"]:
            hint(f"What was there before lies in {folder}. Remove it once all is well.")
        hint("Keys that were revoked since the backup work again; people sign in anew.")
    elif result["replaces"]:
        hint("What is there now would be put aside: --force.")
    if result["missing_blobs"]:
        would = "would be " if dry_run else ""
        raise DoneInPart(
            f"{counted(result['missing_blobs'], 'original')} {would}lost: whole neither in the backup nor on the disk.",
            Action("fix", label="imgpro check names their pictures; older backups may have them: imgpro backup list"),
        )


def _summary(result: dict[str, Any]) -> str:
    words = [result["backup"]]
    if "images" in result:
        words += [counted(result["images"], "picture"), counted(result["blobs"], "original")]
        words.append(show_bytes(result["blob_bytes"]))
        words.append(f"{result['fetched']:,} from the backup, {result['here']:,} were here")
    if result["missing_blobs"]:
        lost = result.get("missing_images")
        words.append(f"LOST: {counted(result['missing_blobs'], 'original')}")
        words[-1] += f" of {counted(lost, 'picture')}" if lost else ""
    return "  ".join(words)


def _become_owner(root: Path) -> str | None:
    """As root, go on as the user whose data it is: the service must be able to open everything that is made.

    Return their name; None where nothing was changed.

    A directory that is made anew belongs to whoever the one belongs to that it is made in: what root does in there,
    they could lead elsewhere.
    """
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        owner = place.stat()
    except OSError:
        return None
    if os.geteuid() != 0 or owner.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(owner.st_uid).pw_name
        os.initgroups(name, owner.st_gid)
    except KeyError:
        name = str(owner.st_uid)
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return name


@contextlib.contextmanager
def _as_whom(user: str | None) -> Iterator[None]:
    """Say of what is not allowed to whom it is not: root does not expect that of itself."""
    try:
        yield
    except TargetFault as problem:
        if user is None or not isinstance(problem.__cause__, PermissionError):
            raise
        label = f"Let {user}, to whom the data belongs, read the backups, or restore into a directory of root's"
        raise TargetFault(
            f"{problem.message} It was {user} who was not allowed to.", Action("fix", label=label)
        ) from None


def _whose(root: Path) -> str | None:
    """Return what is to be done so that the service can open what root has made; None if nothing is."""
    try:
        service = pwd.getpwnam(units.USER)
        owner = root.stat().st_uid
    except (KeyError, OSError):
        return None
    if owner != 0 or service.pw_uid == 0:
        return None
    command = f"sudo chown -R {units.USER}: {shlex.quote(str(root))}"
    return f"It belongs to root, and the service runs as {units.USER}: {command}"
