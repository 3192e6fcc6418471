"""Averages of the weights that training goes through: what is validated, kept and predicted with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import chain, islice
from typing import Any

import torch
from fastai.callback.core import Callback
from torch import nn

from ablate.data.loader import KeyedDL
from ablate.errors import AblateError
from ablate.techniques.ema import decay_at
from ablate.techniques.swa import first_averaged
from ablate.training.batch_norms import recompute_statistics
from ablate.training.callbacks import DeviceStep, KeyedTraining, autocast


class WeightAverage(Callback):
    """Have the learner's network hold an average of its weights from the end of each epoch's training on.

    So validation sees the average, the checkpoint and the best epochs have it, and the fit ends with it. When
    the next epoch begins, the network takes up the weights that are trained, which the other network, in
    `averaged`, has held for that time; they are this callback's state.
    """

    order = -90  # the first that looks at the weights, so that all others find the same
    averaged: Any = None

    def average(self) -> bool:
        """At the end of an epoch's training: whether there is an average."""
        raise NotImplementedError

    def before_fit(self) -> None:
        self.run = not hasattr(self, "lr_finder") and not hasattr(self, "gather_preds")
        if not self.run:
            return
        if len(self.learn.cbs.filter(lambda callback: isinstance(callback, WeightAverage))) > 1:
            raise AblateError("averaging: weights are averaged once; turn ema or swa off.")
        self.averaged, self.swapped, self.updates = None, False, 0

    def before_epoch(self) -> None:
        if self.swapped:
            self.swap()
        self._start()

    def after_train(self) -> None:
        if self.average():
            self.swap()
            self.settle()

    def after_fit(self) -> None:
        if self.updates and not self.swapped:  # the fit ended within an epoch
            self.swap()
            self.settle()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange all values of the learner's network and of the other; nothing is copied."""
        for own, other in zip(_tensors(self.learn.model), _tensors(self.averaged), strict=True):
            own.data, other.data = other.data, own.data
        self.swapped = not self.swapped

    def settle(self) -> None:
        """Work out what an average has to have beside averaged weights; the network holds it."""

    def state_dict(self) -> dict[str, Any]:
        weights = self.averaged.state_dict() if self.swapped else None
        return {"weights": weights, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self._start()
        if state["weights"] is not None:
            self.averaged.load_state_dict(state["weights"])
            self.swapped = True

    def _start(self) -> None:
        if self.averaged is None:
            self.averaged = deepcopy(self.learn.model)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())


@torch.no_grad()
def move(averages: Iterable[torch.Tensor], values: Iterable[torch.Tensor], share: float) -> None:
    """Move averages towards values by a share of the way, in place; whole numbers all the way.

    All are computed: what is plainly copied shares memory on XLA, which then is given away.
    """
    weight = torch.tensor([share])  # not a number: XLA takes equal ones for one input, which is another graph
    for average, value in zip(averages, values, strict=True):
        if value.is_floating_point():
            weight = weight.to(value)
            average.lerp_(value, weight)
        else:
            average.zero_().add_(value)


class MovingAverage(WeightAverage):
    """The exponential moving average after every step, of batch norms' statistics too, as timm's ModelEmaV3.

    Args:
        decay: The average's own share in each step, at the most.
        warmup: Whether that grows from 0; see `ablate.techniques.ema.decay_at`.
    """

    def __init__(self, decay: float, warmup: bool):
        self.decay, self.warmup = decay, warmup

    def after_step(self) -> None:
        self.updates += 1
        share = 1 - decay_at(self.updates, self.decay, self.warmup)
        move(_tensors(self.averaged), _tensors(self.learn.model), share)

    def average(self) -> bool:
        return self.updates > 0


class EpochAverage(WeightAverage):
    """The plain average of the weights at the ends of the last epochs, as torch's AveragedModel.

    Statistics of batch norms are worked out anew for every average, by a pass over the epoch's training
    images, augmented as they were, but not mixed.

    Args:
        share: Of the epochs, the last.
    """

    def __init__(self, share: float):
        self.share = share

    def average(self) -> bool:
        if self.learn.epoch < first_averaged(int(self.learn.n_epoch), self.share):
            return False
        self.updates += 1
        move(self.averaged.parameters(), self.learn.model.parameters(), 1 / self.updates)
        for average, value in zip(self.averaged.buffers(), self.learn.model.buffers(), strict=True):
            average.data = value.data + 0  # computed, as in `move`
        return True

    def settle(self) -> None:
        with autocast(self.learn):
            recompute_statistics(self.learn.model, self._inputs())

    def _inputs(self) -> Iterator[tuple[Any, ...]]:
        """The inputs of as many batches as the epoch has trained on."""
        learn, loader = self.learn, self.learn.dls.train
        if isinstance(loader, KeyedDL):
            loader.epoch = int(learn.epoch)
        self._end_step()
        for number, batch in enumerate(islice(loader, int(learn.iter) + 1)):
            for callback in learn.cbs:
                if isinstance(callback, KeyedTraining):
                    callback.seed("swa", number)
            yield batch[: getattr(learn.dls, "n_inp", len(batch) - 1)]  # as Learner splits a batch
            self._end_step()

    def _end_step(self) -> None:
        for callback in self.learn.cbs:
            if isinstance(callback, DeviceStep):
                callback.after_batch()
