"""The rows where every request is a transform, because nobody keeps anything."""

import asyncio
from collections.abc import Callable, Iterator

from bench import load, servers
from bench.figures import MIB, Bench, Figure, median, noise

# Peers that are here for orientation: a few rows of them say all, and the run stays short.
SAMPLED = {
    "nginx": ("cold-12mp-m-jpeg",),
    "sharp": ("cold-12mp-m-jpeg", "cold-24mp-l-webp", "cold-shot-m-png", "cold-shot-m-webp"),
}


def _start_all(bench: Bench, kinds: list[type[servers.Server]]) -> list[servers.Server]:
    started: list[servers.Server] = []
    for kind in kinds:
        server = kind(bench.folder, bench.scratch("run"))
        server.start()
        started.append(server)
        if isinstance(server, servers.Imgpro):
            asyncio.run(server.upload_all([name for names in bench.names.values() for name in names]))
    return started


def cold(bench: Bench, wanted: Callable[[str], bool]) -> Iterator[Figure]:
    """Every request a transform: nothing cached by anyone, four clients."""
    cases = [(key, size, fmt) for key in ("12mp", "24mp") for size in "sml" for fmt in ("jpeg", "webp")]
    cases += [("shot", "m", "png"), ("shot", "m", "webp")]
    cases = [case for case in cases if wanted("cold-" + "-".join(case))]
    if not cases:
        return
    kinds = ([servers.ImgproCold] if bench.with_imgpro else []) + bench.peers
    running = _start_all(bench, kinds)
    try:
        for key, size, fmt in cases:
            yield from _cold_row(bench, running, key, size, fmt)
    finally:
        for server in running:
            server.stop()


def _cold_row(bench: Bench, running: list[servers.Server], key: str, size: str, fmt: str) -> Iterator[Figure]:
    row = f"cold-{key}-{size}-{fmt}"
    samples: dict[str, list[load.Sample]] = {}
    for _ in range(bench.rounds):
        for server in running:
            paths = [server.picture_path(name, size, fmt) for name in bench.names[key]]
            if None in paths or row not in SAMPLED.get(server.name, (row,)):
                continue
            known = [path for path in paths if path]
            sample = asyncio.run(load.closed_loop(server.pid, server.port, known, seconds=bench.seconds))
            samples.setdefault(server.name, []).append(sample)
    medians = {name: median(found) for name, found in samples.items()}
    ours = medians.get("imgpro cold")
    for name, sample in medians.items():
        values: dict[str, float | str] = {
            "req/s": sample.per_s,
            "CPU ms": sample.cpu_ms,
            "p50 ms": sample.quantile_ms(0.5),
            "p99 ms": sample.quantile_ms(0.99),
            "peak MB": max(one.peak_bytes for one in samples[name]) / MIB,
            "KB": sample.body_bytes / 1024,
            **noise(sample),
        }
        figure = Figure(row, name, values)
        if ours and name != "imgpro cold":
            # Both so that more is better for imgpro.
            figure.ratios = {"req/s": ours.per_s / sample.per_s, "CPU": sample.cpu_ms / ours.cpu_ms}
            floor = {"ipx": 1.0 if key == "shot" else 1.4, "thumbor": None if key == "shot" else 1.15}.get(name)
            if floor:
                figure.target = f">= {floor}x"
                figure.met = min(figure.ratios.values()) >= floor
        yield figure
