"""augment: random flips, rotation, shear, zoom, shift, perspective and lighting."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from ablate.data.colours import Lighting
from ablate.data.geometry import Dihedral, Flip, Perspective, Rotate, Shear, Shift, Zoom
from ablate.techniques.base import Context, InPhases


class Augment(InPhases):
    """The set, ranges and defaults of fastai's `aug_transforms`, drawn per item and applied in one warp.

    `p_flip`, `max_shear` and `max_shift` are ours; by default they change nothing. Geometry happens on
    the host, on uint8, in a single interpolation together with cropping and resizing; lighting is a table of
    256 values.
    """

    name: ClassVar[str] = "augment"
    paper: ClassVar[str] = "Howard & Gugger 2020, fastai: A Layered API for Deep Learning, arXiv 2002.04688"
    version: ClassVar[int] = 2
    order: ClassVar[int] = 10

    mult: float = Field(1.0, ge=0, description="Multiplies all max_ options but max_zoom.")
    do_flip: bool = Field(True, description="Mirror left and right.")
    flip_vert: bool = Field(False, description="All eight symmetries of the square instead.")
    p_flip: float = Field(0.5, ge=0, le=1, description="How often to do so; 1 draws all eight evenly.")
    max_rotate: float = Field(10.0, ge=0, le=180, description="Degrees.")
    max_shear: float = Field(0.0, ge=0, lt=90, description="Degrees, in x and in y.")
    max_shift: float = Field(0.0, ge=0, lt=1, description="Share of the side, in x and in y.")
    min_zoom: float = Field(1.0, gt=0)
    max_zoom: float = Field(1.1, gt=0)
    max_lighting: float = Field(0.2, ge=0, lt=1)
    max_warp: float = Field(0.2, ge=0, lt=0.5)
    p_affine: float = Field(0.75, ge=0, le=1)
    p_lighting: float = Field(0.75, ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, limit in (("max_lighting", 1), ("max_warp", 0.5), ("max_shear", 90), ("max_shift", 1)):
            if getattr(self, name) * self.mult >= limit:
                raise ValueError(f"{name} times mult must be below {limit}")
        if self.min_zoom > self.max_zoom:
            raise ValueError("min_zoom must not be above max_zoom")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        transforms: list[Any] = []
        if self.max_warp * self.mult:
            transforms.append(Perspective(self.max_warp * self.mult, self.p_affine))
        if self.do_flip:
            transforms.append(Dihedral(self.p_flip) if self.flip_vert else Flip(self.p_flip))
        if self.max_rotate * self.mult:
            transforms.append(Rotate(self.max_rotate * self.mult, self.p_affine))
        if self.max_shear * self.mult:
            transforms.append(Shear(self.max_shear * self.mult, self.p_affine))
        if self.min_zoom < 1 or self.max_zoom > 1:
            transforms.append(Zoom(self.min_zoom, self.max_zoom, self.p_affine))
        if self.max_shift * self.mult:
            transforms.append(Shift(self.max_shift * self.mult, self.p_affine))
        if self.max_lighting * self.mult:
            transforms.append(Lighting(self.max_lighting * self.mult, self.p_lighting))
        return transforms
