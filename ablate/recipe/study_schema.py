"""The study section of a recipe: what is compared with what, how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ablate.recipe.section import Section

Design = Literal["one_at_a_time", "leave_one_out", "cumulative", "factorial", "fractional"]


class Variation(Section):
    """One variant of an explicit design."""

    name: Annotated[str, Field(min_length=1)] | None = None
    on: list[str] = Field(default_factory=list, description="Techniques that are on beside the baseline's.")
    off: list[str] = Field(default_factory=list, description="Techniques of the baseline that are off.")
    set: dict[str, Any] = Field(default_factory=dict, description="Recipe fields and their values.")

    @property
    def full_name(self) -> str:
        """The name given, or one made of the changes: `baseline+mixup-augment+model.arch=resnet34`."""
        parts = [f"+{name}" for name in self.on] + [f"-{name}" for name in self.off]
        parts += [f"+{name}={value}" for name, value in self.set.items()]
        return self.name or "baseline" + "".join(parts)


class Fraction(Section):
    """How many of all combinations a fractional design runs: by what it must tell apart, or by a budget."""

    resolution: int = Field(
        default=4,
        ge=3,
        le=13,
        description="3: main effects apart from each other; 4: also from two-factor interactions; 5: those "
        "from each other too. Takes the fewest variants that do.",
    )
    variants: int | None = Field(
        default=None, ge=2, description="The most variants; takes the highest resolution that they allow."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Fraction:
        if self.variants is not None and "resolution" in self.model_fields_set:
            raise ValueError("give resolution or variants, not both")
        return self


class Expected(Section):
    """What a plan assumes of the results to tell what effect can be seen; it changes no result."""

    error: float = Field(
        default=0.1, gt=0, lt=1, description="The share of images that a variant gets wrong."
    )
    seed_sd: float = Field(
        default=0.005, ge=0, lt=1, description="The standard deviation of a variant's accuracy between seeds."
    )


class Study(Section):
    """What is compared with what, how often, and what difference matters."""

    baseline: list[str] = Field(default_factory=list, description="What is on in the reference variant.")
    vary: list[str | dict[str, list[Any]]] = Field(default_factory=list, description="The factors.")
    design: Design | list[list[str] | Variation] = "one_at_a_time"
    fraction: Fraction | None = Field(
        default=None, description="Of a fractional design; default: resolution 4."
    )
    seeds: (
        Annotated[int, Field(ge=1, le=10_000)]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    ) = 5
    folds: list[int] | None = Field(
        default=None, min_length=1, description="Which folds to run; default all."
    )
    metric: str = "accuracy"
    metrics: list[str] = Field(default_factory=list, description="What else is measured, and not judged.")
    smallest_effect: float = Field(default=0.005, gt=0, description="The smallest difference that matters.")
    expected: Expected = Field(default_factory=lambda: Expected())
    retries: int = Field(default=0, ge=0, le=10, description="How often a stage that failed is tried again.")

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves: `5` means 0 to 4."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def variations(self) -> list[Variation]:
        """The variants of an explicit design, beside the baseline; none of the other designs has any."""
        given = self.design if isinstance(self.design, list) else []
        return [Variation(on=one) if isinstance(one, list) else one for one in given]
