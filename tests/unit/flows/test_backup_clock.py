"""When a backup is due, by the clock on the wall."""

import os
import time

import pytest

from imgpro.flows.backup_clock import RETRY_S, backup_due, last_occasion_s, next_occasion_s, verify_due

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


@pytest.fixture(autouse=True)
def berlin():
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def at(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-11-28 03:29", "2026-11-27 03:30"),
        ("2026-11-28 03:30", "2026-11-28 03:30"),
        ("2026-11-28 23:59", "2026-11-28 03:30"),
        ("2026-01-01 00:00", "2025-12-31 03:30"),
        # Summer begins and ends at night: it is half past three by the clock on the wall all the same.
        ("2026-03-29 12:00", "2026-03-29 03:30"),
        ("2026-03-30 01:00", "2026-03-29 03:30"),
        ("2026-10-25 12:00", "2026-10-25 03:30"),
        ("2026-10-26 03:00", "2026-10-25 03:30"),
    ],
)
def test_the_last_occasion_is_by_local_time(now, last):
    assert last_occasion_s("03:30", at(now)) == at(last)
    assert next_occasion_s("03:30", at(now)) > at(now)
    assert time.strftime("%H:%M", time.localtime(next_occasion_s("03:30", at(now)))) == "03:30"


def test_an_hour_that_does_not_exist_is_met_all_the_same():
    found = last_occasion_s("02:30", at("2026-03-29 12:00"))
    assert time.strftime("%Y-%m-%d", time.localtime(found)) == "2026-03-29"


def test_one_a_day_and_a_missed_one_soon():
    made = at("2026-11-27 03:31")
    assert not backup_due("03:30", at("2026-11-28 03:29"), made_s=made, tried_s=0)
    assert backup_due("03:30", at("2026-11-28 03:30"), made_s=made, tried_s=0)
    assert backup_due("03:30", at("2026-12-05 18:00"), made_s=made, tried_s=0)
    assert not backup_due("03:30", at("2026-11-28 04:00"), made_s=at("2026-11-28 03:32"), tried_s=0)


def test_one_that_failed_is_tried_again_after_an_hour():
    made, tried = at("2026-11-27 03:31"), at("2026-11-28 03:35")
    assert not backup_due("03:30", tried + RETRY_S - 1, made_s=made, tried_s=tried)
    assert backup_due("03:30", tried + RETRY_S, made_s=made, tried_s=tried)
    # Noted by a clock that was wrong: it must not hold up all that come.
    assert backup_due("03:30", tried, made_s=made, tried_s=tried + 400 * DAY_S)


def test_trials():
    now = at("2026-11-28 12:00")
    assert not verify_due(None, now, verified_s=0, tried_s=0, good=True)
    assert verify_due(30 * DAY_S, now, verified_s=0, tried_s=0, good=False)
    assert not verify_due(30 * DAY_S, now, verified_s=now - 29 * DAY_S, tried_s=0, good=True)
    assert verify_due(30 * DAY_S, now, verified_s=now - 30 * DAY_S, tried_s=0, good=True)
    assert verify_due(30 * DAY_S, now, verified_s=now - DAY_S, tried_s=0, good=False)
    assert not verify_due(30 * DAY_S, now, verified_s=now - HOUR_S, tried_s=0, good=False)
    assert not verify_due(30 * DAY_S, now, verified_s=0, tried_s=now - HOUR_S + 1, good=True)
