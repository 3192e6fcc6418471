"""From factors and a design to variants and contrasts: which settings are compared with which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.contrasts import Contrast
from ablate.recipe.schema import Study, Variation

OFF, ON = "off", "on"


@dataclass(frozen=True)
class Level:
    """One setting of a factor: techniques to turn on (with options) or off, fields to set."""

    label: str
    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Factor:
    """What the study varies; the first level is the reference."""

    name: str
    levels: tuple[Level, ...]

    @property
    def reference(self) -> Level:
        return self.levels[0]


@dataclass(frozen=True)
class Variant:
    """One setting of all factors."""

    name: str
    levels: dict[str, Level]
    """By factor."""


def factors(study: Study, techniques: Sequence[str]) -> list[Factor]:
    """The factors of a study, in the order that it names them.

    Args:
        study: The recipe's study.
        techniques: The names of all techniques, to tell them from recipe fields.
    """
    found = []
    for given in study.vary:
        if isinstance(given, str):
            found.append(_toggle(given, given in study.baseline))
        else:
            found += [_listed(name, levels, study, techniques) for name, levels in given.items()]
    return found


def _toggle(technique: str, in_baseline: bool) -> Factor:
    on, off = Level(ON, on={technique: {}}), Level(OFF, off=(technique,))
    return Factor(technique, (on, off) if in_baseline else (off, on))


def _listed(name: str, levels: list[Any], study: Study, techniques: Sequence[str]) -> Factor:
    if name not in techniques:
        return Factor(name, tuple(Level(str(value), set={name: value}) for value in levels))
    made = []
    for value in levels:
        if value == OFF:
            made.append(Level(OFF, off=(name,)))
        elif value == ON:
            made.append(Level(ON, on={name: {}}))
        else:
            label = ",".join(f"{key}={option}" for key, option in value.items())
            made.append(Level(label, on={name: dict(value)}))
    return Factor(name, tuple(made))


def variants(study: Study, found: Sequence[Factor]) -> list[Variant]:
    """All variants of a design, the reference first wherever the design has it."""
    if isinstance(study.design, list):
        given = study.variations
        changed = list(dict.fromkeys(name for one in given for name in [*one.on, *one.off]))
        return [_explicit(study, one, changed) for one in [Variation(name="baseline"), *given]]
    return {
        "one_at_a_time": _one_at_a_time,
        "leave_one_out": _leave_one_out,
        "cumulative": _cumulative,
        "factorial": _factorial,
    }[study.design](found)


def contrasts(study: Study, found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    """What the design compares, each as weights over variants."""
    if isinstance(study.design, list):
        return [_pair(v.name, ON, v.name, "baseline") for v in made[1:]]
    return {
        "one_at_a_time": _one_at_a_time_contrasts,
        "leave_one_out": _leave_one_out_contrasts,
        "cumulative": _cumulative_contrasts,
        "factorial": _factorial_contrasts,
    }[study.design](found, made)


def _named(root: str, levels: dict[str, Level], found: Sequence[Factor]) -> str:
    """`baseline+mixup`, `baseline-augment`, `baseline+model.arch=resnet34`."""
    name = root
    for factor in found:
        level = levels.get(factor.name, factor.reference)
        if level is factor.reference:
            continue
        if level.label == OFF:
            name += f"-{factor.name}"
        else:
            name += f"+{factor.name}" + ("" if level.label == ON else f"={level.label}")
    return name


def _variant(levels: dict[str, Level], found: Sequence[Factor]) -> Variant:
    return Variant(_named("baseline", levels, found), levels)


def _references(found: Sequence[Factor]) -> dict[str, Level]:
    return {factor.name: factor.reference for factor in found}


def _pair(factor: str, level: str, one: str, other: str) -> Contrast:
    return Contrast(factor, level, f"{one} − {other}", {one: 1.0, other: -1.0})


def _one_at_a_time(found: Sequence[Factor]) -> list[Variant]:
    reference = _references(found)
    changed = [reference | {factor.name: level} for factor in found for level in factor.levels[1:]]
    return [_variant(levels, found) for levels in [reference, *changed]]


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
    levels = _references(found)
    steps = [levels]
    for factor in found:
        own = [levels | {factor.name: level} for level in factor.levels[1:]]
        steps += own
        levels = own[-1]
    return [_variant(step, found) for step in steps]


def _cumulative_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
    pairs, before, steps = [], made[0], iter(made[1:])
    for factor in found:
        after = before
        for level in factor.levels[1:]:
            after = next(steps)
            pairs.append(_pair(factor.name, level.label, after.name, before.name))
        before = after
    return pairs


def _factorial(found: Sequence[Factor]) -> list[Variant]:
    combinations = itertools.product(*(factor.levels for factor in found))
    names = [factor.name for factor in found]
    return [_variant(dict(zip(names, levels, strict=True)), found) for levels in combinations]


def _factorial_contrasts(found: Sequence[Factor], made: Sequence[Variant]) -> list[Contrast]:
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
