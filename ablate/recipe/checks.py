"""Rules that need more than one field: what cannot work together is found before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ablate.recipe.load import Location
from ablate.recipe.problems import Problem
from ablate.recipe.schema import Phase, RecipeFields
from ablate.recipe.study_checks import study_problems
from ablate.recipe.technique_checks import phase_name_problems, table_problems


def recipe_problems(recipe: RecipeFields) -> list[Problem]:
    """Everything that is wrong with a recipe whose fields are right one by one."""
    problems = [*_phases(recipe), *study_problems(recipe), *_without_validation(recipe)]
    return problems or [*phase_name_problems(recipe), *table_problems(recipe)]


def phase_problems(recipe: RecipeFields, phases: list[Phase], variant: str) -> list[Problem]:
    """What is wrong with a variant's phases after its techniques have edited them."""
    problems: list[Problem] = []
    where = "" if variant == "baseline" else f" in {variant}"
    for name, count in Counter(phase.name for phase in phases).items():
        if count > 1:
            problems.append(Problem(("phases",), f"has two phases named {name!r}{where}; names must differ."))
    for phase in phases:
        location, who = _phase_location(recipe, phase)
        size, presize, batch_size = phase.size or 0, phase.presize or 0, phase.batch_size or 0
        if size > presize:
            problems.append(
                Problem(
                    location,
                    f"{who}has size {size} above presize {presize}{where}; images are presized first, so set "
                    f"presize to {size} or more.",
                )
            )
        if phase.micro_batch and phase.micro_batch > batch_size:
            problems.append(
                Problem(
                    location,
                    f"{who}has micro_batch {phase.micro_batch} above batch_size {batch_size}{where}; a micro "
                    "batch is a part of a batch.",
                )
            )
        if batch_size % recipe.devices:
            problems.append(_shares(recipe, phase, batch_size, where))
    if phases[-1].size != recipe.size:
        last = phases[-1]
        problems.append(
            Problem(
                ("size",),
                f"is {recipe.size}, but the last phase, {last.name}, trains at {last.size}{where}; images "
                f"are predicted at size, so write size: {last.size}, or train {last.name} at {recipe.size}.",
            )
        )
    return problems


def device_problems(recipe: RecipeFields, device: str) -> list[Problem]:
    """What is wrong with a recipe on the device that it is planned for."""
    if recipe.devices == 1 or device in ("cpu", "cuda"):
        return []
    why = {
        "xla": "a stage uses all TPU cores of its machine by itself",
        "mps": "a Mac has one GPU",
    }
    return [
        Problem(("devices",), f"is {recipe.devices}, which is for --device cuda: {why[device]}; write 1.")
    ]


def _shares(recipe: RecipeFields, phase: Phase, batch_size: int, where: str) -> Problem:
    """A batch that its devices cannot share equally."""
    lower = batch_size - batch_size % recipe.devices
    sizes = [str(size) for size in (lower, lower + recipe.devices) if size]
    return Problem(
        ("devices",),
        f"is {recipe.devices}, and the batches of {batch_size} images in phase {phase.name}{where} do not "
        f"divide by it; set batch_size to {' or '.join(sizes)}.",
    )


def _phase_location(recipe: RecipeFields, phase: Phase) -> tuple[Location, str]:
    """Where a variant's phase was written, and its name where the place does not tell it."""
    number = next((i for i, own in enumerate(recipe.phases) if own.name == phase.name), None)
    plain = None if number is None else recipe.phases[number].size or recipe.size
    if phase.size != plain:
        for name, options in recipe.techniques.items():
            if isinstance(options.get(phase.name), dict):
                return ("techniques", name, phase.name), ""
    return (("phases",), f"{phase.name} ") if number is None else (("phases", number), "")


def _phases(recipe: RecipeFields) -> Iterator[Problem]:
    counts = Counter(phase.name for phase in recipe.phases)
    for i, phase in enumerate(recipe.phases):
        if counts[phase.name] > 1:
            yield Problem(("phases", i, "name"), f"is {phase.name!r} in two phases; names must differ.")
        if isinstance(phase.lr, list) and phase.lr[0] > phase.lr[1]:
            yield Problem(("phases", i, "lr"), "gives the higher rate first; write [lowest, highest].")
        if isinstance(phase.lr, list) and phase.lr_spread != 1:
            yield Problem(
                ("phases", i, "lr_spread"), "is for a single rate; lr gives the lowest and the highest."
            )


def _without_validation(recipe: RecipeFields) -> Iterator[Problem]:
    """What needs validation images, where there are none."""
    if not recipe.data.split.none:
        return
    if recipe.study.vary or recipe.study.variations:
        yield Problem(
            ("data", "split", "none"),
            "leaves no validation images to compare variants on; hold some out, as in split: {random: 0.1}, "
            "or drop study.vary and study.design.",
        )
    if recipe.keep == "best" and recipe.keep_by != "train_loss":
        yield Problem(
            ("keep",),
            f"best goes by the validation {recipe.keep_by}, and data.split: {{none: true}} leaves no "
            "validation images; write keep_by: train_loss, or keep: last.",
        )
