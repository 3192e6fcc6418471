"""ablate.study.factorial: effects by hand, against effect coding, and aliases against pyDOE3's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyDOE3 import fracfact, fracfact_aliasing

from ablate import techniques
from ablate.analysis.contrasts import Contrast
from ablate.recipe.study_schema import Study
from ablate.study.design import Factor, Variant, contrasts, factors, variants
from ablate.study.fractional import by_runs


def designed(**study: Any) -> tuple[list[Factor], list[Variant], list[Contrast]]:
    made = Study.model_validate(study)
    found = factors(made, list(techniques.registry()))
    all_variants = variants(made, found)
    return found, all_variants, contrasts(made, found, all_variants)


def truth(levels: tuple[int, ...]) -> float:
    """An arbitrary response with main effects and interactions of all orders."""
    return float(
        np.sin(1 + sum((7 * i + 3) * level for i, level in enumerate(levels))) + levels[0] * levels[1]
    )


class TestFactorial:
    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_two_levels_are_effect_coding(self, count: int) -> None:
        """With −1/+1 coding, a main effect is twice its OLS coefficient, an interaction four times."""
        used = ["mixup", "cutmix", "tta", "label_smoothing"][:count]
        _, made, found = designed(vary=used, design="factorial")
        assert len(made) == 2**count
        settings = list(itertools.product((0, 1), repeat=count))
        response = {variant.name: truth(levels) for variant, levels in zip(made, settings, strict=True)}
        code = 2 * np.array(settings) - 1
        two = list(itertools.combinations(range(count), 2))
        design = np.column_stack([np.ones(len(code)), code, *(code[:, a] * code[:, b] for a, b in two)])
        beta = np.linalg.lstsq(design, np.array([response[v.name] for v in made]), rcond=None)[0]
        expected = [*2 * beta[1 : count + 1], *4 * beta[count + 1 :]]
        estimates = [sum(w * response[name] for name, w in contrast.weights.items()) for contrast in found]
        np.testing.assert_allclose(estimates, expected, atol=1e-12)
        assert [contrast.primary for contrast in found] == [True] * count + [False] * len(two)

    def test_more_levels_are_averages_over_the_other_factors(self) -> None:
        vary = [{"cutmix": ["off", {"alpha": 0.5}, {"alpha": 1}]}, "mixup", {"size": [32, 48, 64]}]
        _, made, found = designed(vary=vary, design="factorial")
        settings = list(itertools.product(range(3), range(2), range(3)))
        response = {variant.name: truth(levels) for variant, levels in zip(made, settings, strict=True)}
        table = np.array([truth(levels) for levels in settings]).reshape(3, 2, 3)
        got = {c.name: sum(w * response[name] for name, w in c.weights.items()) for c in found}
        cutmix, mixup, size = table.mean((1, 2)), table.mean((0, 2)), table.mean((0, 1))
        both, last = table.mean(1), table.mean(0)
        expected = {
            "cutmix=alpha=0.5": cutmix[1] - cutmix[0],
            "cutmix=alpha=1": cutmix[2] - cutmix[0],
            "mixup": mixup[1] - mixup[0],
            "size=48": size[1] - size[0],
            "size=64": size[2] - size[0],
            "cutmix=alpha=1 × size=48": both[2, 1] - both[0, 1] - both[2, 0] + both[0, 0],
            "mixup × size=64": last[1, 2] - last[0, 2] - last[1, 0] + last[0, 0],
        }
        assert len(got) == len(found) == 5 + 2 + 4 + 2  # each has a name of its own
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, abs=1e-12), name

    def test_by_hand(self) -> None:
        _, made, found = designed(baseline=["augment"], vary=["mixup", "augment"], design="factorial")
        assert [variant.name for variant in made] == [
            "baseline",
            "baseline-augment",
            "baseline+mixup",
            "baseline+mixup-augment",
        ]
        assert {contrast.name: list(contrast.weights.values()) for contrast in found} == {
            "mixup": [-0.5, -0.5, 0.5, 0.5],
            "augment=off": [-0.5, 0.5, -0.5, 0.5],
            "mixup × augment=off": [1, -1, -1, 1],
        }


LETTERS = "abcdefghijklmnop"


def fraction(count: int, **asked: int) -> tuple[list[Factor], list[Variant], list[Contrast]]:
    """A fractional design of so many fields, named by a letter each, from 0 to 1."""
    vary: list[Any] = [{letter: [0, 1]} for letter in LETTERS[:count]]
    return designed(vary=vary, design="fractional", fraction=asked)


def settings_of(made: list[Variant]) -> np.ndarray:
    """Variants × factors, 0 or 1."""
    return np.array([[int(level.label) for level in variant.levels.values()] for variant in made])


def estimate(contrast: Contrast, made: list[Variant], response: np.ndarray) -> float:
    by_name = dict(zip((variant.name for variant in made), response, strict=True))
    return float(sum(weight * by_name[name] for name, weight in contrast.weights.items()))


def interaction(one: str, other: str) -> str:
    return f"{one}=1 × {other}=1"


class TestFractional:
    def test_by_hand(self) -> None:
        """Three factors in four runs: the third is on where exactly one of the others is."""
        _, made, found = designed(
            baseline=["augment"],
            vary=["mixup", "augment", "tta"],
            design="fractional",
            fraction={"resolution": 3},
        )
        assert [variant.name for variant in made] == [
            "baseline",
            "baseline-augment+tta",
            "baseline+mixup+tta",
            "baseline+mixup-augment",
        ]
        assert [
            (each.factor, each.level, each.name, each.primary, list(each.weights.values()), each.aliases)
            for each in found
        ] == [
            ("mixup", "on", "mixup", True, [-0.5, -0.5, 0.5, 0.5], ("augment=off × tta",)),
            ("augment", "off", "augment=off", True, [-0.5, 0.5, -0.5, 0.5], ("mixup × tta",)),
            ("tta", "on", "tta", True, [-0.5, 0.5, 0.5, -0.5], ("mixup × augment=off",)),
        ]

    def test_resolution_four_is_the_default(self) -> None:
        vary = [{letter: [0, 1]} for letter in LETTERS[:6]]
        assert len(designed(vary=vary, design="fractional")[1]) == 16

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_where_there_is_no_fraction_it_is_the_factorial(self, count: int) -> None:
        vary = [{letter: [0, 1]} for letter in LETTERS[:count]]
        assert designed(vary=vary, design="fractional")[1:] == designed(vary=vary, design="factorial")[1:]

    @given(st.integers(3, 8), st.integers(3, 6), st.data())
    @settings(max_examples=40, deadline=None)
    def test_an_additive_truth_is_found_exactly(
        self, count: int, resolution: int, data: st.DataObject
    ) -> None:
        numbers = st.lists(st.integers(-1000, 1000), min_size=count, max_size=count)
        slopes = np.array(data.draw(numbers))
        _, made, found = fraction(count, resolution=resolution)
        response = 0.7 + settings_of(made) @ slopes
        mains = [estimate(contrast, made, response) for contrast in found if contrast.primary]
        np.testing.assert_allclose(mains, slopes, atol=1e-9)
        assert [contrast.factor for contrast in found if contrast.primary] == list(LETTERS[:count])

    @pytest.mark.parametrize("count", [5, 6, 8])
    def test_at_five_interactions_are_found_too(self, count: int) -> None:
        """y = x·s + Σ t_ij x_i x_j: i's main effect is s_i + Σ_j t_ij / 2, an interaction is t_ij."""
        random = np.random.default_rng(count)
        slopes, pairs = random.normal(size=count), random.normal(size=(count, count))
        pairs = (pairs + pairs.T) * (1 - np.eye(count))
        _, made, found = fraction(count, resolution=5)
        x = settings_of(made)
        response = x @ slopes + np.einsum("ri,ij,rj->r", x, pairs, x) / 2
        got = {contrast.name: estimate(contrast, made, response) for contrast in found}
        expected = {f"{LETTERS[i]}=1": slopes[i] + pairs[i].sum() / 2 for i in range(count)}
        expected |= {
            interaction(LETTERS[i], LETTERS[j]): pairs[i, j]
            for i, j in itertools.combinations(range(count), 2)
        }
        assert list(got) == list(expected)
        np.testing.assert_allclose(list(got.values()), list(expected.values()), atol=1e-12)
        assert not any(contrast.aliases for contrast in found)

    @pytest.mark.parametrize(("count", "runs"), [(5, 8), (7, 8), (6, 16), (7, 16), (8, 16), (9, 16), (9, 32)])
    def test_aliases_are_those_of_pydoe3(self, count: int, runs: int) -> None:
        """Of the same design without minus signs: pyDOE3 finds aliases with the same sign only."""
        found = fraction(count, variants=runs)[2]
        maps, _ = fracfact_aliasing(fracfact(by_runs(count, runs).generators.replace("-", "")))
        sets = []
        for line in maps:
            short = [effect for effect in line.split(" = ") if len(effect) <= 2]
            names = [interaction(*effect) if len(effect) == 2 else f"{effect}=1" for effect in short]
            sets += [names] if names else []
        got = [[contrast.name, *contrast.aliases] for contrast in found]
        assert sorted(map(sorted, got)) == sorted(map(sorted, sets))
        assert [contrast.primary for contrast in found] == ["×" not in names[0] for names in got]

    @given(st.integers(2, 9), st.integers(3, 6))
    @settings(max_examples=30, deadline=None)
    def test_what_every_fraction_has(self, count: int, resolution: int) -> None:
        _, made, found = fraction(count, resolution=resolution)
        assert made[0].name == "baseline"
        assert len({variant.name for variant in made}) == len(made)
        names = [name for contrast in found for name in (contrast.name, *contrast.aliases)]
        assert (
            sorted(names)
            == sorted(  # every effect stands in one place
                [f"{letter}=1" for letter in LETTERS[:count]]
                + [interaction(*pair) for pair in itertools.combinations(LETTERS[:count], 2)]
            )
        )
        for contrast in found:
            weights = np.array([contrast.weights[variant.name] for variant in made])
            assert abs(weights.sum()) < 1e-12
            assert weights[weights > 0].sum() == pytest.approx(1 if contrast.primary else 2)
            assert resolution == 3 or not (contrast.primary and contrast.aliases)
            assert resolution < 5 or not contrast.aliases
        rows = np.array([[contrast.weights[variant.name] for variant in made] for contrast in found])
        gram = rows @ rows.T
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)  # no contrast with another
