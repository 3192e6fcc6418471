"""The notebook's way in: plain fastai objects from a recipe."""

from __future__ import annotations

import pytest
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from ablate.errors import AblateError


def test_a_recipe_gives_plain_fastai_objects(recipe):
    made = recipe()
    assert isinstance(made.dataloaders("head"), DataLoaders)
    assert made.dataloaders("head").train.one_batch()[0].shape[-2:] == (32, 32)
    learn = made.learner(on=["mixup"], phase="body", seed=1)
    assert isinstance(learn, Learner)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-3)
        assert learn.lr_find(show_plot=False).valley > 0
        assert len(learn.get_preds()[0]) == 6
        assert len(learn.tta(n=1)[0]) == 6


def test_names_that_are_not_there_get_suggestions(recipe):
    with pytest.raises(AblateError, match="no 'haed'; did you mean head"):
        recipe().learner(phase="haed")
    with pytest.raises(AblateError, match="'mixpu' is no technique; did you mean mixup"):
        recipe().learner(on=["mixpu"])
    with pytest.raises(AblateError, match="no fold 3; there are 0 to 0"):
        recipe().learner(fold=3)
