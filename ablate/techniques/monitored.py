"""What the techniques share that go by a figure of the validation images after each epoch."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from ablate.analysis import names
from ablate.techniques.base import Context, InPhases

_RECORDED = ("train_loss", "valid_loss", "accuracy")
"""What fastai records by itself."""


class Monitored(InPhases):
    """A technique that waits for a figure to get better, by more than `min_delta`, for `patience` epochs."""

    monitor: str = Field(
        "valid_loss", description="valid_loss, train_loss, or a metric of the validation images: roc_auc."
    )
    patience: int = Field(1, ge=1, description="Epochs without a better figure.")
    min_delta: float = Field(0.0, ge=0, description="By how much better counts as better.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.monitor not in _RECORDED and not names.is_metric(self.monitor):
            known = ", ".join([*_RECORDED[:2], *names.known_metrics()])
            raise ValueError(f"there is no {self.monitor!r} to monitor; choose one of {known}")
        return self

    def metrics(self, context: Context) -> list[Any]:
        from ablate.training.monitors import ValidationMetric

        if self.monitor in _RECORDED:
            return []
        return [ValidationMetric(self.monitor, list(context.classes))]

    def tracking(self) -> dict[str, Any]:
        """The arguments of fastai's trackers."""
        import numpy as np

        higher = not self.monitor.endswith("_loss") and names.higher_is_better(self.monitor)
        return {
            "monitor": self.monitor,
            "comp": np.greater if higher else np.less,
            "min_delta": self.min_delta,
        }
