from imgpro.flows import rates
from imgpro.flows.rates import Rate


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_burst_then_evenly_spaced():
    clock = Clock()
    rate = Rate(3, 60.0, clock)
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]
    assert round(rate.take("a"), 6) == 20.0
    clock.now += 19.9
    assert rate.take("a") > 0
    clock.now += 0.2
    assert rate.take("a") == 0
    assert rate.take("a") > 0


def test_networks_do_not_share():
    rate = Rate(1, 60.0, Clock())
    assert rate.take("a") == 0
    assert rate.take("b") == 0
    assert rate.take("a") > 0


def test_no_limit():
    rate = Rate(None, 60.0, Clock())
    assert not any(rate.take("a") for _ in range(10_000))


def test_the_table_is_bounded(monkeypatch):
    monkeypatch.setattr(rates, "MAX_NETWORKS", 10)
    rate = Rate(1, 60.0, Clock())
    for number in range(1000):
        rate.take(str(number))
    assert len(rate._due) == 10
