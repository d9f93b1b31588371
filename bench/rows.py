"""The other rows: memory, pictures already made, originals, uploads. `report` turns figures into a table.

Rounds of the servers are interleaved, so that a slow spell of the machine meets all of them; the median counts.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import cost, load, reference, servers
from bench.figures import MIB, Bench, Figure, median, noise
from bench.lists import lists
from bench.pictures import PHOTOS, SOURCES, variant
from bench.transforms import cold


def _hot(bench: Bench) -> servers.Imgpro:
    server = servers.Imgpro(bench.folder, bench.scratch("hot"))
    server.start()
    return server


def _fast(
    bench: Bench, row: str, running: list[tuple[servers.Server, str]], connections: int
) -> dict[str, load.Sample]:
    samples: dict[str, list[load.Sample]] = {}
    for _ in range(bench.rounds):
        for server, path in running:
            sample = load.wrk(server.pid, server.port, path, seconds=bench.seconds, connections=connections)
            if sample is None:
                print(f"not measured: {row}; it needs wrk", file=sys.stderr)
                return {}
            samples.setdefault(server.name, []).append(sample)
    return {name: median(found) for name, found in samples.items()}


def cached(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """A hot picture of about 30 KB: the whole application beside a bare handler and nginx with the same bytes."""
    row = "cached-30kb"
    if not wanted(row) or not bench.with_imgpro:
        return
    ours = _hot(bench)
    started: list[servers.Server] = [ours]
    try:
        path, body = asyncio.run(_picture_near(ours, bench, 30 * 1024))
        file = bench.scratch("files") / "picture.jpg"
        file.write_bytes(body)
        bare = servers.Bare(file, bench.scratch("bare"))
        running: list[tuple[servers.Server, str]] = [(ours, path), (bare, "/")]
        if servers.Nginx.missing() is None:
            running.append((servers.Nginx(file.parent, bench.scratch("nginx")), "/picture.jpg"))
        for server, _ in running[1:]:
            server.start()
            started.append(server)
        medians = _fast(bench, row, running, 32)
    finally:
        for server in started:
            server.stop()
    yield from _fast_figures(row, medians, len(body), "bare aiohttp")
    if "imgpro" in medians:
        us = medians["imgpro"].cpu_ms * 1000
        yield Figure(row, "imgpro CPU", {"us": us}, target="<= 50 us", met=us <= 50)


def _fast_figures(row: str, medians: dict[str, load.Sample], size: int, beside: str) -> Iterator[Figure]:
    ours = medians.get("imgpro")
    for name, sample in medians.items():
        values: dict[str, float | str] = {
            "req/s": sample.per_s,
            "CPU ms": sample.cpu_ms,
            "p99 ms": sample.quantile_ms(0.99),
            "KB": size / 1024,
            **noise(sample),
        }
        figure = Figure(row, name, values)
        if ours and name != "imgpro":
            figure.ratios = {"req/s": ours.per_s / sample.per_s, "CPU": sample.cpu_ms / ours.cpu_ms}
            if name == beside and row == "cached-30kb":
                figure.target, figure.met = ">= 0.8x req/s", figure.ratios["req/s"] >= 0.8
            elif name == beside:
                # Here the target is on the price: ours over theirs.
                figure.target, figure.met = "CPU >= 0.77x (ours <= 1.3 of it)", figure.ratios["CPU"] >= 1 / 1.3
        yield figure


async def _picture_near(server: servers.Imgpro, bench: Bench, size: int) -> tuple[str, bytes]:
    await server.upload_all([bench.names["12mp"][0], bench.names["24mp"][0]])
    best: tuple[int, str, bytes] | None = None
    for name in server.ids:
        for edge in "sm":
            path = f"/t/{server.ids[name]}.jpeg?size={edge}"
            body = (await load.ask_once(server.port, path)).body
            if best is None or abs(len(body) - size) < best[0]:
                best = abs(len(body) - size), path, body
    assert best
    return best[1], best[2]


def original(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """The stored bytes of a 3 MB picture: CPU per request beside asyncio's sendfile and nginx."""
    row = "original-3mb"
    if not wanted(row) or not bench.with_imgpro:
        return
    ours = _hot(bench)
    started: list[servers.Server] = [ours]
    try:
        name = bench.names["12mp"][0]
        asyncio.run(ours.upload_all([name]))
        running: list[tuple[servers.Server, str]] = [
            (ours, f"/t/{ours.ids[name]}.jpeg"),
            (servers.BareDisk(bench.folder / name, bench.scratch("disk")), "/"),
        ]
        if servers.Nginx.missing() is None:
            running.append((servers.Nginx(bench.folder, bench.scratch("nginx")), f"/{name}"))
        for server, _ in running[1:]:
            server.start()
            started.append(server)
        medians = _fast(bench, row, running, 4)
    finally:
        for server in started:
            server.stop()
    yield from _fast_figures(row, medians, (bench.folder / name).stat().st_size, "aiohttp sendfile")


