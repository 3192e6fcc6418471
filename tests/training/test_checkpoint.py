"""Weights and optimizer state through files: training goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import torch

from ablate.training.checkpoint import load_optimizer, load_weights, save_optimizer, save_weights
from ablate.training.data import dataloaders
from ablate.training.fit import fit_phase
from ablate.training.learner import build_learner, quiet


def ignore(_message: object) -> None:
    pass


def test_two_phases_through_files_equal_two_in_one_learner(parts, tmp_path: Path):
    phases = {"phases__0__freeze": False, "phases__0__lr": 1e-3}
    first, second = parts("head", **phases), parts("body", **phases)

    whole = quiet(build_learner(first, dataloaders(first)))
    fit_phase(whole, first.phase, 1e-3, ignore)
    save_weights(whole, tmp_path)
    save_optimizer(whole, tmp_path)
    later = quiet(build_learner(second, dataloaders(second)))
    load_weights(later, tmp_path)
    load_optimizer(later, tmp_path)

    whole.dls = dataloaders(second)
    whole.remove_cbs(whole.cbs.filter(lambda cb: type(cb).__name__ == "KeyedTraining"))
    whole.add_cbs(later.cbs.filter(lambda cb: type(cb).__name__ == "KeyedTraining").map(lambda cb: _like(cb)))
    for learn in (whole, later):
        fit_phase(learn, second.phase, [1e-4, 1e-3], ignore)
    states = [learn.model.state_dict() for learn in (whole, later)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _like(callback):
    return type(callback)(callback.streams, callback.device.name)


def test_no_pickle_is_written(parts, tmp_path: Path):
    made = parts()
    learn = quiet(build_learner(made, dataloaders(made)))
    fit_phase(learn, made.phase, 1e-3, ignore)
    save_weights(learn, tmp_path)
    save_optimizer(learn, tmp_path)
    assert {file.suffix for file in tmp_path.iterdir() if file.is_file()} == {".safetensors", ".json"}
