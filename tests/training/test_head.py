"""Heads: the layers that the documents have, and initial weights that are the seed's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastai.layers import AdaptiveConcatPool2d, Flatten
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import AblateError, RecipeError
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Head
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.training.data import dataloaders
from ablate.training.head import make_head
from ablate.training.learner import build_learner
from ablate.training.parts import Parts


def kinds(head: nn.Sequential) -> list[type[nn.Module]]:
    return [type(layer) for layer in head]


def dropouts(head: nn.Sequential) -> list[float]:
    return [layer.p for layer in head if isinstance(layer, nn.Dropout)]


def test_the_head_of_document_000():
    """Dropout(0.45) of the map, global average pooling, Dropout(0.45), Dense(5)."""
    head = make_head(Head(map_dropout=0.45, dropout=0.45), 1792, 5)
    assert kinds(head) == [nn.Dropout, nn.AdaptiveAvgPool2d, Flatten, nn.Dropout, nn.Linear]
    assert dropouts(head) == [0.45, 0.45]
    assert head[-1].weight.shape == (5, 1792)


def test_the_head_of_document_001():
    """Dense(512, relu), batch norm, Dropout(0.2), Dense(182, relu), batch norm, Dropout(0.3), Dense."""
    head = make_head(Head(hidden=[512, 182], dropout=[0, 0.2, 0.3]), 1536, 2)
    layer = [nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout]
    assert kinds(head) == [nn.AdaptiveAvgPool2d, Flatten, *layer, *layer, nn.Linear]
    assert [tuple(m.weight.shape) for m in head if isinstance(m, nn.Linear)] == [
        (512, 1536),
        (182, 512),
        (2, 182),
    ]
    assert dropouts(head) == [0.2, 0.3]


def test_what_it_computes():
    head = make_head(Head(pool="concat", hidden=[7]), 3, 2).eval()
    maps = torch.rand(4, 3, 5, 5)
    pooled = torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)
    hidden = functional.relu(pooled @ head[2].weight.T) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(head(maps), hidden @ head[-1].weight.T)
    assert kinds(head)[0] is AdaptiveConcatPool2d


def test_one_dropout_stands_before_the_output():
    head = make_head(Head(hidden=[8, 4], dropout=0.3), 16, 2)
    assert isinstance(head[-2], nn.Dropout)
    assert dropouts(head) == [0.3]


def test_features_that_are_pooled_already():
    head = make_head(Head(dropout=0.1), 16, 2, has_map=False).eval()
    assert kinds(head) == [nn.Dropout, nn.Linear]
    assert head(torch.rand(3, 16)).shape == (3, 2)


def learner(parts: Parts) -> Any:
    return build_learner(parts, dataloaders(parts))


def test_a_recipe_has_it(parts: Callable[..., Parts]):
    made = parts(model__head={"hidden": [20], "dropout": [0.1, 0.2]})
    learn = learner(made)
    assert kinds(learn.model[1])[3:] == [nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    before = [p.clone() for p in learn.model.parameters()]
    learn.fit(1, 1e-2)
    assert all(not torch.equal(*both) for both in zip(before, learn.model.parameters(), strict=True))


def test_its_initial_weights_are_the_seeds_and_leave_the_bodys(parts: Callable[..., Parts]):
    def states(**fields: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        model = learner(parts(**fields)).model
        return model[0].state_dict(), model[1].state_dict()

    plain, _ = states()
    body, head = states(model__head={"hidden": [20]})
    again = states(model__head={"hidden": [20]})[1]
    other = states(model__head={"hidden": [20]}, seed=1)[1]
    dropped = states(model__head={"hidden": [20], "dropout": 0.5})[1]
    assert all(torch.equal(plain[name], body[name]) for name in plain)
    assert all(torch.equal(head[name], again[name]) for name in head)
    assert not torch.equal(head["2.weight"], other["2.weight"])
    assert torch.equal(head["2.weight"], dropped["2.weight"])  # paired, whatever is dropped


def test_a_study_can_vary_it(recipe: Callable[..., Recipe]):
    made = recipe(
        model__head={"hidden": [8]}, study={"vary": [{"model.head.dropout": [0.0, 0.4]}], "seeds": 1}
    )
    plan = make_plan(made, prepare(made).identities)
    assert len({trial.fits[-1] for trial in plan.trials}) == 2
    assert {trial.variant for trial in plan.trials} == {"baseline", "baseline+model.head.dropout=0.4"}


def test_a_recipe_without_one_has_fastais(parts: Callable[..., Parts]):
    head = learner(parts()).model[1]
    assert kinds(head)[0] is AdaptiveConcatPool2d
    assert dropouts(head) == [0.25, 0.5]


@pytest.mark.parametrize("field", ["map_dropout", "pool"])
def test_networks_without_a_map(parts: Callable[..., Parts], field: str):
    value = {"map_dropout": 0.2, "pool": "concat"}[field]
    with pytest.raises(AblateError, match=rf"model.head.{field}: the architecture has no feature map"):
        learner(parts(model={"arch": "test_vit", "pretrained": False, "head": {field: value}}))
    learn = learner(parts(model={"arch": "test_vit", "pretrained": False, "head": {"hidden": [8]}}))
    assert kinds(learn.model[1])[0] is nn.Linear


def test_dropouts_that_do_not_fit(recipe: Callable[..., Recipe]):
    with pytest.raises(RecipeError, match="dropout needs a number or 2 values, one more than hidden"):
        recipe(model__head={"hidden": [8], "dropout": [0.1, 0.2, 0.3]})
