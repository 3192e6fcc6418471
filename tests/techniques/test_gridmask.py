"""GridMask against masks that are tiled by hand, as the paper and document 000 describe them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.stats import ks_2samp

from ablate.techniques.gridmask import GridMask, checkerboard, grid


def tiled(height: int, width: int, d: int, bar: int, offset: tuple[int, int]) -> np.ndarray:
    """The paper's mask from its unit: ones, but for a square of `d - bar` in the lower right corner."""
    unit = np.ones((d, d), bool)
    unit[bar:, bar:] = False
    many = np.tile(unit, (height // d + 3, width // d + 3))
    return many[offset[0] :, offset[1] :][:height, :width]


def ours(
    height: int, width: int, d: int, bar: int, offset: tuple[float, float], degrees: float
) -> np.ndarray:
    drawn = [torch.tensor([float(value)]) for value in (d, bar)]
    turned = torch.tensor([np.deg2rad(degrees)], dtype=torch.float32)
    return grid(height, width, *drawn, torch.tensor([offset]).float(), turned)[0, 0].numpy()


@pytest.mark.parametrize(("height", "width"), [(40, 40), (41, 27), (16, 64)])
@pytest.mark.parametrize(("d", "bar"), [(2, 1), (7, 3), (16, 10), (40, 39)])
def test_a_grid_that_is_not_turned_is_the_tiled_unit(height: int, width: int, d: int, bar: int):
    for down, right in ((0, 0), (1, d - 1), (d // 2, d // 3)):
        # ours is shifted about the centre, the tiles from the corner
        offset = down + (height - 1) / 2 + 0.25, right + (width - 1) / 2 + 0.25
        found = ours(height, width, d, bar, offset, 0.0)
        np.testing.assert_array_equal(found, tiled(height, width, d, bar, (down, right)))


@pytest.mark.parametrize("degrees", [30.0, 90.0, 211.0])
def test_a_grid_is_turned_about_the_centre(degrees: float):
    side, d, bar = 64, 20, 12
    whole = tiled(3 * side, 3 * side, d, bar, (3, 8))
    turned = np.asarray(Image.fromarray(whole.astype(np.uint8)).rotate(degrees, Image.Resampling.NEAREST))
    expected = turned[side : 2 * side, side : 2 * side].astype(bool)
    middle = (3 * side - 1) / 2
    found = ours(side, side, d, bar, (3 + middle + 0.5, 8 + middle + 0.5), degrees)
    agree = [(found == expected).mean(), (expected == found.T).mean()]
    assert agree[0] > 0.97
    assert agree[1] < 0.9


def kept_shares(technique: GridMask, draws: int, side: int = 96) -> np.ndarray:
    rng, x = np.random.default_rng(0), torch.ones(8, 1, side, side)
    return np.concatenate([technique.mix(x, rng)[0].mean((1, 2, 3)).numpy() for _ in range(draws)])


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("rotate", [0.0, 45.0, 360.0])
def test_what_is_kept_is_the_papers_ratio(ratio: float, rotate: float):
    shares = kept_shares(GridMask(ratio=ratio, rotate=rotate), 250)
    expected = 1 - (1 - ratio) ** 2
    assert abs(shares.mean() - expected) < 5 * shares.std() / np.sqrt(len(shares)) + 0.004  # whole pixels
    assert len(np.unique(shares)) > 100


def test_reversed_it_keeps_the_squares():
    plain, reversed_ = kept_shares(GridMask(), 50), kept_shares(GridMask(reverse=True), 50)
    np.testing.assert_allclose(plain + reversed_, 1, atol=1e-6)
    assert abs(reversed_.mean() - 0.4**2) < 0.02


def test_small_units_have_a_bar_and_a_square():
    for ratio in (0.01, 0.99):
        shares = kept_shares(GridMask(d=[0.01, 0.03], ratio=ratio), 10)
        assert ((shares > 0) & (shares < 1)).all()


def board_by_hand(size: int, d: int, offset: tuple[int, int], turned: bool) -> np.ndarray:
    """Document 000: two by two fields, resized to the nearest, turned, repeated, and cut at an offset."""
    nearest = np.floor((np.arange(d) + 0.5) * 2 / d).astype(int)
    unit = np.array([[0, 1], [1, 0]])[np.ix_(nearest, nearest)]
    if turned:
        unit = np.rot90(unit)
    repeats = size // d + 1
    many = np.tile(unit, (repeats, repeats))
    return many[offset[0] : offset[0] + size, offset[1] : offset[1] + size].astype(bool)


@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("turned", [False, True])
def test_a_checkerboard_is_the_documents(size: int, turned: bool):
    rng = np.random.default_rng(0)
    for d in range(2, size + 1):
        top, left = rng.integers(d * (size // d + 1) - size, size=2, endpoint=True)
        found = checkerboard(size, size, torch.tensor(d), torch.tensor([top, left]), torch.tensor(turned))
        assert found.shape == (1, 1, size, size)
        np.testing.assert_array_equal(found[0, 0].numpy(), board_by_hand(size, d, (top, left), turned))


def test_checkerboards_are_spread_as_the_documents():
    size, n = 56, 3000
    rng, x = np.random.default_rng(1), torch.ones(1, 1, size, size)
    found = [GridMask(pattern="checkerboard").mix(x, rng)[0][0, 0].numpy().astype(bool) for _ in range(n)]
    expected = []
    for _ in range(n):
        d = rng.integers(size * 96 // 224, size)
        room = d * (size // d + 1) - size
        top, left = rng.integers(room + 1), rng.integers(room + 1)
        expected.append(board_by_hand(size, d, (top, left), rng.random() < 0.5))
    for measure in (lambda m: m.mean(), lambda m: m[0].mean(), lambda m: (m[:, 1:] != m[:, :-1])[0].sum()):
        pair = [[float(measure(mask)) for mask in masks] for masks in (found, expected)]
        assert ks_2samp(*pair, method="asymp").pvalue > 1e-3
    assert abs(np.mean(found) - 0.5) < 0.01


def test_a_grid_for_each_image_and_a_board_for_the_batch():
    x = torch.rand(6, 3, 64, 64) + 1
    for technique, masks in ((GridMask(), 6), (GridMask(pattern="checkerboard"), 1)):
        mixed, partner, share = technique.mix(x, np.random.default_rng(0))
        kept = mixed != 0
        assert torch.equal(mixed[kept], x[kept])
        assert (kept == kept[:, :1]).all()  # all channels alike
        assert len({mask.numpy().tobytes() for mask in kept[:, 0]}) == masks
        assert partner.tolist() == list(range(6))
        assert share.tolist() == [1.0] * 6


@pytest.mark.parametrize("pattern", ["grid", "checkerboard"])
def test_draws_depend_on_the_generator_alone(pattern: Any):
    x = torch.randn(4, 3, 32, 48).bfloat16()
    first, again, other = (
        GridMask(pattern=pattern).mix(x, np.random.default_rng(seed))[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": [0.9, 0.5]}, "d must go from low to high"),
        ({"d": [0.5, 1.5]}, "less than or equal to 1"),
        ({"pattern": "checkerboard", "ratio": 0.5}, "ratio is the grid's; leave it out"),
        ({"pattern": "checkerboard", "rotate": 0.0}, "rotate is the grid's"),
        ({"pattern": "checkerboard", "reverse": True}, "reverse is the grid's"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        GridMask.model_validate(options)


def test_a_stage_can_be_made_again_from_all_its_options():
    board = GridMask(pattern="checkerboard")
    assert GridMask.model_validate(board.model_dump()) == board
