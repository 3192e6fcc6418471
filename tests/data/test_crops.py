"""Our boxes against torchvision's."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop as Torchvisions

from ablate.data.crops import SQUARE, RandomCrop, RandomResizedCrop

N = 4000
SIDES = st.integers(1, 700)
UNIFORM = st.floats(0, 1, exclude_max=True)


def places(crop: RandomResizedCrop, n: int = N) -> list[list[float]]:
    return np.random.default_rng(0).random((n, crop.draws)).tolist()


def theirs(crop: RandomResizedCrop, width: int, height: int, n: int = N) -> np.ndarray:
    """torchvision's boxes as left, top, width, height; shape (n, 4)."""
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    boxes = [Torchvisions.get_params(image, list(crop.scale), list(crop.ratio)) for _ in range(n)]
    return np.array(boxes)[:, [1, 0, 3, 2]]


@pytest.mark.parametrize("sides", [(613, 460), (460, 460), (460, 700), (90, 30), (300, 40)], ids=str)
@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.08, 1), (3 / 4, 4 / 3)), ((0.42, 0.75), (1, 1)), ((0.5, 1), (0.5, 0.8)), ((0.9, 1), (1.5, 3))],
    ids=str,
)
def test_boxes_are_spread_as_torchvisions(
    sides: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
):
    crop = RandomResizedCrop(scale, ratio)
    ours = np.array([crop.box(place, *sides) for place in places(crop)])
    torchvisions = theirs(crop, *sides)
    for boxes in (ours, torchvisions):
        boxes[:, :2] = boxes[:, :2] + boxes[:, 2:] // 2  # centres, since the corner hangs on the size
    for what in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 2] / b[:, 3],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    ):
        assert ks_2samp(what(ours), what(torchvisions), method="asymp").pvalue > 1e-4


class Given:
    """What torchvision calls of torch, with given uniforms: (x, y), then pairs of area and ratio."""

    def __init__(self, place: list[float]):
        self.spots, self.pairs = iter([place[1], place[0]]), iter(place[2:])  # it draws the row first

    tensor = staticmethod(np.array)
    log = staticmethod(np.log)

    def empty(self, _: int) -> Given:
        return self

    def uniform_(self, low: float, high: float) -> np.ndarray:
        return np.array(low + (high - low) * next(self.pairs))

    def exp(self, value: np.ndarray) -> np.ndarray:
        return np.array(math.exp(value))

    def randint(self, low: int, high: int, size: tuple[int]) -> np.ndarray:
        return np.array(low + int(next(self.spots) * (high - low)))


@settings(max_examples=300)
@given(
    SIDES,
    SIDES,
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    st.lists(UNIFORM, min_size=22, max_size=22),
)
def test_given_the_same_draws_a_box_is_torchvisions(
    width: int, height: int, scale: list[float], ratio: list[float], place: list[float]
):
    crop = RandomResizedCrop((scale[0], scale[1]), (ratio[0], ratio[1]))
    left, top, wide, high = crop.box(place, width, height)
    assert 0 <= left <= left + wide <= width
    assert 0 <= top <= top + high <= height
    assert min(wide, high) > 0
    with mock.patch("torchvision.transforms.transforms.torch", Given(place)):
        i, j, h, w = Torchvisions.get_params(torch.zeros(3, height, width), scale, ratio)
    if min(h, w) > 0:  # where torchvision's fallback is empty, ours keeps one pixel
        assert (left, top, wide, high) == (j, i, w, h)


@pytest.mark.parametrize("sides", [(600, 20), (20, 600), (50, 1), (1, 50), (1, 1)], ids=str)
def test_where_nothing_fits_it_is_the_centre(sides: tuple[int, int]):
    crop = RandomResizedCrop((0.9, 1), (3 / 4, 4 / 3))
    boxes = {crop.box(place, *sides) for place in places(crop, 50)}
    assert boxes == {tuple(theirs(crop, *sides, 1)[0].tolist())}


def test_ten_attempts():
    """Nine that do not fit and one that does; then none."""
    crop = RandomResizedCrop((0.1, 1), (0.5, 2))
    wide = [0.999, 0.999]  # nearly all of the area, nearly twice as wide as high
    tenth = crop.box([0.5, 0.5, *wide * 9, 0.0, 0.5], 100, 100)
    assert tenth[2:] == (round(math.sqrt(1000)),) * 2
    assert crop.box([0.5, 0.5, *wide * 10], 100, 100) == (0, 0, 100, 100)
    assert crop.box([0.5, 0.5, *wide * 9, 0.0, 0.5, 0.0, 0.0][:22], 100, 100) == tenth


