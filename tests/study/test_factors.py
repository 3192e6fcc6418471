"""ablate.study.factors: what a study varies, and the levels of each factor."""

from __future__ import annotations

import pytest

from ablate import techniques
from ablate.recipe.study_schema import Study
from ablate.study.factors import Factor, factors, make_variant, references


def varied() -> list[Factor]:
    study = Study(
        baseline=["augment"],
        vary=["mixup", "augment", {"cutmix": ["off", {"alpha": 0.5}, {"alpha": 1}]}, {"size": [32, 48]}],
    )
    return factors(study, list(techniques.registry()))


def test_levels() -> None:
    found = varied()
    labels = {factor.name: [level.label for level in factor.levels] for factor in found}
    assert labels == {
        "mixup": ["off", "on"],
        "augment": ["on", "off"],
        "cutmix": ["off", "alpha=0.5", "alpha=1"],
        "size": ["32", "48"],
    }


def test_what_the_levels_do() -> None:
    mixup, augment, cutmix, size = varied()
    assert (mixup.levels[1].on, mixup.levels[0].off) == ({"mixup": {}}, ("mixup",))
    assert augment.levels[1].off == ("augment",)
    assert cutmix.levels[2].on == {"cutmix": {"alpha": 1}}
    assert [level.set for level in size.levels] == [{"size": 32}, {"size": 48}]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "baseline"),
        ({"augment": 1}, "baseline-augment"),
        ({"size": 1, "mixup": 1}, "baseline+mixup+size=48"),
        ({"cutmix": 2, "augment": 0}, "baseline+cutmix=alpha=1"),
    ],
)
def test_a_variant_is_named_by_what_differs_from_the_reference(changes: dict[str, int], name: str) -> None:
    found = varied()
    levels = {factor.name: factor.levels[changes.get(factor.name, 0)] for factor in found}
    assert make_variant(levels, found).name == name
    assert (levels == references(found)) == (name == "baseline")
