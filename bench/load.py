"""Asks: a light asyncio client for slow requests and uploads, wrk for fast ones."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

from bench.cost import Watch


@dataclass
class Sample:
    """One measurement of one server. Times in seconds."""

    requests: int
    wall_s: float
    cpu_s: float
    peak_bytes: int = 0
    children_cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    body_bytes: int = 0
    elsewhere: float = 0.0

    @property
    def per_s(self) -> float:
        return self.requests / self.wall_s

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s / self.requests * 1000

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One keep-alive connection; opens itself again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def ask(self, path: str, *, method: str = "GET", headers: str = "", body: bytes = b"") -> Answer:
        if self._streams is None:
            await self.open()
        assert self._streams
        reader, writer = self._streams
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: */*\r\n{length}{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await self._read(reader, method)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    async def _read(self, reader: asyncio.StreamReader, method: str) -> Answer:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:]) if name}
        if method == "HEAD":
            return Answer(int(lines[0].split()[1]), headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split()[1]), headers, body)


async def ask_once(port: int, path: str, **options: str | bytes) -> Answer:
    connection = Connection(port)
    try:
        return await connection.ask(path, **options)  # type: ignore[arg-type]
    finally:
        connection.close()


async def closed_loop(pid: int, port: int, paths: list[str], *, seconds: float, concurrency: int = 4) -> Sample:
    """Let `concurrency` clients ask for `paths` in turn until `seconds` have passed, and all finish.

    Each request has a connection of its own: whichever process of a server is free then takes it.
    """
    turn: Iterator[str] = cycle(paths)
    latencies: list[float] = []
    body_bytes = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal body_bytes
        while (begun := time.perf_counter()) < end:
            path = next(turn)
            answer = await ask_once(port, path)
            if answer.status != 200:
                raise RuntimeError(f"{path} on port {port}: {answer.status} {answer.body[:200]!r}")
            latencies.append(time.perf_counter() - begun)
            body_bytes = len(answer.body)

    with Watch(pid) as watch:
        await asyncio.gather(*(client() for _ in range(concurrency)))
    return Sample(
        len(latencies),
        watch.wall_s,
        watch.cpu_s,
        watch.peak_bytes,
        watch.children_cpu_s,
        latencies,
        body_bytes,
        watch.elsewhere,
    )


def multipart(name: str, body: bytes) -> tuple[str, bytes]:
    """Return the header lines and the body of an upload of one file."""
    edge = "imgpro-bench-edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    end = f"\r\n--{edge}--\r\n"
    return f"Content-Type: multipart/form-data; boundary={edge}\r\n", head.encode() + body + end.encode()


def wrk(pid: int, port: int, path: str, *, seconds: float, connections: int) -> Sample | None:
    """Ask as fast as one thread of wrk can; None where wrk is not installed."""
    if not shutil.which("wrk"):
        return None
    address = f"http://127.0.0.1:{port}{path}"
    with Watch(pid, memory=False) as watch:
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", address],
            check=True,
            capture_output=True,
            text=True,
        )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{address}: {done.stdout}")
    count = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    if count is None or tail is None:
        raise RuntimeError(done.stdout)
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
    return Sample(
        int(count[1]),
        float(count[2]) * unit[count[3]],
        watch.cpu_s,
        latencies_s=[float(tail[1]) * unit[tail[2]]],
        elsewhere=watch.elsewhere,
    )
