"""What is known of metrics without computing them agrees with how they are computed."""

from __future__ import annotations

import pytest

from ablate.analysis.metrics import METRICS
from ablate.analysis.names import METRIC_NAMES, METRIC_UNITS, shown_in


def test_names_and_directions_are_those_of_the_metrics():
    assert {name: metric.higher_is_better for name, metric in METRICS.items()} == METRIC_NAMES
    assert METRIC_UNITS.keys() == METRIC_NAMES.keys()


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("accuracy", (100.0, "points", 2)), ("log_loss", (1.0, "nats", 4)), ("other", (1.0, "", 4))],
)
def test_shares_are_shown_in_points(metric: str, expected: tuple[float, str, int]):
    assert shown_in(metric) == expected
