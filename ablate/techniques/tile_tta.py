"""tile_tta: scan an image in overlapping tiles and combine what is predicted for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ablate.data.crops import Tile
from ablate.recipe.schema import Phase
from ablate.techniques.base import Context, Predictor, Technique, View
from ablate.techniques.tta import CHOOSES_VIEWS, augmentation

if TYPE_CHECKING:
    from torch import Tensor


def spaced(count: int) -> list[float]:
    """Where `count` tiles lie along a side, from edge to edge, as shares of the free room; one is centred."""
    return [i / (count - 1) for i in range(count)] if count > 1 else [0.5]


class TileTTA(Technique):
    """Predict `rows` × `columns` tiles of each image, `n` copies of each, and take the mean.

    Costs no training. The class of the highest mean is that of the highest sum: the votes of all copies.
    Tiles are cut from the image as the last phase presizes it, so they show more than the centre square where
    `presize` is above `tile`, or where the image is not square.
    """

    name: ClassVar[str] = "tile_tta"
    paper: ClassVar[str] = "Krizhevsky et al. 2012, section 4.1, which takes the mean over crops of an image"
    order: ClassVar[int] = 90
    exclusive: ClassVar[str] = CHOOSES_VIEWS

    rows: int = Field(2, ge=1, description="Tiles from top to bottom.")
    columns: int = Field(2, ge=1, description="Tiles from left to right.")
    tile: int | None = Field(
        None, ge=1, description="A tile's side in pixels of the presized image; default: the recipe's size."
    )
    n: int = Field(1, ge=1, description="Copies of each tile.")
    transforms: Literal["none", "augment", "flips"] = Field(
        "none", description="Those of a copy: none, those of augment, or flips."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.n > 1 and self.transforms == "none":
            raise ValueError(
                "n copies without transforms are all the same; set transforms to augment or flips"
            )
        return self

    def complaint(self, phase: Phase) -> str | None:
        assert phase.size is not None
        assert phase.presize is not None
        tile = self.tile or phase.size
        if tile <= phase.presize:
            return None
        return (
            f"tile {tile} is above presize {phase.presize}, the shorter side of what tiles are cut from; set "
            f"presize to {tile} or more, or tile to {phase.presize} or less."
        )

    def identity(self, on: Mapping[str, Technique]) -> dict[str, Any]:
        own = super().identity(on)
        if self.transforms == "none":
            return own
        return own | {"transforms": augmentation(self.transforms, on).identity(on)}

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        drawn: tuple[Any, ...] = ()
        if self.transforms != "none":
            drawn = tuple(augmentation(self.transforms, context.on).item_transforms())
        side = self.tile or context.size
        tiles = [Tile(x, y, side) for y in spaced(self.rows) for x in spaced(self.columns)]
        copies = [(tile, *drawn) for tile in tiles for _ in range(self.n)]

        def scanned(view: View) -> Tensor:
            import torch

            seen = (predictor(replace(view, transforms=own, copy=i)) for i, own in enumerate(copies, 1))
            total = next(seen)
            for probabilities in seen:
                total = torch.add(total, probabilities)
            return total / len(copies)

        return scanned
