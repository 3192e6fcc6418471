"""random_affine: turn, shear, zoom and shift by normally distributed amounts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from ablate.data import affine
from ablate.techniques.base import Context, InPhases

Deviations = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
_MOST = {"rotate": 360.0, "shear": 20.0, "zoom": 0.25, "shift": 1.0}
"""Beyond these, too many images would be seen edge-on or from nowhere."""


class RandomAffine(InPhases):
    """Rotation, shear, zoom per axis and shift, normally distributed, applied in the one warp.

    Each option is a list of standard deviations, of which one is chosen evenly for every image and, in zoom
    and shift, for both axes by themselves; `[0]` turns it off. What lies outside the image is mirrored.
    """

    name: ClassVar[str] = "random_affine"
    paper: ClassVar[str] = "Simard et al. 2003, Best Practices for Convolutional Neural Networks"
    order: ClassVar[int] = 11

    rotate: Deviations = Field([15.0, 180.0], description="Degrees; at most 360.")
    shear: Deviations = Field([5.0, 2.0], description="Degrees; at most 20.")
    zoom: Deviations = Field([1 / 10, 1 / 8], description="Of the factors, around 1; at most 0.25.")
    shift: Deviations = Field([16 / 384, 8 / 384], description="Shares of the side; at most 1.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, most in _MOST.items():
            if max(getattr(self, name)) > most:
                raise ValueError(f"{name}: a standard deviation may be {most:g} at most")
        if not any(any(getattr(self, name)) for name in _MOST):
            raise ValueError("all standard deviations are 0; leave random_affine out")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        return [affine.RandomAffine(self.rotate, self.shear, self.zoom, self.shift)]
