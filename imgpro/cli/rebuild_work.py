"""What `imgpro rebuild` does, and how it says what came of it."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from imgpro.errors import Action, DataDirMissing, DataUnusable, OperatorError
from imgpro.forms import counted, show_bytes
from imgpro.store import durable, journal_ahead, journal_format, journal_reading, layout, rebuilding, schema
from imgpro.store.journal_reading import Named
from imgpro.store.rebuilding import Rebuilt


def rebuild(
    root: Path, home: Path, show: rebuilding.Show, *, dry_run: bool, force: bool, journal: Path | None = None
) -> Rebuilt:
    """Make the database again under the locks, from `journal` if that is another one than that of the server.

    Raises DataDirMissing, DataDirLocked, DataUnusable, StorageFault.
    """
    from imgpro.cli.office import refuse_foreign_root  # loads asyncio

    marker = layout.read_marker(root)
    refuse_foreign_root(root)
    database, steps = home / layout.DATABASE_NAME, schema.packaged_migrations()
    with layout.held(root, home):
        _check_parts(root, force=force)
        own = root / "journal"
        try:
            if not dry_run:
                journal_ahead.undo(own)
            wanted = force or journal is not None or rebuilding.damage(database, steps[-1].version) is not None
            if not wanted and journal_ahead.ahead(database, own, marker.instance_id) is None:
                raise _nothing_to_do(database, own)
            plan = journal_reading.plan(journal or own, marker.instance_id)
            supersedes = journal_format.listed(own).highest if journal is not None else None
        except OSError as error:
            raise durable.fault(error, "reading the journal") from error
        if not plan.segments and journal is not None:
            raise OperatorError(
                f"{journal} {'holds no journal of this server' if journal.is_dir() else 'is not there'}.",
                Action("fix", label=f"Name a folder as {shlex.quote(str(own))}/{journal_ahead.ASIDE}TIME"),
            )
        if not plan.segments:
            raise DataUnusable(
                f"{own} holds no journal of this server that could be read.",
                Action("fix", label=f"imgpro backup restore --force --data {shlex.quote(str(root))}"),
            )
        with _built(database) as target:
            places = (root / "blobs", None if dry_run else root / "quarantine")
            found = rebuilding.build(target, plan, marker.instance_id, steps, *places, show, supersedes=supersedes)
            if not dry_run:
                aside = rebuilding.install(target, database)
                found.aside = str(aside) if aside is not None else None
    return found


def _nothing_to_do(database: Path, journal: Path) -> OperatorError:
    ways = "imgpro run. To make it from the journal all the same: imgpro rebuild --force"
    if aside := journal_ahead.asides(journal):
        ways += f". To go back to what was set aside: imgpro rebuild --journal {shlex.quote(str(aside[-1]))}"
    return OperatorError(f"{database} is sound; nothing was done.", Action("fix", label=ways))


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


def plain(found: Rebuilt) -> dict[str, Any]:
    """Return what was found as plain data, for JSON."""
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


def lines(found: Rebuilt, root: Path) -> Iterator[str]:
    """Yield what is lost, or not as it should be, a line each."""
    for gap in found.gaps:
        yield f"journal: {gap}"
    yield from _named("broken line", found.broken)
    yield from _named("lost with its line", found.dropped)
    yield from _named("lost picture", found.lost)
    yield from _named("original of no picture", found.unknown)
    if found.unknown.count:
        where = root / "quarantine" / rebuilding.UNKNOWN
        yield f"{counted(found.unknown.count, 'original')} of {show_bytes(found.unknown_bytes)} for {where}"
    if found.aside is not None:
        yield f"the old database is kept: {found.aside}"


def _named(words: str, things: Named) -> Iterator[str]:
    for name in things.names:
        yield f"{words}: {name}"
    if things.count > len(things.names):
        yield f"{words}: {things.count - len(things.names):,} more; imgpro check names every picture that is lost"


def way(found: Rebuilt, root: Path) -> str:
    """Return what may be done about it."""
    ways = []
    if found.lost.count:
        ways.append("imgpro scrub takes missing originals from a backup")
    if found.gaps or found.broken.count or found.dropped.count:
        ways.append("imgpro backup restore, if a backup is newer")
    if found.unknown.count:
        folder = shlex.quote(str(root / "quarantine" / rebuilding.UNKNOWN))
        ways.append(f"look through {folder}: imgpro import folder {folder} --to EMAIL")
    return "; ".join(ways)
