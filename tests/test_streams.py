from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from ablate.streams import Streams, _mix

SEEDS = st.integers(0, 2**40)
NUMBERS = st.lists(st.integers(0, 2**62), min_size=1, max_size=50, unique=True)
MANY = np.arange(20_000)
PINNED = (0.8307533531964802, 0.23087734076910982, 6800911687093869347)


def splitmix(state: int) -> int:
    """SplitMix64's next output after `state`, in plain integers, from the authors' C code."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def uniforms(streams: Streams, what: str = "augment", epoch: int = 0, count: int = 1) -> np.ndarray:
    return streams.uniforms(what, epoch, MANY, count)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return abs(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]))


def test_the_published_numbers_of_splitmix():
    state = 1234567
    outputs = _mix(
        np.array([state, state + 0x9E3779B97F4A7C15], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    )
    assert outputs.tolist() == [6457827717110365317, 3203168211198807973]


@given(SEEDS, st.integers(0, 2**62), st.integers(1, 5))
def test_uniforms_are_splitmix_of_key_and_index(seed: int, index: int, count: int):
    streams = Streams(seed, "head")
    key = int.from_bytes(streams._digest("crop", 3)[:8], "little")
    item = splitmix((key ^ splitmix(index)) - 0x9E3779B97F4A7C15)
    expected = [(splitmix(item + i * 0x9E3779B97F4A7C15) >> 11) / 2**53 for i in range(count)]
    assert streams.uniforms("crop", 3, np.array([index]), count)[0].tolist() == expected


def test_draws_never_change():
    streams = Streams(7, "finetune", "salt")
    assert streams.uniforms("augment.flip", 2, np.array([5]), 1)[0, 0] == PINNED[0]
    assert streams.generator("mix", 1, 9).random() == PINNED[1]
    assert streams.integer("init", 0, 3) == PINNED[2]


@given(SEEDS, NUMBERS, st.randoms(use_true_random=False))
def test_a_row_depends_on_its_index_alone(seed: int, numbers: list[int], random):
    streams = Streams(seed)
    rows = streams.uniforms("augment", 1, np.array(numbers), 3)
    assert rows.shape == (len(numbers), 3)
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    assert (rows < 1).all()
    order = list(range(len(numbers)))
    random.shuffle(order)
    np.testing.assert_array_equal(streams.uniforms("augment", 1, np.array(numbers)[order], 3), rows[order])
    np.testing.assert_array_equal(streams.uniforms("augment", 1, np.array(numbers[:1]), 3), rows[:1])
    np.testing.assert_array_equal(streams.uniforms("augment", 1, np.array(numbers), 5)[:, :3], rows)


@pytest.mark.parametrize("numbers", [MANY, MANY * 1024, MANY + 2**40], ids=["dense", "strided", "far"])
@pytest.mark.parametrize("seed", range(3))
def test_uniforms_are_uniform_and_columns_uncorrelated(numbers: np.ndarray, seed: int):
    drawn = Streams(seed).uniforms("augment", 0, numbers, 2)
    assert kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    assert correlation(drawn[:, 0], drawn[:, 1]) < 0.03
    assert correlation(drawn[:-1], drawn[1:]) < 0.03


@pytest.mark.parametrize(
    "other",
    [
        uniforms(Streams(0, "head"), "augment2"),
        uniforms(Streams(1, "head")),
        uniforms(Streams(0, "finetune")),
        uniforms(Streams(0, "head", "salt")),
        uniforms(Streams(0, "head"), epoch=1),
        uniforms(Streams(0, "", "head")),
    ],
    ids=["what", "seed", "phase", "salt", "epoch", "salt for phase"],
)
def test_another_name_gives_an_uncorrelated_stream(other: np.ndarray):
    here = uniforms(Streams(0, "head"))
    assert correlation(here, other) < 0.03
    assert not np.isin(here, other).any()


def test_parts_of_a_name_do_not_run_together():
    names = [(1, "11", ""), (11, "1", ""), (1, "1", "1"), (111, "", "")]
    assert len({uniforms(Streams(*name))[0, 0] for name in names}) == len(names)
    assert uniforms(Streams(0, "a1"), "b")[0, 0] != uniforms(Streams(0, "a"), "1b")[0, 0]


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_generator_depends_on_its_name_and_index_alone(seed: int, a: int, b: int):
    first = Streams(seed).generator("mix", 0, a).random(4)
    Streams(seed).generator("mix", 0, b).random(4)
    np.testing.assert_array_equal(Streams(seed).generator("mix", 0, a).random(4), first)
    assert (a == b) == np.array_equal(Streams(seed).generator("mix", 0, b).random(4), first)


def test_generators_of_neighbours_are_independent():
    streams = Streams(3)
    here, there = (streams.generator("mix", index=i).integers(0, 2**63, 20_000) for i in (0, 1))
    assert not np.isin(here, there).any()  # none runs into the next one's counters
    assert correlation(here.astype(float), there.astype(float)) < 0.03
    firsts = np.array([streams.generator("mix", index=i).random() for i in range(2_000)])
    assert kstest(firsts, "uniform").pvalue > 1e-3
    assert correlation(firsts[:-1], firsts[1:]) < 0.1


def test_integers_seed_other_generators():
    streams = Streams(3)
    drawn = [streams.integer("init", 0, i) for i in range(2_000)]
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) >= 0
    assert kstest(np.array(drawn) / 2**63, "uniform").pvalue > 1e-3
    assert streams.integer("init", 0, 5) == drawn[5]
    assert streams.integer("order", 0, 5) != drawn[5]
