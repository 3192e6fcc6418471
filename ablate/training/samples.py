"""A picture of what a phase trains on: some images of its first batch, as augmented and mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import simplejpeg
import torch
from fastai.callback.core import Callback
from fastai.data.core import TfmdDL
from fastai.torch_core import TensorImage
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import make_grid

from ablate import devices
from ablate.study.local_log import SAMPLES

COUNT, COLUMNS = 16, 4
SIDE = 112
"""Pixels of the longer side of an image that is larger."""


class Samples(Callback):
    """Keep a grid of the first training images, as the network is given them but for normalization."""

    order = 19  # after whatever changes a batch, before MicroBatch splits it
    run_valid = False

    def __init__(self) -> None:
        self.jpeg: Tensor | None = None
        """The bytes of the file, uint8."""

    def before_batch(self) -> None:
        if self.learn.epoch or self.learn.iter:
            return
        images = self.learn.xb[0]
        # where graphs are compiled, fetching a batch would break the first step in two: two further graphs
        if devices.of(images).fixed_shapes:
            return
        jpeg = grid(shown(images[:COUNT], self.learn.dl))
        self.jpeg = torch.frombuffer(bytearray(jpeg), dtype=torch.uint8)

    def state_dict(self) -> dict[str, Any]:
        return {"jpeg": self.jpeg}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.jpeg = state["jpeg"]

    def write(self, folder: Path) -> None:
        """Write `samples.jpg`, if there is something to show."""
        if self.jpeg is not None:
            (folder / SAMPLES).write_bytes(self.jpeg.numpy().tobytes())


def shown(images: Tensor, loader: TfmdDL) -> Tensor:
    """Images as a network is given them, as they look.

    Args:
        images: Shape (n, c, h, w): floats as the loader's batch transforms made them, or levels in uint8.
        loader: Undoes its transforms, normalization among them, as fastai's `show_batch` has it.

    Returns:
        Three channels, or the first, of (n, c, h, w), uint8, on the CPU; made smaller where the longer side
        had more than 112 pixels.
    """
    colours = 3 if images.shape[1] >= 3 else 1  # a technique may have added channels that are no colours
    images = images.detach().as_subclass(Tensor)[:, :colours].cpu()
    if images.dtype == torch.uint8:
        return _small(images)
    (images,) = loader.after_batch.decode((TensorImage(_small(images.float())),))
    return images.as_subclass(Tensor).byte()


def grid(images: Tensor) -> bytes:
    """A JPEG of images in rows of four.

    Args:
        images: Shape (n, c, h, w) with one channel or three, uint8.
    """
    pixels = make_grid(images, nrow=COLUMNS, padding=2)
    return simplejpeg.encode_jpeg(pixels.permute(1, 2, 0).contiguous().numpy(), quality=85)


def _small(images: Tensor) -> Tensor:
    side = max(images.shape[-2:])
    if side <= SIDE:
        return images
    return interpolate(images, scale_factor=SIDE / side, mode="bilinear", antialias=True)
