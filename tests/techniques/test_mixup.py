from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta, chisquare, ks_2samp, kstest
from timm.data import Mixup
from torch.nn import functional

from ablate.recipe.schema import Phase
from ablate.techniques.mixup import FurtherPhase, MixUp, folded_beta, mixup

ALPHAS = [0.1, 0.2, 0.4, 1.0, 2.0]


def one_channel_each(n: int, side: int = 4) -> torch.Tensor:
    """Image i is 1 in channel i and 0 elsewhere, so channel j's mean is how much of image j is seen."""
    return torch.eye(n)[:, :, None, None].repeat(1, 1, side, side)


def soft_targets(partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    n = len(share)
    own, other = torch.eye(n), functional.one_hot(partner, n)
    return share[:, None] * own + (1 - share)[:, None] * other


def test_mixup_is_the_weighted_sum():
    x = torch.randn(6, 3, 5, 4)
    partner, share = torch.tensor([3, 1, 0, 5, 2, 4]), torch.tensor([1.0, 0.5, 0.75, 0.9, 0.0, 0.3])
    expected = torch.stack([share[i] * x[i] + (1 - share[i]) * x[partner[i]] for i in range(6)])
    torch.testing.assert_close(mixup(x, partner, share), expected)
    torch.testing.assert_close(mixup(x, partner, share)[0], x[0], rtol=0, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_labels_weigh_as_the_pixels_do(alpha: float):
    rng = np.random.default_rng(0)
    for _ in range(20):
        mixed, partner, share = MixUp(alpha=alpha).mix(one_channel_each(16), rng)
        assert sorted(partner.tolist()) == list(range(16))
        assert (share >= 0.5).all()
        assert (share <= 1).all()
        expected = soft_targets(partner, share)[:, :, None, None].expand_as(mixed)
        torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-7)


def test_every_image_has_its_own_share():
    _, _, share = MixUp(alpha=1.0).mix(one_channel_each(16), np.random.default_rng(0))
    assert len(set(share.tolist())) == 16


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_folded_betas_moments(alpha: float):
    n = 200_000
    draws = folded_beta(alpha, n, np.random.default_rng(1))
    density = beta(alpha, alpha)

    def moment(power: int) -> float:
        return quad(lambda share: share**power * 2 * density.pdf(share), 0.5, 1)[0]

    for power in (1, 2, 3):
        deviation = np.sqrt((moment(2 * power) - moment(power) ** 2) / n)
        assert abs((draws**power).mean() - moment(power)) < 4 * deviation


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 2.0])  # below, many a share rounds to 1
def test_the_folded_betas_distribution(alpha: float):
    draws, density = folded_beta(alpha, 50_000, np.random.default_rng(2)), beta(alpha, alpha)
    assert draws.min() >= 0.5
    assert kstest(draws, lambda share: density.cdf(share) - density.cdf(1 - share)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0])
def test_shares_and_pixels_agree_with_timms_mixup(alpha: float):
    n, batches = 32, 250
    theirs = Mixup(mixup_alpha=alpha, mode="elem", label_smoothing=0, num_classes=n)
    generator = torch.Generator().manual_seed(3)
    np.random.seed(3)
    rng = np.random.default_rng(4)
    shares: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    powers: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    for _ in range(batches):
        x = torch.randn(n, 1, 4, 4, generator=generator)
        mixed, partner, share = MixUp(alpha=alpha).mix(x, rng)
        others = partner != torch.arange(n)  # timm's partner is never the image itself
        shares["ours"].append(share[others].numpy())
        powers["ours"].append(mixed[others].square().mean((1, 2, 3)).numpy())
        x = torch.randn(n, 1, 4, 4, generator=generator)
        mixed, target = theirs(x, torch.arange(n))
        own = target.diagonal().numpy()
        shares["theirs"].append(np.maximum(own, 1 - own))
        powers["theirs"].append(mixed.square().mean((1, 2, 3)).numpy())
    for measured in (shares, powers):
        ours, timms = (np.concatenate(measured[who]) for who in ("ours", "theirs"))
        assert ks_2samp(ours, timms).pvalue > 1e-3


def test_draws_depend_on_the_generator_alone():
    x = one_channel_each(8)
    first, again, other = (MixUp().mix(x, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_images_stay_half():
    mixed, _, share = MixUp().mix(one_channel_each(8).bfloat16(), np.random.default_rng(0))
    assert mixed.dtype is torch.bfloat16
    assert share.dtype is torch.float32


def test_it_is_on_in_its_phases():
    assert MixUp().active_in("head")
    assert not MixUp(phases=["tune"]).active_in("head")
    further = MixUp(further=FurtherPhase(epochs=50))
    assert not further.active_in("tune")
    assert further.active_in("mixup")


def test_a_further_phase_follows_the_last_and_takes_its_settings():
    phases = [
        Phase(name="head", epochs=1, freeze=True),
        Phase(name="tune", epochs=5, size=64, lr=[1e-6, 1e-4]),
    ]
    assert MixUp().edit_phases(phases) == phases
    longer = MixUp(further=FurtherPhase(name="more", epochs=50, lr=1e-3)).edit_phases(phases)
    assert longer[:2] == phases
    assert longer[2] == Phase(name="more", epochs=50, size=64, lr=1e-3)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.0])
def test_shares_that_are_not_folded_are_betas(alpha: float):
    rng, technique = np.random.default_rng(3), MixUp(alpha=alpha, folded=False)
    shares = []
    for _ in range(100):
        mixed, partner, share = technique.mix(one_channel_each(16), rng)
        expected = soft_targets(partner, share)[:, :, None, None].expand_as(mixed)
        torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-7)
        assert len(set(share.tolist())) == 16
        shares.append(share.numpy())
    assert kstest(np.concatenate(shares), beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_defaults_draw_shares_and_then_an_order():
    by_hand = np.random.default_rng(8)
    drawn = by_hand.beta(0.4, 0.4, size=9)
    order = by_hand.permutation(9)
    _, partner, share = MixUp().mix(one_channel_each(9), np.random.default_rng(8))
    assert partner.tolist() == order.tolist()
    assert share.tolist() == np.maximum(drawn, 1 - drawn).astype(np.float32).tolist()


def test_another_is_any_of_the_others_evenly():
    n, rng = 5, np.random.default_rng(0)
    counts = np.zeros((n, n))
    for _ in range(2000):
        _, partner, _ = MixUp(partner="other").mix(one_channel_each(n), rng)
        counts[np.arange(n), partner.numpy()] += 1
    assert (counts.diagonal() == 0).all()
    others = counts[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    assert chisquare(others, axis=1).pvalue.min() > 1e-3
    assert MixUp(partner="other").mix(one_channel_each(2), rng)[1].tolist() == [1, 0]


@pytest.mark.parametrize("partner", ["permutation", "other"])
def test_a_lone_image_stays(partner: Any):
    x = torch.randn(1, 3, 4, 4)
    for folded in (True, False):
        mixed, who, _ = MixUp(partner=partner, folded=folded).mix(x, np.random.default_rng(0))
        assert who.tolist() == [0]
        assert torch.equal(mixed, x)
