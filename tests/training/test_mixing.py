from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastai.callback import schedule  # noqa: F401  gives Learner its lr_find
from fastai.callback.core import Callback, CancelFitException
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat, LabelSmoothingCrossEntropyFlat
from fastcore.foundation import L
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional

from ablate.data.items import load_items
from ablate.data.splits import Fold
from ablate.devices.cpu import Cpu
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.techniques.augment import Augment
from ablate.techniques.base import Technique
from ablate.techniques.cutmix import CutMix
from ablate.techniques.gridmask import GridMask
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.techniques.mixup import MixUp
from ablate.techniques.unmixed import Unmixed
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixBatches, MixedLoss, Mixer, chosen, taken
from ablate.training.parts import Parts

ITEMS = load_items(Data(source="digits"))
N, CLASSES = 48, 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Watch(Callback):
    """Keeps the batches of a fit, before or after mixing."""

    def __init__(self, order: int):
        self.order = order
        self.x: list[Tensor] = []
        self.y: list[tuple[Tensor, ...]] = []
        self.valid: list[int] = []

    def before_batch(self) -> None:
        if self.learn.training:
            self.x.append(self.learn.xb[0].as_subclass(Tensor).clone())
            self.y.append(tuple(self.learn.yb))
        else:
            self.valid.append(len(self.learn.yb))


def anybodys_learner(tmp_path: Path, loss: Any, *callbacks: Any) -> Learner:
    """A plain fastai Learner with nothing of ours in it: three blobs in images of 4 pixels."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 1, 4, 4, generator=generator) + functional.one_hot(y, 4)[:, None, None]
    pairs = list(zip(x, y, strict=True))
    dls = DataLoaders(DataLoader(pairs[:48], bs=12), DataLoader(pairs[48:], bs=12))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    return quiet(Learner(dls, model, loss, cbs=list(callbacks), path=tmp_path, lr=0.05))


def digits(*on: Technique) -> Parts:
    phase = Phase(name="tune", epochs=1, batch_size=16, size=32, presize=32, weight_decay=0.01)
    return Parts(
        model=Model(arch="test_vit", pretrained=False),
        phase=phase,
        on={technique.name: technique for technique in on},
        streams=Streams(0, "tune"),
        items=ITEMS,
        fold=Fold(np.arange(64), np.arange(64, 96), np.arange(0)),
    )


def mixed_batch() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Predictions, both labels, the share and the soft target that they mean."""
    generator = torch.Generator().manual_seed(0)
    prediction = 4 * torch.randn(N, CLASSES, generator=generator)
    y, partner = torch.randint(CLASSES, (2, N), generator=generator)
    share = torch.rand(N, generator=generator)
    soft = torch.lerp(
        functional.one_hot(partner, CLASSES).float(), functional.one_hot(y, CLASSES).float(), share[:, None]
    )
    return prediction.requires_grad_(), y, partner, share, soft


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["fastai", "torch"])
def test_the_mixed_loss_is_that_of_the_soft_target(kind: str, reduction: str, eps: float):
    prediction, y, partner, share, soft = mixed_batch()
    loss = nn.CrossEntropyLoss(label_smoothing=eps, reduction=reduction)
    expected = loss(prediction, soft)
    if kind == "fastai":
        loss = LabelSmoothingCrossEntropyFlat(eps=eps) if eps else CrossEntropyLossFlat()
        loss.reduction = reduction
    ours = MixedLoss(loss)(prediction, y, partner, share)
    torch.testing.assert_close(float(ours), float(expected), rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, prediction)[0].as_subclass(Tensor) for value in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert loss.reduction == reduction


def test_a_loss_that_is_a_function():
    prediction, y, partner, share, soft = mixed_batch()
    ours = MixedLoss(functional.cross_entropy)(prediction, y, partner, share)
    assert float(ours) == pytest.approx(float(functional.cross_entropy(prediction, soft)), abs=1e-6)


def test_an_unmixed_batch_has_the_loss_itself():
    prediction, y, *_ = mixed_batch()
    loss = CrossEntropyLossFlat()
    assert float(MixedLoss(loss)(prediction, y)) == float(loss(prediction, y))


