"""Times in words."""

from __future__ import annotations

import pytest

from ablate.durations import about, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "…"), (0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float | None, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.002, "0 s"),
        (7.34, "7.3 s"),
        (12.4, "12 s"),
        (100, "1.7 min"),
        (1260, "21 min"),
        (27000, "7.5 h"),
        (1036800, "12 days"),
    ],
)
def test_times_in_one_unit(seconds: float, text: str) -> None:
    assert about(seconds) == text
