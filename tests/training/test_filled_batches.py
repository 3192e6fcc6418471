"""A smaller last batch that is filled up, as where graphs are compiled: the numbers are those without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fastai.data.core import Datasets
from fastai.learner import Learner
from fastai.torch_core import TensorBase
from fastai.vision.augment import RandTransform
from fastai.vision.core import PILImage
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ablate import techniques
from ablate.data.loader import KeyedDL
from ablate.devices.cpu import Cpu
from ablate.streams import Streams
from ablate.techniques.base import Context, Technique
from ablate.training.best import BestEpochs
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.predict import predict

SIZES = (4, 5, 8)
"""Batch sizes for six photos: a last batch of two, one of a single photo, and one that is the only one."""
PREDICTION = Streams(0, "predict")


class Grey(RandTransform):
    """An item transform of nobody's, for training and for validation."""

    split_idx = None

    def encodes(self, x: PILImage) -> PILImage:
        return x.convert("L").convert("RGB")


class Foreign(Technique):
    """Has every item made by itself."""

    name: ClassVar[str] = "foreign"

    def item_transforms(self, context: Context) -> list[Any]:
        return [Grey(p=1.0)]


class Twice(Technique):
    """Visits more images in an epoch than there are."""

    name: ClassVar[str] = "twice"

    def sampler(self, context: Context, epoch: int) -> np.ndarray:
        return np.tile(np.arange(len(context.train_targets)), 2)


