"""Carries out `imgpro export` in its own process: it may write where the service may not, and reads beside a server."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from imgpro import processors
from imgpro.appliance import pool_settings
from imgpro.cli.options import data_dir
from imgpro.cli.progress import EVERY_S, ProgressLine
from imgpro.cli.words import hint, note, plain
from imgpro.errors import Action, DataDirMissing, DoneInPart, OperatorError, WorkersUnusable
from imgpro.flows.errands import Progress
from imgpro.flows.export import Export
from imgpro.flows.export_gallery import PAGE
from imgpro.flows.export_index import Choice
from imgpro.flows.export_plan import Outcome, Source
from imgpro.forms import counted, show_bytes
from imgpro.imaging.children import ChildGone
from imgpro.imaging.pool import Pool
from imgpro.sources import Loaded
from imgpro.store import layout
from imgpro.store.holder import holder

_INTERRUPTED: Final = 130
_PATIENCE: Final = 10.0  # times a worker's usual deadline


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    folder: Path
    accounts: tuple[str, ...]
    public_only: bool
    namespace: str | None
    tag: str | None
    addresses: bool
    gallery: bool
    force: bool
    dry_run: bool
    as_json: bool

    @property
    def choice(self) -> Choice:
        """Which pictures."""
        accounts = tuple(sorted({email.strip().lower() for email in self.accounts}))
        tag = self.tag.strip().lower() if self.tag else None
        return Choice(accounts, self.public_only, self.namespace, tag, self.addresses)


def perform(loaded: Loaded, orders: Orders) -> None:
    """Export, and say what came of it. Raises DoneInPart where originals were damaged, and what `Export.run` raises."""
    source = _source(loaded)
    _check_place(orders.folder, source)
    if holder(source.blobs.parent) is not None:
        processors.give_way()
    with ProgressLine(quiet=orders.as_json) as line:

        def say(text: str) -> None:
            line.clear()
            note(text)

        progress = Progress()
        export = Export(source, orders.choice, progress, say)
        if orders.dry_run:
            outcome = export.rehearse(orders.folder, force=orders.force)
        else:
            try:
                outcome = asyncio.run(_run(export, loaded, orders, progress, line))
            except KeyboardInterrupt:
                say("broken off. Run it again: it goes on where it was.")
                sys.exit(_INTERRUPTED)
    if orders.as_json:
        told = {"folder": os.path.abspath(orders.folder), "dry_run": orders.dry_run, **msgspec.to_builtins(outcome)}
        click.echo(json.dumps(told))
    else:
        _say(outcome, orders)
    if outcome.damaged:
        raise DoneInPart(
            f"{counted(outcome.damaged, 'picture')} left out: damaged or missing in the data directory.",
            Action("fix", label="`imgpro scrub` heals what a backup still has; then run it again"),
        )


async def _run(export: Export, loaded: Loaded, orders: Orders, progress: Progress, line: ProgressLine) -> Outcome:
    async with contextlib.AsyncExitStack() as parts:
        pool = None
        if orders.gallery:
            # On a busy machine who gives way may wait long for its turn; these pictures were all sound once.
            usual = pool_settings(loaded.settings.imaging, loaded.settings.uploads)
            deadline_s, queue_deadline_s = _PATIENCE * usual.deadline_s, _PATIENCE * usual.queue_deadline_s
            pool = Pool(msgspec.structs.replace(usual, deadline_s=deadline_s, queue_deadline_s=queue_deadline_s))
            parts.push_async_callback(pool.close)
            try:
                await pool.start()
            except ChildGone:
                raise WorkersUnusable() from None
        work = asyncio.create_task(export.run(orders.folder, pool, force=orders.force))
        try:
            while not (await asyncio.wait([work], timeout=EVERY_S))[0]:
                line(vars(progress))
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            raise
        return work.result()


def _source(loaded: Loaded) -> Source:
    """Return where the pictures lie. Raises DataDirMissing, OperatorError where this user may not read them."""
    data = Path(os.path.abspath(data_dir(loaded)))
    home = Path(os.path.abspath(Path(loaded.settings.storage.database_dir or data).expanduser()))
    database = home / layout.DATABASE_NAME
    for path in (data, data / "blobs", database):
        if os.path.lexists(path) and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise OperatorError(f"{path} is not for this user to read.", Action("fix", label="sudo imgpro export ..."))
    marker = layout.read_marker(data)
    if not database.exists():
        raise DataDirMissing(
            f"There is no database at {database}.",
            Action("fix", label="imgpro rebuild, if it is lost; else name its place with --db-dir"),
        )
    return Source(database, data / "blobs", data / "cache", marker.instance_id, loaded.settings.pages.site_name)


def _check_place(folder: Path, source: Source) -> None:
    """Refuse to write among the server's own files."""
    place = folder.resolve()
    for taken in {source.blobs.parent.resolve(), source.database.parent.resolve()}:
        if place.is_relative_to(taken):
            raise OperatorError(
                f"{folder} lies in the data directory {taken}.", Action("fix", label="Name a folder elsewhere")
            )


def _say(outcome: Outcome, orders: Orders) -> None:
    counts = {"new": outcome.added, "moved": outcome.moved, "there already": outcome.kept, "removed": outcome.removed}
    told = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "nothing to do"
    would = " would be" if orders.dry_run else ""
    folder = plain(str(orders.folder))
    click.echo(f"{counted(outcome.pictures, 'picture')} ({show_bytes(outcome.bytes)}){would} in {folder}: {told}")
    if outcome.without_thumbnail:
        hint(f"{counted(outcome.without_thumbnail, 'picture')} without a thumbnail: none could be made.")
    if orders.gallery and not orders.dry_run:
        hint(f"Open {plain(str(orders.folder / PAGE))} in a browser.")
