"""Images that look the same: perceptual hashes, and all pairs of them that are close.

A photo that is stored anew, at another size or quality, has other bytes but nearly the same low frequencies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

ORIENTATIONS = 8
_SIDE, _LOW = 32, 8
_BLOCK = 1 << 19
"""Pairs that are compared at a time: what fits into a core's own cache."""


class Pairs(NamedTuple):
    """Pairs of images by their positions, and how many bits of their hashes differ, each of shape (n,)."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """The pHash of an image, and of its flips and quarter turns.

    The image becomes 32 × 32 greys, of whose discrete cosine transform the 8 × 8 lowest frequencies are
    compared with their median, a bit each: `imagehash.phash` gives the same bits. A flip only changes the
    sign of odd frequencies and a transposition exchanges the axes, so one transform serves for all eight.

    Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010.

    Args:
        pixels: uint8 of shape (h, w, 3).

    Returns:
        uint64 of shape (8,): the image as it is, then its other orientations.
    """
    from scipy.fft import dctn  # here, since planning looks at nothing new

    small = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small, dtype=np.float64))[:_LOW, :_LOW]
    return np.array([_bits(turned) for turned in _orientations(low)])


def _orientations(low: np.ndarray) -> Iterator[np.ndarray]:
    """The same frequencies of the image in all eight orientations, itself first."""
    mirrored = np.array([1, -1] * (_LOW // 2))
    for turned in (low, low.T):
        yield turned
        yield turned * mirrored
        yield turned * mirrored[:, None]
        yield turned * mirrored * mirrored[:, None]


def _bits(low: np.ndarray) -> np.uint64:
    return np.packbits(low > np.median(low)).view(">u8")[0].astype(np.uint64)


def near_pairs(hashes: np.ndarray, others: np.ndarray, most: int) -> Pairs:
    """All pairs of an image and another whose hashes differ in few bits, in any orientation.

    Every image is compared with every other: 20,000 × 20,000 take seconds, and memory for the pairs found.

    Args:
        hashes: As `perceptual_hashes` gives them, uint64 of shape (n, 8).
        others: Likewise, of shape (m, 8); the first of each are compared with all of `hashes`.
        most: The Hamming distance, in bits of 64, up to which images are a pair.

    Returns:
        The pairs, by their positions in `hashes` and in `others`, in that order.
    """
    plain = np.ascontiguousarray(others[:, 0])
    rows = max(_BLOCK // max(len(plain), 1), 1)

    def compare(begin: int) -> Pairs:
        some = hashes[begin : begin + rows]
        nearest = np.full((len(some), len(plain)), 64, np.uint8)
        differing = np.empty((len(some), len(plain)), np.uint64)
        counts = np.empty_like(nearest)
        for orientation in range(ORIENTATIONS):
            np.bitwise_xor(some[:, orientation, None], plain, out=differing)
            np.minimum(nearest, np.bitwise_count(differing, out=counts), out=nearest)
        first, second = np.nonzero(nearest <= most)
        return Pairs(first + begin, second, nearest[first, second])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(compare, range(0, len(hashes), rows)))
    if not found:
        return Pairs(*(np.zeros(0, np.int64) for _ in range(3)))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))
