"""ablate.study.fractional: runs and resolutions against published tables, and by trying all products."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.study.fractional import TwoLevelDesign, by_resolution, by_runs, roman


def runs_of(design: TwoLevelDesign) -> np.ndarray:
    """Runs × factors, −1 or 1."""
    return np.array(design.signs())


def shortest_words(runs: np.ndarray, longest: int) -> tuple[int, int] | None:
    """The fewest columns whose product is the same in all runs, and how many such sets there are."""
    for size in range(1, min(longest, runs.shape[1]) + 1):
        products = (runs[:, chosen].prod(1) for chosen in itertools.combinations(range(runs.shape[1]), size))
        if found := sum(bool(abs(product.sum()) == len(product)) for product in products):
            return size, found
    return None


PUBLISHED = [
    *((3, 4, "III", 1), (4, 8, "IV", 1), (5, 8, "III", 2), (6, 8, "III", 4), (7, 8, "III", 7)),
    *((5, 16, "V", 1), (6, 16, "IV", 3), (7, 16, "IV", 7), (8, 16, "IV", 14), (9, 16, "III", 4)),
    *((10, 16, "III", 8), (11, 16, "III", 12), (12, 16, "III", 16), (15, 16, "III", 35)),
    *((6, 32, "VI", 1), (7, 32, "IV", 1), (8, 32, "IV", 3), (9, 32, "IV", 6), (10, 32, "IV", 10)),
    *((11, 32, "IV", 25), (7, 64, "VII", 1), (8, 64, "V", 2), (9, 64, "IV", 1), (10, 64, "IV", 2)),
    *((11, 64, "IV", 4), (8, 128, "VIII", 1), (9, 128, "VI", 3), (10, 128, "V", 3), (11, 128, "V", 6)),
]
"""Factors, runs, resolution: Box, Hunter & Hunter, Statistics for Experimenters, the table of two-level
fractional factorials. Number of shortest words: minimum aberration, Chen, Sun & Wu, Int Stat Rev 1993."""


@pytest.mark.parametrize(("factors", "runs", "resolution", "words"), PUBLISHED)
def test_as_good_as_published(factors: int, runs: int, resolution: str, words: int) -> None:
    design = by_runs(factors, runs)
    found = shortest_words(runs_of(design), 8)
    assert found is not None
    assert (len(runs_of(design)), roman(found[0]), found[1]) == (runs, resolution, words)
    assert (design.runs, design.resolution) == (runs, found[0])


@pytest.mark.parametrize(
    ("factors", "resolution", "runs"),
    [
        *((3, 3, 4), (4, 3, 8), (7, 3, 8), (8, 3, 16), (15, 3, 16), (16, 3, 32), (31, 3, 32)),
        *((4, 4, 8), (5, 4, 16), (8, 4, 16), (9, 4, 32), (16, 4, 32), (17, 4, 64), (32, 4, 64)),
        *((5, 5, 16), (6, 5, 32), (7, 5, 64), (8, 5, 64), (9, 5, 128), (11, 5, 128), (12, 5, 256)),
        *((17, 5, 256), (6, 6, 32), (9, 6, 128), (12, 6, 256), (7, 7, 64), (9, 7, 256)),
    ],
)
def test_the_fewest_runs_that_are_enough(factors: int, resolution: int, runs: int) -> None:
    """Published maxima of factors: 2^m − 1 at III, 2^(m−1) at IV, those of the best linear codes above."""
    design = by_resolution(factors, resolution)
    assert design.runs == runs
    assert design.resolution is not None
    assert design.resolution >= resolution


@given(st.integers(1, 11), st.integers(3, 8))
@settings(max_examples=60, deadline=None)
def test_what_every_design_has(factors: int, resolution: int) -> None:
    design = by_resolution(factors, resolution)
    runs = runs_of(design)
    assert runs.shape == (design.runs, factors)
    assert np.array_equal(runs[0], -np.ones(factors))  # the reference
    assert len({tuple(run) for run in runs}) == len(runs)
    assert np.array_equal(runs.T @ runs, len(runs) * np.eye(factors))  # no main effect with another
    assert not runs.sum(0).any()  # both levels equally often
    assert shortest_words(runs, resolution - 1) is None
    assert (design.resolution is None) == (len(runs) == 2**factors)


@given(st.integers(1, 11), st.integers(2, 300))
@settings(max_examples=60, deadline=None)
def test_a_budget_is_kept(factors: int, budget: int) -> None:
    if budget <= factors:  # resolution III takes a run more than there are factors
        with pytest.raises(ValueError, match="too few"):
            by_runs(factors, budget)
        return
    if 2 ** (budget.bit_length() - 1) <= factors:
        return
    design = by_runs(factors, budget)
    assert budget / 2 < design.runs <= budget or design.runs == 2**factors
    assert design.resolution is None or design.resolution >= 3


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_too_few_factors_get_all_combinations(factors: int) -> None:
    design = by_resolution(factors, 4)
    assert design.resolution is None
    assert sorted(design.signs()) == sorted(itertools.product((-1, 1), repeat=factors))


@pytest.mark.parametrize(("factors", "runs", "least"), [(2, 3, 4), (5, 7, 8), (8, 15, 16), (20, 16, 32)])
def test_too_few_runs(factors: int, runs: int, least: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^{runs} is too few .* {factors} factors apart; the least is {least},"
    ):
        by_runs(factors, runs)
    assert by_runs(factors, least).runs == least


def test_too_many_runs() -> None:
    with pytest.raises(ValueError, match=r"^100 factors take more than 8192 variants at resolution V;"):
        by_resolution(100, 5)
    with pytest.raises(ValueError, match="at resolution XIII; vary fewer, or take a lower resolution"):
        by_resolution(40, 13)
    assert by_runs(20, 10**9).runs == 8192


def test_roman() -> None:
    assert [roman(number) for number in (3, 4, 5, 6, 8, 9, 10, 13, 14)] == [
        *("III", "IV", "V", "VI", "VIII", "IX", "X", "XIII", "XIV")
    ]


def test_nothing_heavy_is_imported_for_other_designs() -> None:
    code = """
import sys
from ablate.recipe.study_schema import Study
from ablate.study import design
for name in ("one_at_a_time", "factorial", "fractional"):
    study = Study.model_validate({"vary": ["mixup", "cutmix", "tta"], "design": name})
    design.variants(study, design.factors(study, ["mixup", "cutmix", "tta"]))
    print(name, "pyDOE3" in sys.modules, "scipy" in sys.modules, "pandas" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == [
        "one_at_a_time False False False",
        "factorial False False False",
        "fractional True True False",
    ]
