"""The best epoch of a phase, chosen on one half of the validation items to be scored on the other.

The best is the epoch with the lowest log loss, the criterion that fastai's and Keras's own checkpoints watch
by default; so it depends on the predictions alone, and not on what a study measures. Chosen and scored on the
same images, the best of fifty epochs would beat the best of five by luck.
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
from ablate.data.items import Item
from ablate.training.weights import WEIGHTS

BEST = "best.json"


def halves(items: Sequence[Item]) -> np.ndarray:
    """Which half each item belongs to, 0 or 1 in turn; the items of a group are on the same side."""
    number: dict[tuple[str, str], int] = {}
    units = [(item.group, "" if item.group else item.id) for item in items]
    return np.array([number.setdefault(unit, len(number)) % 2 for unit in units])


class BestEpochs(Callback):
    """Find the epochs with the lowest validation log loss: on either half of the items, and on all of them.

    Args:
        items: The validation items, in the loader's order.
    """

    order = 56  # after the recorder, before what may end the fit

    def __init__(self, items: Sequence[Item]):
        half, both = halves(items), np.ones(len(items), bool)
        # too few items for two halves: nothing but all of them to choose by
        self.sides = [*(side if side.any() else both for side in (half == 0, half == 1)), both]
        self.chosen: list[int] = [0] * len(self.sides)
        self.lowest: list[float] = [float("inf")] * len(self.sides)

    @property
    def epochs(self) -> set[int]:
        """The epochs whose weights have to be kept."""
        return set(self.chosen)

    def before_validate(self) -> None:
        self.losses: list[torch.Tensor] = []

    def after_pred(self) -> None:
        if not self.learn.training:
            prediction = self.learn.pred.detach().as_subclass(torch.Tensor).float()
            target = self.learn.yb[0].as_subclass(torch.Tensor)
            self.losses.append(cross_entropy(prediction, target, reduction="none"))

    def after_epoch(self) -> None:
        losses = torch.cat(self.losses).cpu().numpy().astype(np.float64)
        for i, side in enumerate(self.sides):
            loss = float(losses[side].mean())
            if loss < self.lowest[i]:
                self.lowest[i], self.chosen[i] = loss, int(self.learn.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"chosen": self.chosen, "lowest": self.lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.chosen, self.lowest = state["chosen"], state["lowest"]

    def write(self, folder: Path, last: int) -> None:
        """Write `best.json`: which file has the weights of the best epoch by each half, and by all items."""
        first, second, both = (WEIGHTS if epoch == last else epoch_file(epoch) for epoch in self.chosen)
        content = {"halves": [first, second], "all": both, "epochs": self.chosen, "log_loss": self.lowest}
        (folder / BEST).write_text(json.dumps(content))


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
    if keep == "last" or split != "valid":
        return [(weights_name(folder, keep), np.arange(len(items)))]
    chosen, half = _chosen(folder)["halves"], halves(items)
    pairs = [(chosen[1 - side], np.flatnonzero(half == side)) for side in (0, 1)]
    return [(weights, numbers) for weights, numbers in pairs if len(numbers)]


def weights_name(folder: Path, keep: str) -> str:
    """The file of a finished stage's last epoch, or of the best by all validation items."""
    return WEIGHTS if keep == "last" else _chosen(folder)["all"]


def _chosen(folder: Path) -> dict[str, Any]:
    return json.loads(sealed.read(folder, BEST))
