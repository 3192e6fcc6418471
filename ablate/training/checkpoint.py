"""A checkpoint after every epoch, from which a phase goes on as if nothing had happened.

A checkpoint is a sealed folder `epoch-<n>` in the stage's workplace: weights, optimizer, the state of every
callback that has one, and the weights of the best epochs so far. All random numbers are keyed by epoch and
batch, so no generator has a state worth keeping.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.tracker import TrackerCallback
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner
from fastcore.foundation import L

from ablate import sealed
from ablate.study.store import CHECKPOINT
from ablate.training.best import BestEpochs, epoch_file
from ablate.training.state import load_state, save_state
from ablate.training.weights import WEIGHTS, load_optimizer, load_weights, save_optimizer, save_weights

CALLBACKS = "callbacks"
_LAYOUT = 4
"""Raised when a checkpoint holds something else: those of another ablate are as if they were not there."""
_FORGETFUL = {TrackerCallback: ("best", "new_best", "wait"), GradientAccumulation: ("count",)}
"""What fastai's own callbacks forget on `before_fit`."""


class Stateful(Protocol):
    """A callback that goes on where it was: its state is plain values and tensors."""

    def state_dict(self) -> dict[str, Any]:
        """What it has to know after an interruption."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; called after every callback's `before_fit`."""
        ...


class Checkpoints(Callback):
    """Go on from the last finished epoch, keep each further one, and stop after one when asked to.

    Args:
        folder: The stage's workplace.
        best: Knows the epochs whose weights are worth keeping.
        stopping: Whether to stop after the present epoch.
        report: Told `{"checkpoint": epoch}` when an epoch is kept.
    """

    order = 110  # after every callback whose state it keeps

    def __init__(
        self,
        folder: Path,
        best: BestEpochs,
        stopping: Callable[[], bool],
        report: Callable[[dict[str, Any]], None] = lambda message: None,
    ):
        self.folder, self.best, self.stopping, self.report = folder, best, stopping, report
        self.stopped = False
        self.latest = latest(folder)

    @property
    def start_epoch(self) -> int:
        """The first epoch that is still to be trained."""
        return 0 if self.latest is None else _number(self.latest) + 1

    def before_fit(self) -> None:
        if self.latest is not None:
            load_weights(self.learn, self.latest)
            load_optimizer(self.learn, self.latest, rates=True)
            _restore(self.learn, load_state(self.latest, CALLBACKS))

    def after_epoch(self) -> None:
        if self.learn.epoch + 1 == self.learn.n_epoch:
            return  # the finished stage is its checkpoint
        self._save(int(self.learn.epoch))
        if self.stopping():
            self.stopped = True
            raise CancelFitException

    def keep_best(self, folder: Path, last: int) -> None:
        """Put the weights of the best epochs but the last into a folder, from the latest checkpoint."""
        for epoch in self.best.epochs - {last}:
            assert self.latest is not None
            own = WEIGHTS if epoch == _number(self.latest) else epoch_file(epoch)
            _link(self.latest / own, folder / epoch_file(epoch))

    def _save(self, epoch: int) -> None:
        work = self.folder / f".{CHECKPOINT}{epoch}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_weights(self.learn, work)
        save_optimizer(self.learn, work)
        save_state(_collect(self.learn), work, CALLBACKS)
        self.keep_best(work, epoch)
        sealed.seal(work, layout=_LAYOUT)
        before, self.latest = self.latest, self.folder / f"{CHECKPOINT}{epoch}"
        shutil.rmtree(self.latest, ignore_errors=True)  # a damaged one from before an interruption
        work.rename(self.latest)
        sealed.sync(self.folder)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        self.report({"checkpoint": epoch})


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint of a workplace; every file of it has been read."""
    found = sorted(folder.glob(f"{CHECKPOINT}*"), key=_number, reverse=True) if folder.is_dir() else []
    return next((one for one in found if _is_usable(one)), None)


def _is_usable(checkpoint: Path) -> bool:
    seal = sealed.read_seal(checkpoint)
    return seal is not None and seal.get("layout") == _LAYOUT and not any(sealed.damaged_files(checkpoint))


def _link(source: Path, target: Path) -> None:
    """Have a file in two places at once, or copy it where the file system cannot do that."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        shutil.copyfile(source, target)


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def _collect(learn: Learner) -> dict[str, Any]:
    """The state of everything but weights and optimizer."""
    own = {name: callback.state_dict() for name, callback in _stateful(learn)}
    fastai = {name: _remembered(callback) for name, callback in _named(learn)}
    return {"own": own, "fastai": fastai, "recorder": _recorded(learn), "gradients": _gradients(learn)}


def _restore(learn: Learner, state: dict[str, Any]) -> None:
    for name, callback in _stateful(learn):
        callback.load_state_dict(state["own"][name])
    for name, callback in _named(learn):
        vars(callback).update(state["fastai"][name])
    _replay(learn, state["recorder"])
    gradients = state["gradients"]
    for name, parameter in learn.model.named_parameters():
        kept = gradients.get(name)
        zero = torch.zeros_like(parameter) if name in gradients else None
        parameter.grad = zero if kept is None else kept.to(parameter.device, copy=True)


def _gradients(learn: Learner) -> dict[str, torch.Tensor | None]:
    """The gradients that there are; None for each if all are zero, as they are after a step.

    A parameter whose gradient is zero still moves under momentum; one without a gradient does not.
    """
    there = {name: p.grad for name, p in learn.model.named_parameters() if p.grad is not None}
    pending = bool(there) and bool(torch.stack([grad.any() for grad in there.values()]).any())
    return there if pending else dict.fromkeys(there)


def _named(learn: Learner) -> list[tuple[str, Callback]]:
    return [(f"{i}.{callback.name}", callback) for i, callback in enumerate(learn.cbs)]


def _stateful(learn: Learner) -> list[tuple[str, Stateful]]:
    # asked of the class: an instance hands on what it lacks to the learner, and that to the network
    return [(name, callback) for name, callback in _named(learn) if hasattr(type(callback), "state_dict")]


def _remembered(callback: Callback) -> dict[str, Any]:
    names = [name for kind, own in _FORGETFUL.items() if isinstance(callback, kind) for name in own]
    return {name: vars(callback)[name] for name in names if name in vars(callback)}


def _recorded(learn: Learner) -> dict[str, Any]:
    recorder, smooth = learn.recorder, learn.recorder.smooth_loss
    lists = {name: list(getattr(recorder, name)) for name in ("lrs", "iters")}
    losses = torch.stack([torch.as_tensor(loss).cpu() for loss in recorder.losses])
    values = [[float(value) for value in row] for row in recorder.values]
    numbers = {
        "count": smooth.count,
        "val": smooth.val,
        "latest": smooth.latest,
        "train_iter": learn.train_iter,
    }
    return lists | {"losses": losses, "values": values} | numbers


def _replay(learn: Learner, state: dict[str, Any]) -> None:
    recorder = learn.recorder
    recorder.lrs, recorder.iters = state["lrs"], state["iters"]
    recorder.values = [L(row) for row in state["values"]]
    recorder.losses = list(state["losses"])
    for name in ("count", "val", "latest"):
        setattr(recorder.smooth_loss, name, state[name])
    learn.smooth_loss, learn.train_iter = recorder.smooth_loss.value, state["train_iter"]
    learn.final_record = recorder.values[-1]
