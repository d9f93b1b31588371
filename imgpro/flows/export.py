"""Pictures out of a data directory into a folder: real names, an index, a gallery; again and again into the same one.

Reads the data directory and writes nothing there, whether or not a server works on it. A run that was cut off is gone
on with by the next: the index is written last, and what lies in place already is known by a journal beside it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from imgpro import __version__
from imgpro.errors import Action, OperatorError, StorageFault
from imgpro.flows import export_gallery
from imgpro.flows.errands import Progress
from imgpro.flows.export_gallery import Gallery
from imgpro.flows.export_index import INDEX, Choice, Header, read_index, salvage
from imgpro.flows.export_names import folded, numbered
from imgpro.flows.export_plan import Job, Outcome, Source, as_before, as_exported, verdict_on
from imgpro.flows.export_thumbs import Thumbs
from imgpro.flows.export_writing import Writing
from imgpro.forms import show_bytes
from imgpro.imaging.pool import Pool
from imgpro.store.export_folder import PLACED, WORK, ExportFolder
from imgpro.store.export_state import ExportState
from imgpro.store.queries_export import Pictures, Place, Row, Wanted

_PAGE: Final = 500
_THREADS: Final = 3
_JOURNAL: Final = f"{WORK}/{PLACED}"
_FILE_BYTES: Final = 4_096  # that a file takes beyond its length
_LINE_BYTES: Final = 700
_THUMB_BYTES: Final = 24_000


class Export:
    """One run of an export, or the rehearsal of one."""

    def __init__(self, source: Source, choice: Choice, progress: Progress, say: Callable[[str], None]) -> None:
        """`say` is told what is left out or left alone. Raises OperatorError for an account that is not there."""
        pictures = Pictures(source.database)
        pictures.check()
        accounts = tuple(map(pictures.account, choice.accounts)) if choice.accounts else None
        self._wanted = Wanted(accounts, choice.public_only, choice.namespace, choice.tag)
        self._job = Job(source, choice, pictures, ExportState(folded, numbered), Outcome(), progress, say)

    def rehearse(self, path: Path, *, force: bool) -> Outcome:
        """Return what a run would do, as far as indexes say; nothing is written, and no picture is read. Blocking."""
        if path.is_dir():
            folder = ExportFolder.open(path)
            try:
                self._recognise(folder, force=force)
            finally:
                folder.close()
        plan = self._survey()
        plan.removed = self._job.state.count_gone()
        return plan

    async def run(self, path: Path, pool: Pool | None, *, force: bool) -> Outcome:
        """Export into a folder; without a pool there is no gallery.

        Raises OperatorError for a folder that is not for this export, StorageFault, DataUnusable, Busy.
        """
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="export")
        folder = ExportFolder.open(path)
        try:
            plan = await asyncio.to_thread(self._prepare, folder, force=force, thumbs=pool is not None)
            self._job.progress.begin("Exporting", plan.bytes, "bytes")
            await self._write(folder, pool, threads)
        finally:
            threads.shutdown()
            folder.close()
            self._job.state.close()
        return self._job.outcome

    def _prepare(self, folder: ExportFolder, *, force: bool, thumbs: bool) -> Outcome:
        self._recognise(folder, force=force)
        folder.begin()
        plan = self._survey()
        _check_room(folder, plan, thumbs=thumbs)
        return plan

    async def _write(self, folder: ExportFolder, pool: Pool | None, threads: ThreadPoolExecutor) -> None:
        source = self._job.source
        thumbs = Thumbs(folder, source.original, source.cache, pool, threads) if pool is not None else None
        gallery = Gallery(folder) if pool is not None else None
        writing = Writing(self._job, folder, threads, thumbs, gallery)
        written_ms = int(time.time() * 1000)
        try:
            await writing.begin(self._header(written_ms))
            await writing.remove_gone()
            place = Place()
            while rows := await asyncio.to_thread(self._job.pictures.page, self._wanted, place, _PAGE):
                place = rows[-1].place
                await writing.write(rows)
            if gallery is None:
                await asyncio.to_thread(export_gallery.remove, folder)
            await writing.finish(self._header(written_ms))
        finally:
            threads.shutdown()
            writing.close()

    def _header(self, written_ms: int) -> Header:
        return Header(
            instance=self._job.source.instance,
            written_by=__version__,
            written_ms=written_ms,
            pictures=self._job.outcome.pictures,
            bytes=self._job.outcome.bytes,
            choice=self._job.choice,
        )

    def _recognise(self, folder: ExportFolder, *, force: bool) -> None:
        """Read what earlier runs left. Raises OperatorError for a folder that is not for this export."""
        state = self._job.state
        known = False
        if (fd := folder.opened(INDEX)) is not None:
            with open(fd, "rb") as file:
                header, pictures = read_index(file, str(folder.path / INDEX))
                self._check(header, folder, force=force)
                state.add_before(map(as_before, pictures))
            known = True
        if (fd := folder.opened(_JOURNAL)) is not None:
            with open(fd, "rb") as file:
                begun, placed = salvage(file, str(folder.path / _JOURNAL))
                if begun is not None:
                    self._check(begun, folder, force=force)
                    state.add_before(map(as_before, placed))
                    known = True
            if begun is None:
                folder.remove(_JOURNAL)  # it was cut off before anything got a name
        if not known:
            _refuse_strangers(folder, force=force)
        state.take_names_of_before()

    def _check(self, header: Header, folder: ExportFolder, *, force: bool) -> None:
        if header.instance != self._job.source.instance:
            raise OperatorError(
                f"{folder.path} holds an export of another server.", Action("fix", label="Name another folder")
            )
        if header.choice != self._job.choice and not force:
            raise OperatorError(
                f"{folder.path} holds an export of other pictures: {_words(header.choice)}.",
                Action("fix", label="Name another folder, or add --force: what is not chosen now is removed there"),
            )

    def _rows(self) -> Iterator[list[Row]]:
        place = Place()
        while rows := self._job.pictures.page(self._wanted, place, _PAGE):
            place = rows[-1].place
            yield rows

    def _survey(self) -> Outcome:
        """Return what is to be done, and remember which pictures belong to this run."""
        job, plan = self._job, Outcome()
        job.progress.begin("Looking")
        for rows in self._rows():
            for picture in (as_exported(row, addresses=job.choice.addresses) for row in rows):
                job.state.want(picture.id, picture.digest)
                verdict = verdict_on(picture, job.state.before(picture.id))
                plan.pictures += 1
                plan.bytes += picture.bytes
                setattr(plan, verdict, getattr(plan, verdict) + 1)
                plan.added_bytes += picture.bytes if verdict == "added" else 0
            job.progress.advance(len(rows))
        return plan


def _refuse_strangers(folder: ExportFolder, *, force: bool) -> None:
    """Raise OperatorError for a folder with files of others; never for the file system's own."""
    names = sorted(set(folder.names()) - {WORK, "lost+found"})
    if names and not force:
        raise OperatorError(
            f"{folder.path} is not empty and holds no export of imgpro.",
            Action("fix", label="Name an empty or new folder, or add --force: what is in it stays as it is"),
        )
    in_the_way = [name for name in names if name in (INDEX, export_gallery.PAGE, export_gallery.FOLDER)]
    if in_the_way:
        raise OperatorError(
            f"{folder.path} holds {', '.join(in_the_way)}, which an export writes and did not.",
            Action("fix", label="Move that away, or name another folder"),
        )


