from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp
from timm.data import Mixup
from torch.nn import functional

from ablate.techniques.cutmix import CutMix, cutmix, inside_box, random_box

SIDES = st.integers(1, 64)


def one_channel_each(n: int, height: int, width: int) -> torch.Tensor:
    """Image i is 1 in channel i and 0 elsewhere, so counting pixels says how much of each image is seen."""
    return torch.eye(n)[:, :, None, None].repeat(1, 1, height, width)


def test_the_box_comes_from_the_partner_and_the_rest_stays():
    x = torch.randn(5, 3, 8, 6)
    partner = torch.tensor([4, 0, 2, 1, 3])
    mixed = cutmix(x, partner, torch.tensor([2, 7, 1, 4]))
    expected = x.clone()
    expected[:, :, 2:7, 1:4] = x[partner][:, :, 2:7, 1:4]
    assert torch.equal(mixed, expected)
    assert torch.equal(cutmix(x, partner, torch.tensor([3, 3, 0, 6])), x)
    assert torch.equal(cutmix(x, partner, torch.tensor([0, 8, 0, 6])), x[partner])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31)])
def test_labels_weigh_as_the_pixels_do_exactly(alpha: float, height: int, width: int):
    rng = np.random.default_rng(0)
    n, area = 8, height * width
    seen = set()
    for _ in range(60):
        mixed, partner, share = CutMix(alpha=alpha).mix(one_channel_each(n, height, width), rng)
        assert sorted(partner.tolist()) == list(range(n))
        counts = mixed.sum((2, 3)).long()
        others = partner != torch.arange(n)
        own = counts.diagonal()[others]
        partners = (counts * functional.one_hot(partner, n)).sum(1)[others]
        assert (own + partners == area).all()  # no pixel of a third image, none blended
        assert torch.equal(share[others], (own.double() / area).float())
        assert (counts[~others].diagonal() >= 0).all()
        seen.add(float(share[0]))
    assert len(seen) > 20


@given(SIDES, SIDES, st.floats(0, 1), st.integers(0, 10**6))
def test_a_box_lies_in_the_image_and_is_no_larger_than_asked(
    height: int, width: int, share: float, seed: int
):
    top, bottom, left, right = random_box(height, width, share, np.random.default_rng(seed))
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    assert bottom - top <= height * np.sqrt(1 - share)
    assert right - left <= width * np.sqrt(1 - share)


class Centre:
    """A generator that always draws the middle."""

    def integers(self, high: int) -> int:
        return high // 2


@pytest.mark.parametrize("side", range(33))
def test_a_box_that_is_not_cut_off_has_the_area_asked_for(side: int):
    top, bottom, left, right = random_box(32, 64, 1 - (side / 32) ** 2, Centre())  # pyright: ignore
    assert (bottom - top, right - left) == (side, 2 * side)


@pytest.mark.parametrize(("side", "n"), [(224, 3000), (24, 6000)])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_areas_and_pixels_agree_with_timms_mixup(alpha: float, side: int, n: int):
    theirs = Mixup(mixup_alpha=0, cutmix_alpha=alpha, mode="batch", label_smoothing=0, num_classes=2)
    np.random.seed(5)
    rng = np.random.default_rng(6)
    x = torch.stack([torch.zeros(1, side, side), torch.ones(1, side, side)])
    columns = {"share": ([], []), "centre": ([], []), "pixel": ([], [])}
    along = torch.arange(side, dtype=torch.float32)
    place = rng.integers(side, size=2)
    for _ in range(n):
        mixed, partner, share = CutMix(alpha=alpha).mix(x, rng)
        while partner[0] == 0:
            mixed, partner, share = CutMix(alpha=alpha).mix(x, rng)
        theirs_mixed, target = theirs(x.clone(), torch.arange(2))
        for which, (image, own) in enumerate([(mixed[0, 0], share[0]), (theirs_mixed[0, 0], target[0, 0])]):
            columns["share"][which].append(float(own))
            box = image.sum(0)
            columns["centre"][which].append(float((box * along).sum() / box.sum().clamp(min=1)))
            columns["pixel"][which].append(float(image[place[0], place[1]]))
    for ours, timms in columns.values():
        assert ks_2samp(ours, timms).pvalue > 1e-3
    np.testing.assert_allclose(np.mean(columns["share"][0]), np.mean(columns["share"][1]), atol=0.02)


