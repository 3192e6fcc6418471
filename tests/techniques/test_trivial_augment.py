from __future__ import annotations

from collections.abc import Callable

import torch

from ablate.data.operations import TrivialAugment as Painter
from ablate.techniques.augment import Augment
from ablate.techniques.rand_augment import RandAugment
from ablate.techniques.trivial_augment import TrivialAugment
from ablate.training.data import dataloaders


def test_training_images_are_painted_and_others_are_not(make_parts: Callable):
    plain, painted = dataloaders(make_parts(Augment())), dataloaders(make_parts(TrivialAugment(), Augment()))
    assert painted.train.read_batch is not None
    for side, same in (("valid", True), ("train", False)):
        assert torch.equal(getattr(plain, side).one_batch()[0], getattr(painted, side).one_batch()[0]) == same


def test_each_phase_may_have_its_own():
    technique = TrivialAugment(phases=["late"])
    assert technique.item_transforms() == [Painter()]
    assert (technique.trains_in("late"), technique.trains_in("early")) == (True, False)


def test_it_leaves_the_draws_of_others(make_parts: Callable):
    alone, both = (
        dataloaders(make_parts(*on)).train.drawer.draw(0, torch.arange(20).numpy())
        for on in ((RandAugment(),), (RandAugment(), TrivialAugment()))
    )
    for a, b in zip(alone, both, strict=True):
        assert [paint.painter.name for paint in b.paints] == ["rand_augment", "trivial_augment"]
        assert a.paints == b.paints[:1]
