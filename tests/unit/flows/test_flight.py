import asyncio

import pytest

from imgpro.flows.flight import Flight


async def test_many_callers_share_one_run():
    flight, runs = Flight(), 0

    async def work():
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        return runs

    assert await asyncio.gather(*(flight.run("key", work) for _ in range(200))) == [1] * 200
    assert runs == 1
    assert not len(flight)


async def test_a_cancelled_caller_takes_nothing_from_the_others():
    flight = Flight()
    release = asyncio.Event()

    async def work():
        await release.wait()
        return "done"

    first = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    second = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == "done"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_failure_reaches_all_and_is_not_kept():
    flight = Flight()

    async def fail():
        await asyncio.sleep(0)
        raise LookupError("no")

    found = await asyncio.gather(*(flight.run("key", fail) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [LookupError] * 3

    async def work():
        return 1

    assert await flight.run("key", work) == 1
    await flight.drain()
