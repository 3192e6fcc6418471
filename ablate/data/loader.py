"""A fastai DataLoader whose order and random draws depend on the seed, the phase and the epoch alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from fastai.data.core import TfmdDL
from fastcore.foundation import L
from fasttransform import ItemTransform

from ablate import devices
from ablate.data.ahead import in_order
from ablate.data.chosen import Chosen
from ablate.data.draws import CENTRE, Draw, Drawer
from ablate.data.share import Share
from ablate.streams import Streams

Sampler = Callable[[int], "np.ndarray | None"]
Fetch = Callable[[Sequence[Any], np.ndarray], Iterable[int]]
ReadBatch = Callable[[list[Any], list[Draw], bool], tuple[Any, ...]]
Chunk = tuple[list[int], np.ndarray]
_NUMBER_BITS = 40
"""Of a key, for the item's number; those above say how often the item has come up before in the epoch."""


class KeyedDL(TfmdDL):
    """`TfmdDL` with keyed randomness: the same batches for any number of workers, whatever ran before.

    `keyed` gives it its streams. Set `epoch` before each pass; a pass that ends counts it up.

    With `read_batch`, whole batches are made a little ahead, in as many threads as there are workers: the
    libraries that decode and warp leave Python's lock, and a batch that is made where it is used need not
    travel. Without, fastai goes item by item in worker processes, for transforms from elsewhere, which may
    keep state. Both give the same batches.

    The global generators of Python, numpy and torch are seeded for every batch, the device's too, and item
    by item for every item, so transforms from elsewhere that draw from them are as repeatable as ours.
    """

    n_inputs: ClassVar[int] = 1
    """How many parts of an item are inputs; those of a test set are no others."""
    epoch: int = 0
    batch: int = 0
    streams: Streams | None = None
    drawer: Drawer | None = None
    augmenter: Drawer | None = None
    """Draws in its place while the loader `augments`."""
    sampler: Sampler | None = None
    fetch: Fetch | None = None
    read_batch: ReadBatch | None = None
    """Makes a batch from items and draws at once, as the item-by-item path would; None where it cannot."""
    share: Share = Share()
    """This process's part of every batch; `bs` is the size of whole ones."""
    fills: bool = True
    """Whether the last batch may be filled up; not where an item's result depends on the others."""

    def keyed(
        self,
        streams: Streams,
        drawer: Drawer | None = None,
        sampler: Sampler | None = None,
        fetch: Fetch | None = None,
    ) -> KeyedDL:
        """Say where randomness comes from.

        Args:
            streams: Those of the phase, or of prediction.
            drawer: What to draw for each item; None for the centre square.
            sampler: The order's own rule: the positions to visit in an epoch, or None for a plain shuffle.
            fetch: Has what lies elsewhere fetched a little ahead: passes positions on as it is there.
        """
        self.streams, self.drawer, self.sampler, self.fetch = streams, drawer, sampler, fetch
        self._chosen: tuple[int, np.ndarray | None] | None = None
        others = [
            transform for transform in self.after_batch.fs if not isinstance(transform, SeedBatch | LayOut)
        ]
        self.after_batch.fs = L([SeedBatch(self), LayOut(self), *others])
        return self

    def new(self, dataset: Any = None, cls: Any = None, **kwargs: Any) -> Any:
        made = super().new(dataset, cls, **kwargs)
        if isinstance(made, KeyedDL) and self.streams is not None:
            made.keyed(self.streams, self.drawer, self.sampler, self.fetch).epoch = self.epoch
            made.read_batch = None if kwargs.keys() & {"after_item", "before_batch"} else self.read_batch
            made.augmenter, made.fills = self.augmenter, self.fills
        return made

    @property
    def augments(self) -> bool:
        """Whether fastai asks for the transforms of training where there are none, as `Learner.tta` does."""
        return self.augmenter is not None and getattr(self.dataset, "split_idx", None) == 0

    @property
    def items(self) -> list[Any]:
        """The dataset's items, in a list: fastai's interpretations ask for several at once."""
        return list(self.dataset.items)

    def numbers(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items' own numbers, which their draws are keyed by; positions where items have none."""
        items = self.dataset.items
        if isinstance(items, Chosen):
            return items.numbers[positions]
        return np.array(
            [getattr(items[position], "number", position) for position in positions], dtype=np.int64
        )

    def __len__(self) -> int:
        wanted = self._wanted()
        if wanted is None or self.bs is None:
            return super().__len__()
        full, rest = divmod(len(wanted), self.bs)
        return full + (rest > 0 and not self.drop_last)

    def get_idxs(self) -> Any:
        """The positions to visit in this epoch, an array where fastai has a list."""
        if self.streams is None or not self.indexed or self.n is None:
            return super().get_idxs()
        wanted = self._wanted()
        if wanted is not None:
            return wanted
        return self.shuffle_fn(np.arange(self.n)) if self.shuffle else np.arange(self.n)

    def _wanted(self) -> np.ndarray | None:
        """What the sampler says of this epoch, asked once: fastai asks for the length again and again."""
        if not self.sampler or not self.shuffle:
            return None
        if self._chosen is None or self._chosen[0] != self.epoch:
            self._chosen = self.epoch, self.sampler(self.epoch)
        return self._chosen[1]

    def shuffle_fn(self, idxs: Any) -> Any:
        if self.streams is None:
            return super().shuffle_fn(idxs)
        return np.asarray(idxs)[self.streams.generator("order", self.epoch).permutation(len(idxs))]

    def __iter__(self) -> Iterator[Any]:
        self.batch = 0
        if self.read_batch is None or not self._keyed:
            yield from super().__iter__()
            return
        self.randomize()
        self.before_iter()
        positions = self.get_idxs()
        if self.fetch and isinstance(positions, np.ndarray):
            positions = self.fetch(self.dataset.items, positions)
        with closing(self._ahead(self._chunks(positions), self.epoch)) as batches:
            for batch in self.adapter.feed(batches) if self.adapter else batches:
                yield self.after_batch(batch)
        self.after_iter()

    @property
    def _keyed(self) -> bool:
        return self.streams is not None and self.indexed and self.bs is not None

    @property
    def adapter(self) -> devices.Device | None:
        """The device that batches go to, if it is one of ours."""
        known = self.device is not None and self.device.type in devices.NAMES
        return devices.load(self.device.type) if known else None

    def _chunks(self, positions: Iterable[int]) -> Iterator[Chunk]:
        """This process's positions, batch by batch, and what their items' draws are keyed by: their numbers.

        An item that comes up again in an epoch has another key, and so looks otherwise.
        """
        positions, wanted = map(int, positions), self._wanted()
        again = None if wanted is None else times_before(wanted) << _NUMBER_BITS
        begin = self.offs * self.bs
        while chunk := list(islice(positions, self.bs)):
            if len(chunk) < self.bs and self.drop_last:
                return
            keys = self.numbers(chunk)
            keys = keys if again is None else keys + again[begin : begin + len(chunk)]
            yield self.share.of(chunk), self.share.of(keys)
            begin += self.num_workers * self.bs

    def _ahead(self, chunks: Iterator[Chunk], epoch: int) -> Generator[Any]:
        """Batches on the host, made ahead in threads, where there are workers."""
        threads = self.fake_l.num_workers
        labelled = len(self.dataset.tls) > self.n_inputs

        def read(chunk: Chunk) -> Any:
            assert self.read_batch is not None
            (positions, keys), items = chunk, self.dataset.items
            some = items.at(positions) if isinstance(items, Chosen) else [items[p] for p in positions]
            return self._filled(self.read_batch(some, self._draws(keys, epoch), labelled))

        if not threads:
            yield from map(read, chunks)
            return
        with ThreadPoolExecutor(threads) as pool, closing(in_order(pool, read, chunks, threads + 1)) as made:
            yield from made

    def create_batches(self, samps: Iterator[Any]) -> Iterator[Any]:
        if not self._keyed:
            yield from super().create_batches(samps)
            return
        for positions, keys in self._chunks(samps):
            each = zip(positions, keys.tolist(), self._draws(keys, self.epoch), strict=True)
            yield self._filled(self.do_batch([self._item(*one) for one in each]))

    def one_batch(self) -> Any:
        fills, self.fills = self.fills, False  # for somebody to look at
        try:
            return super().one_batch()
        finally:
            self.fills = fills

    def real(self, batch: int) -> int:
        """How many items a batch of an epoch has, without those that it is filled up with."""
        wanted = self._wanted()
        visited = self.n if wanted is None else len(wanted)
        return min(self.bs, visited - batch * self.bs)

    def _filled(self, batch: Any) -> Any:
        """A smaller last batch filled up with zeros, where the device wants all batches of one shape.

        Not those that are trained on, which zeros would change.
        """
        if self.shuffle or not self.fills or self.adapter is None or not self.adapter.fixed_shapes:
            return batch
        return tuple(_filled_up(part, self.bs) for part in batch)

    def _draws(self, keys: np.ndarray, epoch: int) -> list[Draw]:
        drawer = self.augmenter if self.augments else self.drawer
        return [CENTRE] * len(keys) if drawer is None else drawer.draw(epoch, keys)

    def _item(self, position: int, key: int, draw: Draw) -> Any:
        assert self.streams is not None
        _seed_all(self.streams.integer("item", self.epoch, key))
        image, *rest = self.create_item(position)
        image.draw = draw
        return self.after_item((image, *rest))

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
            index = self.loader.share.index(self.loader.batch)
            seed = self.loader.streams.integer("batch", self.loader.epoch, index)
            _seed_all(seed)
            if adapter := self.loader.adapter:
                adapter.seed(seed)
            self.loader.batch += 1
        return batch


class LayOut(ItemTransform):
    """The second batch transform: lays a batch out as the device computes with it, whoever made it."""

    order = -99

    def __init__(self, loader: KeyedDL):
        super().__init__()
        self.loader = loader

    def encodes(self, batch: Any) -> Any:
        adapter = self.loader.adapter
        return batch if adapter is None else adapter.lay_out(batch)


def _filled_up(part: torch.Tensor, size: int) -> torch.Tensor:
    missing = size - len(part)
    return torch.cat([part, part.new_zeros((missing, *part.shape[1:]))]) if missing else part


def times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry of an order, shape (n,), stands before it: 0, 0, 1, 2 for 3, 5, 3, 3."""
    by_entry = np.argsort(order, kind="stable")
    counts = np.unique(order, return_counts=True)[1]
    before = np.empty(len(order), dtype=np.int64)
    before[by_entry] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return before


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
