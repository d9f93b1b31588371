"""Waiting for what comes by itself: long enough for a busy machine, no longer than it takes."""

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail where it does not in time."""
    assert comes_true(condition, timeout_s), "waited in vain"


def comes_true(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> bool:
    """Tell whether the condition came to hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
