"""The table's columns as the second input of fastai's loaders: their transform, and how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.core import show_batch, show_results
from fastai.interpret import plot_top_losses
from fastai.torch_core import TensorBase
from fastcore.foundation import L
from fasttransform import Transform

from ablate.data.items import Cells, Item
from ablate.data.loader import KeyedDL
from ablate.data.tabular import TabularEncoder
from ablate.errors import AblateError


class TensorTable(TensorBase):
    """Features of the table: float32 of shape (features,), or (n, features) for a batch."""


class ReadTable(Transform):
    """The first transform of every item on its second way: the features of its row."""

    # fastai works these out for plain functions alone
    input_types = (Item, Path, str, bytes, np.ndarray)

    def __init__(self, encoder: TabularEncoder):
        super().__init__()
        self.encoder = encoder

    def encodes(self, source: Item | Path | str | bytes | np.ndarray) -> TensorTable:
        return self.batch([source])[0]

    def decodes(self, features: TensorTable) -> Caption:
        return Caption(self.encoder.told(features.numpy()))

    def batch(self, sources: list[Any]) -> TensorTable:
        """The features of several items at once."""
        return TensorTable(torch.from_numpy(self.encoder.encode([cells_of(source) for source in sources])))


def cells_of(source: Any) -> Cells:
    """The row of an item.

    Raises:
        AblateError: It has none.
    """
    if not isinstance(source, Item) or not source.cells:
        raise AblateError(
            f"{getattr(source, 'id', source)!s:.100}: the network sees columns of a table beside the image; "
            "give it an `Item` with cells."
        )
    return source.cells


class Caption(str):
    """What a row says, shown at the foot of its image."""

    def show(self, ctx: Any = None, **_: Any) -> Any:
        """Write it onto matplotlib axes."""
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
        ctx.text(0.5, 0.03, self, transform=ctx.transAxes, ha="center", fontsize=7, bbox=box)
        return ctx


class ImagesAndTable(tuple[Any, ...]):
    """Both inputs of a batch: fastai chooses how to show something by its type."""


class TwoInputDL(KeyedDL):
    """A `KeyedDL` of images, features of a table, and labels."""

    n_inputs = 2

    def _pre_show_batch(self, b: Any, max_n: int = 9) -> Any:
        x, y, samples = super()._pre_show_batch(b, max_n)
        return ImagesAndTable(x) if isinstance(x, tuple) else x, y, samples


@show_batch.dispatch
def _show_batch(
    x: ImagesAndTable, y: Any, samples: Any, ctxs: Any = None, max_n: Any = 9, **kwargs: Any
) -> Any:
    """A grid of images, each with its label and its row."""
    return show_batch(x[0], y, samples, ctxs=ctxs, max_n=max_n, **kwargs)


@show_results.dispatch
def _show_results(
    x: ImagesAndTable, y: Any, samples: Any, outs: Any, ctxs: Any = None, max_n: Any = 10, **kwargs: Any
) -> Any:
    """A grid of images, each with its label, what is predicted, and its row."""
    images = L((image, *targets) for image, _, *targets in samples)
    ctxs = show_results(x[0], y, images, outs, ctxs=ctxs, max_n=max_n, **kwargs)
    return [caption.show(ctx=ctx) for (_, caption, *_), ctx in zip(samples, ctxs)]


@plot_top_losses.dispatch
def _plot_top_losses(
    x: ImagesAndTable, y: Any, samples: Any, outs: Any, raws: Any, losses: Any, **kwargs: Any
) -> Any:
    """A grid of images, each with what is predicted, its label, loss and probability."""
    images = L((image, *targets) for image, _, *targets in samples)
    return plot_top_losses(x[0], y, images, outs, raws, losses, **kwargs)
