"""What is measured: one phase of a recipe, on a sample of its images, as a run would train it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.filesize import decimal

from ablate import devices
from ablate.data import place
from ablate.data.cache import SPARE, look_and_keep, packed_bytes
from ablate.data.draws import is_drawn
from ablate.data.inspect import Progress, inspect, statistics
from ablate.data.items import Item, Items, load_items
from ablate.data.looks import Looks, Seen
from ablate.data.presize import Presize
from ablate.data.splits import Fold, make_folds
from ablate.data.tabular import fit_encoder
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Phase
from ablate.streams import Streams
from ablate.study.planning import available_cores
from ablate.study.prepare import presizes_of
from ablate.study.setting import switched_on
from ablate.training.parts import Parts

TRAIN, VALID = 256, 64
"""How many different images of each side are looked at."""
BATCHES = 256
"""The most batches of an epoch; a long real epoch is not measured to its end."""


@dataclass(frozen=True)
class Subject:
    """A phase, ready to be measured.

    Args:
        recipe: With what the techniques change in it.
        parts: What the phase is made of; its training side repeats the sample up to the real length.
        sample: The different training images.
        size: Median width and height of their files' images.
        kept_bytes: Mean bytes of a presized image in the cache; None without one.
        has_room: Whether the whole study's presized images fit on the disk.
        foreign: Techniques with item transforms that are not ablate's own.
        threads: Torch threads.
        load: Of the machine in the last minute, before anything was measured, in processes.
    """

    recipe: Recipe
    parts: Parts
    sample: list[Item]
    size: tuple[int, int]
    kept_bytes: float | None
    has_room: bool
    foreign: list[str]
    threads: int
    load: float

    @property
    def presize(self) -> Presize:
        """How the phase's images are made small."""
        assert self.parts.phase.presize is not None
        return Presize(self.parts.phase.presize, self.parts.jpeg)

    @property
    def in_memory(self) -> bool:
        """Whether the images come from no files."""
        return isinstance(self.sample[0].image, np.ndarray)

    @property
    def is_cached(self) -> bool:
        """Whether presized images come out of the cache."""
        return self.kept_bytes is not None