def _check_room(folder: ExportFolder, plan: Outcome, *, thumbs: bool) -> None:
    """Raise StorageFault where the folder's disk has not the room for what will be written."""
    each = _FILE_BYTES + (_THUMB_BYTES if thumbs else 0)
    needed = plan.added_bytes + plan.added * each + plan.pictures * _LINE_BYTES
    free = folder.room()
    if free.total_bytes and free.free_bytes < needed:  # some file systems do not tell
        raise StorageFault(
            f"{folder.path} has room for {show_bytes(free.free_bytes)}; about {show_bytes(needed)} are needed.",
            Action("fix", label="Make room, name a folder elsewhere, or export a part: --account, --namespace, --tag"),
        )
    files = plan.added * (2 if thumbs else 1)
    if free.free_inodes is not None and free.free_inodes < files:
        raise StorageFault(
            f"{folder.path} has room for {free.free_inodes:,} files; {files:,} are needed.",
            Action("fix", label="Name a folder on another disk, or add --no-gallery"),
        )


def _words(choice: Choice) -> str:
    """Say in words which pictures an export holds."""
    parts = [
        f"of {', '.join(choice.accounts)}" if choice.accounts else "",
        "public ones only" if choice.public_only else "",
        f"in namespace {choice.namespace}" if choice.namespace else "",
        f"with tag {choice.tag}" if choice.tag else "",
        "" if choice.addresses else "without addresses",
    ]
    return ", ".join(part for part in parts if part) or "all of them"
