"""Weights and optimizer state through files: training goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.optimizer import SGD, Adam
from fastcore.foundation import L
from torch import nn

from ablate import sealed
from ablate.errors import Damaged
from ablate.training.data import dataloaders
from ablate.training.fit import fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.weights import load_optimizer, load_weights, save_optimizer, save_weights


def small_learner(optimizer: Callable[..., Any], seed: int = 0) -> Learner:
    """Two groups of parameters, a batch norm, and weights that get no gradient."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU())
    model = nn.Sequential(body, nn.Linear(5, 3))
    model[0][0].register_parameter("unused", nn.Parameter(torch.ones(2)))
    loader = DataLoader([(torch.zeros(4), 0)], bs=1, num_workers=0)
    learn = Learner(
        DataLoaders(loader, loader),
        model,
        loss_func=nn.CrossEntropyLoss(),
        opt_func=optimizer,
        splitter=lambda own: L(list(own[0].parameters()), list(own[1].parameters())),
    )
    learn.create_opt()
    return learn


def train(learn: Learner, steps: range) -> list[float]:
    """Some steps on data of their own, with rates that move as a schedule moves them; gives the losses."""
    losses = []
    for step in steps:
        rng = torch.Generator().manual_seed(step)
        x, y = torch.randn(6, 4, generator=rng), torch.randint(3, (6,), generator=rng)
        learn.opt.set_hyper("lr", np.array([1e-3, 2e-3]) * (step + 1))
        loss = nn.functional.cross_entropy(learn.model(x), y)
        loss.backward()
        learn.opt.step()
        learn.opt.zero_grad()
        losses.append(float(loss))
    return losses


def save(learn: Learner, folder: Path) -> Path:
    folder.mkdir()
    save_weights(learn, folder)
    save_optimizer(learn, folder)
    sealed.seal(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "DONE.json"}


def test_every_optimizer_goes_on_where_it_was(optimizer: Callable[..., Any], tmp_path: Path):
    whole = small_learner(optimizer)
    train(whole, range(5))
    save(whole, tmp_path / "middle")
    expected = train(whole, range(5, 10))
    save(whole, tmp_path / "end")

    resumed = small_learner(optimizer, seed=1)
    load_weights(resumed, tmp_path / "middle")
    load_optimizer(resumed, tmp_path / "middle", rates=True)
    assert contents(save(resumed, tmp_path / "again")) == contents(tmp_path / "middle")
    assert train(resumed, range(5, 10)) == expected
    assert contents(save(resumed, tmp_path / "resumed")) == contents(tmp_path / "end")


def test_losing_the_optimizers_state_would_show(optimizer: Callable[..., Any], tmp_path: Path):
    """The test above can fail: with weights alone, all but SGD without momentum go another way."""
    whole = small_learner(optimizer)
    train(whole, range(5))
    save(whole, tmp_path / "middle")
    forgetful = small_learner(optimizer, seed=1)
    load_weights(forgetful, tmp_path / "middle")
    same = train(forgetful, range(5, 10)) == train(whole, range(5, 10))
    assert same == (optimizer is SGD)


def test_an_optimizer_that_has_not_stepped_goes_on_too(optimizer: Callable[..., Any], tmp_path: Path):
    fresh = small_learner(optimizer)
    save(fresh, tmp_path / "fresh")
    resumed = small_learner(optimizer)
    load_optimizer(resumed, tmp_path / "fresh", rates=True)
    assert train(resumed, range(4)) == train(fresh, range(4))


def test_rates_stay_unless_asked_for(optimizer: Callable[..., Any], tmp_path: Path):
    whole = small_learner(optimizer)
    train(whole, range(3))
    save(whole, tmp_path / "phase")
    later, taking = small_learner(optimizer), small_learner(optimizer)
    for learn in (later, taking):
        learn.opt.set_hyper("lr", np.array([0.5, 0.25]))
        learn.opt.set_hyper("wd", 0.125)
    load_optimizer(later, tmp_path / "phase", rates=False)
    load_optimizer(taking, tmp_path / "phase", rates=True)
    assert [group["lr"] for group in later.opt.hypers] == [0.5, 0.25]
    assert {group["wd"] for group in later.opt.hypers} == {0.125}
    assert [group["lr"] for group in taking.opt.hypers] == [group["lr"] for group in whole.opt.hypers]
    assert {group["wd"] for group in taking.opt.hypers} == {group["wd"] for group in whole.opt.hypers}
    # all else is taken over: with the same rates, both go on alike
    for learn in (whole, later):
        learn.opt.set_hypers(wd=0.0)
        load_weights(learn, tmp_path / "phase")
    assert train(later, range(3, 6)) == train(whole, range(3, 6))


