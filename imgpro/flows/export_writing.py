"""The part of an export that writes: batch by batch, each on the disk and in the journal before it gets its names."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import msgspec

from imgpro.flows.export_gallery import Gallery
from imgpro.flows.export_index import INDEX, Exported, Header, header_line, line_of
from imgpro.flows.export_plan import Job, Verdict, as_exported, verdict_on
from imgpro.flows.export_thumbs import Thumbs
from imgpro.store import durable
from imgpro.store.export_folder import PLACED, WORK, ExportFolder, set_time, write_fault
from imgpro.store.export_state import Before
from imgpro.store.queries_export import Row
from imgpro.store.rereading import NotWhole, proven

T = TypeVar("T")

_BATCH: Final = 100
_STAGED_INDEX: Final = "index.jsonl"
_DAMAGE: Final = {
    "missing": "its bytes are missing",
    "unreadable": "its bytes cannot be read ({reason})",
    "altered": "its bytes are not those that were stored",
}


class _Item(msgspec.Struct):
    """One picture on its way. `small` is None until it is known what shows it in small."""

    picture: Exported
    verdict: Verdict
    before: Before | None
    staged: str = ""
    damage: str = ""
    small: str | None = None
    view: str | None = None


class Writing:
    """Writes pictures, index and gallery of one run. `thumbs` and `gallery` are there together or not at all."""

    def __init__(
        self,
        job: Job,
        folder: ExportFolder,
        threads: ThreadPoolExecutor,
        thumbs: Thumbs | None,
        gallery: Gallery | None,
    ) -> None:
        self._job = job
        self._folder = folder
        self._threads = threads
        self._thumbs = thumbs
        self._gallery = gallery
        self._index = -1
        self._header_bytes = 0
        self._staged = 0

    async def begin(self, header: Header) -> None:
        """Begin the index, and the journal where no earlier run has."""
        await self._do(self._begin, header)

    async def remove_gone(self) -> None:
        """Remove the files of pictures that do not belong to the export any more."""
        await self._do(self._remove, self._job.state.gone())

    async def write(self, rows: Sequence[Row]) -> None:
        """Export one page of pictures. Raises StorageFault."""
        for at in range(0, len(rows), _BATCH):
            items = await self._do(self._judged, rows[at : at + _BATCH])
            await _all(self._prepare(item) for item in items)
            await self._do(self._place, items)

    async def finish(self, header: Header) -> None:
        """Remove what is left over, write the gallery's pages, and put the index in place."""
        await self._do(self._remove, self._job.state.left())
        if self._gallery is not None:
            outcome = self._job.outcome
            title = self._job.source.title
            await self._do(self._gallery.finish, title, header.written_ms, outcome.pictures, outcome.bytes)
        await self._do(self._finish, header)

    def close(self) -> None:
        """Let go of the index."""
        if self._index >= 0:
            os.close(self._index)
            self._index = -1

    async def _do(self, work: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *values))

    async def _prepare(self, item: _Item) -> None:
        """Bring the bytes of a picture, and what shows it in small."""
        if item.verdict == "added":
            await self._do(self._fetch, item)
        if item.damage:
            return
        if self._thumbs is not None:
            if item.small is None:
                item.small = await self._thumbs.make(item.picture)
            if item.view is None:
                item.view = await self._thumbs.make_view(item.picture)
        self._job.progress.advance(item.picture.bytes)

    # In a thread

    def _begin(self, header: Header) -> None:
        if not self._folder.read(f"{WORK}/{PLACED}"):
            self._folder.note([header_line(header)])
        line = header_line(header)
        self._header_bytes = len(line)
        self._index = self._folder.stage(_STAGED_INDEX)
        self._write_index([line])

    def _remove(self, files: Iterable[Before]) -> None:
        """Remove files of ours whose pictures are gone; one that somebody changed is theirs."""
        state = self._job.state
        for before in files:
            if self._folder.is_intact(before.file, before.digest, before.bytes, before.at_ms):
                self._folder.remove(before.file)
                self._job.outcome.removed += 1
            elif self._folder.look(before.file) is not None:
                self._job.left_alone(before.file)
            state.free(before.file)
            if self._thumbs is not None and not state.shows(before.digest):
                self._thumbs.forget(before.digest)

    def _judged(self, rows: Sequence[Row]) -> list[_Item]:
        # What came after the survey waits for the next run: there may be no room for it.
        job = self._job
        wanted = [row for row in rows if job.state.wants(row.image.id)]
        return [self._judge(as_exported(row, addresses=job.choice.addresses)) for row in wanted]

    def _judge(self, picture: Exported) -> _Item:
        state = self._job.state
        before = state.before(picture.id)
        item = _Item(picture, verdict_on(picture, before), before)
        if before is not None:
            state.handled(picture.id)
            if not self._folder.is_intact(before.file, before.digest, before.bytes, before.at_ms):
                if self._folder.look(before.file) is not None:
                    self._job.left_alone(before.file)
                item.verdict = "added"
            elif item.verdict == "added":
                self._folder.remove(before.file)
            if item.verdict != "kept":
                state.free(before.file)
        if self._thumbs is not None:
            item.small, item.view = self._thumbs.there(picture), self._thumbs.view_there(picture)
        return item

    def _fetch(self, item: _Item) -> None:
        picture = item.picture
        self._staged += 1
        item.staged = f"{self._staged}.part"
        fd = self._folder.stage(item.staged)
        try:
            for chunk in proven(self._job.source.original(picture.digest), picture.digest, picture.bytes):
                durable.write_all(fd, chunk)
            set_time(fd, picture.created_ms)
        except NotWhole as found:
            item.damage = _DAMAGE[found.damage].format(reason=found.reason)
            self._folder.remove(f"{WORK}/{item.staged}")
        except OSError as error:
            raise write_fault(error, self._folder.path) from error
        finally:
            os.close(fd)

    def _place(self, items: Sequence[_Item]) -> None:
        """Make files durable, give them their names, write that down, and only then move them there."""
        for item in items:
            if item.damage and self._job.pictures.has(item.picture.id):
                self._job.damaged(item.picture, item.damage)
            elif item.damage:
                self._job.outcome.deleted_meanwhile += 1
        good = [item for item in items if not item.damage]
        new = [item for item in good if item.verdict != "kept"]
        for item in good:
            item.picture = msgspec.structs.replace(item.picture, file=self._name(item))
        if new:
            self._folder.sync()
            self._folder.note([line_of(item.picture) for item in new])
        for item in new:
            moved = item.before.file if item.verdict == "moved" and item.before else ""
            self._folder.replace(moved or f"{WORK}/{item.staged}", item.picture.file)
            if moved:
                self._folder.tidy(moved)
        self._write_index([line_of(item.picture) for item in good])
        for item in good:
            self._count(item)

    def _name(self, item: _Item) -> str:
        if item.verdict == "kept" and item.before is not None:
            return item.before.file
        return self._job.state.name(item.picture.file, lambda path: self._folder.look(path) is not None)

    def _count(self, item: _Item) -> None:
        outcome = self._job.outcome
        outcome.pictures += 1
        outcome.bytes += item.picture.bytes
        setattr(outcome, item.verdict, getattr(outcome, item.verdict) + 1)
        if item.verdict == "added":
            outcome.added_bytes += item.picture.bytes
        if self._gallery is not None:
            outcome.without_thumbnail += not item.small
            self._gallery.add(item.picture, item.small or "", item.view or "")

    def _write_index(self, lines: Sequence[bytes]) -> None:
        try:
            durable.write_all(self._index, b"".join(lines))
        except OSError as error:
            raise write_fault(error, self._folder.path) from error

    def _finish(self, header: Header) -> None:
        try:
            os.pwrite(self._index, header_line(header, self._header_bytes), 0)
            durable.fsync_fd(self._index)
        except OSError as error:
            raise write_fault(error, self._folder.path) from error
        self.close()
        self._folder.finish(INDEX, f"{WORK}/{_STAGED_INDEX}")


async def _all(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do several things at once; the first failure ends the others before it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
