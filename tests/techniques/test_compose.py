from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from fastai.callback.core import Callback
from fastai.losses import CrossEntropyLossFlat

from ablate.recipe.schema import Phase
from ablate.techniques import compose
from ablate.techniques.arcface import ArcFace
from ablate.techniques.augment import Augment
from ablate.techniques.base import Context, Predictor, Technique, View
from ablate.techniques.bce_loss import BCELoss
from ablate.techniques.class_weights import ClassWeights
from ablate.techniques.cutmix import CutMix
from ablate.techniques.focal_loss import FocalLoss
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.techniques.mixup import MixUp
from ablate.techniques.normalize import Normalize
from ablate.techniques.tta import TTA
from ablate.training import losses
from ablate.training.callbacks import SingleBatch
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixBatches
from ablate.training.predict import predict


class Mark(Callback):
    def __init__(self, mark: str):
        self.mark = mark


class Marked(Technique):
    """Leaves its name in everything that it is given."""

    def edit_phases(self, phases: list[Phase]) -> list[Phase]:
        return [phase.model_copy(update={"name": f"{phase.name}-{self.name}"}) for phase in phases]

    def loss(self, loss: Any, context: Context) -> Any:
        return f"{self.name}({loss})"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        return [Mark(self.name)]

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        return lambda view: f"{self.name}({predictor(view)})"  # pyright: ignore


class Early(Marked):
    name: ClassVar[str] = "zebra"
    order: ClassVar[int] = 10


class Middle(Marked):
    name: ClassVar[str] = "ant"


class AlsoMiddle(Marked):
    name: ClassVar[str] = "bee"


class Late(Marked):
    name: ClassVar[str] = "aardvark"
    order: ClassVar[int] = 90


EXPECTED = ["zebra", "ant", "bee", "aardvark"]