def test_squares_of_three_quarters_of_the_side_and_more():
    for sides, scale in (((460, 460), (0.5625, 1)), ((800, 600), (0.5625 * 0.75, 0.75))):
        crop = RandomResizedCrop(scale, (1, 1))
        boxes = np.array([crop.box(place, *sides) for place in places(crop)])
        shares = boxes[:, 2:] / min(sides)
        np.testing.assert_array_equal(shares[:, 0], shares[:, 1])
        assert 0.75 <= shares.min() < 0.76
        assert 0.99 < shares.max() <= 1


@given(UNIFORM, UNIFORM, SIDES, SIDES)
def test_the_square_is_the_shorter_side_anywhere_along_the_longer(
    x: float, y: float, width: int, height: int
):
    left, top, wide, high = SQUARE.box((x, y), width, height)
    assert wide == high == min(width, height)
    assert abs(left - x * (width - wide)) <= 0.5
    assert abs(top - y * (height - high)) <= 0.5


def documents_boxes(width: int, height: int, n: int = N) -> np.ndarray:
    """The cassava document's: a random square, then 75-100% of its side; offsets are even whole numbers."""
    rng = np.random.default_rng(1)
    side = min(width, height)
    boxes = []
    for _ in range(n):
        left, top = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
        small = round(rng.uniform(0.75 * side, side))
        x, y = rng.integers(0, side - small + 1, 2)
        boxes.append((left + x, top + y, small, small))
    return np.array(boxes)


@pytest.mark.parametrize("sides", [(800, 600), (600, 800), (600, 600)], ids=str)
def test_a_crop_within_the_random_square_is_the_documents(sides: tuple[int, int]):
    crop = RandomCrop((0.75, 1), in_square=True)
    ours = np.array([crop.box(place, *sides) for place in np.random.default_rng(0).random((N, 5)).tolist()])
    for column, other in zip(ours.T, documents_boxes(*sides).T, strict=True):
        assert ks_2samp(column, other, method="asymp").pvalue > 1e-4
    squares = np.array([SQUARE.box(p, *sides) for p in np.random.default_rng(0).random((N, 5)).tolist()])
    assert (ours[:, :2] >= squares[:, :2]).all()
    assert (ours[:, :2] + ours[:, 2:] <= squares[:, :2] + squares[:, 2:]).all()


def test_a_crop_of_one_side_lies_anywhere_in_the_image():
    """512 of 600 pixels at a uniform place, as Keras' RandomCrop(512, 512) has it."""
    crop = RandomCrop((512 / 600, 512 / 600))
    places = np.random.default_rng(0).random((N, 5)).tolist()
    left, top, wide, high = np.array([crop.box(place, 800, 600) for place in places]).T
    assert set(wide) == set(high) == {512}
    jitter = np.random.default_rng(2).random(N)
    assert kstest((left + jitter) / 289, "uniform").pvalue > 1e-3
    assert kstest((top + jitter) / 89, "uniform").pvalue > 1e-3
    assert (left.min(), left.max(), top.min(), top.max()) == (0, 288, 0, 88)


def test_sides_are_even_in_their_range():
    crop = RandomCrop((0.5, 0.9))
    places = np.random.default_rng(0).random((N, 5)).tolist()
    shares = np.array([crop.box(place, 5000, 4000)[2] for place in places]) / 4000
    assert kstest(shares, "uniform", args=(0.5, 0.4)).pvalue > 1e-3


@settings(max_examples=300)
@given(SIDES, SIDES, st.tuples(*[UNIFORM] * 5), st.tuples(UNIFORM, UNIFORM), st.booleans())
def test_a_random_square_lies_in_the_image(
    width: int, height: int, place: tuple[float, ...], scale: tuple[float, float], within: bool
):
    low, high = sorted(scale)
    left, top, wide, tall = RandomCrop((low, high), within).box(place, width, height)
    assert 1 <= wide == tall <= min(width, height)
    assert 0 <= left <= width - wide
    assert 0 <= top <= height - tall
