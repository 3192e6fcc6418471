"""From an item to its presized pixels: out of the cache, or decoded and presized; bit for bit the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ablate.data.images import BadImage, decode, to_rgb
from ablate.data.items import Item
from ablate.data.packs import Presized
from ablate.data.presize import Presize


@dataclass(frozen=True)
class Pixels:
    """The presized pixels of items, or of images from anywhere.

    Args:
        presize: How an image is made small.
        cached: Those that are in the cache, by item number.
    """

    presize: Presize
    cached: Presized | None = None

    def __call__(self, source: Any) -> np.ndarray:
        """The pixels of an `Item`, a path, the bytes of a file, an open image or an array.

        Returns:
            uint8 of shape (h, w, 3); not to be written to.

        Raises:
            BadImage: It cannot be used.
        """
        if isinstance(source, Item):
            kept = self.cached[source.number] if self.cached is not None else None
            if kept is not None:
                return kept
        name = _name(source)
        try:
            return self.presize(_decoded(source, name))
        except BadImage as bad:
            raise bad if str(bad).startswith(name) else BadImage(f"{name}: {bad}") from None


def _decoded(source: Any, name: str) -> np.ndarray:
    if isinstance(source, Image.Image):
        return np.asarray(to_rgb(source))
    if isinstance(source, Item):
        source = source.image
    return decode(Path(source) if isinstance(source, str) else source, name)


def _name(source: Any) -> str:
    if isinstance(source, Item):
        return str(source.image) if isinstance(source.image, Path) else source.id
    return str(source)[:200] if isinstance(source, str | Path) else "image"
