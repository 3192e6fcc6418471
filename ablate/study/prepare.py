"""Get a recipe's data ready: load the items, split them, look at the images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np

from ablate import techniques
from ablate.analysis import names
from ablate.data import extra
from ablate.data.cache import cache_bytes, look_and_keep
from ablate.data.chosen import Chosen
from ablate.data.images import BadImage
from ablate.data.inspect import file_hash, fingerprint, recall, statistics
from ablate.data.items import Item, Items, load_items
from ablate.data.likeness import Hashing
from ablate.data.looks import Looks, Seen
from ablate.data.packs import Presized
from ablate.data.presize import Presize
from ablate.data.splits import Fold, make_folds, quick_fold
from ablate.data.streaming import layout
from ablate.data.unseen import unseen_categories
from ablate.errors import AblateError
from ablate.recipe.load import Location
from ablate.recipe.problems import Problem
from ablate.recipe.recipe import Recipe
from ablate.study import design
from ablate.study.graph import FoldData
from ablate.study.setting import Setting, work_out
from ablate.study.unscored import tell_unscored

Channels = tuple[float, float, float]
_LONG = 10_000
"""Images whose longer side would be presized to more pixels are worth a closer look."""
_UNKNOWN: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Looked(Protocol):
    """Told of progress: how many are done, how many there are, and what."""

    def __call__(self, done: int, total: int, what: str = "new images") -> None: ...


@dataclass(frozen=True)
class Prepared:
    """A recipe's data, split.

    Args:
        items: All items.
        folds: All folds, cut down in a quick run.
        identities: The folds' identities, in the same order.
        pixels: Mean and standard deviation of each fold's training images.
        weights_hash: Of the file of initial weights, where there is one.
        presized: The cached images by presize, where images have been looked at and there is a cache.
        skipped: Why items are left out everywhere, by number.
        left_out: Why extra images are left out of a fold's training, by number, for each fold.
        cache_bytes: About how many bytes the cached images take; None without a cache, 0 if nothing is known.
    """

    items: Items
    folds: list[Fold]
    identities: list[FoldData]
    pixels: list[tuple[Channels, Channels]]
    weights_hash: str | None
    presized: dict[int, Presized] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    left_out: list[extra.LeftOut] = field(default_factory=list)
    cache_bytes: int | None = None

    def without(self, fold: int) -> tuple[int, ...]:
        """The numbers of the items that are left out of a fold."""
        return (*self.skipped, *self.left_out[fold])

    @property
    def reasons(self) -> dict[str, str]:
        """Why items are left out, of all folds or of some, by id."""
        reasons: dict[int, str] = {}
        for left_out in (self.skipped, *self.left_out):
            for number, why in left_out.items():
                reasons[number] = f"{reasons[number]}; {why}" if number in reasons else why
        return {self.items.items[number].id: why for number, why in sorted(reasons.items())}

    @property
    def n_leaking(self) -> int:
        """How many extra images are left out of the training of some fold."""
        return len(set().union(*self.left_out))

    @property
    def in_memory(self) -> bool:
        """Whether the images need no files, so that loader threads would only cost time."""
        return isinstance(self.items.items[0].image, np.ndarray)


def presizes_of(recipe: Recipe, settings: Iterable[Setting] | None = None) -> list[Presize]:
    """How a recipe's images are presized, in all phases of some or all variants; none without a cache."""
    return _presizes(recipe, settings) if recipe.data.is_cached else []


def _presizes(recipe: Recipe, settings: Iterable[Setting] | None = None) -> list[Presize]:
    if settings is None:
        factors = design.factors(recipe.study, list(techniques.known(recipe.technique_sources)))
        settings = (work_out(recipe, variant) for variant in design.variants(recipe.study, factors))
    sizes = {phase.presize for setting in settings for phase in setting.phases if phase.presize is not None}
    return [Presize(size, recipe.data.jpeg) for size in sorted(sizes)]


