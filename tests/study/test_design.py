"""ablate.study.design: variants and contrasts, worked by hand and against effect coding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ablate import techniques
from ablate.analysis.contrasts import Contrast
from ablate.recipe.schema import Study
from ablate.study.design import Factor, Variant, contrasts, factors, resolve, variants

KNOWN = list(techniques.registry())


def designed(**study: Any) -> tuple[list[Factor], list[Variant], list[Contrast]]:
    made = Study.model_validate(study)
    found = factors(made, KNOWN)
    all_variants = variants(made, found)
    return found, all_variants, contrasts(made, found, all_variants)


def names(**study: Any) -> list[str]:
    return [variant.name for variant in designed(**study)[1]]


def pairs(**study: Any) -> list[tuple[str, str, str]]:
    """Each contrast as factor, level, name; checked to be one variant minus another."""
    found = designed(**study)[2]
    for contrast in found:
        assert sorted(contrast.weights.values()) == [-1, 1]
        one, other = sorted(contrast.weights, key=lambda name: -contrast.weights[name])
        assert contrast.name == f"{one} − {other}"
        assert contrast.primary
    return [(contrast.factor, contrast.level, contrast.name) for contrast in found]


SOME: dict[str, Any] = {
    "baseline": ["augment"],
    "vary": ["mixup", "augment", {"cutmix": ["off", {"alpha": 0.5}, {"alpha": 1}]}, {"size": [32, 48]}],
}


class TestFactors:
    def test_levels(self) -> None:
        found = designed(**SOME)[0]
        labels = {factor.name: [level.label for level in factor.levels] for factor in found}
        assert labels == {
            "mixup": ["off", "on"],
            "augment": ["on", "off"],
            "cutmix": ["off", "alpha=0.5", "alpha=1"],
            "size": ["32", "48"],
        }

    def test_what_the_levels_do(self) -> None:
        mixup, augment, cutmix, size = designed(**SOME)[0]
        assert (mixup.levels[1].on, mixup.levels[0].off) == ({"mixup": {}}, ("mixup",))
        assert augment.levels[1].off == ("augment",)
        assert cutmix.levels[2].on == {"cutmix": {"alpha": 1}}
        assert [level.set for level in size.levels] == [{"size": 32}, {"size": 48}]


class TestOneAtATime:
    def test_variants(self) -> None:
        assert names(**SOME) == [
            "baseline",
            "baseline+mixup",
            "baseline-augment",
            "baseline+cutmix=alpha=0.5",
            "baseline+cutmix=alpha=1",
            "baseline+size=48",
        ]

    def test_contrasts(self) -> None:
        assert pairs(**SOME) == [
            ("mixup", "on", "baseline+mixup − baseline"),
            ("augment", "off", "baseline-augment − baseline"),
            ("cutmix", "alpha=0.5", "baseline+cutmix=alpha=0.5 − baseline"),
            ("cutmix", "alpha=1", "baseline+cutmix=alpha=1 − baseline"),
            ("size", "48", "baseline+size=48 − baseline"),
        ]

    def test_without_factors(self) -> None:
        assert names() == ["baseline"]
        assert pairs() == []

    def test_resolved(self) -> None:
        study = Study.model_validate(SOME)
        made = {variant.name: resolve(study, variant) for variant in designed(**SOME)[1]}
        assert made["baseline"] == ({"size": 32}, {"augment": {}})
        assert made["baseline+mixup"][1] == {"augment": {}, "mixup": {}}
        assert made["baseline-augment"][1] == {}
        assert made["baseline+cutmix=alpha=1"][1] == {"augment": {}, "cutmix": {"alpha": 1}}
        assert made["baseline+size=48"] == ({"size": 48}, {"augment": {}})


class TestLeaveOneOut:
    def test_full_has_everything_and_each_variant_lacks_one(self) -> None:
        given = SOME | {"design": "leave_one_out"}
        study = Study.model_validate(given)
        made = {variant.name: resolve(study, variant) for variant in designed(**given)[1]}
        full = {"augment": {}, "mixup": {}, "cutmix": {"alpha": 1}}
        assert made == {
            "full": ({"size": 48}, full),
            "full-mixup": ({"size": 48}, {"augment": {}, "cutmix": {"alpha": 1}}),
            "full-augment": ({"size": 48}, {"mixup": {}, "cutmix": {"alpha": 1}}),
            "full-cutmix": ({"size": 48}, {"augment": {}, "mixup": {}}),
            "full+cutmix=alpha=0.5": ({"size": 48}, full | {"cutmix": {"alpha": 0.5}}),
            "full-size": ({"size": 32}, full),
        }

    def test_positive_means_it_helps(self) -> None:
        assert pairs(**SOME, design="leave_one_out") == [
            ("mixup", "on", "full − full-mixup"),
            ("augment", "on", "full − full-augment"),
            ("cutmix", "alpha=0.5", "full+cutmix=alpha=0.5 − full-cutmix"),
            ("cutmix", "alpha=1", "full − full-cutmix"),
            ("size", "48", "full − full-size"),
        ]


class TestCumulative:
    def test_each_step_stands_on_the_one_before(self) -> None:
        assert names(**SOME, design="cumulative") == [
            "baseline",
            "baseline+mixup",
            "baseline+mixup-augment",
            "baseline+mixup-augment+cutmix=alpha=0.5",
            "baseline+mixup-augment+cutmix=alpha=1",
            "baseline+mixup-augment+cutmix=alpha=1+size=48",
        ]

    def test_contrasts(self) -> None:
        two = "baseline+mixup-augment"
        assert pairs(**SOME, design="cumulative") == [
            ("mixup", "on", "baseline+mixup − baseline"),
            ("augment", "off", f"{two} − baseline+mixup"),
            ("cutmix", "alpha=0.5", f"{two}+cutmix=alpha=0.5 − {two}"),
            ("cutmix", "alpha=1", f"{two}+cutmix=alpha=1 − {two}"),
            ("size", "48", f"{two}+cutmix=alpha=1+size=48 − {two}+cutmix=alpha=1"),
        ]


LISTED: dict[str, Any] = {
    "baseline": ["augment"],
    "design": [["mixup", "tta"], {"off": ["augment"]}, {"name": "big", "set": {"size": 48}}],
}


class TestExplicit:
    def test_each_against_the_baseline(self) -> None:
        assert pairs(**LISTED) == [
            ("baseline+mixup+tta", "on", "baseline+mixup+tta − baseline"),
            ("baseline-augment", "on", "baseline-augment − baseline"),
            ("big", "on", "big − baseline"),
        ]

    def test_resolved(self) -> None:
        study = Study.model_validate(LISTED)
        made = {variant.name: resolve(study, variant) for variant in designed(**LISTED)[1]}
        assert made == {
            "baseline": ({}, {"augment": {}}),
            "baseline+mixup+tta": ({}, {"augment": {}, "mixup": {}, "tta": {}}),
            "baseline-augment": ({}, {}),
            "big": ({"size": 48}, {"augment": {}}),
        }

    def test_every_variant_tells_the_level_of_every_technique(self) -> None:
        made = {variant.name: variant.levels for variant in designed(**LISTED)[1]}
        labels = {
            name: {factor: level.label for factor, level in levels.items()} for name, levels in made.items()
        }
        assert labels["baseline"] == {"mixup": "off", "tta": "off", "augment": "on"}
        assert labels["baseline-augment"] == {"mixup": "off", "tta": "off", "augment": "off"}
        assert labels["big"] == {"mixup": "off", "tta": "off", "augment": "on", "size": "48"}


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


@pytest.mark.parametrize("design", ["one_at_a_time", "leave_one_out", "cumulative", "factorial"])
def test_every_design(design: str) -> None:
    _, made, found = designed(**SOME, design=design)
    assert len({variant.name for variant in made}) == len(made)
    settings = [tuple(level.label for level in variant.levels.values()) for variant in made]
    assert len(set(settings)) == len(made)
    for contrast in found:
        assert abs(sum(contrast.weights.values())) < 1e-12
        assert sum(weight for weight in contrast.weights.values() if weight > 0) in (1, 2)
        assert set(contrast.weights) <= {variant.name for variant in made}
    primary = [(contrast.factor, contrast.level) for contrast in found if contrast.primary]
    assert len(set(primary)) == len(primary) == 5  # k levels, k − 1 contrasts
