"""Rules that need more than one field of a recipe: what cannot work together is found here, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ablate import techniques
from ablate.analysis.names import METRIC_NAMES
from ablate.recipe.load import Document, Location
from ablate.recipe.problems import Problem, from_pydantic, suggestion
from ablate.recipe.schema import Phase, RecipeFields, Variation
from ablate.techniques import compose
from ablate.techniques.base import Technique

_MEASURED = ("data", "study", "name", "techniques")


def technique_problems(document: Document) -> list[Problem]:
    """Options that a technique does not have, or that have wrong types."""
    written = document.values.get("techniques")
    known = techniques.registry()
    problems: list[Problem] = []
    for name, options in written.items() if isinstance(written, dict) else ():
        location: Location = ("techniques", name)
        if name not in known:
            problems.append(Problem(location, f"is no technique{suggestion(name, known)}"))
        elif isinstance(options, dict):
            problems += _option_problems(name, options, location)
    return problems


def _option_problems(name: str, options: Any, location: Location) -> list[Problem]:
    try:
        techniques.build(name, options)
    except ValidationError as error:
        return from_pydantic(error, techniques.registry()[name], options, location)
    return []


def recipe_problems(recipe: RecipeFields) -> list[Problem]:
    """Everything that is wrong with a recipe whose fields are right one by one."""
    problems = [*_phases(recipe), *_study(recipe), *_named_techniques(recipe)]
    return problems or list(_technique_phases(recipe))


def phase_problems(recipe: RecipeFields, phases: list[Phase], variant: str) -> list[Problem]:
    """What is wrong with a variant's phases after its techniques have edited them."""
    problems: list[Problem] = []
    where = "" if variant == "baseline" else f" (in {variant})"
    for name, count in Counter(phase.name for phase in phases).items():
        if count > 1:
            problems.append(Problem(("phases",), f"has two phases named {name!r}{where}; names must differ."))
    for phase in phases:
        number = next((i for i, own in enumerate(recipe.phases) if own.name == phase.name), None)
        location: Location = ("phases",) if number is None else ("phases", number)
        assert phase.size and phase.presize and phase.batch_size
        if phase.size > phase.presize:
            problems.append(
                Problem(
                    location,
                    f"{phase.name}: size {phase.size} is above presize {phase.presize}{where}; images are presized "
                    f"first, so set presize to {phase.size} or more.",
                )
            )
        if phase.micro_batch and phase.micro_batch > phase.batch_size:
            problems.append(
                Problem(location, f"{phase.name}: micro_batch {phase.micro_batch} is above batch_size.{where}")
            )
    if phases[-1].size != recipe.size:
        problems.append(
            Problem(
                ("size",),
                f"is {recipe.size}, but the last phase, {phases[-1].name}, trains at {phases[-1].size}{where}; "
                "prediction uses size, so the two must agree.",
            )
        )
    return problems


def _phases(recipe: RecipeFields) -> Iterator[Problem]:
    counts = Counter(phase.name for phase in recipe.phases)
    for i, phase in enumerate(recipe.phases):
        if counts[phase.name] > 1:
            yield Problem(("phases", i, "name"), f"{phase.name!r} is the name of two phases; names must differ.")
        if isinstance(phase.lr, list) and phase.lr[0] > phase.lr[1]:
            yield Problem(("phases", i, "lr"), "gives the higher rate first; write [lowest, highest].")


def _study(recipe: RecipeFields) -> Iterator[Problem]:
    study = recipe.study
    if study.metric not in METRIC_NAMES:
        yield Problem(("study", "metric"), f"{study.metric!r} is no metric{suggestion(study.metric, METRIC_NAMES)}")
    if len(set(study.seed_list)) < len(study.seed_list):
        yield Problem(("study", "seeds"), "names a seed twice.")
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
    elif not study.vary and study.design != "one_at_a_time":
        yield Problem(("study", "design"), f"{study.design} needs factors; name them in study.vary.")


def _named_techniques(recipe: RecipeFields) -> Iterator[Problem]:
    """Names in baseline, vary and design that are neither techniques nor fields."""
    known, study = techniques.registry(), recipe.study
    for i, name in enumerate(study.baseline):
        if name not in known:
            yield Problem(("study", "baseline", i), f"{name!r} is no technique{suggestion(name, known)}")
    seen: set[str] = set()
    for i, given in enumerate(study.vary):
        for name, levels in ({given: None} if isinstance(given, str) else given).items():
            location: Location = ("study", "vary", i) if isinstance(given, str) else ("study", "vary", i, name)
            if name in seen:
                yield Problem(location, f"{name} is varied twice.")
            seen.add(name)
            if name in known:
                yield from _technique_levels(name, levels, location, name in study.baseline)
            elif isinstance(given, str):
                yield Problem(location, f"{name!r} is no technique{suggestion(name, known)}")
            else:
                yield from _field_levels(name, levels, location)
    if isinstance(study.design, list):
        for i, given in enumerate(study.design):
            variation = given if isinstance(given, Variation) else Variation(on=given)
            for name in [*variation.on, *variation.off]:
                if name not in known:
                    yield Problem(("study", "design", i), f"{name!r} is no technique{suggestion(name, known)}")
            for name in variation.set:
                yield from _field_levels(name, [0, 1], ("study", "design", i))


def _technique_levels(name: str, levels: list[Any] | None, location: Location, on: bool) -> Iterator[Problem]:
    if levels is None:
        return
    if len(levels) < 2:
        yield Problem(location, "has one level; a factor needs two, such as [off, {…}].")
    if on == (levels[0] == "off"):
        yield Problem(location, f"starts with {levels[0]}, but the baseline has it {'on' if on else 'off'}.")
    for i, level in enumerate(levels):
        if isinstance(level, dict):
            yield from _option_problems(name, level, (*location, i))
        elif level not in ("on", "off"):
            yield Problem((*location, i), f"{level!r} is no level of a technique; write off, on or its options.")


def _field_levels(name: str, levels: list[Any] | None, location: Location) -> Iterator[Problem]:
    root = name.split(".")[0]
    if root in _MEASURED[:3]:
        yield Problem(
            location, "would change what is measured (data, split, labels, metric), so trials could not be compared."
        )
    elif root not in RecipeFields.model_fields:
        hint = suggestion(root, [*RecipeFields.model_fields, *techniques.registry()])
        yield Problem(location, f"is neither a technique nor a recipe field{hint}")
    if levels is not None and len(levels) < 2:
        yield Problem(location, "has one level; a factor needs two or more, the first is the reference.")
    elif levels is not None and any(level in levels[:i] for i, level in enumerate(levels)):
        yield Problem(location, "has the same level twice.")


def _technique_phases(recipe: RecipeFields) -> Iterator[Problem]:
    """Techniques that name a phase which neither the recipe nor another technique has."""
    built = [techniques.build(name, options) for name, options in recipe.techniques.items()]
    phases = {phase.name for phase in compose.edit_phases(_adding(built), recipe.phases)}
    for technique in built:
        for name in technique.phase_names():
            if name not in phases:
                yield Problem(
                    ("techniques", technique.name), f"names a phase {name!r} that there is not{suggestion(name, phases)}"
                )


def _adding(built: list[Technique]) -> list[Technique]:
    return [technique for technique in built if technique.overrides("edit_phases")]
