"""`imgpro rebuild`: make a lost database again from the journal beside the pictures."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from imgpro.cli.options import config_option, data_dir, data_option
from imgpro.cli.progress import ProgressLine
from imgpro.cli.words import hint, plain
from imgpro.errors import Action, DataDirMissing, DataUnusable, DoneInPart, OperatorError
from imgpro.forms import show_bytes
from imgpro.sources import load
from imgpro.store import durable, journal_reading, layout, rebuilding, schema
from imgpro.store.journal_reading import Named
from imgpro.store.rebuilding import Rebuilt


@click.command("rebuild")
@data_option
@click.option("--db-dir", metavar="DIR", help="Directory of the database, where it is not in the data directory.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@click.option("--force", is_flag=True, help="Also where the database is sound, or secret.key is gone.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def rebuild(
    data: str | None, db_dir: str | None, dry_run: bool, force: bool, as_json: bool, config: Path | None
) -> None:
    """Make a lost or damaged database again from the journal beside the pictures. The server must be stopped.

    Accounts, keys, pictures and links are what they were; people sign in again. A damaged database is kept beside the
    new one. Exits 3 if something is lost, and names it.

    Example: imgpro rebuild --data /srv/img
    """
    loaded = load({"storage.data": data, "storage.database_dir": db_dir}, config)
    root = Path(os.path.abspath(data_dir(loaded)))
    home = Path(os.path.abspath(Path(loaded.settings.storage.database_dir or root).expanduser()))
    with ProgressLine(quiet=as_json) as progress:

        def show(stage: str, done: int, total: int, unit: str) -> None:
            progress({"stage": stage, "done": done, "total": total, "unit": unit})

        found = _rebuild(root, home, show, dry_run=dry_run, force=force)
    if as_json:
        click.echo(json.dumps({**_plain(found), "whole": found.whole, "dry_run": dry_run}, indent=2))
    else:
        for line in _lines(found, root):
            click.echo(plain(line))
    counts = f"{found.images:,} pictures, {found.accounts:,} accounts and {found.keys:,} keys"
    if not found.whole:
        raise DoneInPart(
            f"{'There would be' if dry_run else 'There are'} {counts}; what is named above is not.",
            Action("fix", label=_way(found, root)),
        )
    hint(f"{counts} {'would be' if dry_run else 'are'} there{'' if dry_run else ' again'}.")


def _rebuild(root: Path, home: Path, show: rebuilding.Show, *, dry_run: bool, force: bool) -> Rebuilt:
    from imgpro.cli.office import refuse_foreign_root  # loads asyncio

    marker = layout.read_marker(root)
    refuse_foreign_root(root)
    database, steps = home / layout.DATABASE_NAME, schema.packaged_migrations()
    with layout.held(root, home):
        _check_parts(root, force=force)
        if not force and rebuilding.damage(database, steps[-1].version) is None:
            raise OperatorError(
                f"{database} is sound; nothing was done.",
                Action("fix", label="imgpro run. To make it from the journal all the same: imgpro rebuild --force"),
            )
        try:
            plan = journal_reading.plan(root / "journal", marker.instance_id)
        except OSError as error:
            raise durable.fault(error, "reading the journal") from error
        if not plan.segments:
            raise DataUnusable(
                f"{root / 'journal'} holds no journal of this server that could be read.",
                Action("fix", label=f"imgpro backup restore --force --data {shlex.quote(str(root))}"),
            )
        with _built(database) as target:
            quarantine = None if dry_run else root / "quarantine"
            found = rebuilding.build(target, plan, marker.instance_id, steps, root / "blobs", quarantine, show)
            if not dry_run:
                aside = rebuilding.install(target, database)
                found.aside = str(aside) if aside is not None else None
    return found


def _check_parts(root: Path, *, force: bool) -> None:
    if (root / layout.RESTORE_MARK).exists():
        raise DataUnusable(
            f"A restore into {root} was broken off.", Action("fix", label=f"imgpro backup restore --data {root}")
        )
    if not (root / "blobs").is_dir():
        raise DataDirMissing(
            f"{root / 'blobs'} is not there, so that every picture would count as lost.",
            Action("fix", label="Mount the disk that holds the pictures, or restore them from a backup"),
        )
    if not (root / "secret.key").exists() and not force:
        raise DataUnusable(
            f"{root / 'secret.key'} is missing: links to delete pictures would stop working.",
            Action("fix", label="Restore it from a backup. To go on with a new one: imgpro rebuild --force"),
        )


@contextlib.contextmanager
def _built(database: Path) -> Iterator[Path]:
    """Lend the place where the new database is built; nothing is left there afterwards."""
    target = database.with_name(f"{database.name}.rebuilt")
    try:
        for left in (target, Path(f"{target}-journal")):
            left.unlink(missing_ok=True)  # by one that was killed
        yield target
    finally:
        for left in (target, Path(f"{target}-journal")):
            left.unlink(missing_ok=True)


def _plain(found: Rebuilt) -> dict[str, Any]:
    return {
        "images": found.images,
        "accounts": found.accounts,
        "keys": found.keys,
        "blobs": found.blobs,
        "gaps": found.gaps,
        **{name: msgspec.to_builtins(getattr(found, name)) for name in ("broken", "dropped", "lost", "unknown")},
        "unknown_bytes": found.unknown_bytes,
        "aside": found.aside,
    }


def _lines(found: Rebuilt, root: Path) -> Iterator[str]:
    for gap in found.gaps:
        yield f"journal: {gap}"
    yield from _named("broken line", found.broken)
    yield from _named("lost with its line", found.dropped)
    yield from _named("lost picture", found.lost)
    yield from _named("original of no picture", found.unknown)
    if found.unknown.count:
        where = root / "quarantine" / rebuilding.UNKNOWN
        yield f"{found.unknown.count:,} originals of {show_bytes(found.unknown_bytes)} belong into {where}"
    if found.aside is not None:
        yield f"the old database is kept: {found.aside}"


def _named(words: str, things: Named) -> Iterator[str]:
    for name in things.names:
        yield f"{words}: {name}"
    if things.count > len(things.names):
        yield f"{words}: {things.count - len(things.names):,} more; imgpro check names every picture that is lost"


def _way(found: Rebuilt, root: Path) -> str:
    ways = []
    if found.lost.count:
        ways.append("imgpro scrub takes missing originals from a backup")
    if found.gaps or found.broken.count or found.dropped.count:
        ways.append("imgpro backup restore, if a backup is newer")
    if found.unknown.count:
        folder = shlex.quote(str(root / "quarantine" / rebuilding.UNKNOWN))
        ways.append(f"look through {folder}: imgpro import {folder}")
    return "; ".join(ways)