@pytest.mark.parametrize("shuffled", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_order_is_by_rank_and_then_by_name(shuffled: tuple[int, ...], make_parts: Callable):
    four = [Early(), Middle(), AlsoMiddle(), Late()]
    on, context = [four[i] for i in shuffled], make_parts().context
    assert [technique.name for technique in compose.ordered(on)] == EXPECTED
    (phase,) = compose.edit_phases(on, [Phase(name="tune", epochs=1)])
    assert phase.name == "-".join(["tune", *EXPECTED])
    nested = "aardvark(bee(ant(zebra(base))))"
    assert compose.loss(on, "base", context) == nested
    assert compose.predictor(on, lambda view: "base", context)(View()) == nested  # pyright: ignore
    assert [callback.mark for callback in compose.callbacks(on, context)] == EXPECTED


def test_nothing_on_changes_nothing(make_parts: Callable):
    context, phases = make_parts().context, [Phase(name="tune", epochs=1)]
    assert compose.edit_phases([], phases) == phases
    assert compose.edit_phases([], phases) is not phases
    assert compose.loss([], "base", context) == "base"
    assert compose.callbacks([], context) == []


def test_a_training_step_does_not_depend_on_the_recipes_order(make_parts: Callable):
    on = [TTA(n=2), LabelSmoothing(), CutMix(), MixUp(), Augment(), Normalize()]
    results = []
    for chosen in (on, on[::-1]):
        parts = make_parts(*chosen)
        learn = quiet(build_learner(parts, dataloaders(parts)))
        learn.fit(1)
        losses = torch.stack(learn.recorder.losses)
        results.append((losses, predict(learn, parts, parts.side("valid"), parts.streams)))
    assert torch.equal(results[0][0], results[1][0])
    assert (results[0][1] == results[1][1]).all()


LOSSES = [ArcFace(), BCELoss(), FocalLoss()]


@pytest.mark.parametrize("first", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("second", LOSSES, ids=lambda loss: loss.name)
def test_one_technique_replaces_the_loss(first: Technique, second: Technique):
    conflict = compose.conflict({first.name: first, second.name: second}.values())
    if first == second:
        assert conflict is None
    else:
        both = " and ".join(sorted([first.name, second.name]))
        assert conflict == f"{both} both replace the loss; turn one of them off."


@pytest.mark.parametrize("shuffled", [(0, 1, 2), (2, 1, 0)])
def test_a_loss_is_replaced_then_weighted_then_smoothed(shuffled: tuple[int, ...], make_parts: Callable):
    three = [FocalLoss(gamma=1.0), ClassWeights(), LabelSmoothing(eps=0.3)]
    built = compose.loss([three[i] for i in shuffled], CrossEntropyLossFlat(), make_parts().context)
    assert isinstance(built, losses.Smoothed)
    assert isinstance(built.loss, losses.Weighted)
    assert isinstance(built.loss.loss, losses.FocalLoss)
    assert (built.eps, built.loss.loss.gamma) == (0.3, 1.0)


@pytest.mark.parametrize(
    "on", [[MixUp(), CutMix()], [CutMix(), MixUp()]], ids=["mixup first", "cutmix first"]
)
def test_all_mixing_is_in_one_callback_with_the_phases_streams(on: list[Technique], make_parts: Callable):
    parts = make_parts(*on, Early())
    marked, mixing = compose.callbacks(parts.active, parts.context)
    assert marked.mark == "zebra"
    assert isinstance(mixing, MixBatches)
    assert [mixer.name for mixer in mixing.mixers] == ["cutmix", "mixup"]
    assert mixing.streams == parts.streams
    (alone,) = compose.callbacks([on[0]], parts.context)
    assert [mixer.name for mixer in alone.mixers] == [on[0].name]


def test_a_technique_that_is_off_in_the_phase_takes_no_part(make_parts: Callable):
    mixup, plain = MixUp(phases=["other"]), make_parts()
    parts = make_parts(mixup, inactive=frozenset({"mixup"}))
    weights = []
    for chosen in (plain, parts):
        learn = quiet(build_learner(chosen, dataloaders(chosen)))
        assert not any(isinstance(callback, MixBatches) for callback in learn.cbs)
        learn.fit(1, cbs=SingleBatch())
        weights.append(torch.cat([weight.detach().flatten() for weight in learn.model.parameters()]))
    assert torch.equal(*weights)


class Rates(Technique):
    name: ClassVar[str] = "rates_a"

    def schedule(self, context: Context) -> Any:
        return lambda position: 0.5


class OtherRates(Rates):
    name: ClassVar[str] = "rates_b"


class Order(Technique):
    name: ClassVar[str] = "order_a"

    def sampler(self, context: Context, epoch: int) -> Any:
        return None


class OtherOrder(Order):
    name: ClassVar[str] = "order_b"


class Replaces(Marked):
    name: ClassVar[str] = "loss_a"
    replaces_loss: ClassVar[bool] = True


class AlsoReplaces(Replaces):
    name: ClassVar[str] = "loss_b"


@pytest.mark.parametrize(
    ("two", "what"),
    [
        ((Rates(), OtherRates()), "rates_a and rates_b both set the rates"),
        ((Order(), OtherOrder()), "order_a and order_b both choose the training order"),
        ((Replaces(), AlsoReplaces()), "loss_a and loss_b both replace the loss"),
    ],
)
def test_what_only_one_may_do_two_cannot(two: tuple[Technique, ...], what: str):
    assert compose.conflict(two) == f"{what}; turn one of them off."
    assert compose.conflict(two[:1]) is None
    assert compose.conflict([Rates(), Order(), Replaces()]) is None


class Counts(Technique):
    name: ClassVar[str] = "counts"

    def metrics(self, context: Context) -> list[Any]:
        from fastai.learner import AvgMetric
        from fastai.metrics import RocAucBinary, error_rate

        return [AvgMetric(error_rate), RocAucBinary()]


class AlsoCounts(Counts):
    name: ClassVar[str] = "counts_too"


def test_a_metric_that_two_ask_for_is_recorded_once(make_parts):
    made = make_parts(Counts(), AlsoCounts())
    names = [metric.name for metric in compose.metrics(made.on.values(), made.context)]
    assert names == ["error_rate", "roc_auc_score"]
