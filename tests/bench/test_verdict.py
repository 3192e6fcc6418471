"""ablate.bench.verdict: the bottleneck from given rates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablate.bench.verdict import Facts, Rates, Verdict, loader_parts, verdict

FED = Rates(
    decode=800,
    presize=600,
    cache=40_000,
    augment=4_000,
    loader=3_000,
    loader_decoding=550,
    loader_kept=3_100,
    transforms=20_000,
    step=300,
    validation=900,
    whole=290,
)
"""Training from a cache, held up by the network."""
STARVED = replace(FED, cache=None, loader=410, loader_decoding=410, step=1_900, whole=400)
"""Training without a cache, held up by decoding."""
CUDA = Facts(device="cuda", cores=8, workers=8)


def text(found: Verdict) -> str:
    return " ".join(found.sentences)


def test_the_network() -> None:
    found = verdict(FED, Facts())
    assert found.bottleneck == "network"
    assert found.sentences[0] == (
        "The network is the bottleneck: training runs at 290 images/s, the training step alone at 300; the "
        "loader could feed 10 times as much."
    )
    assert "a GPU" in text(found)
    assert "bfloat16" in text(verdict(FED, CUDA))
    assert "bfloat16" not in text(verdict(FED, replace(CUDA, precision="bfloat16")))


@pytest.mark.parametrize(("whole", "bottleneck"), [(271, "network"), (269, "augmentation")])
def test_from_90_percent_of_the_step_on_it_is_the_network(whole: float, bottleneck: str) -> None:
    assert verdict(replace(FED, whole=whole, loader=272), CUDA).bottleneck in (bottleneck, "batching")
    assert (verdict(replace(FED, whole=whole, loader=272), CUDA).bottleneck == "network") == (whole > 270)


def test_decoding_without_a_cache() -> None:
    found = verdict(STARVED, replace(CUDA, cache="off"))
    assert found.bottleneck == "decode"
    assert found.sentences[0].startswith(
        "The loader is the bottleneck: it gives 410 images/s, and the training step could take 1,900."
    )
    share = (1 / 800) / (1 / 410)
    assert f"decoding takes {share:.0%}" in found.sentences[0]
    assert "data.cache: auto" in text(found)
    assert "3,100 images/s" in text(found)


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (replace(CUDA, has_room=False), "no room"),
        (replace(CUDA, streams=True), "if the disk holds them (data.cache: {format: raw})"),
        (replace(CUDA, cache="off", workers=2), "--workers 8, now 2"),
    ],
)
def test_advice_about_decoding(facts: Facts, advice: str) -> None:
    assert advice in text(verdict(STARVED, facts))


def test_images_that_come_from_no_files_need_no_cache() -> None:
    assert "data.cache" not in text(verdict(STARVED, replace(CUDA, in_memory=True)))


def test_resizing() -> None:
    assert verdict(replace(STARVED, decode=5_000, presize=500), CUDA).bottleneck == "presize"


@pytest.mark.parametrize(("cache", "advice"), [("jpeg", "{format: raw}"), ("auto", "{format: jpeg}")])
def test_reading_the_cache(cache: str, advice: str) -> None:
    rates = replace(FED, cache=500, loader=450, step=2_000, whole=440)
    found = verdict(rates, replace(CUDA, cache=cache))
    assert found.bottleneck == "cache"
    assert advice in text(found)


def test_augmentation() -> None:
    rates = replace(FED, augment=500, loader=450, step=2_000, whole=440)
    found = verdict(rates, replace(CUDA, size=224, presize=460))
    assert found.bottleneck == "augmentation"
    assert "presized to 460 for squares of 224" in text(found)
    assert "presized" not in text(verdict(rates, replace(CUDA, size=224, presize=256)))
    foreign = verdict(replace(rates, augment=None), replace(CUDA, foreign=("sharpen", "blur")))
    assert foreign.bottleneck == "augmentation"
    assert "The item transforms of sharpen and blur are not ablate's own" in text(foreign)


def test_batching_with_one_thread() -> None:
    rates = replace(FED, loader=400, step=2_000, whole=390)
    found = verdict(rates, replace(CUDA, workers=1))
    assert found.bottleneck == "batching"
    assert "--workers 8, now 1" in text(found)


def test_batch_transforms() -> None:
    found = verdict(replace(FED, transforms=150, whole=100), CUDA)
    assert found.bottleneck == "batch transforms"
    assert "150 images/s" in text(found)


def test_parts_that_share_the_cores() -> None:
    """200 a second by the network and 400 by the loader are 133 where each needs all cores."""
    rates = replace(STARVED, step=200, loader=400, whole=133)
    found = verdict(rates, Facts(cache="off"))
    assert found.bottleneck == "network"
    assert "both use the same cores" in found.sentences[0]
    assert "data.cache: auto" in text(found)
    assert "wait for each other" in text(verdict(rates, CUDA))
    assert "take turns" in text(verdict(rates, Facts(workers=0)))


def test_the_loaders_parts_are_all_of_it() -> None:
    for rates in (FED, STARVED, replace(STARVED, loader=10_000), replace(STARVED, presize=900)):
        parts = loader_parts(rates)
        assert sum(parts.values()) == pytest.approx(1)
        assert min(parts.values()) >= 0
    assert list(loader_parts(FED)) == ["cache", "augmentation", "batching"]
    assert list(loader_parts(STARVED)) == ["decode", "presize", "augmentation", "batching"]
    assert loader_parts(STARVED)["presize"] == pytest.approx((1 / 600 - 1 / 800) * 410)
