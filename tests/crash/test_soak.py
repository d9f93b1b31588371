"""Memory over time: what a server holds comes back after a burst, and does not grow with the number of requests."""

import asyncio
from collections.abc import Sequence

import pytest

from bench import cost
from bench.soak import MIB, SIZES, Soak, burst, held
from tests.servers import UNLIMITED, Server, running

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_CACHE_MEMORY_BYTES": "4 MB",  # so that it is full, and no longer grows, before the first look
}


def soak(server: Server, warm: int, count: int, looks: int, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """Send `warm` requests and then `count`; what is held at the end is at most a fifth more than in between."""
    mix = Soak(server.port, server.data, sizes=sizes)
    asyncio.run(mix.begin())
    asyncio.run(mix.requests(warm))
    settled = held(server.pid, warm)
    curve = [settled]
    for number in range(looks):
        asyncio.run(mix.requests(count // looks))
        curve.append(held(server.pid, warm + count // looks * (number + 1)))
    assert mix.failed == []
    assert sum(mix.statuses.values()) > (warm + count) * 0.9
    assert curve[-1].server_rss < settled.server_rss * 1.2, curve
    assert curve[-1].tree_pss < settled.tree_pss * 1.2, curve
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_mixed_requests_leave_nothing_behind(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        soak(server, 500, 1_000, 1, SIZES[:2])


@pytest.mark.slow
def test_ten_thousand_mixed_requests_leave_nothing_behind(tmp_path):
    with running(tmp_path / "data", {name: value for name, value in ENV.items() if "CACHE" not in name}) as server:
        soak(server, 2_000, 8_000, 8)


def test_memory_comes_back_after_a_burst_of_large_pictures(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        asyncio.run(burst(server.port, 16))  # what is loaded once, and stays, and the memory for pictures at its bound
        before = held(server.pid)
        with cost.Watch(server.pid) as watch:
            asyncio.run(burst(server.port, 16, first=16))
        after = held(server.pid)
        assert watch.peak_bytes > before.tree_pss + 100 * MIB, "the burst was none"
        assert after.tree_pss < before.tree_pss * 1.2, (before, watch.peak_bytes, after)
        assert after.server_rss < before.server_rss * 1.2, (before, after)
        assert server.stop() == 0
