"""What is measured, in which order and how often; never how long it took."""

import gc
import math

import numpy as np
import pytest

from floatfmt import timing
from floatfmt.timing import Timing, copy_gb_per_s, interleaved


class FakeClock:
    """A clock that only work moves: each call of a contender lasts what it says it lasts."""

    def __init__(self):
        self.now = 0
        self.log = []

    def __call__(self):
        return self.now

    def contender(self, name, *durations):
        """Return a function that lasts the durations in turn, and then the last one for ever."""
        pending = list(durations)

        def work():
            self.log.append(name)
            self.now += pending.pop(0) if len(pending) > 1 else pending[0]

        return work


MS = 10**6


def test_contenders_take_turns_in_the_mappings_order():
    clock = FakeClock()
    functions = {name: clock.contender(name, 2 * MS) for name in "ABC"}
    timings = interleaved(functions, budget_s=0, clock=clock)
    warm_up, rounds = clock.log[:6], clock.log[6:]
    assert warm_up == list("AABBCC")
    assert rounds == list("ABC") * 3
    assert list(timings) == list("ABC")


def test_a_spent_budget_still_gives_the_least_rounds():
    clock = FakeClock()
    timings = interleaved({"slow": clock.contender("slow", 10**12)}, budget_s=0.1, clock=clock)
    assert timings["slow"] == Timing(median_s=1000.0, spread=0.0, rounds=3)


def test_short_functions_settle_before_they_are_measured():
    clock = FakeClock()
    functions = {"a": clock.contender("a", 2 * MS), "b": clock.contender("b", 9 * MS)}
    timings = interleaved(functions, budget_s=0, clock=clock, settle_s=0.005)
    # Warm-up and length; rounds of three untimed calls and the one that counts, while b is settled
    # until one of its calls has been seen to last as long.
    assert clock.log == [*"aabb", *"aaaabb", *"aaaab", *"aaaab"]
    assert timings["a"] == Timing(median_s=0.002, spread=0.0, rounds=3)


def test_no_round_begins_that_would_not_end_within_the_budget():
    clock = FakeClock()
    functions = {"a": clock.contender("a", 4 * MS), "b": clock.contender("b", 6 * MS)}
    interleaved(functions, budget_s=0.105, clock=clock)
    assert 0.095e9 <= clock.now <= 0.105e9


def test_short_functions_are_called_until_a_measurement_is_long_enough():
    clock = FakeClock()
    timings = interleaved({"tiny": clock.contender("tiny", 100)}, budget_s=0, clock=clock)
    assert timings["tiny"].median_s == 100e-9
    # 3 rounds of at least 1 ms, and not far more than needed.
    assert 3 * MS <= clock.now <= 10 * MS


def test_long_functions_are_called_once_a_measurement():
    clock = FakeClock()
    timings = interleaved({"long": clock.contender("long", 5 * MS)}, budget_s=1, clock=clock)
    assert len(clock.log) == 2 + timings["long"].rounds  # a warm-up, a calibration, the rounds


def test_a_cold_first_call_is_not_measured():
    clock = FakeClock()
    timings = interleaved({"x": clock.contender("x", 900 * MS, 2 * MS)}, budget_s=1, clock=clock)
    assert timings["x"].median_s == 2e-3


def test_the_median_does_not_follow_an_outlier():
    clock = FakeClock()
    durations = [2 * MS, 2 * MS, 2 * MS, 700 * MS, 2 * MS, 2 * MS]
    timings = interleaved(
        {"x": clock.contender("x", *durations)}, budget_s=0, min_rounds=5, clock=clock
    )
    assert timings["x"] == Timing(median_s=2e-3, spread=0.0, rounds=5)


def test_spread_is_half_the_interquartile_range_over_the_median():
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Timing(3.0, 1 / 3, 5)
    assert math.isnan(Timing.of([1.0]).spread)
    assert Timing.of([0.0, 0.0]).spread == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Timing(1.0, 0.05, 9), Timing(1.09, 0.05, 9), True),
        (Timing(1.0, 0.05, 9), Timing(1.2, 0.05, 9), False),
        (Timing(1.0, math.nan, 1), Timing(9.0, 0.05, 9), True),
    ],
)
def test_medians_within_each_others_spread_overlap(one, other, expected):
    assert one.overlaps(other) is expected
    assert other.overlaps(one) is expected


@pytest.mark.parametrize("was_on", [True, False])
def test_the_garbage_collector_is_off_while_timing_and_put_back(was_on):
    seen = []

    def failing():
        seen.append(gc.isenabled())
        if len(seen) > 3:
            raise RuntimeError("stop")

    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(RuntimeError, match="stop"):
            interleaved({"x": failing}, budget_s=0)
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()
    assert not any(seen)


def test_nothing_to_time_gives_nothing():
    assert interleaved({}, budget_s=1) == {}


def test_less_than_one_round_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        interleaved({"x": lambda: None}, budget_s=1, min_rounds=0)


def test_a_timing_prints_median_and_spread_in_a_fitting_unit():
    assert str(Timing(0.0012, 0.051, 9)) == "1.2 ms ±5.1 %"
    assert str(Timing(12.0, 0.0, 9)) == "12 s ±0.0 %"
    assert str(Timing(3e-10, 0.5, 9)) == "0.3 ns ±50 %"


def test_copy_bandwidth_needs_something_to_copy():
    assert copy_gb_per_s(4096, budget_s=0.001) > 0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        copy_gb_per_s(0)


@pytest.mark.parametrize("nbytes", [1, 4095, 4096, 100_000])
def test_a_copy_is_of_buffers_that_lie_half_a_page_apart(monkeypatch, nbytes):
    seen = []
    monkeypatch.setattr(timing.np, "copyto", lambda *pair: seen.extend(pair))
    timing.copying(nbytes)()
    target, source = seen
    assert source.nbytes == target.nbytes == nbytes
    assert (target.ctypes.data - source.ctypes.data) % timing.PAGE == timing.PAGE // 2
    assert not np.shares_memory(source, target)
