"""A trained learner from files: the weights of the very trial, or a clear reason why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_stores import flip

from ablate.errors import AblateError, Damaged
from ablate.study.rebuild import trained_learner
from ablate.study.study import Study


def test_its_weights_are_those_of_the_trial(finished: Study):
    trial = finished.trial("baseline+phases.one.lr=1e-06", 1, 0)
    stored = load_file(Path(finished.plan["store"]) / trial.fits[-1] / "weights.safetensors")
    state = trained_learner(finished, trial.variant, 1, 0).model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in stored.items())


def test_weights_that_are_gone_are_named(copy_of: Study):
    shutil.rmtree(Path(copy_of.plan["store"]) / copy_of.trial("baseline", 0, 0).fits[-1])
    with pytest.raises(AblateError, match=r"baseline, seed 0: its weights are not in .*store; `ablate run`"):
        trained_learner(copy_of, "baseline", 0, 0)


def test_weights_that_are_not_those_that_were_written_are_refused(copy_of: Study):
    folder = Path(copy_of.plan["store"]) / copy_of.trial("baseline", 0, 0).fits[-1]
    flip(folder / "weights.safetensors")
    with pytest.raises(Damaged, match=rf"{folder.name}: is damaged; `ablate run` sets it aside"):
        trained_learner(copy_of, "baseline", 0, 0)
