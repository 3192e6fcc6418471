"""ema: validate, keep and predict with an exponential moving average of the weights."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


def decay_at(step: int, decay: float, warmup: bool) -> float:
    """The average's own share in a step, as timm's ModelEmaV3 has it.

    Args:
        step: From 1. In the first there is nothing to average yet, and the share is 0.
        decay: The share later.
        warmup: Whether it grows there as `1 − step ** (−2/3)`.
    """
    if step <= 1:
        return 0.0
    return min(1 - step ** (-2 / 3), decay) if warmup else decay


class EMA(InPhases):
    """The phase's weights are an average over its steps, in which those of long ago count less and less.

    timm's ModelEmaV3: after each step, the average becomes `decay` times itself plus the rest times the
    weights, batch norms' statistics too. Without `warmup` it is for long phases: at 0.9998, it still is
    mostly the first weights after 3,000 steps.
    """

    name: ClassVar[str] = "ema"
    paper: ClassVar[str] = "Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv 1703.01780"
    exclusive: ClassVar[str] = "average the weights"

    decay: float = Field(0.9998, gt=0, lt=1, description="The average's own share in each step, at the most.")
    warmup: bool = Field(
        True, description="Begin with smaller shares: 1 − step ** (−2/3), as long as that is less."
    )

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.averaging import MovingAverage

        return [MovingAverage(self.decay, self.warmup)]
