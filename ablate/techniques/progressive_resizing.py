"""progressive_resizing: train on small images first, on large ones last."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ablate.recipe.schema import Phase
from ablate.techniques.base import Technique


def _or_bare(schema: dict[str, Any]) -> None:
    """Tell editors that a bare number stands for a size."""
    whole = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "integer", "minimum": 1}, whole]


class Sizes(BaseModel):
    """The image sizes of one phase, in pixels."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_or_bare)

    size: int = Field(ge=1, description="The side of the training images.")
    presize: int | None = Field(
        None, ge=1, description="The shorter side before cropping; default: as it was."
    )


class ProgressiveResizing(Technique):
    """Give each phase a size of its own; options are phase names: `{head: {size: 224, presize: 460}}`.

    Early phases on small images are cheaper, and the change of size acts as augmentation.
    """

    name: ClassVar[str] = "progressive_resizing"
    paper: ClassVar[str] = "Howard & Gugger 2020, Deep Learning for Coders, ch. 7"
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Sizes] = Field(init=False)  # pyright: ignore

    @model_validator(mode="before")
    @classmethod
    def _bare_sizes(cls, options: Any) -> Any:
        """Accept `head: 224` for `head: {size: 224}`."""
        if not isinstance(options, dict):
            return options
        return {phase: {"size": given} if type(given) is int else given for phase, given in options.items()}

    def sizes(self) -> dict[str, Sizes]:
        """The sizes by phase."""
        return dict(self.__pydantic_extra__)

    def phase_names(self) -> list[str]:
        return list(self.sizes())

    def edit_phases(self, phases: list[Phase]) -> list[Phase]:
        return [self._resized(phase) for phase in phases]

    def _resized(self, phase: Phase) -> Phase:
        sizes = self.sizes().get(phase.name)
        if sizes is None:
            return phase
        presize = sizes.presize if sizes.presize is not None else max(phase.presize or 0, sizes.size)
        return phase.model_copy(update={"size": sizes.size, "presize": presize})
