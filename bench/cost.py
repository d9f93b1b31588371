"""What a server costs: CPU seconds and memory of its whole process tree, read from /proc."""

import os
import threading
import time
from pathlib import Path
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def _fields(pid: int) -> list[str] | None:
    try:
        # The second field is the program's name and may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """Return `root`, all its descendants, and whatever else lives in the session that it leads."""
    parents: dict[int, int] = {}
    members = {root}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _fields(int(name))):
            parents[int(name)] = int(fields[1])
            if int(fields[3]) == root:
                members.add(int(name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return sorted(members)


def cpu_s(root: int, *, children_only: bool = False) -> float:
    """Return CPU seconds used so far by the tree, its finished and reaped processes included."""
    ticks = 0
    for pid in tree(root):
        fields = _fields(pid)
        if fields is None:
            continue
        own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        ticks += reaped if children_only and pid == root else own + reaped
    return ticks / TICKS_PER_S


def pss_bytes(root: int) -> int:
    """Return the proportional set size of the tree: memory shared within it counts once."""
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def machine_busy_s() -> float:
    """Return CPU seconds that the whole machine has used since it started."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / TICKS_PER_S


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Watch:
    """Measures a tree from `with` to its end: CPU seconds, wall seconds and, sampled, the peak of memory."""

    def __init__(self, root: int, *, memory: bool = True) -> None:
        self.root = root
        self.memory = memory
        self.cpu_s = self.wall_s = 0.0
        self.children_cpu_s = 0.0
        self.peak_bytes = 0
        self.elsewhere = 0.0  # share of the machine that others used meanwhile

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        if self.memory:
            self._thread.start()
        self._children = cpu_s(self.root, children_only=True)
        self._busy, self._own = machine_busy_s(), _own_cpu_s()
        self._cpu, self._wall = cpu_s(self.root), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = cpu_s(self.root) - self._cpu
        self.children_cpu_s = cpu_s(self.root, children_only=True) - self._children
        others = machine_busy_s() - self._busy - self.cpu_s - (_own_cpu_s() - self._own)
        self.elsewhere = max(0.0, others / self.wall_s / (os.cpu_count() or 1))
        self._stop.set()
        if self.memory:
            self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, pss_bytes(self.root))
            if self._stop.wait(0.25):
                return
