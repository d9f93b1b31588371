from imgpro.flows import rates
from imgpro.flows.rates import Rate, Window


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


def test_a_window_is_strict():
    now = [0.0]
    window = Window(3, 60.0, lambda: now[0])
    for second in (0.0, 10.0, 20.0):
        now[0] = second
        assert window.wait_s("a") == 0.0
        window.count("a")
    assert window.wait_s("a") == 40.0
    assert window.wait_s("b") == 0.0
    now[0] = 59.9
    assert 0 < window.wait_s("a") < 0.2
    now[0] = 60.0
    assert window.wait_s("a") == 0.0
    window.count("a")
    assert window.wait_s("a") == 10.0


def test_a_window_of_none_and_of_nothing():
    assert Window(None, 60.0).wait_s("a") == 0.0
    assert Window(0, 60.0).wait_s("a") == 60.0
    Window(0, 60.0).count("a")


def test_the_table_of_a_window_is_bounded(monkeypatch):
    monkeypatch.setattr("imgpro.flows.rates.MAX_NETWORKS", 3)
    window = Window(1, 60.0)
    for name in "abcd":
        window.count(name)
    assert window.wait_s("a") == 0.0
    assert window.wait_s("d") > 0
