"""What an augmentation draws for an item: a crop, a geometry as a matrix, colours as a table.

An item transform of ours is a `Crop`, a `Geometry` or a `Colour`: it turns uniforms into boxes, matrices or
tables. Matrices and tables are made for a whole batch at once; a box waits for the image's width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.data.colours import Colour
from ablate.data.crops import SQUARE, Box, Crop
from ablate.data.geometry import Geometry
from ablate.errors import AblateError
from ablate.streams import Streams


@dataclass(frozen=True, slots=True)
class Draw:
    """All random parameters of one item in one epoch.

    Args:
        place: The crop's uniforms; the first two say where the box lies, as shares (x, y) of the free room.
        matrix: Output to input coordinates of the box, shape (3, 3); None leaves them.
        table: New pixel values, uint8 of shape (256,); None leaves them.
        crop: What is cut from the presized image.
    """

    place: Sequence[float] = (0.5, 0.5)
    matrix: np.ndarray | None = None
    table: np.ndarray | None = None
    crop: Crop = SQUARE

    def box(self, width: int, height: int) -> Box:
        """The part of an image of some width and height that is shown: left, top, width, height."""
        return self.crop.box(self.place, width, height)


CENTRE = Draw()


def is_drawn(transform: object) -> bool:
    """Whether an item transform is a crop, geometry or colour, and not one of fastai's or somebody's."""
    return isinstance(transform, Crop | Geometry | Colour)


@dataclass(frozen=True)
class Drawer:
    """Draws for the items of one phase: the crop (the random square by default), every geometry and colour.

    Each transform has a stream of its own, named after it, so that adding one leaves the draws of the others.
    All crops draw from the stream `crop`, so that they show much the same place.

    Raises:
        AblateError: More than one of the transforms is a crop.
    """

    streams: Streams
    transforms: Sequence[Crop | Geometry | Colour] = ()

    def __post_init__(self) -> None:
        crops = [transform.name for transform in self.transforms if isinstance(transform, Crop)]
        if len(crops) > 1:
            raise AblateError(f"{' and '.join(crops)} both choose the crop; turn one of them off.")

    def draw(self, epoch: int, numbers: np.ndarray) -> list[Draw]:
        """The draws of some items, given by number, shape (n,), in one epoch."""
        crop = next((t for t in self.transforms if isinstance(t, Crop)), SQUARE)
        places = self.streams.uniforms("crop", epoch, numbers, crop.draws).tolist()
        matrices, tables = self._matrices(epoch, numbers), self._tables(epoch, numbers)
        nothing = [None] * len(numbers)
        each = zip(places, nothing if matrices is None else matrices, nothing if tables is None else tables)
        return [Draw(place, matrix, table, crop) for place, matrix, table in each]

    def _matrices(self, epoch: int, numbers: np.ndarray) -> np.ndarray | None:
        product = None
        for transform in self.transforms:
            if isinstance(transform, Geometry):
                new = transform.matrices(self._uniforms(transform, epoch, numbers))
                product = new if product is None else product @ new
        return product

    def _tables(self, epoch: int, numbers: np.ndarray) -> np.ndarray | None:
        after = None
        for transform in self.transforms:
            if isinstance(transform, Colour):
                new = transform.tables(self._uniforms(transform, epoch, numbers))
                after = new if after is None else np.take_along_axis(new, after.astype(np.intp), axis=1)
        return after

    def _uniforms(self, transform: Geometry | Colour, epoch: int, numbers: np.ndarray) -> np.ndarray:
        return self.streams.uniforms(f"augment.{transform.name}", epoch, numbers, transform.draws)
