"""Designs that cross factors: all combinations of their levels, or a fraction of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from ablate.analysis.contrasts import Contrast
from ablate.recipe.study_schema import Fraction, Study
from ablate.study.factors import ON, Factor, Level, Variant, make_variant
from ablate.study.fractional import TwoLevelDesign, by_resolution, by_runs


def factorial(found: Sequence[Factor]) -> list[Variant]:
    """All combinations."""
    combinations = itertools.product(*(factor.levels for factor in found))
    names = [factor.name for factor in found]
    return [make_variant(dict(zip(names, levels, strict=True)), found) for levels in combinations]


def chosen_fraction(study: Study, factors: int) -> TwoLevelDesign:
    """The fraction that a study asks for. Raises ValueError, in words for the user, when there is none."""
    asked = study.fraction or Fraction()
    return by_runs(factors, asked.variants) if asked.variants else by_resolution(factors, asked.resolution)


def fractional(found: Sequence[Factor], chosen: TwoLevelDesign) -> list[Variant]:
    """The combinations of a fraction, of factors with two levels each; the reference is the first."""
    return [
        make_variant({f.name: f.levels[sign > 0] for f, sign in zip(found, signs, strict=True)}, found)
        for signs in chosen.signs()
    ]


def factorial_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    """Main effects (primary): a level against the reference, averaged over all settings of the other factors.

    Two-factor interactions (exploratory): how much the difference that one makes changes with the other.
    """
    mains = [
        Contrast(f.name, level.label, _title(f, level), weights)
        for f in found
        for level in f.levels[1:]
        if (weights := _product_weights({f.name: (level, f.reference)}, made))
    ]
    interactions = [
        Contrast(
            f"{a.name}:{b.name}", f"{x.label}:{y.label}", f"{_title(a, x)} × {_title(b, y)}", weights, False
        )
        for a, b in itertools.combinations(found, 2)
        for x in a.levels[1:]
        for y in b.levels[1:]
        if (weights := _product_weights({a.name: (x, a.reference), b.name: (y, b.reference)}, made))
    ]
    return mains + interactions


def _title(factor: Factor, level: Level) -> str:
    return factor.name if level.label == ON else f"{factor.name}={level.label}"


def _product_weights(
    differences: dict[str, tuple[Level, Level]], made: Sequence[Variant]
) -> dict[str, float]:
    signs = {}
    for variant in made:
        sign = 1.0
        for factor, (plus, minus) in differences.items():
            level = variant.levels[factor]
            sign *= 1.0 if level is plus else -1.0 if level is minus else 0.0
        if sign:
            signs[variant.name] = sign
    positive = sum(sign > 0 for sign in signs.values())
    # two differences: the difference of differences, not half of it
    scale = 2 ** (len(differences) - 1)
    return {name: sign * scale / positive for name, sign in signs.items()}


def fractional_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    """As of a factorial, once for all effects that the variants cannot tell apart.

    Such effects have the same weights, up to sign. The first names the contrast, main effects before
    interactions; the others are its `aliases`. Interactions of more than two factors are taken to be nil.
    """
    sets: dict[tuple[bool, ...], list[Contrast]] = {}
    for contrast in factorial_contrasts(found, made):
        plus = [contrast.weights[variant.name] > 0 for variant in made]
        sets.setdefault(tuple(sign == plus[0] for sign in plus), []).append(contrast)
    return [
        replace(first, aliases=tuple(alias.name for alias in aliases)) for first, *aliases in sets.values()
    ]
