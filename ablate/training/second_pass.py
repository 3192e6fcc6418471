"""Sharpness-aware minimization: a second forward and backward pass at other weights, in the same step."""

from __future__ import annotations

import torch
from fastai.callback.core import Callback
from fastai.torch_core import to_float

from ablate.techniques.sam import ascent
from ablate.training.batch_norms import without_tracking
from ablate.training.callbacks import KeyedTraining, MicroBatch, autocast


class SharpnessAware(Callback):
    """Replace each gradient by the one at the weights to which it points, for any optimizer.

    Args:
        rho: How far away those weights are.
        adaptive: Whether that is measured relative to each weight.
        interval: Only in every so many steps.
    """

    run_valid = False

    def __init__(self, rho: float, adaptive: bool = False, interval: int = 1):
        self.rho, self.adaptive, self.interval = rho, adaptive, interval

    def after_backward(self) -> None:
        if (int(self.learn.train_iter) + 1) % self.interval:
            return
        weights = [p for p in self.learn.model.parameters() if p.requires_grad and p.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            steps = ascent(before, [weight.grad for weight in weights], self.rho, self.adaptive)
            for weight, step in zip(weights, steps, strict=True):
                weight.add_(step)
                weight.grad.zero_()
        try:
            with without_tracking(self.learn.model):
                self._again()
        finally:
            with torch.no_grad():
                for weight, own in zip(weights, before, strict=True):
                    weight.copy_(own)

    def _again(self) -> None:
        """The step's forward and backward pass once more: the same batch, parts and dropout."""
        learn = self.learn
        for keyed in learn.cbs.filter(lambda callback: isinstance(callback, KeyedTraining)):
            keyed.before_batch()
        split = learn.cbs.filter(lambda callback: isinstance(callback, MicroBatch))
        parts = split[0].parts() if split else [(learn.xb, learn.yb, 1)]
        scaler = getattr(learn, "scaler", None)
        for xb, yb, weight in parts:
            with autocast(learn):
                loss = learn.loss_func(to_float(learn.model(*xb)), *yb) * weight
            (scaler.scale(loss) if scaler else loss).backward()
