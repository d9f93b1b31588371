"""Work in a process of its own: results, errors, progress, its end on demand, and what happens when it dies or hangs."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imgpro.errors import OperatorError, TargetFault
from imgpro.processors import half
from imgpro.store import side_process
from imgpro.store.side_process import SideProcess
from tests import beside
from tests.patience import comes_true, wait_until


async def begun(path: Path) -> int:
    """Wait until the work has written its process id, and return it."""
    while not (path.exists() and path.read_text()):
        await asyncio.sleep(0.01)
    return int(path.read_text())


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(("back", "policy"), [(False, os.SCHED_OTHER), (True, os.SCHED_IDLE)])
async def test_one_process_does_it_all_and_stands_back_where_others_are_served(monkeypatch, back, policy):
    monkeypatch.setattr(side_process, "_back", threading.Event())
    if back:
        side_process.stand_back()
    async with SideProcess("test") as side:
        assert await side.run(beside.add, 1, 2) == 3
        first, second = await side.run(beside.whoami), await side.run(beside.whoami)
        assert (first["calls"], second["calls"], first["pid"]) == (1, 2, second["pid"])
        assert first["pid"] != os.getpid()
        assert first["policy"] == policy
        everything = os.sched_getaffinity(0)
        assert first["processors"] == (half(everything) if back else everything)
        # Away from a Ctrl-C at the terminal, yet in the session within which it stands back (sched_autogroup).
        assert (os.getsid(first["pid"]), os.getpgid(first["pid"])) == (os.getsid(0), first["pid"])
        assert first["modules"] == []
        assert len(await side.run(beside.large, 3_000_000)) == 3_000_000
    assert gone(first["pid"])


async def test_errors_come_over_as_they_are(caplog):
    async with SideProcess("test") as side:
        with pytest.raises(TargetFault, match="The disk is full") as refused:
            await side.run(beside.refuse)
        assert (refused.value.action.label, refused.value.details) == ("Make room", {"place": "/mnt"})
        with pytest.raises(ZeroDivisionError, match="nobody thought") as broken:
            await side.run(beside.break_down)
        assert "in break_down" in "".join(broken.value.__notes__)
        with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
            await side.run(beside.be_odd)
        assert await side.run(beside.add, 1, 2) == 3


async def test_a_walk_tells_how_far_it_is_and_logs_here(caplog):
    told: list[tuple[str, int]] = []
    async with SideProcess("test", lambda stage, count: told.append((stage, count))) as side:
        with caplog.at_level(logging.WARNING, "imgpro.beside"):
            assert [number async for number in side.walk(beside.count, 5_000)] == list(range(5_000))
        assert told[0] == ("counting", 5_000)
        assert sum(count for stage, count in told if not stage) == 5_000
        assert len(told) < 500  # some together: each costs this process as well
        assert [record.getMessage() for record in caplog.records] == ["counted to 5000"]
        found: list[int] = []

        async def walk() -> None:
            async for number in side.walk(beside.count_and_break, 700):
                found.append(number)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(TargetFault, match="broke off"):
            await walk()
        assert found == list(range(700))


async def test_a_walk_that_nobody_wants_to_the_end():
    async with SideProcess("test") as side:
        async with contextlib.aclosing(side.walk(beside.count, 10_000_000)) as numbers:
            async for number in numbers:
                if number == 1_000:
                    break
        assert await side.run(beside.add, 1, 2) == 3


@pytest.mark.parametrize("work", [beside.wait, beside.interrupted])
async def test_it_ends_on_demand(tmp_path, work):
    async def ask() -> None:
        async with SideProcess("test") as side:
            await side.run(work, str(tmp_path / "began"))

    task = asyncio.create_task(ask())
    pid = await begun(tmp_path / "began")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pid)


async def test_who_is_impatient_waits_for_the_end_all_the_same(tmp_path, caplog):
    async def ask() -> None:
        async with SideProcess("test") as side:
            await side.run(beside.slow_to_end, str(tmp_path / "began"))

    task = asyncio.create_task(ask())
    pid = await begun(tmp_path / "began")
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pid)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_one_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(side_process, "STOP_PATIENCE_S", 0.2)

    async def ask() -> None:
        async with SideProcess("test") as side:
            await side.run(beside.hang, str(tmp_path / "began"))

    task = asyncio.create_task(ask())
    pid = await begun(tmp_path / "began")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: gone(pid))


async def test_one_that_dies_is_named_and_the_next_is_another():
    async with SideProcess("test") as side:
        with pytest.raises(OperatorError, match=r"\(test\) ended by SIGKILL"):
            await side.run(beside.die)
        assert await side.run(beside.add, 1, 2) == 3


def test_it_does_not_outlive_who_started_it(tmp_path):
    began = tmp_path / "began"
    script = (
        "import asyncio\nfrom imgpro.store.side_process import SideProcess\nfrom tests import beside\n"
        "async def main():\n async with SideProcess('test') as side:\n"
        f"  await side.run(beside.wait, {str(began)!r})\nasyncio.run(main())\n"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}) as own:
        wait_until(lambda: began.exists() and began.read_text() != "")
        own.send_signal(signal.SIGKILL)
    pid = int(began.read_text())
    assert comes_true(lambda: gone(pid))


@pytest.mark.parametrize("words", [[], ["back"], [""]])
async def test_it_starts_by_the_words_of_another_version(monkeypatch, words):
    """Of a server that goes on while its program is exchanged under it."""
    command = side_process._command
    monkeypatch.setattr(side_process, "_command", lambda fd, back: [*command(fd, back)[:-1], *words])
    async with SideProcess("test") as side:
        assert await side.run(beside.add, 1, 2) == 3
