"""The fastai DataBlock and DataLoaders of a phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastai.vision.data  # noqa: F401  has batches of images shown in a grid
import numpy as np
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders, Datasets
from fastai.data.transforms import IntToFloatTensor
from fastai.vision.core import PILImage
from fastcore.foundation import L
from fasttransform import Transform

from ablate import devices
from ablate.data.batches import ReadBatch
from ablate.data.draws import Drawer, is_drawn
from ablate.data.items import Item
from ablate.data.loader import KeyedDL
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize
from ablate.data.render import Render
from ablate.data.table_input import ReadTable, TwoInputDL
from ablate.errors import AblateError
from ablate.techniques import compose
from ablate.training.order import Fetch, training_order
from ablate.training.parts import Parts


class Open(Transform):
    """The first transform of every item: its image, presized.

    An image that is open already, such as one given to `Learner.predict`, skips it.
    """

    # fastai works these out for plain functions alone
    input_types = (Item, Path, str, bytes, np.ndarray)

    def __init__(self, pixels: Pixels):
        super().__init__()
        self.pixels = pixels

    def encodes(self, source: Item | Path | str | bytes | np.ndarray) -> PILImage:
        return PILImage.create(self.pixels(source))


def datablock(parts: Parts) -> DataBlock:
    """A plain DataBlock over `Item`s, with the phase's sizes and the active techniques' transforms."""
    context = parts.context
    classes = parts.items.classes
    active = compose.ordered(parts.active)
    images = TransformBlock(type_tfms=Open(_pixels(parts)), batch_tfms=IntToFloatTensor)
    inputs = [images, TransformBlock(type_tfms=ReadTable(parts.table))] if parts.table else [images]
    return _Block(
        blocks=(*inputs, CategoryBlock(classes, sort=False)),
        n_inp=len(inputs),
        get_y=_Label(classes),
        splitter=_Sides(len(parts.fold.train)),
        item_tfms=[_render(parts), *_foreign(parts)],
        batch_tfms=[t for technique in active for t in technique.batch_transforms(context)],
        dl_type=TwoInputDL if parts.table else KeyedDL,
    )


def dataloaders(parts: Parts) -> DataLoaders:
    """Training and validation loaders of a phase, on its device, with all randomness keyed.

    Raises:
        AblateError: There are fewer training images than one batch, or a batch does not divide by the
            device's replicas.
    """
    batch_size = parts.phase.batch_size
    assert batch_size
    if batch_size > len(parts.fold.train):
        raise AblateError(
            f"batch_size: {batch_size} is more than the {len(parts.fold.train)} training images; lower it."
        )
    source = parts.side("train") + parts.side("valid")
    adapter = devices.load(parts.device)
    device = adapter.torch_device()
    check_divides(batch_size, adapter.replicas * parts.share.ranks)
    dls = datablock(parts).dataloaders(source, bs=batch_size, num_workers=parts.workers, device=device)
    for loader in dls.loaders:
        loader.after_batch.fs = L(adapter.batch_transforms(loader.after_batch.fs))
    fetch = Fetch(parts.stream) if parts.stream else None
    dls.train.keyed(parts.streams, _drawer(parts), training_order(parts), fetch)
    dls.train.share = parts.share
    dls.valid.keyed(parts.streams, fetch=fetch)
    dls.valid.augmenter = dls.train.drawer
    if not _foreign(parts):
        table = ReadTable(parts.table) if parts.table else None
        read = ReadBatch(_pixels(parts), _render(parts).size, adapter.buffer, table)
        dls.train.read_batch = dls.valid.read_batch = read
    return dls


def check_divides(batch_size: int, replicas: int) -> None:
    """Raise an `AblateError` unless each replica gets as many images of a batch as the others."""
    if rest := batch_size % replicas:
        lower = [str(batch_size - rest)] if batch_size > replicas else []
        raise AblateError(
            f"batch_size: {batch_size} images do not divide by the {replicas} processors that share a batch; "
            f"set it to {' or '.join([*lower, str(batch_size - rest + replicas)])}."
        )


def _drawer(parts: Parts) -> Drawer:
    """Draws the geometry and colours of the active techniques."""
    active = compose.ordered(parts.active)
    transforms = [t for technique in active for t in technique.item_transforms(parts.context)]
    return Drawer(parts.streams, tuple(t for t in transforms if is_drawn(t)))


def _pixels(parts: Parts) -> Pixels:
    assert parts.phase.presize is not None
    return Pixels(Presize(parts.phase.presize, parts.jpeg), parts.presized.get(parts.phase.presize))


def _render(parts: Parts) -> Render:
    assert parts.phase.size is not None
    assert parts.phase.presize is not None
    return Render(parts.phase.size, parts.phase.presize)


def _foreign(parts: Parts) -> list[Any]:
    """Item transforms that are fastai's or somebody's, not crops, geometries or colours of ours."""
    active = compose.ordered(parts.active)
    return [t for technique in active for t in technique.item_transforms(parts.context) if not is_drawn(t)]


class _Label:
    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def __call__(self, item: Item) -> str:
        return self.classes[item.target]


class _Sides:
    """Splits items that have those of training first."""

    def __init__(self, n_train: int):
        self.n_train = n_train

    def __call__(self, items: Sequence[Any]) -> tuple[slice, slice]:
        return slice(self.n_train), slice(self.n_train, len(items))


class _Block(DataBlock):
    """A DataBlock whose splits may be slices: lists of millions of positions would take 100 MB and more."""

    def datasets(self, source: Sequence[Any], verbose: bool = False) -> Datasets:
        return Datasets(
            source,
            tfms=self._combine_type_tfms(),
            splits=self.splitter(source),
            dl_type=self.dl_type,
            n_inp=self.n_inp,
            verbose=verbose,
        )
