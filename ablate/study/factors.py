"""Factors, their levels, and variants: a level of every factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.recipe.study_schema import Study

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
            label = ",".join(f"{key}={option}" for key, option in value.items()) or ON
            made.append(Level(label, on={name: dict(value)}))
    return Factor(name, tuple(made))


def references(found: Sequence[Factor]) -> dict[str, Level]:
    """The reference level of every factor."""
    return {factor.name: factor.reference for factor in found}


def _named(levels: dict[str, Level], found: Sequence[Factor]) -> str:
    """`baseline+mixup`, `baseline-augment`, `baseline+model.arch=resnet34`."""
    name = "baseline"
    for factor in found:
        level = levels.get(factor.name, factor.reference)
        if level is factor.reference:
            continue
        if level.label == OFF:
            name += f"-{factor.name}"
        else:
            name += f"+{factor.name}" + ("" if level.label == ON else f"={level.label}")
    return name


def make_variant(levels: dict[str, Level], found: Sequence[Factor]) -> Variant:
    """A variant under the name that its levels give it."""
    return Variant(_named(levels, found), levels)
