"""When the next backup is due. Pure: what time it is and what was done is told."""

from datetime import datetime, timedelta
from typing import Final

from imgpro.sense import TIME_OF_DAY

RETRY_S: Final = 3_600.0
DAY_S: Final = 86_400.0


def last_occasion_s(at: str, now_s: float) -> float:
    """Return when it was last `at` (local time, such as `03:30`), as Unix seconds."""
    match = TIME_OF_DAY.fullmatch(at)
    if match is None:
        raise ValueError(at)
    now = datetime.fromtimestamp(now_s)  # noqa: DTZ006 - local time is meant, by its own rules for summer
    found = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    while found.timestamp() > now_s:
        found -= timedelta(days=1)
    return found.timestamp()


def next_occasion_s(at: str, now_s: float) -> float:
    """Return when it is `at` the next time, as Unix seconds."""
    last = datetime.fromtimestamp(last_occasion_s(at, now_s))  # noqa: DTZ006
    return (last + timedelta(days=1)).timestamp()


def backup_due(at: str, now_s: float, *, made_s: float, tried_s: float) -> bool:
    """Tell whether to make one now: one was missed, and the last try (0: none) is long enough ago.

    `made_s` is when the last one was made, or when the data began. All in Unix seconds.
    """
    if made_s >= last_occasion_s(at, now_s):
        return False
    # A try that lies in the future was noted by a clock that was wrong.
    return not 0 <= now_s - tried_s < RETRY_S


def verify_due(every_s: int | None, now_s: float, *, verified_s: float, tried_s: float, good: bool) -> bool:
    """Tell whether to try the newest one out now; `every_s` None: never. One that was not good is tried next day."""
    if every_s is None or 0 <= now_s - verified_s < (every_s if good else min(every_s, DAY_S)):
        return False
    return not 0 <= now_s - tried_s < RETRY_S
