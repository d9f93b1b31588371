"""Somebody who looks at pictures, one after the other and at a steady rate, while a server does other work.

A process of its own: what else a benchmark does meanwhile must not be felt in what it measures.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Self

from bench import load
from bench.servers import ROOT

PER_S = 100.0


class Visitors:
    """Look at `paths` from `with` to its end, after they have all been looked at once."""

    def __init__(self, port: int, paths: Sequence[str], rate: float = PER_S) -> None:
        self._asked = json.dumps({"port": port, "paths": list(paths), "rate": rate})
        self._process: subprocess.Popen[str] | None = None
        self.latencies_s: list[float] = []

    def __enter__(self) -> Self:
        # In our session: Linux shares processors out among sessions.
        words = [sys.executable, "-m", "bench.visitors"]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._asked + "\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise RuntimeError("a visitor could not look at every picture")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        said = self._process.communicate("\n")[0]
        if self._process.returncode != 0:
            raise RuntimeError("a visitor was not shown a picture")
        self.latencies_s = json.loads(said)

    @property
    def p99_ms(self) -> float:
        return load.Sample(len(self.latencies_s), 0, 0, latencies_s=self.latencies_s).quantile_ms(0.99)


async def look(port: int, paths: Sequence[str], rate: float) -> list[float]:
    """Look until a line comes on standard input; return how long each answer took."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    dice = random.Random(5)
    latencies_s: list[float] = []
    connection = load.Connection(port)
    for path in paths:  # what is made for a first view is measured elsewhere
        await _seen(connection, path)
    print("ready", flush=True)
    while not ended.is_set():
        began_s = time.perf_counter()
        await _seen(connection, dice.choice(paths))
        latencies_s.append(time.perf_counter() - began_s)
        await asyncio.sleep(max(0.0, 1 / rate - latencies_s[-1]))
    connection.close()
    return latencies_s


async def _seen(connection: load.Connection, path: str) -> None:
    answer = await connection.ask(path)
    if answer.status != 200:
        raise RuntimeError(f"a picture was answered {answer.status}")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(look(**json.loads(sys.stdin.readline())))))