def _fresh(number: int) -> bytes:
    return variant((PHOTOS / SOURCES["12mp"]).read_bytes(), 100 + number)


def first_view(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """The first request for each size after an upload, beside the tenth: both must be answered from what is there."""
    row = "first-view"
    if not wanted(row) or not bench.with_imgpro:
        return
    ours = _hot(bench)
    try:
        first, later, worker_cpu_s = asyncio.run(_views(ours, 5))
    finally:
        ours.stop()
    values: dict[str, float | str] = {
        "first ms": statistics.median(first) * 1000,
        "slowest first ms": max(first) * 1000,
        "later ms": statistics.median(later) * 1000,
        "worker CPU ms": worker_cpu_s * 1000,
    }
    yield Figure(row, "imgpro", values, target="no transform", met=worker_cpu_s <= 0.01)


async def _views(server: servers.Imgpro, uploads: int) -> tuple[list[float], list[float], float]:
    connection = load.Connection(server.port)
    first: list[float] = []
    later: list[float] = []
    worker_cpu_s = 0.0
    for number in range(uploads):
        image = await server.upload(connection, f"{number}.jpg", _fresh(number))
        before = cost.cpu_s(server.pid, children_only=True)
        for turn in range(10):
            for size in "sml":
                begun = time.perf_counter()
                answer = await connection.ask(f"/t/{image}.jpeg?size={size}")
                assert answer.status == 200
                if turn in {0, 9}:
                    (first if turn == 0 else later).append(time.perf_counter() - begun)
        worker_cpu_s += cost.cpu_s(server.pid, children_only=True) - before
    connection.close()
    return first, later, worker_cpu_s


def coalesce(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """200 clients ask at once for a derivative that is not there. What the workers burn says how often it was made."""
    row = "coalesce-200"
    if not wanted(row) or not bench.with_imgpro:
        return
    ours = _hot(bench)
    try:
        one, many, wall_s, bodies = asyncio.run(_crowd(ours, 200))
    finally:
        ours.stop()
    transforms = many / one if one else 0.0
    values: dict[str, float | str] = {
        "transforms": transforms,
        "worker CPU ms": many * 1000,
        "worker CPU ms of one": one * 1000,
        "all served in ms": wall_s * 1000,
        "different bodies": float(bodies),
    }
    yield Figure(row, "imgpro", values, target="1 transform", met=transforms < 1.5 and bodies == 1)


async def _crowd(server: servers.Imgpro, clients: int) -> tuple[float, float, float, int]:
    connection = load.Connection(server.port)
    ids = [await server.upload(connection, f"{number}.jpg", _fresh(50 + number)) for number in range(6)]
    # The cost of one, from the mean of a few.
    before = cost.cpu_s(server.pid, children_only=True)
    for image in ids[1:]:
        await connection.ask(f"/t/{image}.webp?size=l")
    one = (cost.cpu_s(server.pid, children_only=True) - before) / (len(ids) - 1)
    connection.close()
    crowd = [load.Connection(server.port) for _ in range(clients)]
    for member in crowd:
        await member.open()
    before, begun = cost.cpu_s(server.pid, children_only=True), time.perf_counter()
    answers = await asyncio.gather(*(member.ask(f"/t/{ids[0]}.webp?size=l") for member in crowd))
    wall_s, many = time.perf_counter() - begun, cost.cpu_s(server.pid, children_only=True) - before
    for member in crowd:
        member.close()
    assert {answer.status for answer in answers} == {200}
    return one, many, wall_s, len({answer.body for answer in answers})


def upload(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """A 3 MB JPEG, acknowledged and durable, beside the same work done in one bare process."""
    row = "upload-3mb"
    if not wanted(row) or not bench.with_imgpro:
        return
    least = reference.upload_cpu_s(PHOTOS / SOURCES["12mp"])
    ours = _hot(bench)
    try:
        for clients in (1, 4):
            count = max(6, round(bench.seconds * 6))
            sample, grown_bytes = asyncio.run(_uploads(ours, clients, count, offset=clients * 1000))
            ratio = sample.cpu_s / sample.requests / least
            values: dict[str, float | str] = {
                "req/s": sample.per_s,
                "CPU ms": sample.cpu_ms,
                "p50 ms": sample.quantile_ms(0.5),
                "p99 ms": sample.quantile_ms(0.99),
                "least CPU ms": least * 1000,
                "peak MB": sample.peak_bytes / MIB,
                "server grew by MB": grown_bytes / MIB,
            }
            yield Figure(
                f"{row}-c{clients}", "imgpro", values, {"CPU over least": ratio}, "<= 1.3x of least", ratio <= 1.3
            )
    finally:
        ours.stop()


async def _uploads(server: servers.Imgpro, clients: int, count: int, offset: int) -> tuple[load.Sample, int]:
    latencies: list[float] = []
    bodies = iter([_fresh(offset + number) for number in range(count)])
    warm = load.Connection(server.port)
    await server.upload(warm, "warm.jpg", _fresh(offset + count))
    warm.close()

    async def client() -> None:
        connection = load.Connection(server.port)
        for body in bodies:
            begun = time.perf_counter()
            await server.upload(connection, "photo.jpg", body)
            latencies.append(time.perf_counter() - begun)
        connection.close()

    before = _own_pss(server.pid)
    with cost.Watch(server.pid) as watch:
        await asyncio.gather(*(client() for _ in range(clients)))
    sample = load.Sample(count, watch.wall_s, watch.cpu_s, watch.peak_bytes, watch.children_cpu_s, latencies)
    return sample, _own_pss(server.pid) - before


def _own_pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def memory(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """Idle with workers started; during 16 transforms of 24 MP at once; and three seconds after."""
    if not wanted("memory"):
        return
    for kind in ([servers.ImgproCold] if bench.with_imgpro else []) + bench.peers:
        if kind is servers.Nginx:
            continue
        server = kind(bench.folder, bench.scratch("memory"))
        server.start()
        try:
            time.sleep(1.5)
            idle = cost.pss_bytes(server.pid)
            peak, after, cores = _crowded(bench, server)
            yield _memory_figure(server, idle, peak, after, cores)
        finally:
            server.stop()


def _memory_figure(server: servers.Server, idle: int, peak: int, after: int, wall_s: float) -> Figure:
    values: dict[str, float | str] = {
        "start s": server.start_s,
        "idle MB": idle / MIB,
        "peak MB of 16 x 24 MP": peak / MIB,
        "MB 3 s after": after / MIB,
        "16 done in s": wall_s,
    }
    figure = Figure("memory", server.name, values)
    if isinstance(server, servers.Imgpro):
        figure.target, figure.met = "idle < 100 MB, start < 2 s", idle < 100 * MIB and server.start_s < 2
    return figure


def _crowded(bench: Bench, server: servers.Server) -> tuple[int, int, float]:
    if isinstance(server, servers.Imgpro):
        asyncio.run(server.upload_all(bench.names["24mp"]))
    paths = [server.picture_path(name, "l", fmt) for name in bench.names["24mp"] for fmt in ("jpeg", "webp")]

    async def all_at_once() -> None:
        answers = await asyncio.gather(*(load.ask_once(server.port, path) for path in paths if path))
        assert {answer.status for answer in answers} == {200}, [answer.status for answer in answers]

    with cost.Watch(server.pid) as watch:
        asyncio.run(all_at_once())
    time.sleep(3)
    return watch.peak_bytes, cost.pss_bytes(server.pid), watch.wall_s


GROUPS: list[Callable[[Bench, Callable[[str], bool]], Iterator[Figure]]] = [
    memory,
    cached,
    original,
    first_view,
    coalesce,
    upload,
    lists,
    cold,
]
