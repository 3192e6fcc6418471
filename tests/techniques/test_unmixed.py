from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from fastai.callback.core import Callback
from torch.nn import functional

from ablate.techniques.mixup import MixUp
from ablate.techniques.unmixed import Unmixed
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixedLoss


def test_a_batch_stays_as_it_is():
    x = torch.randn(5, 3, 4, 4).bfloat16()
    same, partner, share = Unmixed().mix(x, np.random.default_rng(0))
    assert same is x
    assert partner.tolist() == list(range(5))
    assert share.tolist() == [1.0] * 5


def test_its_loss_is_the_loss_itself():
    prediction, y = torch.randn(6, 4), torch.arange(6) % 4
    _, partner, share = Unmixed().mix(torch.zeros(6, 1, 2, 2), np.random.default_rng(0))
    loss = MixedLoss(functional.cross_entropy)
    torch.testing.assert_close(loss(prediction, y, y[partner], share), loss(prediction, y))


def test_training_with_it_alone_is_training_without(make_parts: Callable):
    losses = []
    for on in ([], [Unmixed()]):
        parts = make_parts(*on)
        learn = quiet(build_learner(parts, dataloaders(parts)))
        learn.fit(1)
        losses.append(torch.stack(learn.recorder.losses))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def test_beside_another_half_of_the_batches_are_plain(make_parts: Callable):
    parts = make_parts(MixUp(), Unmixed(), batch_size=2)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    shares: list[torch.Tensor] = []

    class Watch(Callback):
        order = 50
        run_valid = False

        def before_batch(self) -> None:
            shares.append(self.learn.yb[2])

    learn.fit(1, cbs=Watch())
    plain = sum(bool((share == 1).all()) for share in shares)
    assert len(shares) == 48
    assert abs(plain - 24) < 4 * np.sqrt(12)
