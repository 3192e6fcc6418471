"""The callbacks of every stage: keyed randomness, precision, micro-batches, the end of a device's step."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException, CancelTrainException
from fastai.callback.fp16 import MixedPrecision
from fastai.learner import Learner
from fastai.torch_core import apply

from ablate import devices
from ablate.data.loader import KeyedDL
from ablate.data.share import Share
from ablate.streams import Streams


class KeyedTraining(Callback):
    """Tell the loaders the epoch, and seed dropout for every batch by its number."""

    order = -100

    def __init__(self, streams: Streams, device: str):
        self.streams, self.device = streams, devices.load(device)

    def before_epoch(self) -> None:
        for loader in self.learn.dls.loaders:
            if isinstance(loader, KeyedDL):
                loader.epoch = int(self.learn.epoch)

    def before_validate(self) -> None:
        loader = self.learn.dl
        if isinstance(loader, KeyedDL) and loader.augments:
            loader.epoch = int(self.learn.epoch)  # `Learner.tta` counts its copies as epochs

    def before_batch(self) -> None:
        if self.learn.training:
            self.seed("dropout", int(self.learn.iter))

    def seed(self, what: str, batch: int) -> None:
        """Seed the device for one batch of the epoch, by the name of what draws from it."""
        index = getattr(self.learn.dls.train, "share", Share()).index(batch)
        self.device.seed(self.streams.integer(what, int(self.learn.epoch), index))


class DeviceStep(Callback):
    """Tell the device when a batch is complete, before anybody looks at what came out of it."""

    order = 51  # after the recorder, whose sums are part of the step

    def __init__(self, device: str):
        self.device = devices.load(device)

    def before_train(self) -> None:
        self.device.settle(self.learn)
        self.device.end_step()

    def after_batch(self) -> None:
        self.device.end_step()

    def after_train(self) -> None:
        self.device.end_step()

    def after_validate(self) -> None:
        self.device.end_step()


class Results(Callback):
    """Have predictions where the device wants their losses and metrics computed, without a batch's filling.

    The forward pass is a step of its own, the same for every batch whatever is done with its predictions.
    """

    order = -100  # before all others see the predictions

    def __init__(self, device: str):
        self.device = devices.load(device)

    def after_pred(self) -> None:
        learn = self.learn
        if learn.training:
            return
        learn.pred, learn.yb = self.device.results((learn.pred, learn.yb))
        if isinstance(learn.dl, KeyedDL):
            self._cut(learn.dl.real(int(learn.iter)))

    def _cut(self, real: int) -> None:
        learn = self.learn
        if real == len(learn.xb[0]):
            return
        learn.pred, learn.yb = _first(learn.pred, real), _first(learn.yb, real)
        if hasattr(learn, "gather_preds") and learn.gather_preds.with_input:
            learn.gather_preds.inputs[-1] = _first(learn.gather_preds.inputs[-1], real)


def _first(tensors: Any, count: int) -> Any:
    """The first rows of some tensors."""
    return apply(lambda tensor: tensor[:count], tensors)


class Precision(MixedPrecision):
    """fastai's MixedPrecision for any device; a loss scaler for float16 alone."""

    def __init__(self, precision: str, device: str):
        super().__init__("bf16" if precision == "bfloat16" else "fp16")
        self.precision, self.device = precision, devices.load(device)

    def before_fit(self) -> None:
        self.autocast = self.device.autocast(self.precision)
        self.learn.scaler = self.device.scaler(self.precision)
        self.scales: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return self.learn.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learn.scaler.load_state_dict(state)


class MicroBatch(Callback):
    """Split each training batch into parts that fit into memory and add up their gradients.

    Runs after mixing, so partners come from the whole batch. Batch norm sees the parts, as it must. The parts
    of a mean weigh by their sizes; those of a sum add up.

    Args:
        size: How many items a part has at most.
    """

    order = 20
    run_valid = False

    def __init__(self, size: int):
        self.size = size

    def before_batch(self) -> None:
        learn = self.learn
        self.whole = learn.xb, learn.yb
        *earlier, (learn.xb, learn.yb, self.weight) = self.parts()
        self.earlier = torch.zeros((), device=learn.yb[0].device)
        for xb, yb, weight in earlier:
            loss = learn.loss_func(learn.model(*xb), *yb) * weight
            self.earlier += loss.detach().float()
            scaler = getattr(learn, "scaler", None)
            (scaler.scale(loss) if scaler else loss).backward()

    def after_loss(self) -> None:
        self.learn.loss_grad = self.learn.loss_grad * self.weight
        self.learn.loss = self.learn.loss_grad.detach().clone() + self.earlier

    def after_batch(self) -> None:
        self.learn.xb, self.learn.yb = self.whole

    def parts(self) -> list[tuple[Any, Any, float]]:
        """The parts of the present batch: inputs, targets, and the weight of the part's loss."""
        xb, yb = self.whole
        total = len(yb[0])
        summed = getattr(self.learn.loss_func, "reduction", "mean") == "sum"
        parts = [slice(start, min(start + self.size, total)) for start in range(0, total, self.size)]
        weights = [1 if summed else (part.stop - part.start) / total for part in parts]
        return [(_cut(xb, part), _cut(yb, part), weight) for part, weight in zip(parts, weights, strict=True)]


def _cut(tensors: Any, part: slice) -> tuple[Any, ...]:
    return tuple(tensor[part] for tensor in tensors)


def autocast(learn: Learner) -> AbstractContextManager[Any]:
    """The precision that a learner trains in, for passes beside its own."""
    found = learn.cbs.filter(lambda callback: isinstance(callback, MixedPrecision))
    return found[0].autocast if found else nullcontext()


class StopWhenDiverged(Callback):
    """End training at the end of an epoch in which the loss stopped being finite."""

    order = 60

    def __init__(self) -> None:
        self.diverged = False

    def after_train(self) -> None:
        losses = [float(loss) for loss in self.learn.recorder.losses[-len(self.learn.dls.train) :]]
        if not all(math.isfinite(loss) for loss in losses):
            self.diverged = True
            raise CancelFitException


class SingleBatch(Callback):
    """Run one batch of training and one of validation; nothing that goes by a whole epoch sees it."""

    order = 90

    def after_batch(self) -> None:
        raise CancelTrainException if self.learn.training else CancelFitException

    def before_validate(self) -> None:
        if not len(self.learn.dls.valid):
            raise CancelFitException
