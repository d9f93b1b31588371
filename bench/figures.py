"""A run, its figures, and what all rows do with them."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, servers

MIB = 1024 * 1024


@dataclass
class Figure:
    """One line of the report: what `server` reached in `row`, and how that compares."""

    row: str
    server: str
    values: dict[str, float | str]
    ratios: dict[str, float] = field(default_factory=dict)
    target: str = ""
    met: bool | None = None


@dataclass
class Bench:
    """A run: where pictures and servers live, and how long each measurement may take."""

    folder: Path
    work: Path
    names: dict[str, list[str]]
    seconds: float
    rounds: int
    peers: list[type[servers.Server]]
    with_imgpro: bool

    def scratch(self, name: str) -> Path:
        path = self.work / f"{name}-{time.monotonic_ns()}"
        path.mkdir()
        return path


def median(samples: list[load.Sample]) -> load.Sample:
    return sorted(samples, key=lambda sample: sample.per_s)[len(samples) // 2]


def noise(sample: load.Sample) -> dict[str, float | str]:
    """Name what else ran meanwhile, where it was enough to distort the figures."""
    return {"busy elsewhere": f"{sample.elsewhere:.0%}"} if sample.elsewhere > 0.05 else {}
