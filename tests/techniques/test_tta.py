from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastai.learner import Learner
from pydantic import ValidationError
from torch import Tensor

from ablate.streams import Streams
from ablate.techniques import compose
from ablate.techniques.augment import Augment
from ablate.techniques.base import View
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.techniques.normalize import Normalize
from ablate.techniques.tile_tta import TileTTA
from ablate.techniques.tta import TTA, augmentation, combine
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts
from ablate.training.predict import predict

PREDICTION = Streams(0, "predict")


def probabilities(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).softmax(-1)


def learner(parts: Parts) -> Learner:
    return quiet(build_learner(parts, dataloaders(parts)))


def seen(parts: Parts, streams: Streams = PREDICTION) -> list[Tensor]:
    """The images of every view of the validation items, in the order in which they are predicted."""
    learn, views = learner(parts), []
    plainly = learn.get_preds

    def spy(dl: Any, **kwargs: Any) -> Any:
        views.append(torch.cat([batch[0].as_subclass(Tensor) for batch in dl]))
        dl.epoch -= 1  # looking counts as an epoch
        return plainly(dl=dl, **kwargs)

    learn.get_preds = spy
    predict(learn, parts, parts.side("valid"), streams)
    return views


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("beta", "use_max"), [(0.25, False), (0.0, False), (1.0, False), (0.25, True)])
def test_combining_is_fastais(beta: float, use_max: bool, n: int, make_parts: Callable):
    learn = learner(make_parts())
    copies, plain = probabilities(n, 40, 10), probabilities(40, 10).flip(0)
    answers = iter([*copies, plain])
    learn.get_preds = lambda **_: (next(answers), None)
    expected = learn.tta(dl=learn.dls.valid, n=n, beta=beta, use_max=use_max)[0]
    if use_max:  # the same order of classes, as probabilities
        expected = expected / expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(combine(plain, copies, beta, use_max), expected, rtol=0, atol=0)


def test_probabilities_still_sum_to_one():
    copies, plain = probabilities(3, 40, 10), probabilities(40, 10).flip(0)
    for use_max in (False, True):
        sums = combine(plain, copies, 0.25, use_max).sum(-1)
        torch.testing.assert_close(sums, torch.ones(40), rtol=0, atol=1e-6)


def test_every_copy_is_asked_for_once_and_combined(make_parts: Callable):
    asked: list[View] = []

    def predictor(view: View) -> Tensor:
        asked.append(view)
        return torch.full((2, 3), float(view.copy))

    augment = Augment(max_rotate=45.0)
    for technique, transforms in [
        (TTA(n=3, beta=0.5), augment.item_transforms()),
        (TTA(n=3, beta=0.5, transforms="augment"), augment.item_transforms()),
        (TTA(n=3, beta=0.5, transforms="flips"), augmentation("flips", {}).item_transforms()),
    ]:
        asked.clear()
        combined = technique.predict(predictor, make_parts(technique, augment).context)(View())
        assert torch.equal(combined, torch.full((2, 3), 0.5 * 2 + 0.5 * 0))
        assert sorted(view.copy for view in asked) == [0, 1, 2, 3]
        assert {view.copy: list(view.transforms) for view in asked} == {0: []} | dict.fromkeys(
            (1, 2, 3), transforms
        )


def test_where_the_transforms_come_from(make_parts: Callable):
    def names(technique: TTA, *others: Any) -> list[str]:
        on = make_parts(technique, *others).on
        return [transform.name for transform in augmentation(technique.transforms, on).item_transforms()]

    everything = [transform.name for transform in Augment().item_transforms()]
    assert names(TTA()) == ["flip"]
    assert names(TTA(), Augment(do_flip=False)) == [name for name in everything if name != "flip"]
    assert names(TTA(transforms="augment")) == everything
    assert names(TTA(transforms="flips"), Augment()) == ["flip"]


def test_augments_options_are_part_of_what_it_is_only_where_they_count():
    gentle, strong = {"augment": Augment()}, {"augment": Augment(max_rotate=40.0)}
    assert TTA().identity(gentle) != TTA().identity(strong)
    assert TTA(transforms="flips").identity(gentle) == TTA(transforms="flips").identity(strong)
    assert TTA(n=2).identity(gentle) != TTA(n=3).identity(gentle)


def test_off_predicts_as_get_preds_does(make_parts: Callable):
    parts = make_parts(Normalize(), Augment(), LabelSmoothing())
    learn, items = learner(parts), parts.side("valid")
    expected = learn.get_preds(dl=learn.dls.test_dl(items))[0].numpy()
    np.testing.assert_array_equal(predict(learn, parts, items, PREDICTION), expected)
    np.testing.assert_array_equal(learn.get_preds()[0].numpy(), expected)