def test_draws_depend_on_the_generator_alone():
    x = torch.randn(8, 3, 16, 16)
    first, again, other = (CutMix().mix(x, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_is_on_in_its_phases():
    assert CutMix().active_in("head")
    assert not CutMix(phases=["tune"]).active_in("head")


def counted(
    technique: CutMix, n: int, batches: int, side: int = 32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of its pixels each image keeps, what of its label, and its partner; each (batches, n)."""
    rng, x = np.random.default_rng(7), one_channel_each(n, side, side)
    seen = []
    for _ in range(batches):
        mixed, partner, share = technique.mix(x, rng)
        assert ((mixed == 0) | (mixed == 1)).all()
        seen.append((mixed.mean((2, 3)).diagonal().numpy(), share.numpy(), partner.numpy()))
    pixels, shares, partners = map(np.stack, zip(*seen, strict=True))
    return pixels, shares, partners


def test_the_defaults_draw_a_share_a_centre_and_then_an_order():
    by_hand = np.random.default_rng(8)
    side = np.sqrt(1 - by_hand.beta(1.0, 1.0))
    high, wide = int(20 * side), int(30 * side)
    y, x = by_hand.integers(20), by_hand.integers(30)
    order = by_hand.permutation(6)
    expected = torch.arange(6).repeat_interleave(600).reshape(6, 1, 20, 30)
    top, left = max(y - high // 2, 0), max(x - wide // 2, 0)
    inside = np.s_[:, :, top : y + (high + 1) // 2, left : x + (wide + 1) // 2]
    images = expected.clone()
    images[inside] = expected[order.tolist()][inside]
    mixed, partner, _ = CutMix().mix(expected, np.random.default_rng(8))
    assert partner.tolist() == order.tolist()
    assert torch.equal(mixed, images)


def test_every_image_may_have_its_own_box():
    x = torch.randn(3, 2, 8, 6)
    boxes = torch.tensor([[2, 7, 1, 4], [0, 8, 0, 6], [3, 3, 0, 6]])
    expected = x.clone()
    expected[0, :, 2:7, 1:4] = x[1, :, 2:7, 1:4]
    expected[1] = x[2]
    assert torch.equal(cutmix(x, torch.tensor([1, 2, 0]), boxes), expected)


@pytest.mark.parametrize("place", ["clipped", "inside"])
@pytest.mark.parametrize("partner", ["permutation", "other"])
@pytest.mark.parametrize("p", [1.0, 0.3])
def test_per_image_labels_weigh_as_the_pixels_do(place: Any, partner: Any, p: float):
    technique = CutMix(per_image=True, place=place, partner=partner, p=p)
    pixels, shares, partners = counted(technique, 8, 100)
    others = partners != np.arange(8)
    np.testing.assert_array_equal(pixels[others], shares[others])
    assert others.all() == (partner == "other")
    assert (np.array([len(set(row)) for row in shares]) > 2).all() or p < 1
    mixed = (shares < 1).mean()  # a few boxes are empty, by rounding
    assert abs(mixed - p) < 5 * np.sqrt(0.25 / 800) + 0.01


def test_a_share_of_the_batches():
    _, shares, _ = counted(CutMix(p=0.3), 4, 1000)
    assert (shares == shares[:, :1]).all()
    assert abs((shares[:, 0] < 1).mean() - 0.3) < 5 * np.sqrt(0.21 / 1000)
    always, sometimes = (counted(CutMix(p=p), 4, 300)[1] for p in (1.0, 0.3))
    assert np.isin(sometimes, [*np.unique(always), 1.0]).all()  # p chooses among the same boxes


@given(SIDES, SIDES, st.floats(0, 1), st.integers(0, 10**6))
def test_a_box_inside_has_the_area_asked_for(height: int, width: int, share: float, seed: int):
    top, bottom, left, right = inside_box(height, width, share, np.random.default_rng(seed))
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    assert (bottom - top, right - left) == (int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share)))


def test_a_box_inside_lies_anywhere_evenly():
    rng = np.random.default_rng(0)
    boxes = np.array([inside_box(12, 20, 0.75, rng) for _ in range(5000)])
    for start, places in ((boxes[:, 0], 7), (boxes[:, 2], 11)):
        assert chisquare(np.bincount(start, minlength=places)).pvalue > 1e-3


def cassava_kfolds(rng: np.random.Generator, size: int) -> tuple[float, float]:
    """Document 000, a share drawn evenly and a square that lies inside: what is pasted, its middle row."""
    side = int(size * np.sqrt(1 - rng.random()))
    top = 0 if side == size else rng.integers(size - side)
    return side**2 / size**2, top + side / 2


def melanomas(rng: np.random.Generator, size: int) -> tuple[float, float]:
    """Document 001, three in ten, around a place drawn evenly and cut off: what is pasted, its middle row."""
    mixes = rng.random() <= 0.3
    x, y = rng.integers(size), rng.integers(size)
    side = int(size * np.sqrt(1 - rng.random())) * mixes
    top, bottom, left, right = y - side // 2, y + side // 2, x - side // 2, x + side // 2
    high, wide = (min(end, size) - max(start, 0) for start, end in ((top, bottom), (left, right)))
    return high * wide / size**2, (max(top, 0) + min(bottom, size)) / 2


@pytest.mark.parametrize(
    ("options", "document"),
    [({"place": "inside", "partner": "other"}, cassava_kfolds), ({"p": 0.3}, melanomas)],
)
def test_boxes_are_spread_as_the_documents(options: dict[str, Any], document: Any):
    n, batches, size = 8, 300, 224
    rng, technique = np.random.default_rng(1), CutMix(per_image=True, **options)
    x = torch.zeros(n, 1, size, size)
    x[0] = 1
    areas, middles = [], []
    for _ in range(batches):
        mixed, partner, _ = technique.mix(x, rng)
        if partner[0] == 0:
            continue
        rows = (1 - mixed[0, 0]).sum(1).numpy()
        areas.append(rows.sum() / size**2)
        if rows.any():
            middles.append((rows * (np.arange(size) + 0.5)).sum() / rows.sum())
    theirs = np.array([document(np.random.default_rng(i), size) for i in range(3000)])
    assert ks_2samp(areas, theirs[:, 0], method="asymp").pvalue > 1e-3
    assert ks_2samp(middles, theirs[theirs[:, 0] > 0, 1], method="asymp").pvalue > 1e-3
