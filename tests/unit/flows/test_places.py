import asyncio
import contextlib

import pytest

from imgpro.errors import Busy
from imgpro.flows.places import Places


async def test_more_than_there_is_room_for_waits_its_turn():
    places, most = Places(3, 2, 5.0), 0

    async def work(network):
        nonlocal most
        async with places.hold(network):
            most = max(most, places.taken)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(work(str(number % 4)) for number in range(100)))
    assert most == 3
    assert places.taken == 0


async def test_one_network_cannot_take_all_places():
    places = Places(10, 2, 0.05)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(places.hold("greedy"))
        with pytest.raises(Busy):
            await stack.enter_async_context(places.hold("greedy"))
        await stack.enter_async_context(places.hold("other"))
        assert places.taken == 3
    assert places.taken == 0


async def test_who_waits_for_its_own_network_holds_up_nobody_else():
    places = Places(2, 1, 5.0)
    async with places.hold("a"):
        waiting = asyncio.create_task(places.hold("a").__aenter__())
        await asyncio.sleep(0)
        async with asyncio.timeout(1), places.hold("b"):
            assert places.taken == 2
    await waiting


async def test_a_cancelled_caller_gives_its_place_back():
    places = Places(1, 1, 5.0)

    async def hold():
        async with places.hold("a"):
            await asyncio.sleep(60)

    for ticks in range(6):
        async with places.hold("a"):
            task = asyncio.create_task(hold())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert places.taken == 0