def test_the_mixed_loss_stands_for_the_loss():
    loss = MixedLoss(CrossEntropyLossFlat())
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert isinstance(twin.loss, CrossEntropyLossFlat)
    assert loss.activation(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    assert not hasattr(MixedLoss(functional.cross_entropy), "activation")


def batch_by_batch(
    mixing: MixBatches, batches: int, epoch: int = 0
) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """What the callback makes of the same batch, many times; no network is involved."""
    x, y = torch.eye(6)[:, :, None, None].repeat(1, 1, 4, 4), torch.arange(6)
    learn = SimpleNamespace(loss_func=functional.cross_entropy, cbs=L(mixing), epoch=epoch)
    mixing.learn = learn
    mixing.before_fit()
    seen = []
    for learn.iter in range(batches):
        learn.xb, learn.yb = (x,), (y,)
        mixing.before_batch()
        seen.append((learn.xb[0], learn.yb))
    mixing.after_fit()
    return seen


def used(mixed: Tensor) -> str:
    """Which technique made a batch of one-channel images: cutmix leaves no pixel between 0 and 1."""
    return "cutmix" if ((mixed == 0) | (mixed == 1)).all() else "mixup"


def test_one_technique_is_chosen_for_each_batch_evenly():
    both = MixBatches([CutMix(), MixUp(alpha=1.0)], Streams(0, "tune"))
    alone = {
        mixer.name: batch_by_batch(MixBatches([mixer], Streams(0, "tune")), 1000) for mixer in both.mixers
    }
    choices = []
    for i, (mixed, (y, partner, share)) in enumerate(batch_by_batch(both, 1000)):
        choices.append(used(mixed))
        only, (_, only_partner, only_share) = alone[choices[-1]][i]
        assert torch.equal(mixed, only)  # that the other is on does not move a technique's draws
        assert torch.equal(partner, only_partner)
        assert torch.equal(share, only_share)
        assert y.tolist() == list(range(6))
    count = choices.count("mixup")
    assert abs(count - 500) < 5 * np.sqrt(250)
    changes = sum(a != b for a, b in pairwise(choices))
    assert abs(changes - 500) < 5 * np.sqrt(250)


def choices(*mixers: Mixer, batches: int = 2000) -> list[str]:
    """The technique of each of some batches."""
    streams = Streams(0, "tune")
    return [chosen(mixers, streams.generator("mix", 0, batch)).name for batch in range(batches)]


def test_techniques_are_chosen_by_their_weights():
    names = choices(CutMix(weight=3), GridMask(weight=0.5), MixUp(), Unmixed(weight=0.5))
    counts = [names.count(name) for name in ("cutmix", "gridmask", "mixup", "unmixed")]
    assert chisquare(counts, 2000 * np.array([3, 0.5, 1, 0.5]) / 5).pvalue > 1e-3
    assert choices(MixUp(), CutMix(weight=1e9), batches=50) == ["cutmix"] * 50


def test_equal_weights_choose_as_without_weights():
    generators = (Streams(0, "tune").generator("mix", 0, batch) for batch in range(200))
    evenly = [("cutmix", "mixup")[rng.integers(2)] for rng in generators]
    assert choices(CutMix(), MixUp(), batches=200) == evenly
    assert choices(CutMix(weight=0.3), MixUp(weight=0.3), batches=200) == evenly


@pytest.mark.parametrize(
    "technique",
    [CutMix(), CutMix(per_image=True, p=0.3), GridMask(), MixUp(), Unmixed()],
    ids=lambda technique: technique.name,
)
def test_further_inputs_stay_with_their_image(technique: Any):
    x, y, metadata = torch.rand(6, 3, 8, 8), torch.arange(6), torch.randn(6, 4)
    mixing = MixBatches([technique], Streams(0, "tune"))
    mixing.learn = learn = SimpleNamespace(loss_func=functional.cross_entropy, cbs=L(mixing), epoch=0)
    mixing.before_fit()
    for learn.iter in range(20):
        learn.xb, learn.yb = (x.clone(), metadata.clone()), (y,)
        mixing.before_batch()
        mixed, beside = learn.xb
        assert mixed.shape == x.shape
        assert torch.equal(beside, metadata)
        assert len(learn.yb) == 3


ALL_MIXERS = [
    CutMix(per_image=True, p=0.7),
    CutMix(),
    GridMask(),
    MixUp(alpha=1.0),
    MixUp(folded=False, partner="other"),
    Unmixed(weight=0.5),
]
SETS = [[CutMix(per_image=True, place="inside", p=0.5), MixUp()], [GridMask(), CutMix(), MixUp(), Unmixed()]]


@pytest.mark.parametrize("mixers", [*([one] for one in ALL_MIXERS), *SETS], ids=range(len(ALL_MIXERS) + 2))
def test_where_shapes_are_fixed_the_batches_are_the_same(mixers: list[Any], monkeypatch: pytest.MonkeyPatch):
    """There all mixers mix, so that all batches are one graph, and the results of one are taken."""
    plain = batch_by_batch(MixBatches(mixers, Streams(0, "tune")), 150)
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    fixed = batch_by_batch(MixBatches(mixers, Streams(0, "tune")), 150)
    for (mixed, targets), (expected, others) in zip(fixed, plain, strict=True):
        assert mixed.dtype == expected.dtype
        assert torch.equal(mixed, expected)
        for own, other in zip(targets, others, strict=True):
            assert own.dtype == other.dtype
            assert torch.equal(own, other)


def test_where_shapes_are_fixed_each_batch_runs_all_mixers(monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    for one in (CutMix, MixUp):
        plain = one.mix
        monkeypatch.setattr(
            one, "mix", lambda self, x, rng, mix=plain: ran.append(self.name) or mix(self, x, rng)
        )
    mixing = MixBatches([CutMix(), MixUp()], Streams(0, "tune"))
    batch_by_batch(mixing, 10)
    assert len(ran) == 10
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    ran.clear()
    batch_by_batch(mixing, 10)
    assert ran == ["cutmix", "mixup"] * 10


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_of_several_results_is_taken_whole(count: int):
    generator = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(4, 3, 2, 2, generator=generator), torch.randperm(4, generator=generator), torch.rand(4))
        for _ in range(count)
    ]
    for number, expected in enumerate(made):
        for own, other in zip(taken(made, number), expected, strict=True):
            assert own.dtype == other.dtype
            assert torch.equal(own, other)


