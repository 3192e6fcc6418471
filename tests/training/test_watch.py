"""A phase that compiles step after step is told of, once, with the techniques to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import nn
from torch.nn import functional

from ablate import devices
from ablate.techniques.base import Technique
from ablate.techniques.cutmix import CutMix
from ablate.techniques.mixup import MixUp
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.watch import PATIENCE, SETTLED, WatchCompilations, suspects

LENGTH = 20
"""Steps of an epoch."""


class Ragged(Technique):
    """One from outside."""

    name: ClassVar[str] = "ragged"


class Odd(Ragged):
    name: ClassVar[str] = "odd"


class Script(Callback):
    """Plays a device that compiles in some steps, and leaves operations to the host from one step on."""

    order = 51  # where the device's step ends

    def __init__(self, compiling: Callable[[int, int], bool], left: Sequence[str] = (), since: int = 0):
        self.compiling, self.left, self.since = compiling, left, since
        self.graphs = self.steps = 0

    def after_batch(self) -> None:
        if self.learn.training:
            self.graphs += self.compiling(int(self.learn.epoch), int(self.learn.iter))
            self.steps += 1
        else:
            self.graphs += 1  # validation's own graphs are no step's

    def device(self) -> Any:
        return SimpleNamespace(name="fake", compiled=lambda: self.graphs, left_to_host=self.left_to_host)

    def left_to_host(self) -> list[str]:
        return ["seen_before", *(self.left if self.steps >= self.since else ())]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What is told in fits of some epochs on a scripted device."""

    def fit(script: Script, *on: Technique, epochs: int = 1, fits: int = 1) -> list[str]:
        monkeypatch.setattr(devices, "load", lambda name: script.device())
        said: list[str] = []
        pairs = [(torch.zeros(2), torch.tensor(0))] * LENGTH
        dls = DataLoaders(DataLoader(pairs, bs=1), DataLoader(pairs[:6], bs=1))
        watch = WatchCompilations("fake", "tune", on, said.append)
        learn = quiet(
            Learner(dls, nn.Linear(2, 2), functional.cross_entropy, cbs=[script, watch], path=tmp_path)
        )
        for _ in range(fits):
            learn.fit(epochs, 0.1)
        return said

    return fit


def test_compiling_in_every_step_is_told_once(told: Callable[..., list[str]]):
    said = told(Script(lambda epoch, step: True), Ragged(), MixUp(), epochs=3)
    assert said == [
        "phase tune: every step is compiled anew, which takes most of the time; look at the technique "
        "ragged: shapes and slices must be the same in each step (docs/tpu.md)."
    ]


@pytest.mark.parametrize(
    ("begin", "steps", "expected"),
    [
        (0, SETTLED, 0),
        (0, SETTLED + PATIENCE - 1, 0),
        (0, SETTLED + PATIENCE, 1),
        (SETTLED, PATIENCE - 1, 0),
        (SETTLED, PATIENCE, 1),
        (LENGTH - PATIENCE, PATIENCE, 1),
        (LENGTH - PATIENCE + 1, PATIENCE, 0),
    ],
)
def test_first_graphs_and_a_few_more_are_nothing_to_tell(
    told: Callable[..., list[str]], begin: int, steps: int, expected: int
):
    said = told(Script(lambda epoch, step: begin <= step < begin + steps))
    assert len(said) == expected


def test_steps_must_come_in_a_row_within_one_epoch(told: Callable[..., list[str]]):
    assert told(Script(lambda epoch, step: step % PATIENCE > 0), epochs=4) == []
    around = LENGTH - PATIENCE + 1  # the rest of the row would be in the next epoch
    assert told(Script(lambda epoch, step: step >= around or step < SETTLED + 1), epochs=4) == []


def test_it_is_told_in_later_epochs_and_in_each_fit(told: Callable[..., list[str]]):
    assert len(told(Script(lambda epoch, step: epoch == 2), epochs=4)) == 1
    assert len(told(Script(lambda epoch, step: True), epochs=2, fits=2)) == 2


def test_what_is_left_to_the_host_is_told_once_and_only_if_it_is_new(told: Callable[..., list[str]]):
    never = Script(lambda epoch, step: False, ("nonzero", "linalg_solve"), since=3 * LENGTH + 1)
    assert told(never, epochs=3) == []
    late = Script(lambda epoch, step: False, ("nonzero", "linalg_solve"), since=LENGTH + 2)
    assert told(late, CutMix(), epochs=4) == [
        "phase tune: fake leaves linalg_solve, nonzero to the host, which is slow; look at the network and "
        "cutmix (docs/tpu.md)."
    ]


def test_both_can_be_told(told: Callable[..., list[str]]):
    said = told(Script(lambda epoch, step: True, ("nonzero",), since=1), Ragged(), Odd())
    assert [text.split(",")[0] for text in said] == [
        "phase tune: every step is compiled anew",
        "phase tune: fake leaves nonzero to the host",
    ]
    assert all("look at the techniques ragged, odd" in text for text in said)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ((), "the network"),
        ((MixUp(),), "the network and mixup"),
        ((MixUp(), CutMix()), "the network and mixup, cutmix"),
        ((MixUp(), Ragged(), CutMix()), "the technique ragged"),
        ((Odd(), CutMix(), Ragged()), "the techniques odd, ragged"),
    ],
)
def test_suspects(on: tuple[Technique, ...], expected: str):
    assert suspects(on) == expected


def test_nothing_is_told_on_the_cpu(parts: Callable[..., Any], recwarn: pytest.WarningsRecorder):
    learn = quiet(build_learner(made := parts(on=["mixup"], batch_size=2), dataloaders(made)))
    said: list[str] = []
    learn.watch_compilations.tell = said.append
    learn.fit(2, 1e-3)
    assert said == []
    assert not [one for one in recwarn if "compiled anew" in str(one.message)]
