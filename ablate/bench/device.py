"""The device's part: batch transforms, the training and validation step, and training as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from ablate.bench.host import raw_batches
from ablate.bench.stopwatch import Stopwatch
from ablate.bench.subject import Subject
from ablate.training.fit import EpochLog, SeedEpochs

_ENDLESS = 1_000_000


def transforming(dls: DataLoaders, seconds: float) -> float:
    """Everything between a batch of bytes on the device and the network: float, normalize and the like."""
    with closing(raw_batches(dls.train)) as batches:
        raw = next(batches)
    made: Any = None
    watch = Stopwatch(seconds, warm=2, wait=lambda: made[0].ravel()[0].item())
    while True:
        made = dls.train.after_batch(raw)
        if watch.count(len(raw[0])):
            return watch.rate


def stepping(learn: Learner, subject: Subject, seconds: float) -> tuple[float, float]:
    """Training and validation steps on one batch of noise that is on the device: images/s of each."""
    batch, watch = _noise(learn.dls), Pace(seconds * 0.75, seconds * 0.25)
    loaders = learn.dls.loaders
    learn.dls.loaders = [_Again(loader, batch, watch) for loader in loaders]
    try:
        _fit(learn, subject, 1, watch)
    finally:
        learn.dls.loaders = loaders
    return watch.train.rate, watch.valid.rate


def training(learn: Learner, subject: Subject, waits: bool, seconds: float) -> float:
    """Real training with the real loader, epoch after epoch; what lies between epochs does not count.

    Args:
        learn: With the real loaders.
        subject: What is measured.
        waits: Whether the network waits for the loader, so that batches come in bursts.
        seconds: For how long.
    """
    workers = subject.parts.workers
    watch = Pace(seconds, ends_fit=True, warm=workers + 2, least=workers if waits else 1)
    _fit(learn, subject, _ENDLESS, watch)
    return watch.train.rate


class Pace(Callback):
    """Count the images of training and of validation, until time is up.

    Args:
        seconds: Of training.
        valid_seconds: Of validation.
        ends_fit: Whether the fit ends with the time of training; else `is_up` tells the loaders to end.
        warm: Of training; see `Stopwatch`.
        least: Of training; see `Stopwatch`.
    """

    order = 110  # after everything that belongs to a step

    def __init__(
        self,
        seconds: float,
        valid_seconds: float = 0.0,
        ends_fit: bool = False,
        warm: int = 2,
        least: int = 1,
    ):
        self.seconds, self.valid_seconds, self.ends_fit = seconds, valid_seconds, ends_fit
        self.warm, self.least = warm, least

    def before_fit(self) -> None:
        self.train = Stopwatch(self.seconds, self.warm, self.least, self._wait)

    def _wait(self) -> None:
        float(self.learn.loss)

    def before_train(self) -> None:
        self.train.resume()
        self.is_up = False

    def after_train(self) -> None:
        self.train.pause()

    def before_validate(self) -> None:
        self.valid = Stopwatch(self.valid_seconds, 2, wait=self._wait)
        self.is_up = False

    def after_batch(self) -> None:
        watch = self.train if self.learn.training else self.valid
        self.is_up = watch.count(len(self.learn.yb[0]))
        if self.is_up and self.ends_fit and self.learn.training:
            raise CancelFitException


class _Again:
    """A loader that gives the same batch until time is up, and else is the loader that it stands for."""

    def __init__(self, loader: Any, batch: Any, watch: Pace):
        self.loader, self.batch, self.watch = loader, batch, watch

    def __iter__(self) -> Iterator[Any]:
        while not self.watch.is_up:
            yield self.batch

    def __len__(self) -> int:
        return _ENDLESS

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # copying asks before __init__ has run
            raise AttributeError(name)
        return getattr(self.loader, name)


def _noise(dls: DataLoaders) -> Any:
    """A batch of the loader's own types, layout and labels, with noise in place of the images."""
    with closing(iter(dls.train)) as batches:
        images, *labels = next(batches)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator).to(images.device, images.dtype)
    return (images.copy_(noise), *labels)


def _fit(learn: Learner, subject: Subject, epochs: int, watch: Pace) -> None:
    """Train as a stage does."""
    phase, streams = subject.parts.phase, subject.parts.streams
    rate = 1e-3 if phase.lr == "find" else phase.lr
    callbacks = [SeedEpochs(streams), EpochLog(phase.name, lambda _: None), watch]
    learn.fit_one_cycle(
        epochs,
        lr_max=slice(*rate) if isinstance(rate, list) else rate,
        wd=phase.weight_decay,
        cbs=callbacks,
    )
