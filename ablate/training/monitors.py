"""Metrics of the validation images after each epoch, for callbacks that go by them."""

from __future__ import annotations

import numpy as np
import torch
from fastai.learner import Learner, Metric

from ablate.analysis.metrics import find_metric
from ablate.analysis.names import MOST_CLASSES
from ablate.analysis.predicted import Predicted
from ablate.errors import AblateError


class ValidationMetric(Metric):
    """One of the metrics that studies measure, as one of fastai's.

    Args:
        name: As `ablate.analysis.names` has it; where a metric ranks items, two classes go by the probability
            of class 1.
        classes: The names of the classes, for metrics of one of them.

    Raises:
        AblateError: There is no such metric, or none for these classes; after an epoch: it is not defined on
            these images.
    """

    def __init__(self, name: str, classes: list[str] | None = None):
        self.metric = find_metric(name, classes)

    @property
    def name(self) -> str:
        return self.metric.name

    def reset(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []
        self.expected = 0

    def accumulate(self, learn: Learner) -> None:
        scores = getattr(learn.loss_func, "scores", lambda logits: logits)
        chances = scores(learn.pred.detach().as_subclass(torch.Tensor).float()).softmax(1)
        self.seen.append(_kept(chances, learn.yb[0].as_subclass(torch.Tensor)))
        self.expected = learn.dl.n

    @property
    def value(self) -> float | None:
        if not self.seen:
            return None
        columns = {name: torch.cat([part[name].cpu() for part in self.seen]).numpy() for name in self.seen[0]}
        score = self.metric.score(Predicted(**columns))
        # a preflight sees one batch, which need not have all classes
        whole = len(columns["target"]) == self.expected
        if np.isnan(score) and whole and all(np.isfinite(column).all() for column in columns.values()):
            raise AblateError(
                f"monitor: {self.name} is not defined on the validation images, since they are of too few "
                "classes; monitor valid_loss."
            )
        return score


def _kept(chances: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a metric may need of a batch: all probabilities, or with many classes what predictions keep."""
    kept = {"target": target, "pred": chances.argmax(1)}
    if chances.shape[1] <= MOST_CLASSES:
        return kept | {"probabilities": chances.double()}
    own = chances.gather(1, target[:, None])
    later = torch.arange(chances.shape[1], device=chances.device) > target[:, None]
    rank = 1 + ((chances > own) | ((chances == own) & later)).sum(1)
    return kept | {"p_target": own[:, 0], "rank_target": rank, "p_pred": chances.amax(1)}