class Fed:
    """A learner, and how many images the network was fed in each batch that it saw in evaluation."""

    def __init__(self, learn: Learner, made: Any):
        self.learn, self.parts, self.sizes = learn, made, list[int]()
        learn.model.register_forward_pre_hook(self.see)

    def see(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not model.training:
            self.sizes.append(len(inputs[0]))


@pytest.fixture
def both(parts: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """What some work with a learner gives without filling, and with it; the network sees what it should."""

    def both(
        work: Callable[[Fed], Any],
        *on: Technique,
        batch_size: int = 4,
        workers: int = 0,
        fills: bool = True,
        **overrides: Any,
    ) -> tuple[Any, Any]:
        results = []
        for fixed in (False, True):
            monkeypatch.setattr(Cpu, "fixed_shapes", fixed)
            made = parts(batch_size=batch_size, **overrides)
            more = {technique.name: technique for technique in on}
            made = dataclasses.replace(made, on={**made.on, **more}, workers=workers)
            fed = Fed(quiet(build_learner(made, dataloaders(made))), made)
            results.append(work(fed))
            assert fed.sizes
            full = all(size == batch_size for size in fed.sizes)
            assert full == (fixed and fills)
        return results[0], results[1]

    return both


def assert_close(found: Any, expected: Any) -> None:
    """Equal but for the last bits: in a batch of another size, sums are in another order."""
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for own, other in zip(found, expected, strict=True):
            assert_close(own, other)
        return
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        found, expected = found.as_subclass(Tensor), expected.as_subclass(Tensor)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", SIZES)
def test_losses_metrics_and_the_best_epochs(both: Callable[..., Any], batch_size: int):
    def work(fed: Fed) -> Any:
        learn, items = fed.learn, fed.parts.side("valid")
        best = [BestEpochs(items, by) for by in ("log_loss", "accuracy", "roc_auc")]
        learn.fit_one_cycle(2, 1e-2, cbs=best)
        rows = [[float(value) for value in row] for row in learn.recorder.values]
        return rows, [float(value) for value in learn.validate()], [[one.chosen, one.scores] for one in best]

    plain, filled = both(work, batch_size=batch_size)
    assert_close(filled, plain)


@pytest.mark.parametrize("batch_size", SIZES)
def test_predictions_with_all_that_fastai_gives(both: Callable[..., Any], batch_size: int):
    def work(fed: Fed) -> Any:
        got = fed.learn.get_preds(with_input=True, with_loss=True, with_decoded=True)
        return [*got, *fed.learn.get_preds(with_input=True, reorder=False)]

    plain, filled = both(work, batch_size=batch_size)
    assert [len(tensor) for tensor in filled] == [6] * 8
    assert torch.equal(filled[0], plain[0])
    assert_close(filled, plain)
    assert isinstance(filled[0], TensorBase)


def test_predictions_of_the_training_side(both: Callable[..., Any]):
    plain, filled = both(lambda fed: fed.learn.get_preds(ds_idx=0, with_loss=True), batch_size=4)
    assert [len(tensor) for tensor in filled] == [18] * 3
    assert_close(filled, plain)


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("tta", [None, {"n": 2, "transforms": "augment"}], ids=["plain", "tta"])
def test_predictions_of_a_stage(both: Callable[..., Any], batch_size: int, tta: Any):
    def work(fed: Fed) -> np.ndarray:
        return predict(fed.learn, fed.parts, fed.parts.side("valid"), PREDICTION)

    plain, filled = both(work, *([techniques.build("tta", tta)] if tta else []), batch_size=batch_size)
    assert filled.shape == (6, 3)
    assert_close(filled, plain)


def test_fastais_own_tta(both: Callable[..., Any]):
    plain, filled = both(lambda fed: fed.learn.tta(n=2), techniques.build("augment", {}))
    assert_close(filled, plain)


@pytest.mark.parametrize("kind", ["item", "file"])
def test_a_single_image(both: Callable[..., Any], kind: str):
    def work(fed: Fed) -> Any:
        item = fed.parts.side("valid")[2]
        label, number, probabilities = fed.learn.predict(item if kind == "item" else item.image)
        assert label == fed.learn.dls.vocab[int(number)]
        return int(number), probabilities

    plain, filled = both(work)
    assert filled[1].shape == (3,)
    assert_close(filled, plain)


def test_images_without_labels(both: Callable[..., Any]):
    def work(fed: Fed) -> Tensor:
        loader = fed.learn.dls.test_dl([item.image for item in fed.parts.side("valid")[:5]])
        return fed.learn.get_preds(dl=loader)[0]

    plain, filled = both(work)
    assert len(filled) == 5
    assert_close(filled, plain)


@pytest.mark.parametrize("workers", [0, 2])
def test_items_one_by_one(both: Callable[..., Any], workers: int):
    def work(fed: Fed) -> Any:
        assert fed.learn.dls.valid.read_batch is None
        fed.learn.fit(1, 1e-3)
        rows = [float(value) for value in fed.learn.recorder.values[-1]]
        return rows, fed.learn.get_preds(with_input=True, with_loss=True)

    plain, filled = both(work, Foreign(), workers=workers)
    assert_close(filled, plain)


def test_batches_made_ahead(both: Callable[..., Any]):
    plain, filled = both(lambda fed: fed.learn.get_preds(with_loss=True), workers=2)
    assert_close(filled, plain)


def test_batch_statistics_are_of_real_images_alone(both: Callable[..., Any]):
    def work(fed: Fed) -> np.ndarray:
        found = predict(fed.learn, fed.parts, fed.parts.side("valid")[:5], PREDICTION)
        assert fed.sizes == [3, 2]
        return found

    plain, filled = both(work, techniques.build("prediction_batch_norm", {}), fills=False)
    assert np.array_equal(filled, plain)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_training_order_longer_than_its_images(
    parts: Callable[..., Any], fixed: bool, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is cut off, though the batches are more than the images fill."""
    monkeypatch.setattr(Cpu, "fixed_shapes", fixed)
    made = parts(batch_size=6)
    made = dataclasses.replace(made, on={**made.on, "twice": Twice()})
    learn = quiet(build_learner(made, dataloaders(made)))
    loss, accuracy = learn.validate(ds_idx=0)
    learn.dls.train.epoch = 0
    x, y = (torch.cat(part).as_subclass(Tensor) for part in zip(*learn.dls.train, strict=True))
    assert len(y) == 36
    with torch.no_grad():
        logits = learn.model(x)
    assert loss == pytest.approx(float(functional.cross_entropy(logits, y)), abs=1e-5)
    assert accuracy == pytest.approx(float((logits.argmax(1) == y).double().mean()))


def test_filling_is_of_zeros_and_of_the_same_types(parts: Callable[..., Any], monkeypatch: Any):
    made = parts(batch_size=4)
    plain = list(dataloaders(made).valid)
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    filled = list(dataloaders(made).valid)
    assert [type(part) for part in filled[-1]] == [type(part) for part in plain[-1]]
    assert [part.dtype for part in filled[-1]] == [part.dtype for part in plain[-1]]
    for own, other in zip(filled[-1], plain[-1], strict=True):
        assert len(own) == 4
        assert torch.equal(own[:2], other)
    assert not filled[-1][1][2:].any()
    assert all(torch.equal(a, b) for a, b in zip(filled[0], plain[0], strict=True))


def test_a_loader_that_does_not_fill_makes_others_that_do_not(parts: Callable[..., Any], monkeypatch: Any):
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    loader = dataloaders(parts(batch_size=4)).valid
    assert [len(y) for _, y in loader.new()] == [4, 4]
    loader.fills = False
    assert [len(y) for _, y in loader.new()] == [4, 2]


def test_a_batch_to_look_at_is_not_filled(parts: Callable[..., Any], monkeypatch: Any):
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    loader = dataloaders(parts(batch_size=8)).valid
    assert len(loader.one_batch()[1]) == 6
    assert [len(y) for _, y in loader] == [8]


def as_tensor(number: int) -> Tensor:
    return torch.tensor(number)


@given(n=st.integers(1, 40), batch_size=st.integers(1, 12))
def test_all_batches_are_full_and_their_real_items_are_all_items(n: int, batch_size: int):
    class Always(Cpu):
        fixed_shapes = True

    numbers = Datasets(list(range(n)), [[as_tensor], [as_tensor]])
    loader = KeyedDL(numbers, bs=batch_size, num_workers=0)
    loader.keyed(Streams(0, "tune"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyedDL, "adapter", Always())
        batches = list(loader)
    assert len(batches) == len(loader) == -(-n // batch_size)
    assert all(len(part) == batch_size for batch in batches for part in batch)
    real = [loader.real(number) for number in range(len(batches))]
    assert sum(real) == n
    items = [batch[0][:count] for batch, count in zip(batches, real, strict=True)]
    assert torch.cat(items).tolist() == list(range(n))
