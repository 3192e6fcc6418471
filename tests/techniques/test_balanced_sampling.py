"""Balanced sampling against torch's WeightedRandomSampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from fastai.callback.core import Callback
from scipy.stats import chisquare
from torch.utils.data import WeightedRandomSampler

from ablate.streams import Streams
from ablate.techniques import compose
from ablate.techniques.augment import Augment
from ablate.techniques.balanced_sampling import BalancedSampling, balanced_draw
from ablate.techniques.base import Context, Technique
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet

TARGETS = np.repeat([0, 1, 3, 4], [60, 25, 10, 5])[np.random.default_rng(0).permutation(100)]  # none of 2


def frequencies(draw: Callable[[int], np.ndarray], epochs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """How often each item, and each class, comes up."""
    drawn = np.concatenate([draw(epoch) for epoch in range(epochs)])
    return np.bincount(drawn, minlength=100), np.bincount(TARGETS[drawn], minlength=5)


def test_items_come_up_as_often_as_in_torchs_sampler():
    weights = 1 / np.bincount(TARGETS)[TARGETS]
    sampler = WeightedRandomSampler(
        torch.tensor(weights), 100, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    ours = frequencies(lambda epoch: balanced_draw(TARGETS, Streams(0, "tune").generator("sample", epoch)))
    torchs = frequencies(lambda epoch: np.array(list(sampler)))
    for drawn, _ in (ours, torchs):
        assert chisquare(drawn, 20_000 * weights / weights.sum()).pvalue > 0.01
    for _, by_class in (ours, torchs):
        assert by_class[2] == 0
        np.testing.assert_allclose(by_class[[0, 1, 3, 4]], 5000, rtol=0.05)


def test_an_epoch_is_as_long_as_before_and_drawn_anew(make_parts: Callable):
    parts = make_parts(BalancedSampling())
    train = dataloaders(parts).train
    orders = []
    for epoch in range(3):
        train.epoch = epoch
        assert len(train) == 6
        orders.append(train.get_idxs().tolist())
        assert len(orders[-1]) == 96
        assert len(set(orders[-1])) < 90
    assert orders[0] != orders[1]
    again = dataloaders(make_parts(BalancedSampling())).train
    assert again.get_idxs().tolist() == orders[0]
    assert dataloaders(make_parts(BalancedSampling(), seed=1)).train.get_idxs().tolist() != orders[0]


def test_an_image_looks_otherwise_each_time(make_parts: Callable):
    parts = make_parts(BalancedSampling(), Augment(max_rotate=45.0, p_affine=1.0))
    train = dataloaders(parts).train
    order = train.get_idxs()[:96]
    images = torch.cat([batch[0].clone() for batch in train])
    repeated = [position for position in set(order.tolist()) if (order == position).sum() > 1]
    assert len(repeated) > 20
    for position in repeated:
        first, second, *_ = images[order == position]
        assert not torch.equal(first, second)


class Other(Technique):
    name: ClassVar[str] = "other"

    def sampler(self, context: Context, epoch: int) -> np.ndarray | None:
        return None


def test_two_orders_are_refused():
    conflict = compose.conflict([Other(), BalancedSampling()])
    assert conflict == "balanced_sampling and other both choose the training order; turn one of them off."


def test_in_a_learner(make_parts: Callable):
    parts = make_parts(BalancedSampling())
    learn = quiet(build_learner(parts, dataloaders(parts)))
    seen: list[int] = []

    class Watch(Callback):
        def after_batch(self) -> None:
            if self.learn.training:
                seen.extend(self.learn.yb[0].tolist())

    learn.fit(10, cbs=Watch())
    assert len(seen) == 960
    np.testing.assert_allclose(np.bincount(seen), 96, rtol=0.35)
    assert np.isfinite(learn.recorder.values[-1]).all()
