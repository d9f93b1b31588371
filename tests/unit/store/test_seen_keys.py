"""Numbers that were met are known again, from whichever thread, and without a file that stays."""

import threading

import pytest

from imgpro.errors import StorageFault
from imgpro.store.seen_keys import SeenKeys


def test_each_number_is_new_once():
    seen, news = SeenKeys(), []

    def meet():
        news.extend(key for key in (*range(500), -(2**63), 2**63 - 1) if seen.add(key))

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(news) == [-(2**63), *range(500), 2**63 - 1]
    seen.close()
    with pytest.raises(StorageFault):
        seen.add(1)
