"""`Recipe`: a validated recipe, and the notebook's way from it to fastai objects and studies."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import PrivateAttr, ValidationError

from ablate.errors import Place, RecipeError
from ablate.recipe.checks import recipe_problems
from ablate.recipe.load import Document, read_document, set_value
from ablate.recipe.problems import Problem, from_pydantic, raise_problems
from ablate.recipe.schema import RecipeFields
from ablate.recipe.study_checks import field_levels
from ablate.recipe.technique_checks import technique_problems
from ablate.recipe.technique_files import read_technique_files, with_technique

if TYPE_CHECKING:
    from fastai.data.block import DataBlock
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    from ablate.study.planned import Planned
    from ablate.study.study import Study
    from ablate.techniques import Technique
    from ablate.training.parts import Parts


class Recipe(RecipeFields):
    """A recipe: data, model, phases, techniques and study, all checked."""

    _document: Document = PrivateAttr(default_factory=lambda: Document({}))

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a recipe file.

        Args:
            path: The YAML file.
            overrides: Values by dotted name, as `--set` takes them: `{"model.arch": "resnet34"}`.

        Raises:
            RecipeError: Something is wrong; every problem is told with file, line and a suggestion.
        """
        return cls.from_document(read_document(path, overrides))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Self:
        """A recipe from plain values, as they would stand in the YAML."""
        document = Document(copy.deepcopy(dict(values)))
        for name, value in (overrides or {}).items():
            set_value(document, name, value)
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Check a recipe that has been read, and keep where each value stands for later errors."""
        raise_problems(read_technique_files(document), document)
        problems = technique_problems(document)
        try:
            recipe = cls.model_validate(document.values)
        except ValidationError as error:
            raise_problems([*from_pydantic(error, cls, document.values), *problems], document)
            raise
        raise_problems(problems or recipe_problems(recipe), document)
        recipe._document = document
        recipe._check_levels()
        return recipe

    def _check_levels(self) -> None:
        """Try every value that the study gives a recipe field, one at a time."""
        wrong: list[str] = []
        for location, name, value in field_levels(self.study, self.technique_sources):
            try:
                self.override({name: value}, self._document.place(location))
            except RecipeError as error:
                wrong.append(str(error))
        if wrong:
            raise RecipeError("\n".join(dict.fromkeys(wrong)))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, as `from_dict` takes them; what was not set is left out."""
        return copy.deepcopy(self._document.values)

    def override(self, fields: Mapping[str, Any], origin: Place | None = None) -> Self:
        """The recipe with some fields changed, by dotted name.

        Args:
            fields: The new values.
            origin: Where they were written; errors name it.

        Raises:
            RecipeError: A name or value is wrong.
        """
        if not fields:
            return self
        values, roots = self._document.values, {name.split(".")[0] for name in fields}
        # a study may have thousands of variants, each a recipe: what they have in common is not checked anew
        checked = {} if roots & {"study", "data"} else {"study": self.study}
        own = self._but_study if checked else self._document
        changed = Document(dict(own.values), dict(own.places))
        for name, value in fields.items():
            set_value(changed, name, copy.deepcopy(value), origin or Place(f"{name}={value}"))
        recipe = type(self).from_document(changed)
        if not checked:
            return recipe
        changed.values |= {name: values[name] for name in checked if name in values}
        again = recipe.model_copy(update=checked)
        again._document = changed
        return again

    def with_technique(self, technique: Technique | type[Technique], vary: bool = True) -> Self:
        """The recipe with a technique more, which may be written in a notebook's cell, a script or a module.

        The source of a technique that is not installed becomes part of the recipe, with all that it uses from
        where it was written, and is saved with the study; another source gives other results, under other
        keys. A technique of the same name is replaced.

        Args:
            technique: With the options that it has when it is on; or its class, for the defaults.
            vary: Whether the study compares it: among `study.vary`, or as a variant of an explicit design.

        Raises:
            AblateError: It is no technique, its name is taken, or something that it uses cannot be written
                into a file.
        """
        return type(self).from_document(with_technique(self._document, technique, vary))

    @cached_property
    def _but_study(self) -> Document:
        """The document without the study, which may be long."""
        values = {name: value for name, value in self._document.values.items() if name != "study"}
        places = {at: place for at, place in self._document.places.items() if at[:1] != ("study",)}
        return Document(values, places)

    def complain(self, problems: Sequence[Problem]) -> None:
        """Raise a `RecipeError` that places problems found later, by the planner, in the recipe's file."""
        raise_problems(problems, self._document)

    def datablock(self, phase: str | None = None, on: Sequence[str] | None = None) -> DataBlock:
        """The plain fastai DataBlock of a phase (default: the last), over `ablate.data.items.Item`s."""
        from ablate.training.data import datablock

        return datablock(self.parts(phase, on))

    def dataloaders(
        self, phase: str | None = None, on: Sequence[str] | None = None, seed: int = 0
    ) -> DataLoaders:
        """Plain fastai DataLoaders of a phase (default: the last).

        Args:
            phase: The phase's name.
            on: Techniques that are on beside the baseline's.
            seed: Gives the order and the augmentation.
        """
        from ablate.training.data import dataloaders

        return dataloaders(self.parts(phase, on, seed))

    def learner(
        self, on: Sequence[str] = (), phase: str | None = None, seed: int = 0, fold: int = 0
    ) -> Learner:
        """A plain fastai Learner with initial weights: `lr_find`, `fit_one_cycle`, `show_results` …

        Args:
            on: Techniques that are on beside the baseline's.
            phase: The phase whose sizes, freezing and techniques it has; default the last.
            seed: Gives the initial weights, the order and the augmentation.
            fold: Which fold of a cross-validation.
        """
        from ablate.training.data import dataloaders
        from ablate.training.learner import build_learner

        parts = self.parts(phase, on, seed, fold)
        return build_learner(parts, dataloaders(parts))

    def parts(
        self, phase: str | None = None, on: Sequence[str] | None = None, seed: int = 0, fold: int = 0
    ) -> Parts:
        """What a phase is made of; see `ablate.training.parts.Parts`."""
        from ablate.training.notebook import recipe_parts

        return recipe_parts(self, phase, on or (), seed, fold)

    def plan(self, out: str | Path | None = None, **options: Any) -> Planned:
        """What `run` would do, without running anything; options as of `ablate.study.planning.plan_study`."""
        from ablate.study.planned import Planned
        from ablate.study.planning import plan_study

        return Planned(*plan_study(self, out, **options))

    def run(self, out: str | Path | None = None, **options: Any) -> Study:
        """Run the study, or what is left of it; options as of `ablate.study.execute.run_study`.

        `until_decided=True`, with `max_seeds`, adds seeds where a verdict is open.
        """
        from ablate.study.execute import run_study

        return run_study(self, out, **options)

    def _repr_html_(self) -> str:
        from ablate.notebook_html import to_html
        from ablate.study.show_recipe import recipe_parts

        return to_html(*recipe_parts(self))
