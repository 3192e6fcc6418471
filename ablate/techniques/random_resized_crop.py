"""random_resized_crop: train on a random part of each image."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from ablate.data.crops import RandomResizedCrop as Crop
from ablate.techniques.base import Context, InPhases

Range = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)]


class RandomResizedCrop(InPhases):
    """Cut a box of random area and aspect ratio at a random place, instead of the largest square.

    Drawn as torchvision does. Validation and prediction keep the centre square. For squares with 75–100% of
    the shorter side, set `ratio: [1, 1]` and `scale: [0.5625, 1]` where images are square; in images of 4:3
    such a square has three quarters of that share, `[0.42, 0.75]`.
    """

    name: ClassVar[str] = "random_resized_crop"
    paper: ClassVar[str] = "Szegedy et al. 2015, Going Deeper with Convolutions, arXiv 1409.4842"
    order: ClassVar[int] = 5
    exclusive: ClassVar[str] = "choose the crop"

    scale: Range = Field([0.08, 1.0], description="From which to which share of the image's area.")
    ratio: Range = Field(
        [3 / 4, 4 / 3], description="From which to which width / height, before it is square."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must go from low to high")
        if self.scale[1] > 1:
            raise ValueError("scale must not be above 1")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        return [Crop((self.scale[0], self.scale[1]), (self.ratio[0], self.ratio[1]))]
