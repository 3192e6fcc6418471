from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from pydantic import ValidationError
from torch import nn

from ablate.data.splits import Fold
from ablate.recipe.recipe import Recipe
from ablate.techniques.reseed import Reseed
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts

RECIPE = {
    "name": "control",
    "data": {"source": "digits"},
    "model": {"arch": "test_resnet", "pretrained": False},
    "size": 16,
    "phases": [{"name": "tune", "epochs": 1, "batch_size": 16}],
    "techniques": {"augment": {}, "mixup": {}, "reseed": {}},
    "study": {"baseline": ["augment", "mixup"], "vary": ["reseed"]},
}


def parts(*on: str, salt: str = "reseed") -> Parts:
    recipe = Recipe.from_dict(RECIPE, {"techniques.reseed.salt": salt})
    small = Fold(np.arange(64), np.arange(64, 80), np.arange(0))
    return replace(recipe.parts(on=on), device="cpu", fold=small)


class FirstBatch(Callback):
    """Keeps the shares that mixing drew for the first batch, and what dropout left out."""

    order = 50
    run_valid = False

    def before_fit(self) -> None:
        self.dropped: list[torch.Tensor] = []
        self.shares: list[torch.Tensor] = []
        dropout = next(module for module in self.learn.model[1].modules() if isinstance(module, nn.Dropout))
        dropout.register_forward_hook(lambda _, inputs, output: self.dropped.append(output.detach() == 0))

    def before_batch(self) -> None:
        self.shares.append(self.learn.yb[2])


def everything_random(parts: Parts) -> dict[str, torch.Tensor]:
    """An example of everything that is drawn in a phase."""
    dls = dataloaders(parts)
    learn, first = quiet(build_learner(parts, dls)), FirstBatch()
    weights = learn.model[1][-1].weight.detach().clone()
    draws = dls.train.drawer.draw(0, np.arange(20))
    order = torch.tensor(dls.train.get_idxs())
    learn.fit(1, cbs=first)
    return {
        "init": weights,
        "order": order,
        "crop": torch.tensor([draw.place for draw in draws]),
        "augment": torch.from_numpy(np.stack([draw.matrix for draw in draws])),
        "lighting": torch.from_numpy(np.stack([draw.table for draw in draws])),
        "mix": first.shares[0],
        "dropout": first.dropped[0],
    }


def test_it_salts_every_stream():
    plain, again, salted = (everything_random(parts(*on)) for on in ((), (), ("reseed",)))
    assert {name for name in plain if not torch.equal(plain[name], again[name])} == set()
    assert {name for name in plain if torch.equal(plain[name], salted[name])} == set()


def test_it_changes_nothing_else():
    plain, salted = parts(), parts("reseed")
    assert salted.streams == replace(plain.streams, salt="reseed")
    assert salted.phase == plain.phase
    assert {name: salted.on[name] for name in plain.on} == dict(plain.on)
    assert not any(salted.on["reseed"].trains_in(phase) for phase in ("tune", "other"))


def test_another_salt_is_another_control():
    assert parts("reseed", salt="again").streams != parts("reseed").streams
    assert Reseed(salt="again").stream_salt() == "again"
    with pytest.raises(ValidationError, match="salt"):
        Reseed(salt="")
