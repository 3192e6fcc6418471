"""What is known about a metric without computing it: its name, direction and unit (standard library only)."""

from __future__ import annotations

METRIC_NAMES: dict[str, bool] = {"accuracy": True, "balanced_accuracy": True, "log_loss": False}
"""Every metric by name, and whether a higher value is better."""

METRIC_UNITS: dict[str, str] = {"accuracy": "share", "balanced_accuracy": "share", "log_loss": "nats"}
"""A `share` lies between 0 and 1 and is shown to people in points, times 100."""


def shown_in(metric: str) -> tuple[float, str, int]:
    """How people read a metric: the factor to multiply by, the unit's name, the digits after the point.

    A metric that is not known is shown as it is.
    """
    if METRIC_UNITS.get(metric) == "share":
        return 100.0, "points", 2
    return 1.0, METRIC_UNITS.get(metric, ""), 4
