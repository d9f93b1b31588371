"""`/metrics`: numbers for Prometheus. Route templates only, never an id; the way of a picture pays next to nothing."""

import asyncio
import logging
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Any, Final

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from imgpro import __version__
from imgpro.errors import ImgproError, NotFound
from imgpro.flows.figures import Figures, Snapshot
from imgpro.store.schema import SQLITE_VERSION
from imgpro.tallies import Counted
from imgpro.web import respond
from imgpro.web.bodies import expect
from imgpro.web.clients import Clients
from imgpro.web.counting import RequestCounts
from imgpro.web.proxies import Peers

log = logging.getLogger(__name__)

_IDLE_S: Final = 75.0  # longer than Prometheus usually waits between two scrapes
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4  # what every version of Prometheus reads
PATH: Final = "/metrics"
_ANSWERS: Final = frozenset((hdrs.METH_GET, hdrs.METH_HEAD))


class Metrics:
    """Answers whoever may read the numbers; for all others there is nothing at this address."""

    def __init__(self, figures: Figures, counts: RequestCounts, clients: Clients, networks: tuple[str, ...]) -> None:
        self._figures = figures
        self._counts = counts
        self._clients = clients
        self._process = ProcessCollector(registry=None)
        self.allow(networks)

    def allow(self, networks: tuple[str, ...]) -> None:
        """Let these read, and nobody else."""
        self._readers = Peers(networks)

    def route(self) -> web.RouteDef:
        """Return the route, for any method: one that is not allowed would tell that there is something."""
        return web.route("*", PATH, self.answer, expect_handler=expect)

    async def answer(self, request: web.Request) -> web.Response:
        """Return the numbers as text. Raises NotFound, HTTPMethodNotAllowed."""
        if not self._may_read(request):
            raise NotFound()
        if request.method not in _ANSWERS:
            raise web.HTTPMethodNotAllowed(request.method, _ANSWERS)
        snapshot = await self._figures.read()
        cells = {key: cell.counted() for key, cell in self._counts.cells.items()}
        registry = CollectorRegistry()
        registry.register(_Families(snapshot, cells, self._counts.from_memory))
        registry.register(self._process)
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    def _may_read(self, request: web.Request) -> bool:
        address = self._clients.address(request)
        if (None if address == "unix" else address) not in self._readers:
            return False
        # A proxy on this machine asks for the whole world.
        return not self._clients.may_be_for_others(request)


class MetricsDoor:
    """A listener of its own for the numbers. Make it with `open`, end it with `close`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        app = web.Application(client_max_size=1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        # aiohttp's own deadline for a silent connection is an hour.
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=_IDLE_S)

    async def open(self, sock: socket.socket) -> None:
        """Answer on a bound socket."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """End."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            if request.path != PATH:
                raise NotFound()
            return await self._metrics.answer(request)
        except ImgproError as problem:
            return respond.error(problem)
        except web.HTTPException as problem:
            return respond.from_http_exception(problem)
        except Exception:
            log.exception("the metrics could not be told")
            return respond.error(ImgproError())


