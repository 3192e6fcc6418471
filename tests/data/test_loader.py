from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
import pytest
import torch
from fastai.callback import schedule  # noqa: F401  gives Learner its fit_one_cycle
from fastai.callback.core import Callback
from fastai.torch_core import TensorCategory, TensorImage
from fastai.vision.augment import FlipItem, RandomErasing, RandTransform
from fastai.vision.core import PILImage
from fasttransform import Transform
from torch import Tensor

from ablate.data.cache import look_and_keep
from ablate.data.images import BadImage
from ablate.data.items import load_items
from ablate.data.loader import KeyedDL, times_before
from ablate.data.presize import Presize
from ablate.data.splits import Fold, make_folds
from ablate.recipe.data_schema import Data, Split
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.techniques.augment import Augment
from ablate.techniques.base import Context, Technique
from ablate.techniques.normalize import Normalize
from ablate.techniques.random_resized_crop import RandomResizedCrop
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts

mpl.use("agg")
from matplotlib import pyplot as plt

DIGITS = load_items(Data(source="digits"))
Batches = list[tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def parts(*on: Technique, batch_size: int = 16, seed: int = 0, name: str = "tune", workers: int = 0) -> Parts:
    """70 digits for training and 37 for validation."""
    return Parts(
        model=Model(arch="test_resnet", pretrained=False),
        phase=Phase(name=name, epochs=1, batch_size=batch_size, size=16, presize=20, weight_decay=0.01),
        on={technique.name: technique for technique in on},
        streams=Streams(seed, name),
        items=DIGITS,
        fold=Fold(np.arange(70), np.arange(70, 107), np.arange(0)),
        workers=workers,
    )


@pytest.fixture
def photo_parts(photos: Path) -> Parts:
    data = Data(root=str(photos), table="table.csv", split=Split(column="is_val"))
    items = load_items(data)
    return replace(parts(Augment(), batch_size=4), items=items, fold=make_folds(items, data)[0])


def batches(loader: KeyedDL) -> Batches:
    return [tuple(tensor.as_subclass(Tensor).clone() for tensor in batch) for batch in loader]


def images(loader: KeyedDL) -> Tensor:
    return torch.cat([batch[0] for batch in batches(loader)])


def same(one: Batches, other: Batches) -> bool:
    assert len(one) == len(other)
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


class Shuffled(Transform):
    """A batch transform of training that draws from torch's global generator."""

    split_idx = 0
    order = 20

    def encodes(self, x: TensorImage):
        return x + torch.rand(x.shape) * 0.1


class Nudge(RandTransform):
    """An item transform of training that draws from Python's, numpy's and torch's global generators."""

    order = 2

    def before_call(self, b: Any, split_idx: int) -> None:
        super().before_call(b, split_idx)
        self.by = random.randint(0, 9) + np.random.randint(10) + int(torch.randint(10, ()))

    def encodes(self, x: PILImage):
        return PILImage.create(np.asarray(x) // 2 + self.by)


class Foreign(Technique):
    """Transforms by others, with all their ways to be random."""

    name: ClassVar[str] = "foreign"

    def item_transforms(self, context: Context) -> list[Any]:
        return [FlipItem(0.5), Nudge()]

    def batch_transforms(self, context: Context) -> list[Any]:
        return [RandomErasing(p=0.5, max_count=3), Shuffled()]


class Sampled(Technique):
    """Visits every fifth image, more often with each epoch, and the last image first."""

    name: ClassVar[str] = "sampled"

    def sampler(self, context: Context, epoch: int) -> np.ndarray:
        assert len(context.train_targets) == 70
        return np.tile(np.arange(0, 70, 5), epoch + 1)[::-1]


class Unsampled(Technique):
    """Has the hook and leaves the order alone."""

    name: ClassVar[str] = "unsampled"

    def sampler(self, context: Context, epoch: int) -> None:
        return None


@pytest.mark.parametrize("on", [[Augment(), Normalize()], [Augment(), Foreign()]], ids=["ours", "foreign"])
def test_workers_change_nothing(on: list[Technique]):
    here, there = (dataloaders(parts(*on, workers=workers)) for workers in (0, 2))
    for side in ("train", "valid"):
        epochs = []
        for _ in range(2):
            epochs.append(batches(getattr(here, side)))
            random.seed(5)
            np.random.seed(6)
            torch.manual_seed(7)
            assert same(epochs[-1], batches(getattr(there, side)))
        assert same(*epochs) == (side == "valid")


def test_foreign_transforms_are_random_and_repeatable():
    plain, one, two = (dataloaders(parts(*on)) for on in ([], [Foreign()], [Foreign()]))
    first = images(one.train)
    assert torch.equal(first, images(two.train))
    assert not torch.equal(first, images(one.train))
    raw = images(plain.train)
    ratios = (first - raw / 2).mean((1, 2, 3))  # Nudge's draws differ between the items of a batch
    assert len(ratios[:16].round(decimals=2).unique()) > 8
    other = images(dataloaders(parts(Foreign(), seed=1)).train)
    assert not torch.equal(first.sort(0)[0], other.sort(0)[0])
    for loader, without in ((one.valid, plain.valid), (one.test_dl(one.valid_ds.items), plain.valid)):
        assert torch.equal(images(loader), images(without))


@pytest.mark.parametrize("source", ["digits", "photos"])
def test_reading_a_batch_at_once_is_reading_item_by_item(source: str, photo_parts: Parts):
    own = photo_parts if source == "photos" else parts(Augment(), Normalize())
    dls = dataloaders(own)
    items = own.side("valid")[:9]
    loaders = [dls.train, dls.valid, dls.test_dl(items), dls.test_dl(items, with_labels=True)]
    for loader in loaders:
        assert loader.read_batch is not None
        at_once, types = batches(loader), [type(tensor) for tensor in loader.one_batch()]
        assert types == [TensorImage, TensorCategory][: len(types)]
        loader.read_batch, loader.epoch = None, 0
        assert same(batches(loader), at_once)
        assert [type(tensor) for tensor in loader.one_batch()] == types
    assert [len(loader.one_batch()) for loader in loaders] == [2, 2, 1, 2]


CACHES = {"off": (None, False), "raw": (None, True), "jpeg": (90, True), "jpeg without a cache": (90, False)}


def cached(own: Parts, kind: str) -> Parts:
    """The same phase with its images cached, or presized in another form."""
    jpeg, kept = CACHES[kind]
    presize = Presize(own.phase.presize, jpeg)
    return replace(own, jpeg=jpeg, presized=look_and_keep(own.items.items, [presize])[1] if kept else {})


def epochs(own: Parts, number: int = 3, at_once: bool = True) -> list[Batches]:
    """The batches of some epochs of training, and of validation."""
    dls = dataloaders(own)
    if not at_once:
        dls.train.read_batch = dls.valid.read_batch = None
    else:
        assert dls.train.read_batch is not None
    return [batches(dls.train) for _ in range(number)] + [batches(dls.valid)]


@pytest.mark.parametrize("crop", [(), (RandomResizedCrop(),)], ids=["square", "random resized crop"])
def test_threads_and_caches_change_nothing(crop: tuple[Technique, ...], photo_parts: Parts):
    on = {technique.name: technique for technique in (Augment(), Normalize(), *crop)}
    own = replace(photo_parts, on=on)
    expected = {jpeg: epochs(replace(own, jpeg=jpeg), at_once=False) for jpeg in (None, 90)}
    first, second, *_ = expected[None]
    assert not same(first, second)
    assert not all(same(a, b) for a, b in zip(expected[None], expected[90], strict=True))
    for kind, (jpeg, _) in CACHES.items():
        kept = cached(own, kind)
        for workers in (0, 1, 2, 3):
            found = epochs(replace(kept, workers=workers))
            assert all(same(a, b) for a, b in zip(found, expected[jpeg], strict=True)), (kind, workers)
        found = epochs(kept, at_once=False)
        assert all(same(a, b) for a, b in zip(found, expected[jpeg], strict=True)), kind


def test_phases_of_other_sizes_read_the_same_cache(photo_parts: Parts):
    phases = [replace_phase(photo_parts, size, presize) for size, presize in ((16, 20), (24, 30), (30, 30))]
    _, presized = look_and_keep(photo_parts.items.items, [Presize(20), Presize(30)])
    for own in phases:
        found = epochs(replace(own, presized=presized, workers=2), 2)
        assert all(same(a, b) for a, b in zip(found, epochs(own, 2, at_once=False), strict=True))
        assert found[0][0][0].shape[-1] == own.phase.size


def replace_phase(own: Parts, size: int, presize: int) -> Parts:
    return replace(own, phase=own.phase.model_copy(update={"size": size, "presize": presize}))


def test_items_that_are_left_out_leave_the_draws_of_the_others(photo_parts: Parts):
    def by_number(own: Parts) -> dict[int, Tensor]:
        loader = dataloaders(replace_phase(own, 20, 20)).train.new(drop_last=False)
        loader.epoch = 0
        numbers = loader.numbers(loader.get_idxs()).tolist()
        return dict(zip(numbers, images(loader), strict=True))

    out = [int(photo_parts.fold.train[1]), int(photo_parts.fold.train[7])]
    whole = by_number(photo_parts)
    some = by_number(replace(photo_parts, fold=photo_parts.fold.without(out)))
    assert set(whole) - set(some) == set(out)
    assert all(torch.equal(image, whole[number]) for number, image in some.items())


def test_batches_come_to_the_transforms_as_bytes_with_channels_last(photo_parts: Parts):
    seen = []

    class Look(Transform):
        def encodes(self, x: TensorImage) -> TensorImage:
            seen.append((x.dtype, x.is_contiguous(memory_format=torch.channels_last), x.shape))
            return x

    for loader in dataloaders(replace(photo_parts, workers=2)).loaders:
        for at_once in (True, False):
            loader.read_batch = loader.read_batch if at_once else None
            loader.after_batch.fs.insert(2, Look())  # after the seed and the layout
            x, _ = loader.one_batch()
            loader.after_batch.fs.pop(2)
            assert (x.dtype, x.is_contiguous(memory_format=torch.channels_last)) == (torch.float32, True)
    assert len(seen) == 4
    assert set(seen) == {(torch.uint8, True, (4, 3, 16, 16))}


def threads() -> int:
    return threading.active_count()


@pytest.mark.parametrize("end", ["closed", "dropped", "an error"])
def test_an_iterator_that_is_left_early_leaves_no_threads(end: str, photo_parts: Parts):
    loader = dataloaders(replace(photo_parts, workers=3)).train
    before, epoch = threads(), loader.epoch
    batch_iterator = iter(loader)
    next(batch_iterator)
    assert threads() > before
    if end == "closed":
        batch_iterator.close()
    elif end == "an error":
        with pytest.raises(KeyboardInterrupt):
            batch_iterator.throw(KeyboardInterrupt())
    del batch_iterator
    assert threads() == before
    assert loader.epoch == epoch
    for _ in range(3):
        loader.one_batch()
    assert threads() == before


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_file_that_goes_meanwhile_is_named(workers: int, photo_parts: Parts):
    before = threads()
    path = photo_parts.side("valid")[5].image
    dls = dataloaders(replace(photo_parts, workers=workers))
    path.rename(path.with_suffix(".gone"))
    with pytest.raises(BadImage, match=f"{path.name}: there is no such file"):
        batches(dls.valid)
    path.write_bytes(b"")
    with pytest.raises(BadImage, match=f"{path.name}: the file is empty"):
        batches(dls.valid)
    assert threads() == before
    batches(dls.train)
    path.with_suffix(".gone").rename(path)
    dls.valid.epoch = 0
    assert len(batches(dls.valid)) == 2


def test_a_file_that_goes_is_not_missed_where_it_is_cached(photo_parts: Parts):
    own = cached(photo_parts, "raw")
    expected = epochs(own)
    for item in own.items.items:
        item.image.unlink()
    assert all(same(a, b) for a, b in zip(epochs(replace(own, workers=2)), expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_one_image_is_shown_in_many_ways(workers: int, photo_parts: Parts, one_figure: Callable):
    loader = dataloaders(replace(photo_parts, workers=workers)).train
    shown = one_figure(lambda: loader.show_batch(max_n=4, unique=True))
    assert len(shown) == 4
    assert len({axis.get_title() for axis in shown}) == 1
    assert len({axis.get_images()[0].get_array().tobytes() for axis in shown}) == 1
    assert sorted(loader.get_idxs()) == list(range(len(loader.dataset)))  # as before


def test_labels_belong_to_their_images():
    dls = dataloaders(parts())
    by_pixels = {}
    for item in parts().side("train"):
        ((x,),) = batches(dls.test_dl([item]))
        by_pixels[x.numpy().tobytes()] = item.target
    for x, y in batches(dls.train):
        assert [by_pixels[one.numpy().tobytes()] for one in x] == y.tolist()


def test_the_order_is_keyed_by_seed_phase_and_epoch():
    def order(epoch: int = 0, **given: Any) -> list[int]:
        loader = dataloaders(parts(**given)).train
        loader.epoch = epoch
        return loader.get_idxs().tolist()

    first = order()
    assert sorted(first) == list(range(70))
    orders = [first, order(epoch=1), order(seed=1), order(name="head")]
    assert len({tuple(one) for one in orders}) == 4
    random.seed(1)
    assert order() == first
    assert order(batch_size=8) == first
    assert abs(np.corrcoef(first, np.arange(70))[0, 1]) < 0.35


def test_epochs_count_up_and_can_be_set():
    loader = dataloaders(parts(Augment())).train
    first, second = batches(loader), batches(loader)
    assert loader.epoch == 2
    assert not same(first, second)
    loader.epoch = 0
    assert same(batches(loader), first)
    assert same(batches(loader), second)
    loader.epoch = 1
    for _ in range(2):
        assert torch.equal(loader.one_batch()[0], second[0][0])  # looking at a batch does not count
    next(iter(loader))
    assert same(batches(loader), second)


def test_what_ran_before_changes_nothing():
    first = batches(dataloaders(parts(Augment())).train)
    dls = dataloaders(parts(Augment()))
    dls.valid.one_batch()
    batches(dls.test_dl(parts().side("valid")))
    random.random()
    torch.rand(3)
    assert same(batches(dls.train), first)


class FirstOnes(Technique):
    name: ClassVar[str] = "first_ones"

    def sampler(self, context: Context, epoch: int) -> np.ndarray:
        return np.arange(24)


class Repeated(Technique):
    """Each of 24 items, then those of 0 … 11 twice more."""

    name: ClassVar[str] = "repeated"

    def sampler(self, context: Context, epoch: int) -> np.ndarray:
        return np.concatenate([np.arange(24), np.repeat(np.arange(12), 2)])


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_comes_up_again_looks_otherwise(workers: int, foreign: bool):
    on = [Augment(p_affine=1.0), *([Foreign()] if foreign else [])]
    once = images(dataloaders(parts(*on, FirstOnes(), batch_size=8)).train)
    loader = dataloaders(parts(*on, Repeated(), batch_size=8, workers=workers)).train
    shown = images(loader)
    assert loader.get_idxs().max() == 23
    if not foreign:  # whose batch transforms draw for each batch
        assert torch.equal(shown[:24], once)
    again = shown[24:].reshape(12, 2, *shown.shape[1:])
    for first, (second, third) in zip(shown, again, strict=False):
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)
    alone = dataloaders(parts(*on, Repeated(), batch_size=8)).train
    assert torch.equal(images(alone), shown)


@pytest.mark.parametrize("order", [[], [3, 5, 3, 3], [0, 0, 0], [2, 1, 0]])
def test_times_before(order: list[int]):
    expected = [order[:i].count(entry) for i, entry in enumerate(order)]
    assert times_before(np.array(order, dtype=np.int64)).tolist() == expected


def test_training_sees_full_batches_and_validation_every_image():
    dls = dataloaders(parts())
    assert [len(x) for x, _ in batches(dls.train)] == [16] * 4
    assert [len(x) for x, _ in batches(dls.valid)] == [16, 16, 5]
    assert (len(dls.train), len(dls.valid)) == (4, 3)
    everything = dls.train.new(drop_last=False)
    everything.epoch = 0
    assert [len(x) for x, _ in batches(everything)] == [16] * 4 + [6]
    assert len(everything) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sampler_is_followed(workers: int):
    own = parts(Sampled(), Augment(), workers=workers)
    dls = dataloaders(own)
    plain = dataloaders(parts(Augment())).train
    targets = DIGITS.targets[:70]
    drawn = plain.drawer.draw(1, np.arange(70))
    for epoch, full in ((0, 0), (1, 1), (2, 2)):
        order = np.tile(np.arange(0, 70, 5), epoch + 1)[::-1]
        assert dls.train.get_idxs().tolist() == order.tolist()
        assert len(dls.train) == full
        read = batches(dls.train)
        seen = torch.cat([y for _, y in read]).tolist() if full else []
        assert seen == targets[order[: 16 * full]].tolist()
        if epoch == 1:
            again = dls.train.drawer.draw(1, order)
            assert all(np.array_equal(a.matrix, drawn[i].matrix) for a, i in zip(again, order, strict=True))
    assert dls.valid.get_idxs().tolist() == list(range(37))


def test_a_sampler_may_leave_the_order_alone():
    plain, unsampled = (dataloaders(parts(*on)) for on in ([], [Unsampled()]))
    assert same(batches(plain.train), batches(unsampled.train))
    assert len(unsampled.train) == 4


class Rates(Callback):
    order = 80

    def before_fit(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def after_batch(self) -> None:
        if self.learn.training:
            self.seen.append((int(self.learn.epoch), float(self.learn.opt.hypers[-1]["lr"])))


def test_the_rates_run_through_whatever_a_sampler_visits():
    own = parts(Sampled(), batch_size=4)
    learn, rates = quiet(build_learner(own, dataloaders(own))), Rates()
    learn.fit_one_cycle(3, 1e-2, cbs=rates)
    epochs = [epoch for epoch, _ in rates.seen]
    assert [epochs.count(epoch) for epoch in range(3)] == [3, 7, 10]
    assert max(rate for _, rate in rates.seen) > 9e-3
    assert rates.seen[-1][1] < 5e-4


@pytest.mark.parametrize("given", [{"bs": 5}, {"num_workers": 2}, {"shuffle": False}, {}])
def test_a_new_validation_loader_sees_the_same(given: dict[str, Any]):
    dls = dataloaders(parts(Augment(), Normalize()))
    made = dls.valid.new(**given)
    assert isinstance(made, KeyedDL)
    assert made.streams == dls.valid.streams
    assert made.read_batch is not None
    assert torch.equal(images(made), images(dls.valid))


def test_a_new_training_loader_has_the_same_order_and_draws():
    dls = dataloaders(parts(Augment()))
    first = torch.cat([batch[0] for batch in batches(dls.train.new(drop_last=False))])
    other = torch.cat([batch[0] for batch in batches(dls.train.new(bs=7))])
    assert torch.equal(first, other)
    dls.train.epoch = 3
    assert dls.train.new().epoch == 3


def test_transforms_given_to_new_take_the_place_of_ours():
    dls = dataloaders(parts())
    larger = dls.valid.new(
        after_item=[type(dls.valid.after_item.fs[0])(24, 24), *dls.valid.after_item.fs[1:]]
    )
    assert larger.read_batch is None
    assert larger.one_batch()[0].shape == (16, 3, 24, 24)


def test_a_test_loader_takes_items_files_arrays_and_images(photo_parts: Parts):
    dls = dataloaders(photo_parts)
    items = photo_parts.side("valid")
    expected = images(dls.valid)
    paths = [item.image for item in items]
    opened = [PILImage.create(path) for path in paths]
    for sources in (items, paths, [str(path) for path in paths], [p.read_bytes() for p in paths], opened):
        ((x,), *_) = batches(dls.test_dl(sources[:3]))
        assert torch.equal(x, expected[:3])
    labelled = dls.test_dl(items, with_labels=True)
    assert torch.cat([y for _, y in batches(labelled)]).tolist() == [item.target for item in items]


def test_a_learner_predicts_one_image(photo_parts: Parts):
    learn = quiet(build_learner(photo_parts, dataloaders(photo_parts)))
    expected = learn.get_preds()[0]
    item = photo_parts.side("valid")[0]
    for source in (item, item.image, str(item.image), PILImage.create(item.image)):
        label, number, probabilities = learn.predict(source)
        torch.testing.assert_close(probabilities.as_subclass(Tensor), expected[0].as_subclass(Tensor))
        assert label == photo_parts.items.classes[int(number)]


@pytest.mark.parametrize("side", ["train", "valid"])
def test_batches_are_shown_with_their_labels(side: str, photo_parts: Parts, one_figure: Callable):
    loader = getattr(dataloaders(replace(photo_parts, on={"normalize": Normalize()})), side)
    shown = one_figure(lambda: loader.show_batch(max_n=4))
    assert len(shown) == 4
    _, y = loader.one_batch()
    for axis, number in zip(shown, y[:4], strict=True):
        assert axis.get_title() == photo_parts.items.classes[int(number)]
        pixels = axis.get_images()[0].get_array()
        assert pixels.shape == (16, 16, 3)
        assert pixels.min() >= 0
        assert pixels.max() > 1.5 or pixels.max() <= 1


@pytest.fixture
def one_figure() -> Any:
    """Run something that draws and give the axes that show an image."""

    def draw(show: Callable[[], Any]) -> list[Any]:
        plt.close("all")
        show()
        (figure,) = map(plt.figure, plt.get_fignums())
        return [axis for axis in figure.axes if axis.get_images()]

    yield draw
    plt.close("all")


def test_results_are_shown(photo_parts: Parts, one_figure: Callable):
    learn = quiet(build_learner(photo_parts, dataloaders(photo_parts)))
    assert len(one_figure(lambda: learn.show_results(max_n=3))) == 3


def test_a_loader_without_streams_is_fastais():
    loader = KeyedDL(list(range(10)), bs=3, num_workers=0, shuffle=True)
    assert sorted(torch.cat(list(loader)).tolist()) == list(range(10))
    assert len(loader) == 4
