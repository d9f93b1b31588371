"""The whole appliance inside the test's own process, behind a real socket, with a client that counts nothing."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from imgpro.appliance import Appliance
from imgpro.settings import Anonymous, Cache, Imaging, Server, Settings, Storage
from imgpro.web.app import build_runner
from tests.servers import Answer, multipart

FREE = Anonymous(uploads_per_hour=None, uploads_per_day=None, attempts_per_minute=None)


def settings(workers: int = 2, max_queued: int = 64, **sections: Any) -> Settings:
    return Settings(
        **{
            "server": Server(max_connections_per_network=1000),
            "storage": Storage(reserve_bytes=0),
            "anonymous": FREE,
            "imaging": Imaging(workers=workers, max_queued=max_queued),
            "cache": Cache(),
            **sections,
        }
    )


class Inside:
    """A running appliance and its port."""

    def __init__(self, appliance: Appliance, port: int) -> None:
        self.appliance = appliance
        self.port = port

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send one request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = {"Host": "img.test", "Connection": "close", "Content-Length": str(len(body)), **headers}
            head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            raw = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        top, _, content = raw.partition(b"\r\n\r\n")
        status, *fields = top.decode("latin-1").split("\r\n")
        found = dict(field.split(": ", 1) for field in fields)
        return Answer(int(status.split()[1]), found, content)

    async def get(self, path: str) -> Answer:
        return await self.ask("GET", path.removeprefix("http://img.test"))

    async def upload(self, body: bytes) -> Answer:
        content, kind = multipart([("file", "x", body)])
        return await self.ask("POST", "/v1/upload", content, Content_Type=kind)

    async def must_upload(self, body: bytes) -> dict[str, Any]:
        answer = await self.upload(body)
        assert answer.status == 201, answer
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def delete(self, found: dict[str, Any]) -> Answer:
        return await self.ask("POST", found["delete_url"].removeprefix("http://img.test"))


@contextlib.asynccontextmanager
async def inside(data: Path, chosen: Settings | None = None) -> AsyncIterator[Inside]:
    """Open the appliance and its web side, and close both."""
    appliance = await Appliance.start(chosen or settings(), data)
    runner = build_runner(appliance, None)
    try:
        await runner.setup()
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        await runner.listen(sock)
        yield Inside(appliance, port)
        await runner.drain()
    finally:
        await runner.cleanup()
        await appliance.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[int]:
    """Return this process's children that still exist, zombies too."""
    return [int(pid) for task in os.listdir("/proc/self/task") for pid in _children_of(task)]


def _children_of(task: str) -> list[str]:
    try:
        return Path(f"/proc/self/task/{task}/children").read_text().split()
    except OSError:
        return []


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError):
                    found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found


def pss_bytes(pids: list[int]) -> int:
    """Return the memory of some processes, shared pages counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total
