"""End a phase, or lower its rates, where a figure stands still."""

from __future__ import annotations

from typing import Any

from fastai.callback.tracker import EarlyStoppingCallback, TrackerCallback

from ablate.errors import AblateError


class StopEarly(EarlyStoppingCallback):
    """fastai's EarlyStoppingCallback, which says so where the figure does not exist."""

    def before_fit(self) -> None:
        _require(self)
        super().before_fit()


class ReduceRates(TrackerCallback):
    """fastai's ReduceLROnPlateau, for rates that a schedule sets anew in every step, and for any optimizer.

    Args:
        factor: What the rates are multiplied by.
        patience: After how many epochs without a better figure.
        tracking: The figure, as fastai's `TrackerCallback` takes it.
    """

    order = TrackerCallback.order + 2  # after what schedules the rates

    def __init__(self, factor: float, patience: int, **tracking: Any):
        super().__init__(**tracking)
        self.factor, self.patience = factor, patience

    def before_fit(self) -> None:
        _require(self)
        super().before_fit()
        self.wait, self.share = 0, 1.0
        self.lowered: list[float] = []

    def before_batch(self) -> None:
        # a rate that is still the lowered one has not been set anew
        if self.learn.training and self._rates() != self.lowered:
            self._lower(self.share)

    def after_epoch(self) -> None:
        super().after_epoch()
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            self._lower(self.factor)
            self.share, self.wait = self.share * self.factor, 0

    def state_dict(self) -> dict[str, Any]:
        return {"share": self.share, "lowered": self.lowered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.share, self.lowered = state["share"], state["lowered"]

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.learn.opt.hypers]

    def _lower(self, factor: float) -> None:
        self.lowered = [float(rate) * factor for rate in self._rates()]
        self.learn.opt.set_hyper("lr", self.lowered)


def _require(tracker: TrackerCallback) -> None:
    """Raise an `AblateError` unless what a tracker goes by is recorded."""
    if tracker.monitor != "train_loss" and not len(tracker.learn.dls.valid):
        raise AblateError(
            f"monitor: {tracker.monitor} needs validation images, and there are none; monitor train_loss, or "
            "hold some images out (data.split)."
        )
    recorded = [str(name) for name in tracker.learn.recorder.metric_names[1:]]
    if tracker.monitor not in recorded:
        raise AblateError(
            f"monitor: {tracker.monitor} is not there to go by; recorded are {', '.join(recorded[:-1])}."
        )
