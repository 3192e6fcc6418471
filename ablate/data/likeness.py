"""What images look like, remembered for all projects of a machine: their perceptual hashes, by content."""

from __future__ import annotations

from typing import Any

import numpy as np

from ablate.data.looks import Looks, Seen
from ablate.data.near_duplicates import ORIENTATIONS, perceptual_hashes
from ablate.data.remembered import kept_likenesses, remember_likenesses

_REMEMBERED = 1000
"""After how many images their hashes are written down."""


class Hashing:
    """A visit of images (see `ablate.data.inspect`) that finds the perceptual hashes that are not known."""

    def __init__(self) -> None:
        self.fresh: dict[str, np.ndarray] = {}

    def wants(self, looks: Looks[Seen | None]) -> np.ndarray:
        return looks.usable & ~recall_likenesses(looks)[1]

    def make(self, seen: Seen, pixels: np.ndarray) -> Any:
        return seen.hash, perceptual_hashes(pixels)

    def take(self, made: Any) -> None:
        content, hashes = made
        self.fresh[content] = hashes
        if len(self.fresh) >= _REMEMBERED:
            self.finish()

    def finish(self) -> None:
        """Have everything that was found remembered."""
        remember_likenesses(
            {content: hashes.astype("<u8").tobytes() for content, hashes in self.fresh.items()}
        )
        self.fresh.clear()


def recall_likenesses(looks: Looks[Seen] | Looks[Seen | None]) -> tuple[np.ndarray, np.ndarray]:
    """The perceptual hashes of images, as far as they are known.

    Returns:
        uint64 of shape (n, 8) as `perceptual_hashes` gives them, zeros where they are not known; and whether
        they are, bool of shape (n,).
    """
    contents, place = np.unique(looks.contents, return_inverse=True)
    known = kept_likenesses([content.hex() for content in contents.tolist()])
    hashes, found = np.zeros((len(contents), ORIENTATIONS), np.uint64), np.zeros(len(contents), bool)
    for position, content in enumerate(contents.tolist()):
        if (kept := known.get(content.hex())) is not None:
            hashes[position], found[position] = np.frombuffer(kept, "<u8"), True
    return hashes[place], found[place]
