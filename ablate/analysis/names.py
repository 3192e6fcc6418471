"""What is known about a metric without computing it: its name, direction and unit (standard library only).

Names are scikit-learn's. `recall`, `precision`, `f1`, `roc_auc` and `average_precision` are means over
classes; with a class behind a colon, as in `recall:melanoma`, they are about that class against all others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_METRICS = ("accuracy", "balanced_accuracy", "log_loss")
"""What every study measures, beside its own metric."""

PER_CLASS = ("recall", "precision", "f1", "roc_auc", "average_precision")
_PLAIN = ("accuracy", "balanced_accuracy", *PER_CLASS, "log_loss", "expected_calibration_error")
_TITLES = {
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "expected_calibration_error": "expected calibration error",
}
_LOWER_IS_BETTER = ("log_loss", "expected_calibration_error")


PATTERN = rf"^({'|'.join(_PLAIN)}|top_[1-9][0-9]*_accuracy|({'|'.join(PER_CLASS)}):.+)$"
"""What a metric's name looks like, for JSON Schema and for `parse`."""


@dataclass(frozen=True)
class MetricName:
    """A metric's name, taken apart: `top_5_accuracy` is `top_k_accuracy` with k 5."""

    family: str
    k: int | None = None
    of: str | None = None
    """The class that it is about."""


def parse(name: str) -> MetricName | None:
    """The parts of a metric's name; None when there is no such metric."""
    if not re.match(PATTERN, name):
        return None
    family, _, of = name.partition(":")
    if of:
        return MetricName(family, of=of)
    if family.startswith("top_"):
        return MetricName("top_k_accuracy", k=int(family.split("_")[1]))
    return MetricName(family)


def is_metric(name: str) -> bool:
    """Whether a metric of that name exists, whatever the classes are called."""
    return parse(name) is not None


def known_metrics() -> list[str]:
    """Names to choose from, for messages; those of one class and of another k are written alike."""
    return [*_PLAIN, "top_5_accuracy", "recall:CLASS"]


def measured(metric: str) -> tuple[str, ...]:
    """What a study with this metric measures: the usual metrics and its own."""
    return tuple(dict.fromkeys((*DEFAULT_METRICS, metric)))


def higher_is_better(name: str) -> bool:
    """The metric's direction; True for one that is not known."""
    return name not in _LOWER_IS_BETTER


def unit(name: str) -> str:
    """`share` for what lies between 0 and 1 and is shown in points, times 100; else the unit's name."""
    return "nats" if name == "log_loss" else "share" if is_metric(name) else ""


def shown_in(name: str) -> tuple[float, str, int]:
    """How people read a metric: the factor to multiply by, the unit's name, the digits after the point.

    A metric that is not known is shown as it is.
    """
    return (100.0, "points", 2) if unit(name) == "share" else (1.0, unit(name), 4)


def title(name: str) -> str:
    """The metric's name for people: `recall of melanoma`, `top-5 accuracy`, `balanced accuracy`."""
    parts = parse(name)
    if parts is None:
        return name.replace("_", " ")
    if parts.k is not None:
        return f"top-{parts.k} accuracy"
    family = _TITLES.get(parts.family, parts.family)
    return f"{family} of {parts.of}" if parts.of is not None else family


def heading(name: str) -> str:
    """The metric's title as a sentence begins with it; class names keep their letters."""
    words = title(name)
    return words[:1].upper() + words[1:]
