"""From a decoded image and its draw to a square of pixels: presize, then one warp for all geometry."""

from __future__ import annotations

import cv2
import numpy as np
from fastai.vision.core import PILImage
from fasttransform import Transform
from PIL import Image

from ablate.data.draws import CENTRE, Draw
from ablate.data.images import BadImage

cv2.setNumThreads(0)  # the loader's workers are the threads

_LONGEST = 1 << 15


def presized(image: Image.Image, shorter: int) -> Image.Image:
    """Resize so that the shorter side is `shorter` pixels, antialiased by Pillow.

    Raises:
        BadImage: It is so long and thin that the other side would be longer than OpenCV can warp.
    """
    scale = shorter / min(image.size)
    if scale == 1:
        return image
    width, height = (max(shorter, round(side * scale)) for side in image.size)
    if max(width, height) >= _LONGEST:
        raise BadImage(
            f"an image of {image.width} × {image.height} pixels is too long and thin to train on at "
            f"{shorter}; crop it or drop its row."
        )
    return image.resize((width, height), Image.Resampling.BILINEAR)


def warped(pixels: np.ndarray, draw: Draw, size: int) -> np.ndarray:
    """Cut the square that a draw names, apply its matrix, and resize, in one interpolation; then its table.

    Args:
        pixels: A presized image, uint8 of shape (h, w, 3); the square's side is the shorter side.
        draw: The item's draw.
        size: The side of the result.

    Returns:
        uint8 of shape (size, size, 3). What lies outside the image is mirrored.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = round(draw.corner[0] * (width - side)), round(draw.corner[1] * (height - side))
    if draw.matrix is None:
        square = pixels[top : top + side, left : left + side]
        if side != size:
            shrinks = size < side  # by area; INTER_AREA would enlarge in blocks
            square = cv2.resize(
                square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            )
    else:
        square = _sampled(pixels, left, top, side, draw.matrix, size)
    return np.ascontiguousarray(square) if draw.table is None else cv2.LUT(square, draw.table)


def _sampled(pixels: np.ndarray, left: int, top: int, side: int, matrix: np.ndarray, size: int) -> np.ndarray:
    # bilinear sampling reads four pixels: halve first by area where the square shrinks to half or less, so
    # that no pixel is skipped
    halvings = max(int(np.log2(side / size)), 0)
    height, width = pixels.shape[:2]
    small = (width >> halvings, height >> halvings)
    if halvings:
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    from_output = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
    to_pixels = np.array([[side / 2, 0, left + side / 2], [0, side / 2, top + side / 2], [0, 0, 1]])
    shrink = np.array([[small[0] / width, 0, -0.5], [0, small[1] / height, -0.5], [0, 0, 1]])
    whole = shrink @ to_pixels @ matrix @ from_output
    return cv2.warpPerspective(
        pixels,
        whole,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


class Render(Transform):
    """The item transform that does both: presize, and warp by the draw that the loader put on the image.

    An image without a draw, such as one given to `Learner.predict`, gets the plain centre square.
    """

    order = 1

    def __init__(self, size: int, presize: int):
        super().__init__()
        self.size, self.presize = size, presize

    def pixels(self, image: Image.Image, draw: Draw) -> np.ndarray:
        """The square of one image under one draw, uint8 of shape (size, size, 3)."""
        return warped(np.asarray(presized(image, self.presize)), draw, self.size)

    def encodes(self, image: PILImage) -> PILImage:
        return PILImage.create(self.pixels(image, getattr(image, "draw", CENTRE)))
