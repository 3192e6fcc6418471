"""The host's part: decode, presize, read the cache, augment, and the loader as a whole.

Everything is done in as many threads as the loader has, so the times add up to the loader's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastai.data.core import DataLoaders, TfmdDL
from fastcore.foundation import L

from ablate.bench.stopwatch import Stopwatch
from ablate.bench.subject import Subject
from ablate.data.ahead import in_order
from ablate.data.images import decode
from ablate.data.items import Item
from ablate.data.packs import Presized
from ablate.data.pixels import Pixels
from ablate.data.render import warped
from ablate.training.data import dataloaders

GROUP = 8
"""How many images a thread does at a time."""
IN_MEMORY = 64
"""How many presized images are held in memory: enough to be larger than a processor's own caches."""


def decoding(subject: Subject, seconds: float) -> float:
    """Read and decode files."""

    def one(item: Item) -> None:
        decode(item.image, str(item.image) if isinstance(item.image, Path) else item.id)

    return _rate(one, subject.sample, subject.parts.workers, seconds)


def presizing(subject: Subject, seconds: float) -> float:
    """Read, decode and presize files."""
    return _rate(Pixels(subject.presize), subject.sample, subject.parts.workers, seconds)


def reading(subject: Subject, seconds: float) -> float:
    """Read presized images from the cache."""
    presized = subject.parts.presized[subject.presize.shorter]
    # a copy, since a memory map reads nothing before it is looked at
    once = lambda item: np.array(presized[item.number])  # noqa: E731
    for item in subject.sample:  # the first look compares checksums, once per process
        once(item)
    return _rate(once, subject.sample, subject.parts.workers, seconds)


def augmenting(subject: Subject, seconds: float) -> float:
    """Cut and warp presized images that are in memory, under the draws of the phase."""
    size, drawer = subject.parts.phase.size, dataloaders(subject.parts).train.drawer
    assert size is not None
    images = _in_memory(subject)
    numbers = np.array([item.number for item in subject.sample])
    draws = [draw for epoch in range(4) for draw in drawer.draw(epoch, numbers)]
    pairs = list(zip(cycle(images), draws))
    return _rate(lambda pair: warped(pair[0], pair[1], size), pairs, subject.parts.workers, seconds)


def loading(subject: Subject, seconds: float) -> float:
    """The training loader as the recipe has it, up to batches of bytes on the device."""
    return _loader_rate(dataloaders(subject.parts), subject, seconds)


def loading_decoded(subject: Subject, seconds: float) -> float:
    """The training loader without a cache."""
    return _loader_rate(dataloaders(replace(subject.parts, presized={})), subject, seconds)


def loading_kept(subject: Subject, seconds: float) -> float:
    """The training loader with presized images in memory."""
    images = cycle(_in_memory(subject))
    kept = {item.number: image for item, image in zip(subject.parts.side("train"), images)}
    presized = {subject.presize.shorter: cast(Presized, kept)}
    return _loader_rate(dataloaders(replace(subject.parts, presized=presized)), subject, seconds)


def _in_memory(subject: Subject) -> list[np.ndarray]:
    pixels = Pixels(subject.presize)
    return [pixels(item) for item in subject.sample[:IN_MEMORY]]


def _rate(function: Callable[[Any], Any], things: Sequence[Any], threads: int, seconds: float) -> float:
    """How many of some things a second a function does in threads; none for the caller's own."""
    endless = cycle(things)
    groups = iter(lambda: list(islice(endless, GROUP)), None)

    def do(group: list[Any]) -> int:
        for thing in group:
            function(thing)
        return len(group)

    watch = Stopwatch(seconds, warm=threads + 1, least=threads)
    with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
        done: Any = in_order(pool, do, groups, 2 * threads) if pool else (do(group) for group in groups)
        with closing(done):
            for count in done:
                if watch.count(count):
                    break
    return watch.rate


def _loader_rate(dls: DataLoaders, subject: Subject, seconds: float) -> float:
    workers = subject.parts.workers
    batch: Any = None
    watch = Stopwatch(seconds, warm=workers + 2, least=workers, wait=lambda: batch[0].ravel()[0].item())
    with closing(raw_batches(dls.train)) as batches:
        for batch in batches:
            if watch.count(len(batch[0])):
                return watch.rate
    raise AssertionError("epochs have no end")


def raw_batches(loader: TfmdDL) -> Generator[Any]:
    """Epoch after epoch of batches as they come to the device, before the batch transforms."""
    transforms, loader.after_batch.fs = loader.after_batch.fs, L()
    try:
        while True:
            yield from loader
    finally:
        loader.after_batch.fs = transforms
