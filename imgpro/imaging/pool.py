"""The only door to CPU work on pictures: bounded, with deadlines, refusal and repair.

Lives in the server process, which never decodes and never imports Pillow. What happens to a job:

- the queue is full, or the job waited too long in it: Busy;
- the worker answers with an error: the same error;
- the deadline passes, also because the worker was stopped: the worker is killed, ImageTooLarge;
- the worker dies: once more on a new worker, since the death may have been another's doing (memory ran out,
  somebody killed it); if that one dies too, it is the picture: ImageBroken for an upload, ImageTooLarge for a
  derivative of a picture that is known to be sound.
"""

import asyncio
import os
import time
from collections import Counter
from typing import Final

import msgspec

from imgpro.errors import Busy, ImageBroken, ImageTooLarge, ImgproError, by_code
from imgpro.imaging.children import ChildGone, DeadlinePassed, WorkerHandle, Zygote
from imgpro.imaging.lanes import Lane, Lanes
from imgpro.imaging.protocol import Done, Failed, IngestTask, RenderTask, SandboxReport, Task, WorkerSettings
from imgpro.model import Ingested, Limits, Rendered, RenderJob
from imgpro.tallies import Histogram

HEAVY_SOURCE_BYTES: Final = 12 << 20
HEAVY_FILM_BYTES: Final = 256 << 10
HEAD_BYTES: Final = 32
WEBP_ANIMATED: Final = 2
ANIMATED: Final = frozenset({"gif", "webp"})
WARM_SHARE: Final = 1 / 3  # of the deadline; then an upload is answered without the rest of its derivatives
NOTICE_S: Final = 0.01
REPAIR_PAUSES_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much CPU work is done at once, and how much of it may wait."""

    workers: int = 0  # 0: one for each core this process may use
    # A 50-megapixel picture takes 0.5 GiB in most formats, 1 as WebP with transparency, 1.7 as AVIF in full size.
    worker_memory_bytes: int = 2 << 30
    deadline_s: float = 12.0
    max_queued: int = 64
    queue_deadline_s: float = 30.0
    nice: int = 10
    limits: Limits = Limits()


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool does at this moment, and how often it had to repair itself."""

    workers: int
    wanted: int  # workers there should be
    busy: int
    queued: int
    restarts: int  # workers replaced for whatever reason
    kills: int  # of which on a deadline or for a cancelled caller


