"""Operation by operation against timm's AugmentOp and torchvision's TrivialAugmentWide."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare, kstest
from timm.data import auto_augment
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms import autoaugment as torchvision_augment

from ablate.data import operations
from ablate.data.operations import Operation, RandAugment, TrivialAugment

FILL = (128, 128, 128)


def photo(side: int = 64) -> np.ndarray:
    soft = gaussian_filter(np.random.default_rng(0).normal(size=(side, side, 3)), (4, 4, 0.3))
    return np.rint((soft - soft.min()) / np.ptp(soft) * 255).astype(np.uint8)


NAMES = sorted({*auto_augment._RAND_TRANSFORMS, *auto_augment._RAND_INCREASING_TRANSFORMS})
NO_BITS = (("Posterize", 0.0), ("PosterizeIncreasing", 10.0))
CASES = [case for case in itertools.product(NAMES, (0.0, 4.3, 10.0)) if case not in NO_BITS]


def timms(name: str, magnitude: float, sign: int, filtered: Image.Resampling, monkeypatch: Any) -> np.ndarray:
    """timm's operation with its draws replaced by given ones."""
    monkeypatch.setattr(random, "random", lambda: 0.7 if sign < 0 else 0.3)
    op = auto_augment.AugmentOp(
        name, 1.0, magnitude, {"img_mean": FILL, "interpolation": filtered, "translate_const": 100}
    )
    return np.asarray(op(Image.fromarray(photo())))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("name", "magnitude"), CASES)
def test_rand_augments_operations_are_timms(name: str, magnitude: float, sign: int, monkeypatch: Any):
    arguments = operations.rand_argument(name, magnitude, sign)
    for filtered in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
        ours = operations.apply(photo(), [Operation(name, arguments, filtered)], FILL)
        np.testing.assert_array_equal(ours, timms(name, magnitude, sign, filtered, monkeypatch))


def test_posterizing_keeps_a_bit():
    for increasing, magnitude in (("", 0.0), ("", 2.0), ("Increasing", 9.0), ("Increasing", 10.0)):
        arguments = operations.rand_argument(f"Posterize{increasing}", magnitude, 1)
        shown = operations.apply(photo(), [Operation("Posterize", arguments)], FILL)
        kept = auto_augment.LEVEL_TO_ARG[f"Posterize{increasing}"](magnitude, {})[0]
        np.testing.assert_array_equal(shown, photo() & (0x80 if kept < 2 else 0xFF << (8 - kept)))


def operation(which: int, names: int = 15, **drawn: float) -> list[float]:
    values = {"whether": 0.0, "strength": 0.5, "way": 0.2, "filtered": 0.2} | drawn
    return [(which + 0.5) / names, *(values[key] for key in ("whether", "strength", "way", "filtered"))]


@pytest.mark.parametrize("increasing", [True, False])
def test_the_choice_of_operations_is_timms(increasing: bool):
    theirs = auto_augment.rand_augment_transform(f"rand-m5-inc{int(increasing)}")
    painter = RandAugment(1, 5, 0, increasing, 1)
    ours = [painter.operations(operation(i))[0].name for i in range(15)]
    assert ours == [op.name for op in theirs.ops]


def test_layers_follow_each_other():
    painter = RandAugment(3, 10, 0, True, 0.5)
    assert painter.draws == 15
    uniforms = [*operation(11), *operation(2, whether=0.6), *operation(6, way=0.9)]
    drawn = painter.operations(uniforms)
    assert [op.name for op in drawn] == ["ShearX", "SolarizeAdd"]
    one_by_one = photo()
    for op in drawn:
        one_by_one = operations.apply(one_by_one, [op], FILL)
    np.testing.assert_array_equal(painter.paint(photo(), uniforms), one_by_one)
    np.testing.assert_array_equal(RandAugment(1, 9).paint(photo(), operation(0, whether=0.5)), photo())


def test_what_is_drawn_is_spread_as_timms():
    n, painter = 30_000, RandAugment(1, 6.0, 1.5, True, 0.4)
    uniforms = np.random.default_rng(0).random((n, 5)).tolist()
    drawn = [op for row in uniforms for op in painter.operations(row)]
    assert len(drawn) / n == pytest.approx(0.4, abs=0.01)
    counts = Counter(op.name for op in drawn)
    assert len(counts) == 15
    assert chisquare(list(counts.values())).pvalue > 1e-3
    turns = np.array([op.arguments[0] for op in drawn if op.name == "Rotate"])
    rng = random.Random(0)
    magnitudes = [max(0.0, min(rng.gauss(6.0, 1.5), 10.0)) for _ in range(200_000)]
    levels = np.sort(np.abs(turns) / 3)
    assert kstest(levels, np.array(magnitudes)).pvalue > 1e-3
    assert (turns > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert {op.resample for op in drawn} == {Image.Resampling.BILINEAR, Image.Resampling.BICUBIC}


def torchvisions(name: str, number: int, sign: int) -> np.ndarray:
    """TrivialAugmentWide's operation at one of its 31 magnitudes."""
    magnitudes, signed = TrivialAugmentWide()._augmentation_space(31)[name]
    magnitude = float(magnitudes[number]) if magnitudes.ndim else 0.0
    image = Image.fromarray(photo())
    return np.asarray(
        torchvision_augment._apply_op(
            image, name, magnitude * (sign if signed else 1), InterpolationMode.NEAREST, [0, 0, 0]
        )
    )


SPACE = list(TrivialAugmentWide()._augmentation_space(31))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("number", [0, 1, 7, 12, 13, 22, 30])
@pytest.mark.parametrize("name", SPACE)
def test_trivial_augments_operations_are_torchvisions(name: str, number: int, sign: int):
    uniforms = [
        (SPACE.index(name) + 0.5) / len(SPACE),
        (number + 0.5) / 31,
        0.2 if sign > 0 else 0.8,
    ]
    ours = TrivialAugment().paint(photo(), uniforms)
    # Pillow's matrices go from output to input, torchvision's shifts the other way
    theirs = torchvisions(name, number, -sign if name.startswith("Translate") else sign)
    np.testing.assert_allclose(ours.astype(int), theirs, atol=name in operations._WIDE_FACTORS)


def test_trivial_augment_draws_evenly():
    rows = np.random.default_rng(1).random((14_000, 3)).tolist()
    names = Counter((TrivialAugment().operations(row) or [Operation("Identity")])[0].name for row in rows)
    assert sorted(names) == sorted(SPACE)
    assert chisquare(list(names.values())).pvalue > 1e-3


def test_nothing_is_drawn_while_painting():
    random.seed(3)
    torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    rng, pixels = np.random.default_rng(0), photo()
    for painter in (RandAugment(3), RandAugment(3, increasing=False), TrivialAugment()):
        for _ in range(40):
            uniforms = rng.random(painter.draws).tolist()
            shown = painter.paint(pixels, uniforms)
            assert (shown.dtype, shown.shape) == (np.uint8, pixels.shape)
            np.testing.assert_array_equal(shown, painter.paint(pixels, uniforms))
    np.testing.assert_array_equal(pixels, photo())
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]
