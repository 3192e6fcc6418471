"""Random erasing against timm's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from pydantic import ValidationError
from scipy.stats import ks_2samp, kstest
from timm.data.random_erasing import RandomErasing as Timms
from torch import Tensor

from ablate.techniques.mixup import MixUp
from ablate.techniques.random_erasing import RandomErasing, erase, random_boxes
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def test_rectangles_are_filled_one_after_the_other():
    x = torch.randn(2, 3, 8, 6)
    boxes = torch.tensor([[[1, 4, 0, 3], [2, 8, 2, 5]], [[0, 0, 0, 0], [7, 8, 5, 6]]])
    fill = torch.randn(2, 2, 3, 1, 1)
    expected = x.clone()
    expected[0, :, 1:4, 0:3] = fill[0, 0]
    expected[0, :, 2:8, 2:5] = fill[0, 1]
    expected[1, :, 7:8, 5:6] = fill[1, 1]
    assert torch.equal(erase(x, boxes, fill), expected)


def edges(images: Tensor) -> np.ndarray:
    """Height, width, top and left of what is 0 in each image; shape (n, 4), a row of zeros without."""
    found = []
    for image in images[:, 0] == 0:
        rows, columns = (image.any(axis).nonzero()[:, 0] for axis in (1, 0))
        if len(rows):
            box = len(rows), len(columns), int(rows[0]), int(columns[0])
            assert image.sum() == box[0] * box[1]
            found.append(box)
        else:
            found.append((0, 0, 0, 0))
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0.25, "area": [0.1, 0.2]}, {"aspect": [0.9, 3.0], "area": [0.02, 0.9]}],
    ids=str,
)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96)])
def test_areas_shapes_and_places_are_spread_as_timms(options: dict[str, Any], height: int, width: int):
    n = 3000
    technique, x = RandomErasing.model_validate(options), torch.ones(n, 1, height, width)
    ours = edges(technique.change(x, np.random.default_rng(0)))
    (small, large), (slim, tall) = technique.area, technique.aspect
    random.seed(0)
    theirs = edges(Timms(technique.p, small, large, slim, tall, device="cpu")(x))
    erased = [(boxes[:, 0] > 0).mean() for boxes in (ours, theirs)]
    assert abs(erased[0] - erased[1]) < 5 * np.sqrt(0.5 / n)
    for measure in (
        lambda b: b[:, 0] * b[:, 1],
        lambda b: b[:, 0] / b[:, 1],
        lambda b: b[:, 2],
        lambda b: b[:, 3],
    ):
        pair = [measure(boxes[boxes[:, 0] > 0]) for boxes in (ours, theirs)]
        assert ks_2samp(*pair, method="asymp").pvalue > 1e-3


def test_several_rectangles_share_the_area_as_timms():
    n, x = 3000, torch.ones(3000, 1, 48, 48)
    ours = RandomErasing(count=3, area=[0.1, 0.5]).change(x, np.random.default_rng(0))
    random.seed(0)
    theirs = Timms(0.5, 0.1, 0.5, max_count=3, device="cpu")(x.clone())
    pair = [(images == 0).float().mean((1, 2, 3)).numpy() for images in (ours, theirs)]
    assert ks_2samp(*pair, method="asymp").pvalue > 1e-3
    counts = np.array([3] * n)
    boxes = random_boxes((48, 48), counts, 3, (0.3, 0.3), (1.0, 1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(boxes[..., 1] - boxes[..., 0], 15)  # three of a third: 0.1 of the image


def test_what_never_fits_is_left_out():
    boxes = random_boxes((8, 8), np.array([1, 1]), 1, (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0))
    assert (boxes[..., 1] - boxes[..., 0]).tolist() == [[0], [0]]


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_what_rectangles_are_filled_with(mode: Any):
    x = torch.full((400, 3, 24, 24), 9.0)
    technique = RandomErasing(p=1.0, mode=mode)
    found = technique.change(x, np.random.default_rng(0))
    inside = found != 9
    assert (inside == inside[:, :1]).all()
    assert inside.any((1, 2, 3)).float().mean() > 0.98
    if mode == "const":
        assert (found[inside] == 0).all()
        return
    values = [image[:, mask[0]] for image, mask in zip(found, inside, strict=True) if mask.any()]
    flat = [bool((v == v[:, :1]).all()) for v in values if v.shape[1] > 1]
    assert all(flat) == (mode == "rand")
    drawn = torch.cat([v[:, 0] for v in values])
    assert kstest(drawn.numpy(), "norm").pvalue > 1e-3
    assert len(drawn.unique()) == len(drawn)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_draws_depend_on_the_generator_alone(mode: Any):
    x, technique = torch.randn(8, 3, 32, 32).bfloat16(), RandomErasing(mode=mode, count=2)
    state = torch.get_rng_state()
    first = technique.change(x, np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), state)  # dropout draws what it draws without
    torch.manual_seed(9)
    assert torch.equal(technique.change(x, np.random.default_rng(0)), first)
    assert not torch.equal(technique.change(x, np.random.default_rng(1)), first)
    assert first.dtype is torch.bfloat16


class Watch(Callback):
    def __init__(self, order: int):
        self.order = order
        self.seen: dict[bool, list[Tensor]] = {True: [], False: []}

    def before_batch(self) -> None:
        self.seen[self.learn.training].append(self.learn.xb[0].as_subclass(Tensor).clone())


def test_training_images_are_erased_before_they_are_mixed(make_parts: Callable):
    parts = make_parts(RandomErasing(p=1.0), MixUp())
    before, between, after = Watch(3), Watch(4), Watch(50)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    learn.add_cbs([before, between, after])
    learn.fit(2)
    for raw, erased in zip(before.seen[True], between.seen[True], strict=True):
        gone = erased != raw
        assert gone.any()
        assert (erased[gone] == 0).all()
    assert len({batch.numpy().tobytes() for batch in between.seen[True]}) == 12
    for erased, mixed in zip(between.seen[True], after.seen[True], strict=True):
        assert not torch.equal(erased, mixed)
    for raw, valid in zip(before.seen[False], after.seen[False], strict=True):
        assert torch.equal(raw, valid)


def test_training_twice_erases_the_same(make_parts: Callable):
    losses = []
    for disturbance in (0, 7):
        parts = make_parts(RandomErasing(mode="pixel"))
        learn = quiet(build_learner(parts, dataloaders(parts)))
        torch.manual_seed(disturbance)
        learn.fit(1)
        losses.append([float(loss) for loss in learn.recorder.losses])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": [0.5, 0.2]}, "area must go from low to high"),
        ({"area": [0.5, 1.2]}, "area must not be above 1"),
        ({"aspect": [3.0, 0.2]}, "aspect must go from low to high"),
        ({"count": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        RandomErasing.model_validate(options)
