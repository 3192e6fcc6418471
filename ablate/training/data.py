"""The fastai DataBlock and DataLoaders of a phase."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IntToFloatTensor
from fastai.torch_core import TensorCategory, TensorImage
from fastai.vision.core import PILImage

from ablate import devices
from ablate.data.draws import Colour, Draw, Drawer, Geometry
from ablate.data.images import decode
from ablate.data.items import Item
from ablate.data.loader import KeyedDL
from ablate.data.render import Render
from ablate.errors import AblateError
from ablate.techniques import compose
from ablate.training.parts import Parts


def open_image(source: Item | Path | str | bytes | np.ndarray) -> PILImage:
    """An item's image, or one from anywhere, decoded and upright.

    Raises:
        BadImage: It cannot be used.
    """
    if isinstance(source, Item):
        return PILImage(
            decode(source.image, str(source.image) if isinstance(source.image, Path) else source.id)
        )
    return PILImage(decode(Path(source) if isinstance(source, str) else source, str(source)[:200]))


def datablock(parts: Parts) -> DataBlock:
    """A plain DataBlock over `Item`s, with the phase's sizes and the active techniques' transforms."""
    context = parts.context
    classes = parts.items.classes
    active = compose.ordered(parts.active)
    return DataBlock(
        blocks=(
            TransformBlock(type_tfms=open_image, batch_tfms=IntToFloatTensor),
            CategoryBlock(classes, sort=False),
        ),
        get_y=_Label(classes),
        splitter=_Sides(len(parts.fold.train)),
        item_tfms=[_render(parts), *_foreign(parts)],
        batch_tfms=[t for technique in active for t in technique.batch_transforms(context)],
        dl_type=KeyedDL,
    )


def dataloaders(parts: Parts) -> DataLoaders:
    """Training and validation loaders of a phase, on its device, with all randomness keyed.

    Raises:
        AblateError: There are fewer training images than one batch.
    """
    batch_size = parts.phase.batch_size
    assert batch_size
    if batch_size > len(parts.fold.train):
        raise AblateError(
            f"batch_size: {batch_size} is more than the {len(parts.fold.train)} training images; lower it."
        )
    source = parts.side("train") + parts.side("valid")
    device = devices.load(parts.device).torch_device()
    dls = datablock(parts).dataloaders(source, bs=batch_size, num_workers=parts.workers, device=device)
    dls.train.keyed(parts.streams, _drawer(parts), _sampler(parts))
    dls.valid.keyed(parts.streams)
    if not _foreign(parts):
        dls.train.read_batch = dls.valid.read_batch = ReadBatch(_render(parts))
    return dls


class ReadBatch:
    """Make a batch of images and labels at once: what fastai does item by item, in a third of the time."""

    def __init__(self, render: Render):
        self.render = render

    def __call__(self, items: list[Any], draws: list[Draw], labelled: bool) -> tuple[Any, ...]:
        pixels = [self.render.pixels(open_image(item), draw) for item, draw in zip(items, draws, strict=True)]
        images = TensorImage(torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2).copy()))
        if not labelled:
            return (images,)
        return images, TensorCategory(torch.tensor([item.target for item in items]))


def _drawer(parts: Parts) -> Drawer:
    """Draws the geometry and colours of the active techniques."""
    active = compose.ordered(parts.active)
    transforms = [t for technique in active for t in technique.item_transforms(parts.context)]
    return Drawer(parts.streams, tuple(t for t in transforms if _is_ours(t)))


def _render(parts: Parts) -> Render:
    assert parts.phase.size is not None
    assert parts.phase.presize is not None
    return Render(parts.phase.size, parts.phase.presize)


def _foreign(parts: Parts) -> list[Any]:
    """Item transforms that are fastai's or somebody's, not geometries or colours of ours."""
    active = compose.ordered(parts.active)
    return [t for technique in active for t in technique.item_transforms(parts.context) if not _is_ours(t)]


def _is_ours(transform: Any) -> bool:
    return isinstance(transform, Geometry | Colour)


def _sampler(parts: Parts) -> Any:
    own = [technique for technique in compose.ordered(parts.active) if technique.overrides("sampler")]
    if len(own) > 1:
        names = " and ".join(technique.name for technique in own)
        raise AblateError(
            f"phase {parts.phase.name}: {names} both choose the training order; turn one of them off."
        )
    return partial(own[0].sampler, parts.context) if own else None


class _Label:
    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def __call__(self, item: Item) -> str:
        return self.classes[item.target]


class _Sides:
    """Splits a list that has the training items first."""

    def __init__(self, n_train: int):
        self.n_train = n_train

    def __call__(self, items: Sequence[Any]) -> tuple[list[int], list[int]]:
        return list(range(self.n_train)), list(range(self.n_train, len(items)))
