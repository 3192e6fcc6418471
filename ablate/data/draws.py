"""What an augmentation draws for an item: a crop, a geometry as a matrix, colours as a table, paints.

An item transform of ours is a `Crop`, a `Geometry`, a `Colour` or a `Painter`: it turns uniforms into boxes,
matrices, tables or new pixels. Matrices and tables are made for a whole batch at once; a box waits for the
image's width and height, and paint for its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.data.colours import Colour
from ablate.data.crops import SQUARE, Box, Crop
from ablate.data.geometry import Geometry
from ablate.data.painters import Paint, Painter
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
        paints: What changes the square's pixels at last, one after the other.
    """

    place: Sequence[float] = (0.5, 0.5)
    matrix: np.ndarray | None = None
    table: np.ndarray | None = None
    crop: Crop = SQUARE
    paints: tuple[Paint, ...] = ()

    def box(self, width: int, height: int) -> Box:
        """The part of an image of some width and height that is shown: left, top, width, height."""
        return self.crop.box(self.place, width, height)


CENTRE = Draw()


def is_drawn(transform: object) -> bool:
    """Whether an item transform is a crop, geometry, colour or painter, not one of fastai's or somebody's."""
    return isinstance(transform, Crop | Geometry | Colour | Painter)


@dataclass(frozen=True)
class Drawer:
    """Draws for the items of one phase: the crop (the random square by default) and every other transform.

    Each transform has a stream of its own, named after it, so that adding one leaves the draws of the others.
    All crops draw from the stream `crop`, so that they show much the same place.

    Raises:
        AblateError: More than one of the transforms is a crop.
    """

    streams: Streams
    transforms: Sequence[Crop | Geometry | Colour | Painter] = ()

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
        each = zip(
            places,
            nothing if matrices is None else matrices,
            nothing if tables is None else tables,
            self._paints(epoch, numbers),
        )
        return [Draw(place, matrix, table, crop, paints) for place, matrix, table, paints in each]

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

    def _paints(self, epoch: int, numbers: np.ndarray) -> list[tuple[Paint, ...]]:
        painters = [transform for transform in self.transforms if isinstance(transform, Painter)]
        if not painters:
            return [()] * len(numbers)
        drawn = [self._uniforms(painter, epoch, numbers).tolist() for painter in painters]
        return [tuple(map(Paint, painters, each)) for each in zip(*drawn)]

    def _uniforms(
        self, transform: Geometry | Colour | Painter, epoch: int, numbers: np.ndarray
    ) -> np.ndarray:
        return self.streams.uniforms(f"augment.{transform.name}", epoch, numbers, transform.draws)
