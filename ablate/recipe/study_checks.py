"""What is wrong with a study: factors and variants that cannot be compared, or are not what they seem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablate import techniques
from ablate.analysis.names import is_metric, known_metrics
from ablate.recipe.load import Location
from ablate.recipe.problems import Problem, shown, suggestion
from ablate.recipe.schema import RecipeFields
from ablate.recipe.study_schema import Study, Variation
from ablate.recipe.technique_checks import option_problems
from ablate.study.factorial import chosen_fraction

_MEASURED = ("data", "study", "name")
_OF_STUDY = ("deterministic", "technique_files")
NOT_VARIED = (*_MEASURED, *_OF_STUDY)
"""The recipe fields that a factor cannot be."""
_MOST_VARIANTS = 10_000


def study_problems(recipe: RecipeFields) -> Iterator[Problem]:
    """Everything that is wrong with a recipe's study whose fields are right one by one."""
    yield from _study(recipe)
    yield from _named_techniques(recipe)


def _study(recipe: RecipeFields) -> Iterator[Problem]:
    study = recipe.study
    metrics: list[tuple[Location, str]] = [(("study", "metric"), study.metric)]
    metrics += [(("study", "metrics", i), name) for i, name in enumerate(study.metrics)]
    for location, name in metrics:
        if not is_metric(name):
            yield Problem(location, f"{name!r} is no metric{suggestion(name, known_metrics())}")
    for name, values in (
        ("metrics", study.metrics),
        ("seeds", study.seed_list),
        ("folds", study.folds or []),
        ("baseline", study.baseline),
    ):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            yield Problem(("study", name), f"names {twice[0]} twice.")
    if study.folds is not None:
        count = recipe.data.split.folds
        if count is None:
            yield Problem(("study", "folds"), "needs data.split.folds, the number of folds to split into.")
        for i, fold in enumerate(study.folds):
            if count is not None and not 0 <= fold < count:
                yield Problem(("study", "folds", i), f"{fold} is no fold; there are 0 to {count - 1}.")
    if isinstance(study.design, list):
        if study.vary:
            yield Problem(("study", "vary"), "has no meaning beside an explicit design; drop one of the two.")
        yield from _explicit_variants(study.variations, study.baseline)
    elif not study.vary and study.design != "one_at_a_time":
        yield Problem(("study", "design"), f"{study.design} needs factors; name them in study.vary.")
    elif study.design == "factorial":
        levels = [_count(levels) for _, _, levels in _varied(study)]
        if (variants := math.prod(levels)) > _MOST_VARIANTS:
            yield Problem(
                ("study", "design"),
                f"factorial makes {variants} variants of these {len(levels)} factors, above the limit of "
                f"{_MOST_VARIANTS}; vary fewer, or take fractional or one_at_a_time.",
            )
    elif study.design == "fractional":
        yield from _fraction(study)
    if study.fraction and study.design != "fractional":
        yield Problem(("study", "fraction"), "belongs to design: fractional alone; drop one of the two.")


def _fraction(study: Study) -> Iterator[Problem]:
    """Factors and sizes that no fractional design has."""
    varied, asked = list(_varied(study)), study.fraction
    for location, name, levels in varied:
        if _count(levels) > 2:
            yield Problem(
                location,
                f"gives {name} {_count(levels)} levels, but in a fractional design each factor has two; keep "
                "two of them, or take design: factorial.",
            )
    try:
        chosen_fraction(study, len(varied))
    except ValueError as error:
        which = "variants" if asked and asked.variants else "resolution"
        yield Problem(("study", "fraction", which) if asked else ("study", "design"), str(error))


def _varied(study: Study) -> Iterator[tuple[Location, str, list[Any] | None]]:
    """Every factor: where it is written, its name, its levels (None for a technique that is named alone)."""
    for i, given in enumerate(study.vary):
        if isinstance(given, str):
            yield ("study", "vary", i), given, None
        else:
            yield from ((("study", "vary", i, name), name, levels) for name, levels in given.items())


def _count(levels: list[Any] | None) -> int:
    return 2 if levels is None else len(levels)


def _explicit_variants(given: list[Variation], baseline: list[str]) -> Iterator[Problem]:
    """Variants of an explicit design that are not what they seem."""
    names = {"baseline"}
    if not given:
        yield Problem(
            ("study", "design"), "is an empty list; name variants, such as [[mixup], [mixup, cutmix]]."
        )
    for i, variation in enumerate(given):
        location: Location = ("study", "design", i)
        name = variation.full_name
        if not (variation.on or variation.off or variation.set):
            yield Problem(location, "changes nothing; the baseline is there by itself, so drop it.")
        elif name in names:
            yield Problem(location, f"is a second variant named {name}; give it another name, or drop it.")
        names.add(name)
        for technique in variation.off:
            if technique in variation.on:
                yield Problem(location, f"has {technique} both on and off.")
            elif technique not in baseline:
                yield Problem(location, f"turns {technique} off, but the baseline does not have it on.")
        for technique in variation.on:
            if technique in baseline:
                yield Problem(location, f"turns {technique} on, but the baseline has it on already.")


