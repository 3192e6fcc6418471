"""early_stopping: end a phase when the validation images do not get better any more."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context
from ablate.techniques.monitored import Monitored


class EarlyStopping(Monitored):
    """End the phase when the monitored figure has not got better for `patience` epochs (fastai's callback).

    What is kept of the phase is the last epoch; `keep: best` with `keep_by` restores the best one. The rates
    are those of a phase of full length, cut off. The validation images are looked at after every epoch, so
    the figure at the end is flattered a little.
    """

    name: ClassVar[str] = "early_stopping"
    paper: ClassVar[str] = "Prechelt 1998, Early Stopping – But When?"

    patience: int = Field(5, ge=1, description="Epochs without a better figure before the phase ends.")

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.trackers import StopEarly

        return [StopEarly(patience=self.patience, **self.tracking())]