def test_batch_norms_statistics_are_weights_too(tmp_path: Path):
    learn = small_learner(Adam)
    train(learn, range(3))
    save(learn, tmp_path / "a")
    other = small_learner(Adam, seed=1)
    load_weights(other, tmp_path / "a")
    states = learn.model.state_dict(), other.model.state_dict()
    assert int(states[1]["0.1.num_batches_tracked"]) == 3
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_tied_weights_come_back(tmp_path: Path):
    learn, other = small_learner(Adam), small_learner(Adam, seed=1)
    for own in (learn, other):
        own.model.append(nn.Linear(5, 3))
        own.model[2].weight = own.model[1].weight
    save_weights(learn, tmp_path)
    sealed.seal(tmp_path)
    load_weights(other, tmp_path)
    assert torch.equal(other.model[1].weight, learn.model[1].weight)
    assert other.model[2].weight is other.model[1].weight


def test_weights_of_another_network_are_refused(tmp_path: Path):
    learn = small_learner(Adam)
    save_weights(learn, tmp_path)
    sealed.seal(tmp_path)
    learn.model.append(nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(learn, tmp_path)


def test_damaged_files_are_not_read(tmp_path: Path):
    learn = small_learner(Adam)
    folder = save(learn, tmp_path / "a")
    for name in ("weights.safetensors", "optimizer.safetensors"):
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(bytes(data))
    with pytest.raises(Damaged):
        load_weights(learn, folder)
    with pytest.raises(Damaged):
        load_optimizer(learn, folder, rates=True)


def test_no_pickle_is_written(optimizer: Callable[..., Any], tmp_path: Path):
    learn = small_learner(optimizer)
    train(learn, range(2))
    assert {file.suffix for file in save(learn, tmp_path / "a").iterdir()} == {".safetensors", ".json"}


def test_two_phases_through_files_equal_two_in_one_learner(parts, tmp_path: Path):
    phases = {"phases__0__freeze": False, "phases__0__lr": 1e-3}
    first, second = parts("head", **phases), parts("body", **phases)

    whole = quiet(build_learner(first, dataloaders(first)))
    fit_phase(whole, first.phase, [1e-3, 1e-3], [])
    save(whole, tmp_path / "first")
    later = quiet(build_learner(second, dataloaders(second)))
    load_weights(later, tmp_path / "first")
    load_optimizer(later, tmp_path / "first", rates=False)

    whole.dls = dataloaders(second)
    whole.remove_cbs(whole.cbs.filter(lambda cb: type(cb).__name__ == "KeyedTraining"))
    whole.add_cbs(later.cbs.filter(lambda cb: type(cb).__name__ == "KeyedTraining").map(_like))
    for learn in (whole, later):
        fit_phase(learn, second.phase, [1e-4, 1e-3], [])
    states = [learn.model.state_dict() for learn in (whole, later)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _like(callback: Any) -> Any:
    return type(callback)(callback.streams, callback.device.name)


def test_a_frozen_part_stays_as_it_was(parts, tmp_path: Path):
    """Loaded weights and a fresh optimizer: what is frozen has no gradient, and so no weight decay."""
    first, second = parts("body"), parts("head")
    trained = quiet(build_learner(first, dataloaders(first)))
    fit_phase(trained, first.phase, [1e-3, 1e-3], [])
    save(trained, tmp_path / "first")
    frozen = quiet(build_learner(second, dataloaders(second)))
    load_weights(frozen, tmp_path / "first")
    fit_phase(frozen, second.phase, [1e-2, 1e-2], [])
    before, after = dict(trained.model.named_parameters()), dict(frozen.model.named_parameters())
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name, parameter in after.items() if not parameter.requires_grad}
    assert still