def make_subject(
    recipe: Recipe,
    phase: str | None = None,
    on: Sequence[str] = (),
    *,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Subject:
    """Choose the phase and a sample of its images, and have those in the cache if the recipe has one.

    Args:
        recipe: The recipe.
        phase: Which phase; default the last.
        on: Techniques that are on beside the baseline's.
        device: cpu, cuda, mps, xla or auto.
        threads: Torch threads; default all cores.
        workers: Loader threads; default as in a run.
        progress: Told how many of the sample's images have been decoded.
        note: Told what else a person wants to know.

    Raises:
        AblateError: There is no such phase or technique, or an image of the sample cannot be used.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    setting = switched_on(recipe, on)
    chosen = setting.phase(phase)
    device = devices.choose(device)
    items = load_items(setting.recipe.data, progress)
    folds = make_folds(items, setting.recipe.data)
    fold = folds[(setting.recipe.study.folds or [0])[0]]
    train, valid = _sample(fold.train, items, TRAIN), _sample(_validated(fold), items, VALID)
    sampled = [items.items[number] for number in [*train, *valid]]
    assert chosen.presize is not None
    presize = Presize(chosen.presize, setting.recipe.data.jpeg)
    fits = _fits(recipe, sampled, len(fold.train) + len(fold.valid) + len(fold.test))
    cached = [presize] if setting.recipe.data.is_cached and fits else []
    seen, presized = look_and_keep(sampled, cached, progress=progress, note=note)
    bad = _bad(sampled, seen, setting.recipe)
    length = len(fold.train) if len(fold.train) > TRAIN else len(train) - len(np.intersect1d(train, bad))
    train, valid = (np.setdiff1d(side, bad) for side in (train, valid))
    if not len(train) or not len(valid):
        raise AblateError(
            "data.on_bad_image: the sample has no usable image on one side; see `ablate check`."
        )
    good = [look for look in seen if not look.error]
    mean, std = statistics(Looks.of(good))
    kept = presized.get(presize.shorter)
    parts = Parts(
        model=setting.recipe.model,
        phase=chosen,
        on=setting.on,
        streams=Streams(0, chosen.name, setting.salt),
        items=items,
        fold=Fold(_epoch(train, length, chosen), valid, valid[:0]),
        pixel_mean=mean,
        pixel_std=std,
        device=device,
        workers=_workers(workers, sampled),
        presized=presized,
        jpeg=presize.quality,
        inactive=setting.inactive(chosen.name),
        encoder=fit_encoder(setting.recipe.data, items.items, fold),
    )
    return Subject(
        setting.recipe,
        parts,
        [items.items[number] for number in train],
        (int(np.median([look.width for look in good])), int(np.median([look.height for look in good]))),
        float(np.mean(kept.rows["length"][train])) if kept is not None else None,
        fits,
        _foreign(parts),
        threads or available_cores(),
        load,
    )


def _validated(fold: Fold) -> np.ndarray:
    """What a validation step is measured on: training images where there are no others."""
    return fold.valid if len(fold.valid) else fold.train


def _sample(numbers: np.ndarray, items: Items, most: int) -> np.ndarray:
    """Some of the numbers, evenly spread; of shards the first, since a shard may have to be fetched whole."""
    if len(numbers) <= most:
        return numbers
    if items.shards is not None:
        return numbers[:most]
    return numbers[np.linspace(0, len(numbers) - 1, most).astype(int)]


def _epoch(sample: np.ndarray, length: int, phase: Phase) -> np.ndarray:
    """The sample again and again, up to the real epoch's length, so that epochs end as often."""
    assert phase.batch_size
    return np.resize(sample, min(length, max(BATCHES * phase.batch_size, len(sample))))


def _fits(recipe: Recipe, sampled: Sequence[Item], n_images: int) -> bool:
    """Whether the presized images of all variants would find room; in a run a lack of it can end it."""
    presizes = presizes_of(recipe)
    if not presizes or isinstance(sampled[0].image, np.ndarray):
        return True
    sizes = [(look.width, look.height) for look in inspect(sampled) if not look.error]
    total = sum(packed_bytes(presize, *size) for presize in presizes for size in sizes)
    needed = total * n_images // max(len(sizes), 1)
    folders = [place.folder(presize.name) for presize in presizes]
    there = sum(pack.stat().st_size for folder in folders for pack in folder.glob("*.pack"))
    free = shutil.disk_usage(place.root()).free
    if needed - there + SPARE <= free:
        return True
    if recipe.data.cache != "auto":
        raise AblateError(
            f"data.cache: the presized images of the study need about {decimal(needed)} in "
            f"{place.root()}, where {decimal(free)} are free; set ABLATE_CACHE to a folder on a larger "
            "disk, or data.cache to {format: jpeg} or to off."
        )
    return False


def _bad(items: Sequence[Item], seen: Sequence[Seen], recipe: Recipe) -> list[int]:
    """The numbers of images that cannot be used, if the recipe lets them be left out."""
    bad = [(item.number, look.error) for item, look in zip(items, seen, strict=True) if look.error]
    if bad and recipe.data.on_bad_image == "error":
        raise AblateError(f"{bad[0][1]} `data.on_bad_image: skip` leaves such images out and lists them.")
    return [number for number, _ in bad]


def _workers(workers: int | None, items: Sequence[Item]) -> int:
    if workers is not None:
        return workers
    return 0 if isinstance(items[0].image, np.ndarray) else min(available_cores(), 8)


def _foreign(parts: Parts) -> list[str]:
    context = parts.context
    return [
        technique.name
        for technique in parts.active
        if any(not is_drawn(t) for t in technique.item_transforms(context))
    ]
