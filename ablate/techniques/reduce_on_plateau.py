"""reduce_on_plateau: lower the rate when the validation images do not get better any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context
from ablate.techniques.monitored import Monitored


class ReduceOnPlateau(Monitored):
    """Train at a constant rate, and multiply it by `factor` after `patience` epochs without a better figure.

    As Keras's ReduceLROnPlateau and fastai's, whose factor divides. The rate is constant otherwise: there is
    no one-cycle policy and no other schedule beside it.
    """

    name: ClassVar[str] = "reduce_on_plateau"
    paper: ClassVar[str] = "Keras's and fastai's ReduceLROnPlateau"

    factor: float = Field(0.4, gt=0, lt=1, description="What the rate is multiplied by.")
    patience: int = Field(2, ge=1, description="Epochs without a better figure before it is.")

    def schedule(self, context: Context) -> Callable[[float], float]:
        return lambda position: 1.0

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.trackers import ReduceRates

        return [ReduceRates(self.factor, self.patience, **self.tracking())]