def test_what_is_not_a_number_in_the_others_does_not_matter():
    good, bad = (torch.ones(3),), (torch.full((3,), float("nan")),)
    assert taken([bad, good, bad], 1)[0].tolist() == [1, 1, 1]


def test_choices_and_draws_come_from_the_stream():
    def batches(seed: int, epoch: int) -> Tensor:
        mixing = MixBatches([CutMix(), MixUp()], Streams(seed, "tune"))
        return torch.stack([mixed for mixed, _ in batch_by_batch(mixing, 20, epoch)])

    first = batches(0, 0)
    torch.manual_seed(9)
    assert torch.equal(batches(0, 0), first)
    assert not torch.equal(batches(1, 0), first)
    assert not torch.equal(batches(0, 1), first)
    assert len({batch.numpy().tobytes() for batch in first}) > 15  # some boxes are empty


@pytest.mark.parametrize("loss", [CrossEntropyLossFlat(), nn.CrossEntropyLoss(), functional.cross_entropy])
@pytest.mark.parametrize("technique", [MixUp(alpha=0.4), CutMix()], ids=lambda technique: technique.name)
def test_in_anybodys_learner(technique: MixUp | CutMix, loss: Any, tmp_path: Path):
    before, after = Watch(order=0), Watch(order=50)
    learn = anybodys_learner(tmp_path, loss, before, after, *technique.callbacks())
    learn.fit(8)
    assert learn.loss_func is loss
    train, valid = np.array([row[:2] for row in learn.recorder.values]).T
    assert valid[-1] < 0.75 * valid[0]
    assert np.isfinite(train).all()
    x, y = map(torch.stack, zip(*learn.dls.valid.dataset, strict=True))
    with torch.no_grad():
        assert valid[-1] == pytest.approx(float(functional.cross_entropy(learn.model(x), y)), abs=1e-6)
    assert len(after.x) == 8 * 4
    assert set(after.valid) == {1}
    for raw, mixed, (y, partner, share) in zip(before.x, after.x, after.y, strict=True):
        assert sorted(share.shape) == [12]
        assert y.shape == partner.shape
        assert torch.equal(raw, mixed) == bool((share == 1).all())