def prepare(
    recipe: Recipe,
    *,
    quick: bool = False,
    look: bool = True,
    presizes: Sequence[Presize] = (),
    progress: Looked | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Load, split and look.

    Args:
        recipe: The recipe.
        quick: Whether to cut every fold down to a sample.
        look: Whether to look at images that are new or changed, and to have them presized; else what is known
            is taken, as in planning.
        presizes: How the images are kept in the cache; none for no cache.
        progress: Told how many of the new images, or `new shards`, have been looked at.
        note: Told what else a person wants to know.

    Raises:
        AblateError: The data cannot be used; the first reason is told.
    """
    items = load_items(recipe.data, partial(progress, what="new shards") if progress else None)
    recipe.complain(list(_unsuitable_metrics(recipe, items.classes)))
    folds = make_folds(items, recipe.data)
    if quick:
        folds = [quick_fold(fold, items) for fold in folds]
    else:
        run = recipe.study.folds or range(len(folds))
        tell_unscored(items, {index: folds[index] for index in run}, recipe.study.metric, note)
    is_used = np.zeros(len(items.items), bool)
    for fold in folds:
        for side in (fold.train, fold.valid, fold.test):
            is_used[side] = True
    used = np.flatnonzero(is_used)
    all_used = len(used) == len(items.items)
    looked_at = items.items if all_used else Chosen(items.items, used)
    looks: Looks[Seen] | Looks[Seen | None]
    presized: dict[int, Presized] = {}
    skipped: dict[int, str] = {}
    if look:
        required = recipe.data.cache != "auto"
        hashing = Hashing() if extra.compared(recipe.data) else None
        looks, presized = look_and_keep(
            looked_at, presizes, required=required, visit=hashing, progress=progress, note=note
        )
        if hashing:
            hashing.finish()
    else:
        looks = recall(looked_at)
    bad = bad_images(looked_at, looks, presizes or _presizes(recipe))
    if bad and recipe.data.on_bad_image == "skip":
        skipped = bad
        folds = [_kept(fold, skipped) for fold in folds]
    elif bad and look:
        _refuse(bad)
    left_out, is_final = extra.left_out(items, folds, recipe.data, used, looks)
    folds = [fold.without(out) for fold, out in zip(folds, left_out, strict=True)]
    asked = {i: folds[i] for i in recipe.study.folds or range(len(folds))}
    for told in unseen_categories(recipe.data, items.items, asked):
        note(told)
    streams = recipe.data.stream is not None
    weights = recipe.model.weights
    if weights is not None and not Path(weights).is_file():
        raise AblateError(f"model.weights: there is no file {weights}.")
    return Prepared(
        items,
        folds,
        [_identity(i, fold, items, used, looks, streams, is_final) for i, fold in enumerate(folds)],
        [_pixels(looks.take(np.searchsorted(used, fold.train))) for fold in folds],
        file_hash(Path(weights)) if weights else None,
        presized,
        skipped,
        left_out,
        cache_bytes(looked_at, looks, presizes),
    )


def _unsuitable_metrics(recipe: Recipe, classes: Sequence[str]) -> Iterator[Problem]:
    """Metrics that cannot be measured on these classes, found before anything is trained."""
    study, many = recipe.study, len(classes) > names.MOST_CLASSES
    asked: list[tuple[Location, str]] = [(("study", "metric"), study.metric)]
    asked += [(("study", "metrics", i), name) for i, name in enumerate(study.metrics)]
    asked += [(("keep_by",), recipe.keep_by)] if recipe.keep_by == "roc_auc" else []
    for location, name in asked:
        if why := names.why_not(name, classes):
            yield Problem(location, f"{name!r} {why}")
        elif many and names.needs_all(name):
            yield Problem(
                location,
                f"{name!r} needs the probabilities of all classes, which are kept up to "
                f"{names.MOST_CLASSES:,}, and these data have {len(classes):,}; take accuracy or log_loss.",
            )


def bad_images(
    items: Sequence[Item], looks: Looks[Seen] | Looks[Seen | None], presizes: Sequence[Presize]
) -> dict[int, str]:
    """Why items that are known cannot be used, by number."""
    wide, high = looks.rows["width"], looks.rows["height"]
    longest = max((presize.shorter for presize in presizes), default=0) * np.maximum(wide, high).astype(float)
    suspects = looks.known & (~looks.usable | (longest > _LONG * np.minimum(wide, high)))
    bad: dict[int, str] = {}
    for position in np.flatnonzero(suspects).tolist():
        item, look = items[position], looks[position]
        assert look is not None
        try:
            if look.error:
                raise BadImage(look.error)
            for presize in presizes:
                presize.size(look.width, look.height)
        except BadImage as error:
            bad[item.number] = look.error or f"{item.id}: {error}"
    return bad


def _refuse(bad: dict[int, str]) -> NoReturn:
    more = f" ({len(bad) - 1} more; `ablate check` lists them all)" if len(bad) > 1 else ""
    raise AblateError(
        f"{next(iter(bad.values()))}{more} `data.on_bad_image: skip` leaves such images out and lists them."
    )


def _kept(fold: Fold, skipped: Collection[int]) -> Fold:
    kept = fold.without(skipped)
    if not len(kept.train) or (len(fold.valid) and not len(kept.valid)):
        raise AblateError("data.on_bad_image: no usable image is left on one side of the split.")
    return kept


def _identity(
    index: int,
    fold: Fold,
    items: Items,
    used: np.ndarray,
    looks: Looks[Seen] | Looks[Seen | None],
    streams: bool,
    is_final: bool,
) -> FoldData:
    def side(numbers: np.ndarray) -> str | None:
        known = looks.take(np.searchsorted(used, numbers))
        return fingerprint(Chosen(items.items, numbers), items.classes, known)

    train = side(fold.train) if is_final else None
    if streams and train:  # which images are shuffled together depends on it
        assert items.shards is not None
        train = f"{train}-{layout(items.shards[fold.train])}"
    return FoldData(index, train, side(fold.valid), side(fold.test) if len(fold.test) else None)


def _pixels(looks: Looks[Seen] | Looks[Seen | None]) -> tuple[Channels, Channels]:
    return statistics(looks) if looks.usable.all() else _UNKNOWN