class _Families(Collector):
    """One moment's numbers, as the library wants to see them."""

    def __init__(self, snapshot: Snapshot, cells: Mapping[tuple[str, str, int], Counted], from_memory: int) -> None:
        self._now = snapshot
        self._cells = cells
        self._from_memory = from_memory

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield _gauge("build_info", "What runs.", {_versions(): 1}, ("version", "python", "sqlite", "pillow"))
        for part in (self._requests, self._pictures, self._storage, self._database, self._workers, self._keeping):
            yield from part()

    def _requests(self) -> Iterator[Metric]:
        cells = self._cells
        counts = {(method, route, str(code)): sum(seen.counts) for (method, route, code), seen in cells.items()}
        yield _counter("http_requests", "Requests answered.", counts, ("method", "route", "code"))
        by_route: dict[tuple[str, str], list[Counted]] = {}
        for (method, route, _), seen in cells.items():
            by_route.setdefault((method, route), []).append(seen)
        durations = {key: _together(seen) for key, seen in by_route.items()}
        words = "Time until the answer was made; where a file is sent, until it was sent."
        yield _histogram("http_request_duration_seconds", words, durations, ("method", "route"))

    def _pictures(self) -> Iterator[Metric]:
        now = self._now
        yield _counter("uploads", "Uploads and imports by how they ended.", now.uploads, ("result", "client"))
        yield _counter("upload_bytes", "Bytes of originals stored.", {(): now.upload_bytes})
        yield _counter("transforms", "Jobs of workers by how they ended.", now.transforms, ("op", "result"))
        words = "Time that a worker took for a job."
        durations = {(op,): seen for op, seen in now.transform_durations.items()}
        yield _histogram("transform_duration_seconds", words, durations, ("op",))
        found = {
            ("memory",): self._from_memory,
            ("disk",): now.cache_hits,
            ("miss",): now.cache_misses,
            ("original",): now.originals,
        }
        yield _counter(
            "cache_requests", "Pictures by where they were found; originals need no cache.", found, ("result",)
        )
        yield _counter("cache_evicted", "Derivatives that went to make room.", {(): now.derivatives.evicted})

    def _storage(self) -> Iterator[Metric]:
        now = self._now
        kinds = {("cache",): now.derivatives.bytes, ("database",): now.database_bytes}
        if now.totals is not None:
            yield _gauge("images", "Pictures stored.", {(): now.totals.images})
            kinds["originals",] = now.totals.blob_bytes
        if now.backup_bytes is not None:
            kinds["backups",] = now.backup_bytes
        yield _gauge("storage_bytes", "What imgpro's data takes.", kinds, ("kind",))
        rooms = [((disk,), found) for found in now.rooms for disk in found.holds[:1]]
        free = {disk: found.free_bytes for disk, found in rooms}
        inodes = {disk: found.free_inodes for disk, found in rooms if found.free_inodes is not None}
        low = {disk: int(found.state != "ok") for disk, found in rooms}
        full = {disk: int(found.state in ("full", "unwritable")) for disk, found in rooms}
        yield _gauge("storage_free_bytes", "Room left on the disk.", free, ("disk",))
        yield _gauge("storage_free_inodes", "Files that the disk still has place for.", inodes, ("disk",))
        yield _gauge("storage_low", "1 while the disk is low, full or not writable.", low, ("disk",))
        yield _gauge("storage_full", "1 while uploads are refused for it.", full, ("disk",))

    def _database(self) -> Iterator[Metric]:
        seen = self._now.database
        yield _gauge("db_write_queue", "Transactions that wait for the writer.", {(): seen.queued})
        yield _histogram("db_write_duration_seconds", "Time of a commit with all in it.", {(): seen.durations})
        yield _counter("db_writes", "Transactions written; many share a commit.", {(): seen.writes})
        yield _counter("db_busy", "Transactions refused, for the moment.", {(): seen.busy})
        yield _gauge("db_wal_bytes", "Size of the write-ahead log.", {(): seen.wal_bytes})

    def _workers(self) -> Iterator[Metric]:
        pool = self._now.pool
        yield _gauge("workers", "Worker processes that run.", {(): pool.workers})
        jobs = {("running",): pool.busy, ("waiting",): pool.queued}
        yield _gauge("worker_jobs", "Jobs under way and waiting.", jobs, ("state",))
        yield _counter("worker_restarts", "Workers replaced.", {(): pool.restarts})
        yield _counter("worker_kills", "Workers stopped on a deadline or for a caller who left.", {(): pool.kills})

    def _keeping(self) -> Iterator[Metric]:
        kept = self._now.kept
        if kept is None:
            return
        backups, run, verify = kept.backups, kept.backups.run, kept.backups.verify
        yield _success("backup", "a backup was made", backups.made_ms)
        yield _counter("backup_failures", "Backups that failed.", {(): kept.failures["backup"]})
        yield _gauge("backup_failed", "1 while the last backup failed.", {(): int(run is not None and run.failed)})
        words = "1 while a daily backup is missing for two days."
        yield _gauge("backup_late", words, {(): int(backups.late)})
        yield _success("verify", "a backup was tried out", None if verify is None else verify.good_ms)
        yield _counter("verify_failures", "Trials of backups that failed.", {(): kept.failures["verify"]})
        corrupt = verify.details.get("bad", 0) if verify is not None else 0
        words = "Originals that were missing or damaged in the backup tried out last."
        yield _gauge("verify_corrupt_blobs", words, {(): corrupt})
        whole = kept.scrub.details.get("whole_round_ms") if kept.scrub is not None else None
        yield _success("scrub", "all originals had been read again", whole)
        checked = kept.round.checked if kept.round is not None else 0
        yield _gauge("scrub_checked_blobs", "Originals read again in the round under way.", {(): checked})
        yield _gauge("scrub_damaged_blobs", "Originals that are damaged or missing.", {(): kept.damaged})
        size = kept.journal.snapshot_bytes + kept.journal.tail_bytes
        yield _gauge("journal_bytes", "Size of the journal that the database can be made from.", {(): size})
        yield _gauge("journal_failed", "1 while it cannot be written.", {(): int(kept.journal_fails)})


Values = Mapping[Any, int]  # by tuples of the labels' values


def _gauge(name: str, words: str, values: Values, labels: Iterable[str] = ()) -> Metric:
    return _simple(GaugeMetricFamily, name, words, values, labels)


def _success(kind: str, what: str, at_ms: int | None) -> Metric:
    """Return when something last went well."""
    words = f"When {what} last; 0: never."
    return _gauge(f"{kind}_last_success_timestamp_seconds", words, {(): (at_ms or 0) // 1000})


def _counter(name: str, words: str, values: Values, labels: Iterable[str] = ()) -> Metric:
    return _simple(CounterMetricFamily, name, words, values, labels)


def _simple(
    kind: Callable[..., GaugeMetricFamily | CounterMetricFamily],
    name: str,
    words: str,
    values: Values,
    labels: Iterable[str],
) -> Metric:
    family = kind(f"imgpro_{name}", words, labels=tuple(labels))
    for found, value in values.items():
        family.add_metric(found, value)
    return family


def _histogram(name: str, words: str, values: Mapping[Any, Counted], labels: Iterable[str] = ()) -> Metric:
    family = HistogramMetricFamily(f"imgpro_{name}", words, labels=tuple(labels))
    for found, seen in values.items():
        bounds = [*map(floatToGoString, seen.bounds), "+Inf"]
        family.add_metric(found, list(zip(bounds, accumulate(seen.counts), strict=True)), seen.sum)
    return family


def _together(several: list[Counted]) -> Counted:
    counts = tuple(map(sum, zip(*(seen.counts for seen in several), strict=True)))
    return Counted(several[0].bounds, counts, sum(seen.sum for seen in several))


def _versions() -> tuple[str, ...]:
    return __version__, platform.python_version(), SQLITE_VERSION, _pillow()


def _pillow() -> str:
    """Return the version of whichever Pillow the workers use; this process does not load it."""
    for name in ("pillow-simd", "pillow"):
        try:
            return f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return ""
