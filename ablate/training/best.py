"""The best epoch of a phase, chosen on one half of the validation items to be scored on the other.

By default the best is the epoch with the lowest log loss, the criterion that fastai's and Keras's own
checkpoints watch by default; so it does not depend on what a study measures. Chosen and scored on the same
images, the best of fifty epochs would beat the best of five by luck. The training loss is no such choice: it
needs no validation items and leaves all of them for the score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from torch.nn.functional import cross_entropy

from ablate import sealed
from ablate.analysis.metrics import find_metric
from ablate.analysis.predicted import Predicted
from ablate.data.items import Item
from ablate.errors import AblateError
from ablate.training.weights import WEIGHTS

BEST = "best.json"


def halves(items: Sequence[Item]) -> np.ndarray:
    """Which half each item belongs to, 0 or 1 in turn; the items of a group are on the same side."""
    number: dict[tuple[str, str], int] = {}
    units = [(item.group, "" if item.group else item.id) for item in items]
    return np.array([number.setdefault(unit, len(number)) % 2 for unit in units])


class BestEpochs(Callback):
    """Find the best epochs: on either half of the validation items, and on all of them. Of equals, the first.

    Args:
        items: The validation items, in the loader's order.
        by: `log_loss`, `accuracy` or `roc_auc` on the items; or `train_loss`, the mean over an epoch's
            batches as it trained on them.

    Raises:
        AblateError: The items are of one class, so that there is no ROC AUC.
    """

    order = 56  # after the recorder, before what may end the fit

    def __init__(self, items: Sequence[Item], by: str = "log_loss"):
        self.by = by
        half, both = halves(items), np.ones(len(items), bool)
        # too few items for two halves: nothing but all of them to choose by
        self.sides = [*(side if self._judges(items, side) else both for side in (half == 0, half == 1)), both]
        if by == "roc_auc" and len(items) and not self._judges(items, both):
            raise AblateError(
                "keep_by: all validation images are of one class, so there is no ROC AUC; write log_loss."
            )
        self.chosen: list[int] = [0] * len(self.sides)
        self.scores: list[float] = [float("-inf" if self._higher else "inf")] * len(self.sides)

    @property
    def epochs(self) -> set[int]:
        """The epochs whose weights have to be kept."""
        return set(self.chosen)

    def before_train(self) -> None:
        self.train_losses: list[torch.Tensor] = []

    def after_batch(self) -> None:
        if self.learn.training and self.by == "train_loss":
            self.train_losses.append(self.learn.loss.detach().as_subclass(torch.Tensor))

    def before_validate(self) -> None:
        self.seen: list[torch.Tensor] = []

    def after_pred(self) -> None:
        if not self.learn.training and self.by != "train_loss":
            prediction = self.learn.pred.detach().as_subclass(torch.Tensor).float()
            scores = getattr(self.learn.loss_func, "scores", lambda logits: logits)
            self.seen.append(self._each(scores(prediction), self.learn.yb[0].as_subclass(torch.Tensor)))

    def after_epoch(self) -> None:
        epoch = int(self.learn.epoch)
        if self.by == "train_loss":
            scores = [float(torch.stack([loss.cpu() for loss in self.train_losses]).double().mean())] * len(
                self.sides
            )
        elif not self.seen:  # without validation images there is nothing to choose by but to train on
            self.chosen = [epoch] * len(self.sides)
            return
        else:
            seen = torch.cat([part.cpu() for part in self.seen]).numpy().astype(np.float64)
            scores = [self._score(seen[side]) for side in self.sides]
        for i, score in enumerate(scores):
            if score > self.scores[i] if self._higher else score < self.scores[i]:
                self.scores[i], self.chosen[i] = score, epoch

    def state_dict(self) -> dict[str, Any]:
        return {"chosen": self.chosen, "scores": self.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.chosen, self.scores = state["chosen"], state["scores"]

    def write(self, folder: Path, last: int) -> None:
        """Write `best.json`: which file has the weights of the best epoch by each half, and by all items."""
        first, second, both = (WEIGHTS if epoch == last else epoch_file(epoch) for epoch in self.chosen)
        content = {"halves": [first, second], "all": both, "epochs": self.chosen, self.by: self.scores}
        (folder / BEST).write_text(json.dumps(content))

    @property
    def _higher(self) -> bool:
        return self.by in ("accuracy", "roc_auc")

    def _judges(self, items: Sequence[Item], side: np.ndarray) -> bool:
        """Whether the items of a side are enough to choose by."""
        if self.by != "roc_auc":
            return bool(side.any())
        return len({items[position].target for position in np.flatnonzero(side).tolist()}) > 1

    def _each(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What of a batch's predictions the criterion needs, a row per item."""
        if self.by == "accuracy":
            return (logits.argmax(1) == target).float()
        if self.by == "roc_auc":
            return torch.cat([logits.double().softmax(1), target[:, None]], 1)
        return cross_entropy(logits, target, reduction="none")

    def _score(self, seen: np.ndarray) -> float:
        """The criterion, from the rows of some items."""
        if self.by != "roc_auc":
            return float(seen.mean())
        probabilities, target = seen[:, :-1], seen[:, -1].astype(np.int64)
        score = find_metric("roc_auc").score(Predicted(target, probabilities.argmax(1), probabilities))
        return round(score, 12)  # equal orders are equal whatever their sums' last bits


def epoch_file(epoch: int) -> str:
    """The name of the weights of an epoch that is not the last."""
    return f"epoch-{epoch}.safetensors"


def weights_for(folder: Path, items: Sequence[Item], split: str, keep: str) -> list[tuple[str, np.ndarray]]:
    """Which weights of a finished stage predict which items, by position.

    Args:
        folder: The stage's.
        items: The items of the split.
        split: `valid`, or another.
        keep: `last`; or `best`, where each half of the validation items is predicted by the epoch that was
            the best on the other half, and other items by the epoch that was the best on all.
    """
    if keep == "last" or split != "valid" or not len(items):
        return [(weights_name(folder, keep), np.arange(len(items)))]
    chosen, half = _chosen(folder)["halves"], halves(items)
    pairs = [(chosen[1 - side], np.flatnonzero(half == side)) for side in (0, 1)]
    return [(weights, numbers) for weights, numbers in pairs if len(numbers)]


def weights_name(folder: Path, keep: str) -> str:
    """The file of a finished stage's last epoch, or of the best by all validation items."""
    return WEIGHTS if keep == "last" else _chosen(folder)["all"]


def _chosen(folder: Path) -> dict[str, Any]:
    return json.loads(sealed.read(folder, BEST))
