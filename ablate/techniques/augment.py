"""augment: random flips, rotation, zoom, perspective and lighting."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from ablate.data import draws
from ablate.techniques.base import Context, InPhases


class Augment(InPhases):
    """The set, ranges and defaults of fastai's `aug_transforms`, drawn per item and applied in one warp.

    Geometry happens on the host, on uint8, in a single interpolation together with cropping and resizing;
    lighting is a table of 256 values.
    """

    name: ClassVar[str] = "augment"
    paper: ClassVar[str] = "Howard & Gugger 2020, fastai: A Layered API for Deep Learning, arXiv 2002.04688"
    order: ClassVar[int] = 10

    mult: float = Field(1.0, ge=0, description="Multiplies max_rotate, max_lighting and max_warp.")
    do_flip: bool = Field(True, description="Mirror left and right.")
    flip_vert: bool = Field(False, description="All eight symmetries of the square instead.")
    max_rotate: float = Field(10.0, ge=0, le=180, description="Degrees.")
    min_zoom: float = Field(1.0, gt=0)
    max_zoom: float = Field(1.1, gt=0)
    max_lighting: float = Field(0.2, ge=0, lt=1)
    max_warp: float = Field(0.2, ge=0, lt=0.5)
    p_affine: float = Field(0.75, ge=0, le=1)
    p_lighting: float = Field(0.75, ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, limit in (("max_lighting", 1), ("max_warp", 0.5)):
            if getattr(self, name) * self.mult >= limit:
                raise ValueError(f"{name} times mult must be below {limit}")
        if self.min_zoom > self.max_zoom:
            raise ValueError("min_zoom must not be above max_zoom")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        transforms: list[Any] = []
        if self.max_warp * self.mult:
            transforms.append(draws.Perspective(self.max_warp * self.mult, self.p_affine))
        if self.do_flip:
            transforms.append(draws.Dihedral() if self.flip_vert else draws.Flip())
        if self.max_rotate * self.mult:
            transforms.append(draws.Rotate(self.max_rotate * self.mult, self.p_affine))
        if self.min_zoom < 1 or self.max_zoom > 1:
            transforms.append(draws.Zoom(self.min_zoom, self.max_zoom, self.p_affine))
        if self.max_lighting * self.mult:
            transforms.append(draws.Lighting(self.max_lighting * self.mult, self.p_lighting))
        return transforms