def test_without_streams_the_seed_is_torchs(tmp_path: Path):
    def shares(seed: int) -> list[float]:
        watch = Watch(order=50)
        learn = anybodys_learner(tmp_path, CrossEntropyLossFlat(), watch, *MixUp().callbacks())
        torch.manual_seed(seed)
        learn.fit(1)
        return torch.cat([share for _, _, share in watch.y]).tolist()

    assert shares(1) == shares(1)
    assert shares(1) != shares(2)


def test_the_rate_finder_works_with_it_on(tmp_path: Path):
    loss = CrossEntropyLossFlat()
    learn = anybodys_learner(tmp_path, loss, *MixUp().callbacks())
    weights = learn.model[1].weight.detach().clone()
    assert 1e-7 < learn.lr_find(show_plot=False).valley < 10
    assert learn.loss_func is loss
    assert torch.equal(learn.model[1].weight, weights)


class Stop(Callback):
    def __init__(self, event: str, error: type[Exception], order: int):
        self.event, self.error, self.order = event, error, order

    def __call__(self, event: str) -> None:
        if event == self.event:
            raise self.error


@pytest.mark.parametrize("event", ["before_fit", "before_batch", "after_loss"])
@pytest.mark.parametrize("order", [1, 50])
@pytest.mark.parametrize("error", [CancelFitException, KeyError])
def test_however_training_ends_the_loss_is_right_afterwards(
    event: str, order: int, error: type[Exception], tmp_path: Path
):
    loss = CrossEntropyLossFlat()
    learn = anybodys_learner(tmp_path, loss, Stop(event, error, order), *MixUp().callbacks())
    if error is CancelFitException:
        learn.fit(1)
        assert learn.loss_func is loss
        return
    with pytest.raises(KeyError):  # fastai does not tell callbacks, so the mixed loss may stay …
        learn.fit(1)
    learn.remove_cb(Stop)
    twin = anybodys_learner(tmp_path, loss, *MixUp().callbacks())
    learn.model.load_state_dict(twin.model.state_dict())
    for one in (learn, twin):  # … until the next time
        torch.manual_seed(1)
        one.fit(1, reset_opt=True)
    assert torch.equal(torch.stack(learn.recorder.losses), torch.stack(twin.recorder.losses))
    assert learn.loss_func is loss
    assert learn.get_preds(with_loss=True)[2].shape == (12,)


def test_two_mixing_callbacks_are_an_error(tmp_path: Path):
    loss = CrossEntropyLossFlat()
    learn = anybodys_learner(tmp_path, loss, *MixUp().callbacks(), *CutMix().callbacks())
    with pytest.raises(AblateError, match="one MixBatches with all mixers"):
        learn.fit(1)
    assert learn.loss_func is loss
    learn = anybodys_learner(tmp_path, loss, MixBatches([MixUp(), CutMix()]))
    learn.fit(1)
    assert learn.loss_func is loss


@pytest.mark.parametrize("on", [[MixUp()], [CutMix()], [CutMix(), MixUp(), LabelSmoothing()]])
def test_the_validation_loss_is_untouched(on: list[Technique]):
    losses = []
    for others in ([], on):
        smoothing = [technique for technique in on if technique.name == "label_smoothing"]
        parts = digits(*(others or smoothing))
        learn = quiet(build_learner(parts, dataloaders(parts)))
        losses.append(float(learn.validate()[0]))
        learn.fit(1)
        recorded = learn.recorder.values[0][1]
        probabilities, y, each = learn.get_preds(with_loss=True)
        eps = 0.1 if smoothing else 0.0
        expected = functional.cross_entropy(probabilities.log(), y.as_subclass(Tensor), label_smoothing=eps)
        assert recorded == pytest.approx(float(expected), abs=1e-5)
        assert each.shape == (32,)
        assert float(each.mean()) == pytest.approx(float(expected), abs=1e-5)
    assert losses[0] == losses[1]


def test_mixing_changes_neither_the_order_nor_the_flips():
    def before_mixing(*on: Technique) -> Watch:
        parts, watch = digits(Augment(), *on), Watch(order=0)
        quiet(build_learner(parts, dataloaders(parts))).fit(2, cbs=watch)
        return watch

    plain, mixed = before_mixing(), before_mixing(MixUp(), CutMix())
    assert len(plain.x) == 2 * 4
    for a, b in zip(plain.x, mixed.x, strict=True):
        assert torch.equal(a, b)
    for (a,), (b,) in zip(plain.y, mixed.y, strict=True):
        assert a.tolist() == b.tolist()
