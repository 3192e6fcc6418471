"""From factors and a design to variants and contrasts: which settings are compared with which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ablate.analysis.contrasts import Contrast
from ablate.recipe.study_schema import Fraction, Study, Variation
from ablate.study.factorial import (
    chosen_fraction,
    factorial,
    factorial_contrasts,
    fractional,
    fractional_contrasts,
)
from ablate.study.factors import OFF, ON, Factor, Level, Variant, factors, make_variant, references
from ablate.study.fractional import roman

__all__ = ["OFF", "ON", "Factor", "Level", "Variant", "contrasts", "factors", "phrase", "resolve", "variants"]


def variants(study: Study, found: Sequence[Factor]) -> list[Variant]:
    """All variants of a design, the reference first wherever the design has it."""
    if isinstance(study.design, list):
        given = study.variations
        changed = list(dict.fromkeys(name for one in given for name in [*one.on, *one.off]))
        return [_explicit(study, one, changed) for one in [Variation(name="baseline"), *given]]
    if study.design == "fractional":
        return fractional(found, chosen_fraction(study, len(found)))
    return {
        "one_at_a_time": _one_at_a_time,
        "leave_one_out": _leave_one_out,
        "cumulative": _cumulative,
        "factorial": factorial,
    }[study.design](found)


def contrasts(study: Study, found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    """What the design compares, each as weights over variants."""
    if isinstance(study.design, list):
        return [_pair(v.name, ON, v.name, "baseline") for v in made[1:]]
    return {
        "one_at_a_time": _one_at_a_time_contrasts,
        "leave_one_out": _leave_one_out_contrasts,
        "cumulative": _cumulative_contrasts,
        "factorial": factorial_contrasts,
        "fractional": fractional_contrasts,
    }[study.design](found, made)


def phrase(study: Study, found: Sequence[Factor]) -> str:
    """The design in a few words: `one at a time`, `fractional: 8 of 32 variants, resolution IV`."""
    if isinstance(study.design, list):
        return "a list of variants"
    if study.design not in ("factorial", "fractional"):
        return study.design.replace("_", " ")
    number = math.prod(len(factor.levels) for factor in found)
    full = f"full factorial: {number} variants"
    if study.design == "factorial":
        return full
    chosen = chosen_fraction(study, len(found))
    if chosen.resolution:
        return f"fractional: {chosen.runs} of {number} variants, resolution {roman(chosen.resolution)}"
    if study.fraction and study.fraction.variants:
        return f"{full}, as there is room for all"
    asked = study.fraction.resolution if study.fraction else Fraction().resolution
    return f"{full}, as so few factors have no fraction of resolution {roman(asked)}"


def _pair(factor: str, level: str, one: str, other: str) -> Contrast:
    return Contrast(factor, level, f"{one} − {other}", {one: 1.0, other: -1.0})


def _one_at_a_time(found: Sequence[Factor]) -> list[Variant]:
    reference = references(found)
    changed = [reference | {factor.name: level} for factor in found for level in factor.levels[1:]]
    return [make_variant(levels, found) for levels in [reference, *changed]]


def _one_at_a_time_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    pairs = [(factor, level) for factor in found for level in factor.levels[1:]]
    return [
        _pair(factor.name, level.label, variant.name, made[0].name)
        for (factor, level), variant in zip(pairs, made[1:], strict=True)
    ]


def _out(factor: Factor) -> Level:
    """The level that a factor has where it is left out: off, or else the reference."""
    return next((level for level in factor.levels if level.label == OFF), factor.reference)


def _in(factor: Factor) -> list[Level]:
    """The other levels; the last of them is that of the full variant."""
    return [level for level in factor.levels if level is not _out(factor)]


def _leave_one_out(found: Sequence[Factor]) -> list[Variant]:
    full = {factor.name: _in(factor)[-1] for factor in found}
    made = [Variant("full", full)]
    for f in found:
        made.append(Variant(f"full-{f.name}", full | {f.name: _out(f)}))
        made += [Variant(f"full+{f.name}={level.label}", full | {f.name: level}) for level in _in(f)[:-1]]
    return made


def _leave_one_out_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    """Every level against the factor left out, so that positive means it helps."""
    return [
        _pair(
            f.name,
            level.label,
            "full" if level is _in(f)[-1] else f"full+{f.name}={level.label}",
            f"full-{f.name}",
        )
        for f in found
        for level in _in(f)
    ]


def _cumulative(found: Sequence[Factor]) -> list[Variant]:
    """A step for every level; the next factor's steps stand on the last level of the one before."""
    levels = references(found)
    steps = [levels]
    for factor in found:
        own = [levels | {factor.name: level} for level in factor.levels[1:]]
        steps += own
        levels = own[-1]
    return [make_variant(step, found) for step in steps]


def _cumulative_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    pairs, before, steps = [], made[0], iter(made[1:])
    for factor in found:
        after = before
        for level in factor.levels[1:]:
            after = next(steps)
            pairs.append(_pair(factor.name, level.label, after.name, before.name))
        before = after
    return pairs


def _explicit(study: Study, given: Variation, changed: Sequence[str]) -> Variant:
    """A variant of an explicit design, with a level for every technique that any of its variants changes."""
    on = [name for name in [*study.baseline, *given.on] if name not in given.off]
    levels = {name: Level(ON, on={name: {}}) if name in on else Level(OFF, off=(name,)) for name in changed}
    levels |= {name: Level(str(value), set={name: value}) for name, value in given.set.items()}
    return Variant(given.full_name, levels)


def resolve(study: Study, variant: Variant) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a variant means for the recipe.

    Returns:
        The recipe fields that it sets, by dotted name, and the techniques that are on, each with the options
        that the variant gives it beside those of the recipe.
    """
    fields: dict[str, Any] = {}
    on: dict[str, dict[str, Any]] = {name: {} for name in study.baseline}
    for level in variant.levels.values():
        fields |= level.set
        for name in level.off:
            on.pop(name, None)
        on |= level.on
    return fields, on