class Pool:
    """A fixed number of workers. `start` before the first job, `close` after the last."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._size = settings.workers or len(os.sched_getaffinity(0))
        self._orders = WorkerSettings(
            memory_bytes=settings.worker_memory_bytes,
            deadline_s=settings.deadline_s,
            nice=settings.nice,
            limits=settings.limits,
        )
        self._lanes: Lanes[WorkerHandle] = Lanes(max(1, self._size - 1), settings.max_queued, settings.queue_deadline_s)
        self._workers: set[WorkerHandle] = set()
        self._zygote: Zygote | None = None
        self._zygote_lock = asyncio.Lock()
        self._repairs: set[asyncio.Task[None]] = set()
        self._restarts = 0
        self._kills = 0
        self._closed = False
        # By what is done: `ingest`, or the format of a derivative. Results are `ok` and codes of errors.
        self.results: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Histogram] = {}  # of the work in seconds, without waiting for a worker
        self.sandbox: SandboxReport | None = None

    async def start(self) -> None:
        """Start all workers. Raises ChildGone where not even the first can be started."""
        for worker in await asyncio.gather(*(self._hire() for _ in range(self._size))):
            self._enlist(worker)

    async def close(self) -> None:
        """End all workers at once; whoever still waits gets Busy."""
        self._closed = True
        for repair in self._repairs:
            repair.cancel()
        self._lanes.close()
        for worker in tuple(self._workers):
            worker.kill()
        if self._zygote is not None:
            self._zygote.end()
            await self._zygote.wait()

    async def ingest(self, source_fd: int, clean_fd: int, out_fd: int, *, aside: bool = False) -> Ingested:
        """Prove, clean and measure an upload; its warm derivatives are in `out_fd`, the cleaned file in `clean_fd`.

        With `aside` half of the processors are left to others. The descriptors stay the caller's. Raises
        UnsupportedFormat, ImageBroken, ImageTooLarge, Busy.
        """
        task = IngestTask(self._settings.deadline_s * WARM_SHARE, aside)
        lane = lane_of_upload(os.pread(source_fd, HEAD_BYTES, 0), os.fstat(source_fd).st_size)
        try:
            done = await self._do("ingest", task, (source_fd, clean_fd, out_fd), lane)
        except ChildGone:
            raise ImageBroken from None
        assert done.ingested is not None
        return done.ingested

    async def render(self, source_fd: int, out_fd: int, job: RenderJob) -> Rendered:
        """Make one derivative into `out_fd`. The descriptors stay the caller's.

        Raises ImageBroken, ImageTooLarge, Busy.
        """
        lane = lane_of(job, os.fstat(source_fd).st_size)
        try:
            done = await self._do(job.recipe.format, RenderTask(job), (source_fd, out_fd), lane)
        except ChildGone:
            raise ImageTooLarge from None
        assert done.rendered is not None
        return done.rendered

    def status(self) -> PoolStatus:
        """Return how things stand."""
        return PoolStatus(
            workers=sum(worker.alive for worker in self._workers),
            wanted=self._size,
            busy=self._lanes.busy,
            queued=self._lanes.queued,
            restarts=self._restarts,
            kills=self._kills,
        )

    async def _do(self, op: str, task: Task, files: tuple[int, ...], lane: Lane) -> Done:
        """Have one job done, and count it. Raises ChildGone where it was the death of two workers."""
        result = "cancelled"
        try:
            done = await self._done(op, task, files, lane)
            result = "ok"
        except ChildGone:
            result = "worker_died"
            raise
        except ImgproError as problem:
            result = problem.code
            raise
        finally:
            self.results[op, result] += 1
        return done

    async def _done(self, op: str, task: Task, files: tuple[int, ...], lane: Lane) -> Done:
        """Have one job done by whichever worker is free."""
        if self._closed:
            raise Busy
        worker = await self._living(lane)
        try:
            try:
                answer = await self._run(op, worker, task, files)
            except ChildGone:
                worker = await self._successor(worker)
                answer = await self._run(op, worker, task, files)
        finally:
            if worker.alive:
                self._lanes.give_back(worker, lane)
            else:
                self._lanes.write_off(lane)
                self._dismiss(worker)
        if isinstance(answer, Failed):
            raise by_code(answer.code, answer.message)
        return answer

    async def _run(self, op: str, worker: WorkerHandle, task: Task, files: tuple[int, ...]) -> Done | Failed:
        began_s = time.monotonic()
        try:
            return await worker.run(task, files, self._settings.deadline_s)
        except DeadlinePassed:
            self._kills += 1
            raise ImageTooLarge("The picture took too long to process.") from None
        except asyncio.CancelledError:
            self._kills += 1
            raise
        finally:
            self.durations.setdefault(op, Histogram()).note(time.monotonic() - began_s)

    async def _successor(self, dead: WorkerHandle) -> WorkerHandle:
        """Return a new worker in the place of one that died over a job.

        New, because where one was killed from outside, the others that were free may be dead as well.
        """
        try:
            worker = await self._hire()
        except (ChildGone, OSError):
            raise Busy from None
        self._workers.discard(dead)
        self._restarts += 1
        self._register(worker)
        return worker

    async def _living(self, lane: Lane) -> WorkerHandle:
        """Take a worker that has not died while it was free."""
        while True:
            worker = await self._lanes.take(lane)
            if worker.alive:
                return worker
            self._lanes.write_off(lane)
            self._dismiss(worker)

    def _enlist(self, worker: WorkerHandle) -> None:
        """Put a new worker at the disposal of whoever is next."""
        self._register(worker)
        self._lanes.add(worker)

    def _register(self, worker: WorkerHandle) -> None:
        self._workers.add(worker)
        self.sandbox = worker.report
        worker.on_gone = self._on_gone

    def _on_gone(self, worker: WorkerHandle) -> None:
        """Replace a worker that died while it had nothing to do; a busy one is its caller's to dismiss."""
        if self._lanes.drop(worker):
            self._dismiss(worker)

    def _dismiss(self, worker: WorkerHandle) -> None:
        """Forget a dead worker and begin to replace it."""
        self._workers.discard(worker)
        if not self._closed:
            self._restarts += 1
            repair = asyncio.get_running_loop().create_task(self._repair())
            self._repairs.add(repair)
            repair.add_done_callback(self._repairs.discard)

    async def _repair(self) -> None:
        """Hire one worker, however long it takes to become possible again."""
        attempt = 0
        while not self._closed:
            await asyncio.sleep(REPAIR_PAUSES_S[min(attempt, len(REPAIR_PAUSES_S) - 1)])
            attempt += 1
            try:
                worker = await self._hire()
            except (ChildGone, OSError):
                continue
            self._enlist(worker)
            return

    async def _hire(self) -> WorkerHandle:
        """Return a new worker. Raises ChildGone where neither this zygote nor a new one can fork it."""
        zygote = await self._living_zygote()
        try:
            return await zygote.fork(self._orders)
        except ChildGone:
            # A zygote takes its workers along when it dies, and theirs may be the first death that is noticed.
            await asyncio.sleep(NOTICE_S)
        return await (await self._living_zygote()).fork(self._orders)

    async def _living_zygote(self) -> Zygote:
        async with self._zygote_lock:
            if self._zygote is None or not self._zygote.alive:
                if self._zygote is not None:
                    await self._zygote.wait()
                self._zygote = Zygote()
            return self._zygote


def lane_of_upload(head: bytes, length: int) -> Lane:
    """Return the lane of an upload by its first bytes and its length: what may hold hundreds of frames is heavy.

    A guess at the cost and nothing else; what the picture is, the worker finds out.
    """
    moving = head[:4] == b"RIFF" and head[12:16] == b"VP8X" and bool(head[20:21]) and head[20] & WEBP_ANIMATED != 0
    film = moving or head[:4] == b"GIF8" or head[4:8] == b"ftyp"
    return Lane.HEAVY if length > (HEAVY_FILM_BYTES if film else HEAVY_SOURCE_BYTES) else Lane.LIGHT


def lane_of(job: RenderJob, source_bytes: int) -> Lane:
    """Return the lane of a derivative: slow encoders, animations and very large pictures are heavy."""
    output = job.recipe.format
    if output == "avif" or (job.format in ANIMATED and output in ANIMATED):
        return Lane.HEAVY
    if source_bytes > HEAVY_SOURCE_BYTES and (job.recipe.size == "o" or job.format != "jpeg"):
        return Lane.HEAVY
    return Lane.LIGHT
