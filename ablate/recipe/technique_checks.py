"""What is wrong with the options of techniques, or with the phases that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ablate import techniques
from ablate.recipe.load import Document, Location
from ablate.recipe.problems import Problem, from_pydantic, suggestion
from ablate.recipe.schema import Phase, RecipeFields
from ablate.techniques import compose
from ablate.techniques.base import Technique


def technique_problems(document: Document) -> list[Problem]:
    """Options that a technique does not have, or that have wrong types."""
    written = document.values.get("techniques")
    sources = _sources(document)
    known = techniques.known(sources)
    problems: list[Problem] = []
    for name, options in written.items() if isinstance(written, dict) else ():
        location: Location = ("techniques", name)
        if name not in known:
            problems.append(Problem(location, f"is no technique{suggestion(name, known)}"))
        elif isinstance(options, dict):
            problems += option_problems(name, options, location, sources)
    return problems


def _sources(document: Document) -> dict[str, str]:
    """The texts of the recipe's own techniques, as far as they are as the schema wants them."""
    files = document.values.get("technique_files")
    written = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return {str(file.get("name")): file["source"] for file in written if isinstance(file.get("source"), str)}


def option_problems(name: str, options: Any, location: Location, sources: Mapping[str, str]) -> list[Problem]:
    """What is wrong with one technique's options, which stand at a location."""
    try:
        techniques.build(name, options, sources)
    except ValidationError as error:
        return from_pydantic(error, techniques.known(sources)[name], options, location)
    return []


def phase_name_problems(recipe: RecipeFields) -> Iterator[Problem]:
    """Techniques that name a phase which neither the recipe nor another technique has."""
    sources = recipe.technique_sources
    built = [techniques.build(name, options, sources) for name, options in recipe.techniques.items()]
    phases = [phase.name for phase in compose.edit_phases(_adding(built), recipe.phases)]
    for technique in built:
        for name in technique.phase_names():
            if name not in phases:
                location = _phase_option(technique.name, recipe.techniques[technique.name], name)
                yield Problem(
                    location, f"names a phase {name!r} that does not exist{suggestion(name, phases)}"
                )


def conflict_problems(on: Mapping[str, Technique], phases: Sequence[Phase], where: str) -> Iterator[Problem]:
    """Techniques of a variant that cannot work in one of its phases, or not together.

    One that does not train takes part in the last phase alone, whose network predicts.
    """
    for phase in phases:
        active = [
            technique
            for technique in on.values()
            if technique.active_in(phase.name) and (phase is phases[-1] or technique.trains_in(phase.name))
        ]
        conflict = compose.conflict(active)
        if conflict:
            yield Problem(("techniques",), f"in phase {phase.name}{where}: {conflict}")
            return
        for technique in active:
            complaint = technique.complaint(phase)
            if complaint:
                yield Problem(("techniques", technique.name), f"in phase {phase.name}{where}: {complaint}")
                return


def table_problems(recipe: RecipeFields) -> Iterator[Problem]:
    """Columns that no variant sees, and techniques that would see some where there are none."""
    study, known = recipe.study, techniques.known(recipe.technique_sources)
    varied = [name for given in study.vary for name in ([given] if isinstance(given, str) else given)]
    named = [*study.baseline, *varied, *(name for variant in study.variations for name in variant.on)]
    readers = [name for name in named if name in known and known[name].reads_table]
    if readers and not recipe.data.tabular:
        part = "baseline" if readers[0] in study.baseline else "vary" if readers[0] in varied else "design"
        yield Problem(("study", part), f"has {readers[0]}, which needs data.tabular: the columns to show.")
    if recipe.data.tabular and not readers and "study" in recipe.model_fields_set:
        yield Problem(("data", "tabular"), "is seen by no variant; put tabular into study.baseline or vary.")


def _phase_option(technique: str, options: dict[str, Any], phase: str) -> Location:
    """Where a technique's options name a phase."""
    if phase in options:
        return ("techniques", technique, phase)
    listed = options.get("phases")
    if isinstance(listed, list) and phase in listed:
        return ("techniques", technique, "phases", listed.index(phase))
    return ("techniques", technique)


def _adding(built: list[Technique]) -> list[Technique]:
    return [technique for technique in built if technique.overrides("edit_phases")]
