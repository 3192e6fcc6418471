"""What is known about a metric without computing it: its name, direction and unit (standard library only).

Names are scikit-learn's. `recall`, `precision`, `f1`, `roc_auc` and `average_precision` are means over
classes; with a class behind a colon, as in `recall:melanoma`, they are about that class against all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEFAULT_METRICS = ("accuracy", "balanced_accuracy", "log_loss")
"""What every study measures, beside its own metric."""

MOST_CLASSES = 1000
"""Up to so many classes, the probabilities of all are kept for each item; above, those of the top ones."""

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


def measured(metric: str, metrics: Iterable[str] = ()) -> tuple[str, ...]:
    """What a study measures: the usual metrics, the one that it judges by, and others that it asks for."""
    return tuple(dict.fromkeys((*DEFAULT_METRICS, metric, *metrics)))


def why_not(name: str, classes: Sequence[str]) -> str:
    """Why a metric cannot be measured on data with these classes, to stand after its name; else empty."""
    parts = parse(name)
    if parts is not None and parts.k is not None and parts.k > len(classes):
        return f"needs {parts.k} classes or more, and these data have {len(classes)}; take a smaller k."
    if parts is not None and parts.of is not None and parts.of not in classes:
        more = f" and {len(classes) - 20:,} more" if len(classes) > 20 else ""
        return f"is about no class of these data; they have {', '.join(map(str, classes[:20]))}{more}."
    return ""


def needs_all(name: str) -> bool:
    """Whether a metric ranks items by the probability of any class, so that those of all must be kept."""
    parts = parse(name)
    return parts is not None and parts.family in ("roc_auc", "average_precision")


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
