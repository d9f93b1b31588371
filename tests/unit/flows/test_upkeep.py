from imgpro.flows.upkeep import ABSENCE_S, DOUBT_S, SETTLE_S, ClockWatch


class Clocks:
    wall = 1_800_000_000.0
    mono = 50.0

    def pass_s(self, seconds, jump=0.0):
        self.mono += seconds
        self.wall += seconds + jump


def watch():
    clocks = Clocks()
    return clocks, ClockWatch(lambda: clocks.wall, lambda: clocks.mono)


def test_a_fresh_start_waits_before_it_trusts_the_clock():
    clocks, clock = watch()
    clocks.pass_s(60)
    assert not clock.steady()
    clocks.pass_s(SETTLE_S)
    assert clock.steady()


def test_a_jump_forward_expires_nothing_until_the_clock_was_steady_again():
    clocks, clock = watch()
    clocks.pass_s(SETTLE_S)
    assert clock.steady()
    clocks.pass_s(60, jump=30 * 365 * 86400)
    assert not clock.steady()
    clocks.pass_s(60)
    assert not clock.steady()
    clocks.pass_s(60, jump=-30 * 365 * 86400)
    assert not clock.steady()
    clocks.pass_s(SETTLE_S)
    assert clock.steady()


def test_slow_drift_is_not_a_jump():
    clocks, clock = watch()
    for _ in range(1000):
        clocks.pass_s(60, jump=0.5)
        clock.steady()
    assert clock.steady()


def test_a_clock_far_ahead_of_the_last_good_time_is_doubted_for_a_day():
    clocks, clock = watch()
    clock.compare(clocks.wall - ABSENCE_S - 1)
    clocks.pass_s(DOUBT_S - 1)
    assert not clock.steady()
    clocks.pass_s(2)
    assert clock.steady()


def test_a_short_absence_or_a_clock_set_back_is_no_reason_for_doubt():
    clocks, clock = watch()
    clock.compare(clocks.wall - ABSENCE_S + 60)
    clock.compare(clocks.wall + 86_400)
    clocks.pass_s(SETTLE_S)
    assert clock.steady()


def test_a_jump_of_more_than_a_week_is_doubted_for_a_day_unless_it_is_taken_back():
    clocks, clock = watch()
    clocks.pass_s(60, jump=ABSENCE_S + 60)
    assert not clock.steady()
    clocks.pass_s(DOUBT_S - 1)
    assert not clock.steady()
    clocks.pass_s(2)
    assert clock.steady(), "a day later it is the time"
    clocks.pass_s(60, jump=-40 * 86_400)
    assert not clock.steady()
    clocks.pass_s(SETTLE_S)
    assert not clock.steady()
    clocks.pass_s(1, jump=40 * 86_400)
    assert not clock.steady()
    clocks.pass_s(SETTLE_S)
    assert clock.steady(), "back where it was good"


def test_a_clock_far_behind_the_last_good_time_is_not_trusted_either():
    clocks, clock = watch()
    clock.compare(clocks.wall + ABSENCE_S + 60)
    clocks.pass_s(SETTLE_S)
    assert not clock.steady()
    clocks.pass_s(60, jump=ABSENCE_S + 120)
    assert not clock.steady()
    clocks.pass_s(SETTLE_S)
    assert clock.steady(), "set right, it needs no day"
