"""From a presized image and its draw to a square of pixels: one cut or one warp for all geometry."""

from __future__ import annotations

from functools import cache
from math import ceil, floor, log2, sqrt
from typing import NamedTuple

import cv2
import numpy as np
from fastai.vision.core import PILImage
from fasttransform import Transform
from PIL import Image

from ablate.data.crops import Box
from ablate.data.draws import CENTRE, Draw
from ablate.data.presize import Presize, resized

cv2.setNumThreads(0)  # the loader's workers are the threads


def warped(pixels: np.ndarray, draw: Draw, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Cut a draw's box, apply its matrix and resize, in one interpolation; then its table and paints.

    What is only cut and turned by quarters or mirrored is resized with an antialiased filter, Pillow's
    bilinear one within one level; what has any other matrix is warped, after halving where it shrinks.

    Args:
        pixels: A presized image, uint8 of shape (h, w, 3).
        draw: The item's draw.
        size: The side of the result.
        out: Where to write the result, uint8 of shape (size, size, 3), contiguous; default: a new array.

    Returns:
        `out`. What lies outside the image is mirrored.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    height, width = pixels.shape[:2]
    left, top, wide, high = box = draw.box(width, height)
    matrix = _EYE if draw.matrix is None else draw.matrix
    if symmetry := _symmetry(matrix):
        _put(_resized(pixels[top : top + high, left : left + wide], size), symmetry, out)
    else:
        _sample(pixels, _to_pixels(box) @ matrix @ _from_output(size), size, out)
    if draw.table is not None:
        cv2.LUT(out, draw.table, out)
    for paint in draw.paints:
        np.copyto(out, paint(out))
    return out


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] == (size, size):
        return pixels
    return resized(np.ascontiguousarray(pixels), size, size)  # torch is slow on rows with gaps


class _Symmetry(NamedTuple):
    """One of the square's eight symmetries: transpose, then OpenCV's code for a flip."""

    transposed: bool = False
    flip: int | None = None


def _symmetry(matrix: np.ndarray) -> _Symmetry | None:
    """The symmetry that a matrix is, if it is one; rounded, since products are exact to a few bits only."""
    return _SYMMETRIES.get(tuple(round(value, 9) for value in matrix.ravel().tolist()))


def _eight_symmetries() -> dict[tuple[float, ...], _Symmetry]:
    eight: dict[tuple[float, ...], _Symmetry] = {}
    for x, y, flip in ((1, 1, None), (-1, 1, 1), (1, -1, 0), (-1, -1, -1)):
        eight[x, 0, 0, 0, y, 0, 0, 0, 1] = _Symmetry(False, flip)
        eight[0, y, 0, x, 0, 0, 0, 0, 1] = _Symmetry(True, flip)  # the row that is read is x times a column
    return eight


_EYE, _SYMMETRIES = np.eye(3), _eight_symmetries()


def _put(square: np.ndarray, symmetry: _Symmetry, out: np.ndarray) -> None:
    if symmetry.transposed:
        square = cv2.transpose(square)
    if symmetry.flip is None:
        np.copyto(out, square)
    else:
        cv2.flip(square, symmetry.flip, out)


@cache
def _from_output(size: int) -> np.ndarray:
    """From the output's pixels to coordinates in [-1, 1]."""
    return np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])


def _to_pixels(box: Box) -> np.ndarray:
    """From coordinates in [-1, 1] to the image's pixels, whose centres are whole numbers."""
    left, top, wide, high = box
    return np.array([[wide / 2, 0, left + (wide - 1) / 2], [0, high / 2, top + (high - 1) / 2], [0, 0, 1.0]])


def _sample(pixels: np.ndarray, whole: np.ndarray, size: int, out: np.ndarray) -> None:
    """Warp by a matrix from the output's to the image's pixels, shape (3, 3)."""
    step = _step(whole, size)
    if step > 1:
        pixels, moved = _shrunk(pixels, whole, size, step)
        whole = moved @ whole
    cv2.warpPerspective(
        pixels,
        whole,
        (size, size),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _step(whole: np.ndarray, size: int) -> int:
    """By how much to shrink before a warp, a power of two, from how much it shrinks at the output's centre.

    Bilinear sampling reads four pixels, so it skips some where it shrinks by more than two. A photo that is
    shrunk less than 1.8 times is closer to its antialiased self without halving, from there on with it.
    """
    g, h, i = whole[2].tolist()
    depth = (g + h) * (size - 1) / 2 + i
    if depth <= 0:
        return 1
    scale = sqrt(abs(cv2.determinant(whole)) / depth**3)
    return 1 << int(log2(max(scale / 0.9, 1)))


def _shrunk(pixels: np.ndarray, whole: np.ndarray, size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that a warp reads, shrunk by area, and the matrix to its pixels."""
    far = size - 1
    corners = whole @ np.array([[0.0, far, 0, far], [0, 0, far, far], [1, 1, 1, 1]])
    left, right, top, bottom = 0, pixels.shape[1], 0, pixels.shape[0]
    if corners[2].min() > 0:
        xs, ys = (corners[:2] / corners[2]).tolist()
        left, right = _span(min(xs), max(xs), right, step)
        top, bottom = _span(min(ys), max(ys), bottom, step)
    part = pixels[top:bottom, left:right]
    down, across = -part.shape[0] % step, -part.shape[1] % step
    if down or across:
        part = cv2.copyMakeBorder(part, 0, down, 0, across, cv2.BORDER_REPLICATE)
    shape = part.shape[1] // step, part.shape[0] // step
    inset = (1 - step) / (2 * step)
    moved = np.array([[1 / step, 0, inset - left / step], [0, 1 / step, inset - top / step], [0, 0, 1.0]])
    return cv2.resize(part, shape, interpolation=cv2.INTER_AREA), moved


def _span(low: float, high: float, length: int, step: int) -> tuple[int, int]:
    """What is read of one axis between two coordinates, mirrored or not, from and to multiples of `step`."""
    last = length - 1
    low, high = min(low, 2 * last - high), max(high, -low)
    return max(floor(low / step) - 2, 0) * step, min((ceil(high / step) + 2) * step, length)


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
        return warped(Presize(self.presize).small(np.asarray(image)), draw, self.size)

    def encodes(self, image: PILImage) -> PILImage:
        return PILImage.create(self.pixels(image, getattr(image, "draw", CENTRE)))
