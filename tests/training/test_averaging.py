"""Averaged weights: timm's and torch's own averages of what training went through; where they are seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, update_bn

from ablate import techniques
from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique
from ablate.techniques.ema import EMA
from ablate.techniques.swa import SWA
from ablate.training.averaging import EpochAverage, MovingAverage
from ablate.training.callbacks import SingleBatch
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet

State = dict[str, torch.Tensor]
EPOCHS = 4


def copied(model: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Seen(Callback):
    """Writes down the weights after each step, when each validation begins, and validation's predictions."""

    order = 70

    def before_fit(self) -> None:
        self.steps: list[State] = []
        self.validated: list[State] = []

    def after_step(self) -> None:
        self.steps.append(copied(self.learn.model))

    def before_validate(self) -> None:
        self.validated.append(copied(self.learn.model))


@pytest.fixture
def fitted(parts: Callable[..., Any]) -> Callable[..., tuple[Learner, Seen]]:
    """A learner after a fit of four epochs of three steps, and what was seen of it."""

    def fit(*callbacks: Callback, epochs: int = EPOCHS, **overrides: Any) -> tuple[Learner, Seen]:
        made = parts(**overrides)
        learn, seen = quiet(build_learner(made, dataloaders(made))), Seen()
        learn.fit_one_cycle(epochs, 1e-2, cbs=[*callbacks, seen])
        return learn, seen

    return fit


def assert_close(found: State, expected: State, tolerance: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        difference = (found[name].double() - expected[name].double()).abs().max()
        assert float(difference) <= tolerance, name


def assert_differ(found: State, other: State) -> None:
    weights = [name for name in found if name.endswith("weight")]
    assert not any(torch.equal(found[name], other[name]) for name in weights)


@pytest.mark.parametrize(("decay", "warmup"), [(0.9998, True), (0.3, True), (0.9998, False), (0.7, False)])
def test_the_moving_average_is_timms(fitted: Callable[..., Any], decay: float, warmup: bool) -> None:
    learn, seen = fitted(MovingAverage(decay, warmup))
    network = build_like(learn)
    network.load_state_dict(seen.steps[0])
    theirs = ModelEmaV3(network, decay=decay, use_warmup=warmup)
    averages = []
    for number, state in enumerate(seen.steps, 1):
        network.load_state_dict(state)
        theirs.update(network, step=number)
        averages.append(copied(theirs.module))
    assert len(averages) == 3 * EPOCHS
    for epoch, state in enumerate(seen.validated):
        assert_close(state, averages[3 * epoch + 2])
    assert_close(copied(learn.model), averages[-1])
    assert_differ(copied(learn.model), seen.steps[-1])


def test_the_moving_average_by_hand(fitted: Callable[..., Any]) -> None:
    """a ← d a + (1 − d) w after each step; d is 0 at first, then 1 − (1 + step) ** (−2/3), at most 0.6."""
    learn, seen = fitted(MovingAverage(0.6, True))
    weights = [state["1.8.weight"].double() for state in seen.steps]
    average = weights[0]
    for step, weight in enumerate(weights[1:], 1):
        decay = min(1 - (1 + step) ** (-2 / 3), 0.6)
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(learn.model[1][8].weight.double(), average, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.51, 1.0])
def test_the_epochs_average_is_torchs(fitted: Callable[..., Any], share: float) -> None:
    learn, seen = fitted(EpochAverage(share))
    first = {0.25: 3, 0.5: 2, 0.51: 1, 1.0: 0}[share]
    ends = seen.steps[2::3]
    network = build_like(learn)
    theirs = AveragedModel(network)
    for epoch in range(EPOCHS):
        network.load_state_dict(ends[epoch])
        if epoch < first:
            assert_close(seen.validated[epoch], ends[epoch])
            continue
        theirs.update_parameters(network)
        loader = learn.dls.train
        loader.epoch = epoch
        no_dropout(theirs)
        update_bn([batch[0] for batch in loader], theirs)
        expected = copied(theirs.module)
        assert_close(weights_of(learn, seen.validated[epoch]), weights_of(learn, expected), 1e-6)
        assert_close(of_the_body(seen.validated[epoch]), of_the_body(expected), 1e-5)
    by_hand = torch.stack([state["1.8.weight"].double() for state in ends[first:]]).mean(0)
    torch.testing.assert_close(learn.model[1][8].weight.double(), by_hand, rtol=1e-5, atol=1e-7)


