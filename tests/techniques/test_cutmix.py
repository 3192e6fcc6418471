from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from timm.data import Mixup
from torch.nn import functional

from ablate.techniques.cutmix import CutMix, cutmix, random_box

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
