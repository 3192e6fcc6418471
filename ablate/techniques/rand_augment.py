"""rand_augment: a few random operations on each image, at one magnitude."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


class RandAugment(InPhases):
    """Apply `num_layers` operations, drawn from fifteen of timm's: colours, shears, shifts, rotation.

    The defaults are timm's `rand-m9-mstd0.5-inc1`; the paper applies every layer, `p: 1`. What comes from
    outside the image has the training images' mean colour.
    """

    name: ClassVar[str] = "rand_augment"
    paper: ClassVar[str] = "Cubuk et al. 2019, RandAugment, arXiv 1909.13719"
    order: ClassVar[int] = 13

    num_layers: int = Field(2, ge=1, le=16, description="Operations per image.")
    magnitude: float = Field(9.0, ge=0, le=10, description="How strong they are, of 10.")
    mstd: float = Field(0.5, ge=0, description="The standard deviation of the magnitude.")
    increasing: bool = Field(True, description="All operations grow stronger with the magnitude.")
    p: float = Field(0.5, gt=0, le=1, description="How often each of them is applied.")

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        from ablate.data import operations

        options = self.model_dump(exclude={"phases"})
        if context is not None:
            red, green, blue = (round(255 * mean) for mean in context.pixel_mean)
            options["fill"] = (red, green, blue)
        return [operations.RandAugment(**options)]
