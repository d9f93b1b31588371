"""Work that nobody waits for: at full speed while nobody looks, one piece at a time and with rests while somebody does."""

import asyncio
import contextlib
import time

import pytest

from imgpro.flows import courtesy
from imgpro.flows.courtesy import REST, Courtesy


class Work:
    """Some pieces of work: how many went on at once, what each was told, and when it began and ended."""

    def __init__(self, polite):
        self.polite = polite
        self.now = self.most = 0
        self.told, self.spans = [], []

    async def piece(self):
        async with self.polite.turn() as visited:
            self.now += 1
            self.most = max(self.most, self.now)
            began_s = time.monotonic()
            await asyncio.sleep(0.02)
            self.spans.append((began_s, time.monotonic()))
            self.now -= 1
            self.told.append(visited)


async def done(polite, count=4):
    work = Work(polite)
    await asyncio.gather(*(work.piece() for _ in range(count)))
    return work


async def test_while_nobody_looks_all_of_it_goes_on_at_once():
    work = await done(Courtesy())
    assert (work.most, work.told) == (4, [False] * 4)


async def test_while_somebody_looks_it_is_one_at_a_time_with_a_rest_after_each():
    polite = Courtesy()
    polite.served += 1
    work = await done(polite)
    assert (work.most, work.told) == (1, [True] * 4)
    for (began_s, ended_s), (following_s, _) in zip(work.spans, work.spans[1:], strict=False):
        assert following_s - ended_s >= REST * (ended_s - began_s)


async def test_when_the_visit_is_over_it_goes_on_at_full_speed_and_a_new_visit_counts_again(monkeypatch):
    monkeypatch.setattr(courtesy, "VISIT_S", 0.01)
    polite = Courtesy()
    polite.served += 1
    assert (await done(polite, 1)).told == [True]
    await asyncio.sleep(0.02)
    assert (await done(polite)).most == 4
    polite.served += 1
    assert (await done(polite, 1)).told == [True]


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
async def test_a_piece_that_fails_or_is_broken_off_keeps_nobody_from_the_next(kind):
    polite = Courtesy()
    polite.served += 1
    with contextlib.suppress(kind):
        async with polite.turn():
            raise kind
    assert (await done(polite, 2)).told == [True, True]