def _named_techniques(recipe: RecipeFields) -> Iterator[Problem]:
    """Names in baseline, vary and design that are neither techniques nor fields."""
    sources, study = recipe.technique_sources, recipe.study
    known = techniques.known(sources)
    for i, name in enumerate(study.baseline):
        if name not in known:
            yield Problem(("study", "baseline", i), f"{name!r} is no technique{suggestion(name, known)}")
    seen: set[str] = set()
    for location, name, levels in _varied(study):
        if name in seen:
            yield Problem(location, f"varies {name} a second time.")
        seen.add(name)
        if name in known:
            yield from _technique_levels(name, levels, location, name in study.baseline, sources)
        elif levels is None:
            yield Problem(location, _no_technique(name, known))
        else:
            yield from _field_factor(name, levels, location)
    for i, variation in enumerate(study.variations):
        location = ("study", "design", i)
        for name in [*variation.on, *variation.off]:
            if name not in known:
                yield Problem(location, _no_technique(name, known))
        for name in variation.set:
            yield from _field_name(name, location, f"sets {name}, which ")


def _no_technique(name: str, known: Iterable[str]) -> str:
    if name.split(".")[0] in RecipeFields.model_fields:
        return f"names the recipe field {name}; write its levels too, as in {{{name}: [reference, other]}}."
    return f"{name!r} is no technique{suggestion(name, known)}"


def _technique_levels(
    name: str, levels: list[Any] | None, location: Location, on: bool, sources: Mapping[str, str]
) -> Iterator[Problem]:
    if levels is None:
        return
    if len(levels) < 2:
        yield Problem(location, "needs two levels or more, such as [off, {…}]; the first is the reference.")
    wrong = [
        (i, level)
        for i, level in enumerate(levels)
        if level not in ("on", "off") and not isinstance(level, dict)
    ]
    for i, level in wrong:
        yield Problem(
            (*location, i), f"is {shown(level)}, which is no level of a technique; write off, on or options."
        )
    if levels and not wrong and on == (levels[0] == "off"):
        yield Problem(
            location,
            f"starts with {shown(levels[0])}, but study.baseline has {name} {'on' if on else 'off'}; the "
            "first level is the reference, so the two must agree.",
        )
    for i, level in enumerate(levels):
        if isinstance(level, dict):
            yield from option_problems(name, level, (*location, i), sources)
        if level in levels[:i]:
            yield Problem((*location, i), f"is {shown(level)}, as another level is; levels must differ.")


def _field_factor(name: str, levels: list[Any], location: Location) -> Iterator[Problem]:
    yield from _field_name(name, location)
    if len(levels) < 2:
        yield Problem(location, "needs two levels or more; the first is the reference.")
    labels: set[str] = set()
    for i, level in enumerate(levels):
        if str(level) in labels:
            yield Problem((*location, i), f"is {shown(level)}, as another level is; levels must differ.")
        labels.add(str(level))


def _field_name(name: str, location: Location, start: str = "") -> Iterator[Problem]:
    """What is wrong with varying a recipe field at all."""
    root = name.split(".")[0]
    if root in _MEASURED:
        yield Problem(
            location,
            f"{start}would change what is measured (data, split, labels, metric), so the variants could not "
            "be compared; make it a study of its own.",
        )
    elif root in _OF_STUDY:
        yield Problem(location, f"{start}holds for a whole study; set it in the recipe.")
    elif root not in RecipeFields.model_fields:
        hint = suggestion(root, [*RecipeFields.model_fields, *techniques.registry()])
        yield Problem(location, f"{start}is neither a technique nor a recipe field{hint}")


def field_levels(
    study: Study, sources: Mapping[str, str] | None = None
) -> Iterator[tuple[Location, str, Any]]:
    """Every value that a study gives a recipe field: where it is written, the dotted name, the value.

    `sources` are the texts of the recipe's own techniques.
    """
    known = techniques.known(sources or {})
    for location, name, levels in _varied(study):
        if name not in known:
            for j, value in enumerate(levels or []):
                yield (*location, j), name, value
    for i, variation in enumerate(study.variations):
        for name, value in variation.set.items():
            yield ("study", "design", i, "set", name), name, value
