"""Change the images of every training batch on the device, before they are mixed."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import torch
from fastai.callback.core import Callback
from torch import Tensor

from ablate.streams import Streams


class Change(Protocol):
    """How one technique changes images: draws on the host, fixed-shape tensor operations on the device."""

    name: ClassVar[str]

    def change(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """A batch (n, c, h, w), as the network is to see it but for this, to one of the same shape."""
        ...


class ChangeImages(Callback):
    """Change the images of every training batch; labels and further inputs stay.

    Args:
        change: What is done.
        streams: Where the draws come from; None takes a seed from torch when training starts.
    """

    order = 4  # before MixBatches
    run_valid = False

    def __init__(self, change: Change, streams: Streams | None = None):
        self.change, self.streams = change, streams

    def before_fit(self) -> None:
        self._streams = self.streams or Streams(int(torch.randint(2**62, ())))

    def before_batch(self) -> None:
        rng = self._streams.generator(self.change.name, int(self.learn.epoch), int(self.learn.iter))
        self.learn.xb = (self.change.change(self.learn.xb[0], rng), *self.learn.xb[1:])
