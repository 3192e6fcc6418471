"""Lay batches of images out in memory as a technique wants them."""

from __future__ import annotations

from typing import Any

import torch
from fasttransform import ItemTransform

from ablate.data.float_table import each_image


class Layout(ItemTransform):
    """The last batch transform: copies images into a memory format, if they have another.

    Args:
        memory_format: torch's.
    """

    order = 1000

    def __init__(self, memory_format: torch.memory_format):
        super().__init__()
        self.memory_format = memory_format

    def encodes(self, batch: Any) -> Any:
        return each_image(batch, lambda images: images.contiguous(memory_format=self.memory_format))
