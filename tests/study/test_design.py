"""ablate.study.design: variants and contrasts, worked by hand and against effect coding."""

from __future__ import annotations

from typing import Any

import pytest

from ablate import techniques
from ablate.analysis.contrasts import Contrast
from ablate.recipe.study_schema import Study
from ablate.study.design import Factor, Variant, contrasts, factors, phrase, resolve, variants

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


class TestPhrase:
    @pytest.mark.parametrize(
        ("study", "words"),
        [
            ({}, "one at a time"),
            ({"design": "leave_one_out"}, "leave one out"),
            ({"design": "cumulative"}, "cumulative"),
            ({"design": "factorial"}, "full factorial: 32 variants"),
            ({"design": "fractional"}, "fractional: 16 of 32 variants, resolution V"),
            (
                {"design": "fractional", "fraction": {"resolution": 3}},
                "fractional: 8 of 32 variants, resolution III",
            ),
            (
                {"design": "fractional", "fraction": {"variants": 31}},
                "fractional: 16 of 32 variants, resolution V",
            ),
            (
                {"design": "fractional", "fraction": {"variants": 40}},
                "full factorial: 32 variants, as there is room for all",
            ),
            (
                {"design": "fractional", "vary": ["mixup", "tta"]},
                "full factorial: 4 variants, as so few factors have no fraction of resolution IV",
            ),
            (
                {"design": "fractional", "fraction": {"resolution": 6}},
                "full factorial: 32 variants, as so few factors have no fraction of resolution VI",
            ),
        ],
    )
    def test_words(self, study: dict[str, Any], words: str) -> None:
        five = ["mixup", "cutmix", "tta", "label_smoothing", {"size": [32, 48]}]
        made = Study.model_validate({"vary": five} | study)
        assert phrase(made, factors(made, KNOWN)) == words

    def test_a_list(self) -> None:
        made = Study.model_validate(LISTED)
        assert phrase(made, factors(made, KNOWN)) == "a list of variants"


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