def test_on_predicts_the_combination_of_its_views(make_parts: Callable):
    parts = make_parts(Normalize(), Augment(), TTA(n=3, beta=0.4))
    learn, views = learner(parts), seen(parts)
    one_by_one = []
    with torch.no_grad():
        learn.model.eval()
        one_by_one = [learn.model(view).softmax(1) for view in views]
    plain = torch.cat([batch[0].as_subclass(Tensor) for batch in learn.dls.valid])
    (position,) = [i for i, view in enumerate(views) if torch.equal(view, plain)]
    expected = combine(one_by_one.pop(position), torch.stack(one_by_one), 0.4, False)
    items = parts.side("valid")
    np.testing.assert_allclose(predict(learn, parts, items, PREDICTION), expected.numpy(), atol=1e-6)


def test_copies_are_different_views_of_the_same_images(make_parts: Callable):
    views = seen(make_parts(Augment(), TTA(n=4)))
    assert len(views) == 5
    for i in range(5):
        for j in range(i):
            assert not torch.equal(views[i], views[j])
            assert (views[i] - views[j]).abs().mean() < 0.3  # of digits that are black and white


def test_copies_depend_on_the_seed_and_not_on_how_they_are_read(make_parts: Callable):
    def views(**changes: Any) -> Tensor:
        parts = make_parts(Augment(), TTA(n=2), **changes)
        return torch.stack(seen(parts, replace(PREDICTION, seed=parts.streams.seed)))

    usual = views()
    assert torch.equal(views(), usual)
    assert torch.equal(views(batch_size=7), usual)
    assert torch.equal(views(workers=2), usual)
    other = views(seed=1)
    changed = [not torch.equal(a, b) for a, b in zip(usual, other, strict=True)]
    assert sum(changed) == 2  # the plain view has nothing random


def test_predicting_twice_gives_the_same(make_parts: Callable):
    parts = make_parts(Augment(), TTA(n=2))
    learn, items = learner(parts), parts.side("valid")
    first = predict(learn, parts, items, PREDICTION)
    np.testing.assert_array_equal(predict(learn, parts, items, PREDICTION), first)
    half = predict(learn, parts, items[:20], PREDICTION)
    np.testing.assert_allclose(half, first[:20], atol=1e-6)  # an item's draws are its own


def symmetries(images: Tensor) -> list[Tensor]:
    """All eight by hand: turned by quarters, each plain and mirrored."""
    turned = [images.rot90(quarters, (2, 3)) for quarters in range(4)]
    return [*turned, *(image.flip(3) for image in turned)]


def test_dihedral_sees_each_symmetry_once(make_parts: Callable):
    parts = make_parts(Augment(), Normalize(), TTA(transforms="dihedral"))
    views = seen(parts)
    plain = torch.cat([batch[0].as_subclass(Tensor) for batch in dataloaders(parts).valid])
    assert len(views) == 8
    assert {view.contiguous().numpy().tobytes() for view in views} == {
        view.contiguous().numpy().tobytes() for view in symmetries(plain)
    }


@pytest.mark.parametrize("use_max", [False, True])
def test_dihedral_combines_all_eight_evenly(use_max: bool, make_parts: Callable):
    parts = make_parts(Normalize(), TTA(transforms="dihedral", use_max=use_max))
    learn = learner(parts)
    plain = torch.cat([batch[0].as_subclass(Tensor) for batch in learn.dls.valid])
    learn.model.eval()
    with torch.no_grad():
        each = torch.stack([learn.model(view).softmax(1) for view in symmetries(plain)])
    expected = each.mean(0)
    if use_max:
        expected = each.amax(0) / each.amax(0).sum(1, keepdim=True)
    predicted = predict(learn, parts, parts.side("valid"), PREDICTION)
    np.testing.assert_allclose(predicted, expected.numpy(), atol=1e-6)


def test_dihedral_has_eight_views_that_weigh_the_same():
    dihedral = TTA(transforms="dihedral")
    assert (dihedral.n, dihedral.beta) == (8, 1 / 8)
    assert TTA.model_validate(dihedral.model_dump()) == dihedral  # as a stage makes it again
    assert TTA(transforms="dihedral", n=8) == dihedral
    assert dihedral.identity({"augment": Augment()}) == dihedral.identity({})
    for option in ({"n": 4}, {"beta": 0.25}):
        with pytest.raises(ValidationError, match=f"{next(iter(option))} must be left out, or be"):
            TTA.model_validate({"transforms": "dihedral"} | option)


def test_it_is_refused_beside_tiles():
    conflict = compose.conflict([TTA(), TileTTA()])
    assert conflict == "tile_tta and tta both choose the views of each image; turn one of them off."