def build_like(learn: Learner) -> nn.Module:
    from copy import deepcopy

    return deepcopy(learn.model)


def no_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def weights_of(learn: Learner, state: State) -> State:
    return {name: state[name] for name, _ in learn.model.named_parameters()}


def of_the_body(state: State) -> State:
    """The statistics of batch norms that no dropout comes before."""
    return {name: tensor for name, tensor in state.items() if name.startswith("0.") and "running" in name}


@pytest.mark.parametrize("average", [MovingAverage(0.9, True), EpochAverage(0.5)])
def test_training_goes_on_with_the_weights_and_not_the_average(fitted: Callable[..., Any], average: Any):
    _, plain = fitted()
    _, seen = fitted(average)
    for own, without in zip(seen.steps, plain.steps, strict=True):
        assert_close(own, without)


def test_validation_is_of_the_average(fitted: Callable[..., Any]) -> None:
    learn, seen = fitted(MovingAverage(0.9, False))
    for epoch, state in enumerate(seen.validated):
        network = build_like(learn)
        network.load_state_dict(state)
        network.eval()
        with torch.no_grad():
            x, y = next(iter(learn.dls.valid))
            loss = float(cross_entropy(network(x).as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)))
        assert learn.recorder.values[epoch][1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("average", [MovingAverage(0.9, True), EpochAverage(1.0)])
def test_a_fit_that_ends_early_ends_with_the_average(fitted: Callable[..., Any], average: Any) -> None:
    class Ends(Callback):
        order = 65

        def after_batch(self) -> None:
            if self.learn.training and self.learn.train_iter == 5:
                raise CancelFitException

    learn, seen = fitted(average, Ends())
    assert len(seen.steps) == 5
    assert_differ(copied(learn.model), seen.steps[-1])


def test_predicting_and_looking_for_a_rate_leave_the_average_alone(parts: Callable[..., Any], tmp_path: Path):
    made = parts(on=("ema",))
    learn = quiet(build_learner(made, dataloaders(made), folder=tmp_path))
    learn.lr_find(num_it=6, show_plot=False)
    start = copied(learn.model)
    learn.fit(2, 1e-2)
    after = copied(learn.model)
    assert_differ(after, start)
    learn.get_preds()
    learn.validate()
    assert_close(copied(learn.model), after)


@pytest.mark.parametrize("average", [MovingAverage(0.9, True), EpochAverage(1.0)])
def test_a_single_batch_takes_a_single_pass(parts: Callable[..., Any], average: Any) -> None:
    """As in a preflight."""
    made = parts()
    learn = quiet(build_learner(made, dataloaders(made)))
    passes: list[int] = []
    learn.model.register_forward_hook(lambda *_: passes.append(1))
    learn.fit(1, 1e-2, cbs=[average, SingleBatch()])
    assert len(passes) == (3 if isinstance(average, EpochAverage) else 2)


def test_two_averages_are_refused(recipe: Callable[..., Any], parts: Callable[..., Any]) -> None:
    with pytest.raises(AblateError, match="ema and swa both average the weights; turn one of them off"):
        recipe(study={"baseline": ["ema", "swa"], "seeds": 1}).parts("body", (), 0)
    made = parts()
    learn = quiet(build_learner(made, dataloaders(made)))
    with pytest.raises(AblateError, match="weights are averaged once"):
        learn.fit(1, 1e-2, cbs=[MovingAverage(0.9, True), EpochAverage(1.0)])


class Watches(Technique):
    """Keeps what validation saw, and what training began and ended an epoch with."""

    name: ClassVar[str] = "watches"
    begun: ClassVar[list[State]] = []
    trained: ClassVar[list[State]] = []
    validated: ClassVar[list[State]] = []

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Watch(Callback):
            order = 70

            def before_train(self) -> None:
                Watches.begun.append(copied(self.learn.model))

            def before_validate(self) -> None:
                Watches.validated.append(copied(self.learn.model))

            def after_step(self) -> None:
                if self.learn.iter == 2:
                    Watches.trained.append(copied(self.learn.model))

        return [Watch()]


@pytest.fixture
def watched(runner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A runner of two phases whose averages and weights are written down."""
    known = techniques.registry() | {"watches": Watches}
    monkeypatch.setattr(techniques, "registry", lambda: known)
    for kept in (Watches.begun, Watches.trained, Watches.validated):
        kept.clear()

    def make(*on: str, **options: Any) -> Any:
        phases = [{"name": "one", "epochs": 2, "lr": 1e-2}, {"name": "two", "epochs": 5, "lr": 2e-2}]
        study = {"baseline": ["normalize", "watches", *on], "seeds": 1}
        return runner(phases=phases, study=study, techniques=options, keep="best")

    return make


@pytest.mark.parametrize(
    ("name", "options"), [("ema", {"decay": 0.6}), ("swa", {"share": 0.5}), ("swa", {"share": 1.0})]
)
def test_stages_keep_and_finish_with_the_average(
    watched: Callable[..., Any], name: str, options: dict[str, Any]
) -> None:
    made = watched(name, **{name: options})
    made.run_needed(made.fit().key)
    one, two = (made.folder(made.fit(phase=phase).key) for phase in (0, 1))
    assert len(Watches.validated) == 7
    # each phase's weights are the averages that its last epoch was validated with
    assert_close(load_file(one / "weights.safetensors"), Watches.validated[1])
    assert_close(load_file(two / "weights.safetensors"), Watches.validated[6])
    # the next phase begins with them, its second epoch with the trained weights
    assert_close(Watches.begun[2], Watches.validated[1])
    assert_close(Watches.begun[3], Watches.trained[2])
    assert_differ(Watches.validated[6], Watches.trained[6])
    for epoch in (int(path.stem.split("-")[1]) for path in two.glob("epoch-*.safetensors")):
        assert_close(load_file(two / f"epoch-{epoch}.safetensors"), Watches.validated[2 + epoch])
    assert np.allclose(made.predictions()[["p_0", "p_1", "p_2"]].sum(axis=1), 1)


def test_the_best_epoch_is_one_of_the_averages(watched: Callable[..., Any]) -> None:
    """Where the first epochs are the best, their averages are carried from checkpoint to checkpoint."""
    made = watched("ema", ema={"decay": 0.9, "warmup": False})
    folder = made.run_needed(made.fit().key)
    history = pd.read_csv(folder / "history.csv")
    best = int(history["valid_loss"].to_numpy().argmin())
    name = "weights.safetensors" if best == 4 else f"epoch-{best}.safetensors"
    assert_close(load_file(folder / name), Watches.validated[2 + best])


def test_frozen_batch_norms_are_not_worked_out_anew(parts: Callable[..., Any]) -> None:
    made = parts(on=("swa", "freeze_bn"), techniques={"swa": {"share": 1.0}}, phases__1__epochs=2)
    learn = quiet(build_learner(made, dataloaders(made)))
    before = copied(learn.model)
    learn.fit_one_cycle(2, 1e-2)
    after = copied(learn.model)
    moved = {name for name in after if "running" in name and not torch.equal(after[name], before[name])}
    assert moved == {name for name in after if "running" in name and name.startswith("1.")}


@pytest.mark.parametrize("options", [{"decay": 0}, {"decay": 1}, {"warmup": 1}, {"share": 0.5}])
def test_ema_options_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EMA.model_validate(options)


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1.1}, {"epochs": 2}])
def test_swa_options_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SWA.model_validate(options)
