"""ablate.bench.stopwatch: rates by windows, on a clock that the test turns."""

from __future__ import annotations

import time

import pytest

from ablate.bench.stopwatch import Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def count_all(watch: Stopwatch, clock: Clock, durations: list[float], images: int = 10) -> int:
    """Count batches of some durations; gives after how many it was time to stop."""
    for number, duration in enumerate(durations, 1):
        clock.now += duration
        if watch.count(images):
            return number
    raise AssertionError("it was never time to stop")


def test_the_rate_leaves_out_the_warm_up(clock: Clock) -> None:
    watch = Stopwatch(8.0, warm=2)
    assert count_all(watch, clock, [1.5, 1.5] + [0.5] * 20) == 2 + 10
    assert watch.rate == pytest.approx(20)


def test_a_hiccup_does_not_move_the_median(clock: Clock) -> None:
    watch = Stopwatch(8.0)
    count_all(watch, clock, [0.5, 0.5, 0.5, 2.0] + [0.5] * 20)
    assert watch.rate == pytest.approx(20)


def test_slow_work_is_measured_once(clock: Clock) -> None:
    watch = Stopwatch(2.0, warm=5)
    assert count_all(watch, clock, [30.0] * 9) == 2
    assert watch.rate == pytest.approx(1 / 3)


def test_bursts_of_threads_are_counted_together(clock: Clock) -> None:
    watch = Stopwatch(8.0, least=4)
    count_all(watch, clock, [0.01, *([2.0, 0.0, 0.0, 0.0] * 9)])
    assert watch.rate == pytest.approx(20)


def test_even_the_shortest_window_has_a_whole_burst(clock: Clock) -> None:
    watch = Stopwatch(0.1, warm=6, least=4)
    assert count_all(watch, clock, [2.0, 0.0, 0.0, 0.0] * 3) == 5
    assert watch.rate == pytest.approx(20)


def test_a_pause_does_not_count(clock: Clock) -> None:
    watch = Stopwatch(4.0)
    for _ in range(9):
        clock.now += 0.3
        watch.count(6)
        watch.pause()
        clock.now += 1000 if len(watch.rates) >= 7 else 0.1
        watch.resume()
    assert watch.rate == pytest.approx(20)


def test_a_device_that_computes_on_its_own_is_waited_for(clock: Clock) -> None:
    def wait() -> None:
        clock.now += 1.0

    watch = Stopwatch(8.0, wait=wait)
    count_all(watch, clock, [0.1] + [1.0] * 20)
    assert watch.rate == pytest.approx(5)  # each window is one batch: a second to queue it, one to compute it
