"""A fastai DataLoader whose order and random draws depend on the seed, the phase and the epoch alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from fastai.data.core import TfmdDL
from fastcore.foundation import L
from fasttransform import ItemTransform
from PIL import Image

from ablate import devices
from ablate.data.draws import CENTRE, Draw, Drawer
from ablate.streams import Streams

Sampler = Callable[[int], "np.ndarray | None"]
ReadBatch = Callable[[list[Any], list[Draw], bool], tuple[Any, ...]]


class KeyedDL(TfmdDL):
    """`TfmdDL` with keyed randomness: the same batches for any number of workers, whatever ran before.

    `keyed` gives it its streams. Set `epoch` before each pass; a pass that ends counts it up.

    The global generators of Python, numpy and torch are seeded for every item and every batch too, the
    device's for every batch, so transforms from elsewhere that draw from them are as repeatable as ours.
    """

    epoch: int = 0
    batch: int = 0
    streams: Streams | None = None
    drawer: Drawer | None = None
    sampler: Sampler | None = None
    read_batch: ReadBatch | None = None
    """Makes a batch from items and draws at once, as the item-by-item path would; None where it cannot."""

    def keyed(
        self, streams: Streams, drawer: Drawer | None = None, sampler: Sampler | None = None
    ) -> KeyedDL:
        """Set the streams, what to draw for each item (None: the centre square), and the order's own rule."""
        self.streams, self.drawer, self.sampler = streams, drawer, sampler
        others = [transform for transform in self.after_batch.fs if not isinstance(transform, SeedBatch)]
        self.after_batch.fs = L([SeedBatch(self), *others])
        return self

    def new(self, dataset: Any = None, cls: Any = None, **kwargs: Any) -> Any:
        made = super().new(dataset, cls, **kwargs)
        if isinstance(made, KeyedDL) and self.streams is not None:
            made.keyed(self.streams, self.drawer, self.sampler).epoch = self.epoch
            made.read_batch = None if kwargs.keys() & {"after_item", "before_batch"} else self.read_batch
        return made

    def numbers(self, positions: list[int]) -> np.ndarray:
        """The items' own numbers, which their draws are keyed by; positions where items have none."""
        items = self.dataset.items
        return np.array(
            [getattr(items[position], "number", position) for position in positions], dtype=np.int64
        )

    def __len__(self) -> int:
        wanted = self._wanted()
        if wanted is None or self.bs is None:
            return super().__len__()
        full, rest = divmod(len(wanted), self.bs)
        return full + (rest > 0 and not self.drop_last)

    def get_idxs(self) -> list[int]:
        wanted = self._wanted()
        return super().get_idxs() if wanted is None else wanted.tolist()

    def _wanted(self) -> np.ndarray | None:
        return self.sampler(self.epoch) if self.sampler and self.shuffle else None

    def shuffle_fn(self, idxs: list[int]) -> list[int]:
        if self.streams is None:
            return super().shuffle_fn(idxs)
        order = self.streams.generator("order", self.epoch).permutation(len(idxs))
        return [idxs[i] for i in order]

    def create_batches(self, samps: Iterator[Any]) -> Iterator[Any]:
        if self.streams is None or not self.indexed or self.bs is None:
            yield from super().create_batches(samps)
            return
        samps = iter(samps)
        while positions := list(islice(samps, self.bs)):
            if len(positions) < self.bs and self.drop_last:
                return
            yield self._batch(positions, self._draws(positions))

    def _batch(self, positions: list[int], draws: list[Draw]) -> Any:
        items = [self.dataset.items[position] for position in positions]
        # `Learner.predict` takes images that are open already, for which fastai leaves the opening out
        if self.read_batch is None or any(isinstance(item, Image.Image) for item in items):
            return self.do_batch([self._item(p, draw) for p, draw in zip(positions, draws, strict=True)])
        return self.read_batch(items, draws, len(self.dataset.tls) > 1)

    def _draws(self, positions: list[int]) -> list[Draw]:
        if self.drawer is None:
            return [CENTRE] * len(positions)
        return self.drawer.draw(self.epoch, self.numbers(positions))

    def _item(self, position: int, draw: Draw) -> Any:
        assert self.streams is not None
        _seed_all(self.streams.integer("item", self.epoch, int(self.numbers([position])[0])))
        image, *rest = self.create_item(position)
        image.draw = draw
        return self.after_item((image, *rest))

    def __iter__(self) -> Iterator[Any]:
        self.batch = 0
        yield from super().__iter__()

    def after_iter(self, *args: Any) -> None:
        self.epoch += 1


class SeedBatch(ItemTransform):
    """The first batch transform of a loader: seeds the global generators for those that follow."""

    order = -100

    def __init__(self, loader: KeyedDL):
        super().__init__()
        self.loader = loader

    def encodes(self, batch: Any) -> Any:
        if self.loader.streams is not None:
            seed = self.loader.streams.integer("batch", self.loader.epoch, self.loader.batch)
            _seed_all(seed)
            if self.loader.device is not None and self.loader.device.type in devices.NAMES:
                devices.load(self.loader.device.type).seed(seed)
            self.loader.batch += 1
        return batch


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
