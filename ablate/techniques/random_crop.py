"""random_crop: train on a random square of each image."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ablate.data.crops import RandomCrop as Crop
from ablate.techniques.base import Context, InPhases

Range = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)]


class RandomCrop(InPhases):
    """Cut a square of random side at a random place, instead of the largest square.

    Validation and prediction keep the centre square. For a side that does not vary, such as 512 of 600
    pixels, give its share twice: `scale: [0.8533, 0.8533]`.
    """

    name: ClassVar[str] = "random_crop"
    paper: ClassVar[str] = "Krizhevsky et al. 2012, ImageNet Classification with Deep CNNs"
    order: ClassVar[int] = 5
    exclusive: ClassVar[str] = "choose the crop"

    scale: Range = Field([0.75, 1.0], description="From which to which share of the shorter side, evenly.")
    within: Literal["image", "square"] = Field(
        "image", description="Anywhere in the image, or in its largest square, which is placed first."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must go from low to high")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        return [Crop((self.scale[0], self.scale[1]), self.within == "square")]
