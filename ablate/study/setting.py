"""One variant worked out: what its recipe says, which techniques are on, what its phases are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablate import techniques
from ablate.errors import AblateError
from ablate.recipe.checks import phase_problems
from ablate.recipe.problems import suggestion
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Phase
from ablate.recipe.technique_checks import conflict_problems
from ablate.study import design
from ablate.techniques import compose
from ablate.techniques.base import Technique

_PHASE_DEFAULTS = ("batch_size", "size", "presize", "weight_decay", "precision", "micro_batch")


@dataclass(frozen=True)
class Setting:
    """One variant worked out: its recipe, the techniques that are on, its phases."""

    variant: design.Variant
    recipe: Recipe
    on: dict[str, Technique]
    phases: list[Phase]

    @property
    def salt(self) -> str:
        """What its techniques put into every random stream."""
        return "/".join(
            salt for technique in compose.ordered(self.on.values()) if (salt := technique.stream_salt())
        )

    def phase(self, name: str | None) -> Phase:
        """One of its phases; the last, where no name is given.

        Raises:
            AblateError: There is none of that name.
        """
        names = [own.name for own in self.phases]
        if name is not None and name not in names:
            raise AblateError(f"phase: there is no {name!r}{suggestion(name, names)}")
        return self.phases[names.index(name) if name else -1]

    def inactive(self, phase: str) -> frozenset[str]:
        """The techniques that are on and do nothing in a phase."""
        return frozenset(name for name, technique in self.on.items() if not technique.active_in(phase))


def switched_on(recipe: Recipe, names: Sequence[str]) -> Setting:
    """The baseline with some techniques on beside it.

    Raises:
        AblateError: There is no such technique.
    """
    known = techniques.known(recipe.technique_sources)
    for name in names:
        if name not in known:
            raise AblateError(f"on: {name!r} is no technique{suggestion(name, known)}")
    levels = {name: design.Level(design.ON, on={name: {}}) for name in names}
    return work_out(recipe, design.Variant("+".join(["baseline", *names]), levels))


def resolved_phases(recipe: Recipe, on: Iterable[Technique]) -> list[Phase]:
    """The phases of a variant with every setting filled in: recipe, then phase, then technique."""
    filled = []
    for phase in recipe.phases:
        missing = {name: getattr(recipe, name) for name in _PHASE_DEFAULTS if getattr(phase, name) is None}
        phase = phase.model_copy(update=missing)
        filled.append(phase.model_copy(update={"presize": phase.presize or phase.size}))
    return compose.edit_phases(on, filled)


def work_out(recipe: Recipe, variant: design.Variant) -> Setting:
    """Everything that a variant sets, checked.

    Raises:
        RecipeError: The variant's phases cannot work.
    """
    fields, on = design.resolve(recipe.study, variant)
    changed = recipe.override(fields)
    sources = recipe.technique_sources
    built = {
        name: techniques.build(name, changed.techniques.get(name, {}) | own, sources)
        for name, own in on.items()
    }
    phases = resolved_phases(changed, built.values())
    recipe.complain(phase_problems(changed, phases, variant.name))
    where = "" if variant.name == "baseline" else f" of {variant.name}"
    recipe.complain(list(conflict_problems(built, phases, where)))
    return Setting(variant, changed, built, phases)
