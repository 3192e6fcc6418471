"""Mixing two images of a batch into one, and the loss for it: what mixup, cutmix and their like share.

A mixing technique gives `MixBatches` callbacks. The callback turns a batch's targets `y` into `y, partner's
y, weight`, one of each per item, and the loss into one that weighs both; so a batch can still be split into
micro-batches afterwards. Where several mixing techniques are on, one of them is chosen for each batch.
Only the images are mixed: of a batch with further inputs, such as metadata, those stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.mixup import reduce_loss
from fastai.layers import NoneReduce
from torch import Tensor

from ablate import devices
from ablate.errors import AblateError
from ablate.streams import Streams


class Mixer(Protocol):
    """How one technique mixes: draws on the host, fixed-shape tensor operations on the device."""

    name: ClassVar[str]

    @property
    def weight(self) -> float:
        """How often it is chosen, relative to the others."""
        ...

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A batch (n, c, h, w) to the mixed one, each item's partner (n,), and the item's own share (n,)."""
        ...


class MixedLoss:
    """A loss of `(prediction, y, partner's y, share of y)`; of plain `(prediction, y)` it is the loss itself.

    The loss is linear in the target's distribution for cross-entropy, label smoothing included, so weighing
    two losses is the same as weighing two soft targets.
    """

    def __init__(self, loss: Any):
        self.loss = loss

    def __call__(self, prediction: Tensor, y: Tensor, *mixed: Tensor) -> Tensor:
        if not mixed:
            return self.loss(prediction, y)
        partner, share = mixed
        reduction = getattr(self.loss, "reduction", "mean")
        with NoneReduce(self.loss) as each:
            return reduce_loss(torch.lerp(each(prediction, partner), each(prediction, y), share), reduction)

    @property
    def reduction(self) -> str:
        """The loss's own; fastai sets it to ask for a loss per item."""
        return self.loss.reduction

    @reduction.setter
    def reduction(self, value: str) -> None:
        self.loss.reduction = value

    def __getattr__(self, name: str) -> Any:
        if name == "loss":  # unpickling and copying ask before __init__ has run
            raise AttributeError(name)
        return getattr(self.loss, name)


class MixBatches(Callback):
    """Mix every training batch by one of several mixers, chosen by their weights.

    Args:
        mixers: The mixers to choose from.
        streams: Where the draws come from; None takes a seed from torch when training starts.
    """

    order = 5
    run_valid = False

    def __init__(self, mixers: Sequence[Mixer], streams: Streams | None = None):
        self.mixers, self.streams = list(mixers), streams

    def before_fit(self) -> None:
        if len(self.learn.cbs.filter(lambda callback: isinstance(callback, MixBatches))) > 1:
            raise AblateError(
                "mixing: a batch can be mixed once; give the learner one MixBatches with all mixers."
            )
        self._streams = self.streams or Streams(int(torch.randint(2**62, ())))
        self.after_fit()  # an interrupted fit ends without it
        self.learn.loss_func = MixedLoss(self.learn.loss_func)

    def after_fit(self) -> None:
        if isinstance(self.learn.loss_func, MixedLoss):
            self.learn.loss_func = self.learn.loss_func.loss

    def before_batch(self) -> None:
        epoch, batch = int(self.learn.epoch), int(self.learn.iter)
        x, y = self.learn.xb[0], self.learn.yb[0]
        one = chosen(self.mixers, self._streams.generator("mix", epoch, batch))
        # where graphs are compiled, each mixer would be another one: there all mix, and one of them is taken
        mixers = self.mixers if devices.of(x).fixed_shapes else [one]
        made = [mixer.mix(x, self._streams.generator(f"mix.{mixer.name}", epoch, batch)) for mixer in mixers]
        mixed, partner, share = taken(made, mixers.index(one))
        self.learn.xb = (mixed, *self.learn.xb[1:])
        self.learn.yb = (y, y[partner], share)


def taken(made: Sequence[tuple[Tensor, ...]], number: int) -> tuple[Tensor, ...]:
    """One of several results of the same shapes, by a number that is not part of the graph."""
    if len(made) == 1:
        return made[0]
    at = torch.tensor([number]).to(made[0][0].device)
    parts = []
    for same in zip(*made, strict=True):
        part = same[0]
        for i, other in enumerate(same[1:], 1):
            part = torch.where(at == i, other, part)
        parts.append(part)
    return tuple(parts)


def chosen(mixers: Sequence[Mixer], rng: np.random.Generator) -> Mixer:
    """One of some mixers, drawn by their weights."""
    weights = np.array([mixer.weight for mixer in mixers])
    if (weights == weights[0]).all():  # the same choice whatever the equal weights are
        return mixers[int(rng.integers(len(mixers)))]
    return mixers[int(rng.choice(len(mixers), p=weights / weights.sum()))]
