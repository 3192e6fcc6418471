"""A learner on XLA in a notebook: what fastai's own methods do with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastai.interpret import ClassificationInterpretation
from stages import tiny_recipe

from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet

pytestmark = pytest.mark.xla


def learner(photos: Path, folder: Path, device: str) -> Any:
    """18 photos to train on, and 6 in batches of 4 to validate."""
    recipe = tiny_recipe(photos, model__arch="test_tiny", batch_size=4)
    parts = replace(recipe.parts("body", ("mixup",)), workers=0, device=device)
    return quiet(build_learner(parts, dataloaders(parts), folder=folder))


@pytest.fixture
def learn(photos: Path, tmp_path: Path, xla: Any) -> Any:
    return learner(photos, tmp_path, "xla")


def test_a_rate_is_found_and_then_trained_with(learn: Any):
    before = {name: tensor.cpu() for name, tensor in learn.model.state_dict().items()}
    rate = learn.lr_find(show_plot=False).valley
    assert 1e-7 < rate < 10
    after = learn.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name].cpu())] == []
    learn.fit_one_cycle(1, rate)
    assert np.isfinite([float(value) for value in learn.recorder.values[0]]).all()
    assert not torch.equal(before["1.8.weight"], learn.model.state_dict()["1.8.weight"].cpu())


def test_weights_and_optimizer_are_saved_and_loaded(learn: Any):
    learn.fit_one_cycle(1, 1e-3)
    learn.save("kept")
    kept = {name: tensor.cpu() for name, tensor in learn.model.state_dict().items()}
    average = learn.opt.state_dict()["state"][0]["grad_avg"].cpu()
    learn.fit_one_cycle(1, 1e-2)
    learn.load("kept")
    found = learn.model.state_dict()
    assert [name for name in kept if not torch.equal(kept[name], found[name].cpu())] == []
    state = learn.opt.state_dict()["state"][0]["grad_avg"]
    assert state.device.type == "xla"
    assert torch.equal(state.cpu(), average)
    learn.fit_one_cycle(1, 1e-3)


def test_predictions_are_those_of_the_cpu(learn: Any, photos: Path, tmp_path: Path):
    here = learner(photos, tmp_path, "cpu")
    for options in ({}, {"with_input": True}, {"with_loss": True}):
        found, expected = learn.get_preds(**options), here.get_preds(**options)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.device.type == "cpu"
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    torch.testing.assert_close(learn.tta(n=1)[0], here.tta(n=1)[0], rtol=0, atol=1e-4)
    photo = np.asarray(here.dls.valid_ds[0][0])
    torch.testing.assert_close(learn.predict(photo)[2], here.predict(photo)[2], rtol=0, atol=1e-4)


def test_a_learner_is_interpreted(learn: Any):
    matrix = ClassificationInterpretation.from_learner(learn).confusion_matrix()
    assert matrix.sum() == 6
