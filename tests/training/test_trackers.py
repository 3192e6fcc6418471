"""Early stopping and falling rates: when, by what, and with what left of the fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import ReduceLROnPlateau
from fastai.learner import Metric
from fastai.optimizer import OptimWrapper
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from safetensors.torch import load_file
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchReduceLROnPlateau

from ablate import techniques
from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique
from ablate.techniques.early_stopping import EarlyStopping
from ablate.techniques.reduce_on_plateau import ReduceOnPlateau
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, fit_phase, peak_rates
from ablate.training.learner import build_learner, quiet
from ablate.training.trackers import ReduceRates, StopEarly


class Scripted(Metric):
    """Has a given value after each epoch."""

    name = "accuracy"

    def __init__(self, values: list[float]):
        self.values = values

    def reset(self) -> None:
        pass

    def accumulate(self, learn: Any) -> None:
        self.epoch = int(learn.epoch)

    @property
    def value(self) -> float:
        return self.values[self.epoch]


def scripted_fit(parts: Callable[..., Any], values: list[float], callback: Any, schedule: Any) -> Any:
    """A fit whose accuracy is given; its learner and log."""
    made = parts("head", phases__0__epochs=len(values))
    learn, log = quiet(build_learner(made, dataloaders(made))), EpochLog("head", lambda _: None)
    learn.metrics = [Scripted(values)]
    rates = peak_rates(1e-3, len(learn.opt.param_lists))
    fit_phase(learn, made.phase, rates, [log, callback], schedule=schedule)
    return learn, log


def flat(position: float) -> float:
    return 1.0


VALUES = [0.5, 0.6, 0.6, 0.55, 0.605, 0.61, 0.7, 0.7, 0.7, 0.69, 0.3, 0.2]


def last_by_hand(values: list[float], patience: int, min_delta: float) -> int:
    """Keras's rule: the epoch in which nothing has been better than the best for so many epochs."""
    best, wait = -math.inf, 0
    for epoch, value in enumerate(values):
        best, wait = (value, 0) if value > best + min_delta else (best, wait + 1)
        if wait == patience:
            return epoch
    return len(values) - 1


@pytest.mark.parametrize(
    ("patience", "min_delta", "last"), [(2, 0.0, 3), (3, 0.0, 9), (2, 0.02, 3), (4, 0.0, 10)]
)
def test_it_stops_when_nothing_has_been_better(
    parts: Any, patience: int, min_delta: float, last: int
) -> None:
    assert last == last_by_hand(VALUES, patience, min_delta)
    technique = EarlyStopping(monitor="accuracy", patience=patience, min_delta=min_delta)
    (callback,) = technique.callbacks()
    learn, log = scripted_fit(parts, VALUES, callback, flat)
    assert [row["epoch"] for row in log.epochs] == list(range(last + 1))
    assert int(learn.epoch) == last


@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (2, 0.0), (2, 0.02), (3, 0.0)])
@pytest.mark.parametrize("factor", [0.4, 0.1])
def test_rates_fall_as_with_torchs(parts: Any, patience: int, min_delta: float, factor: float) -> None:
    """torch's patience is how many epochs it lets pass; the next one lowers the rate."""
    technique = ReduceOnPlateau(monitor="accuracy", patience=patience, min_delta=min_delta, factor=factor)
    (callback,) = technique.callbacks()
    _, log = scripted_fit(parts, VALUES, callback, technique.schedule(None))  # type: ignore[arg-type]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    scheduler = TorchReduceLROnPlateau(
        optimizer, "max", factor, patience - 1, threshold=min_delta, threshold_mode="abs", eps=0
    )
    expected = []
    for value in VALUES:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert [step["lr"] for step in log.steps] == pytest.approx(np.repeat(expected, 3).tolist())
    assert len(set(expected)) > 1


@pytest.mark.parametrize("optimizer", ["fastai", "torch"])
def test_without_a_schedule_they_fall_as_with_fastais(parts: Any, optimizer: str) -> None:
    """Where nothing sets the rate anew, as in somebody's own fit."""
    seen = []
    for callback in (
        ReduceRates(0.4, 2, monitor="accuracy", comp=np.greater),
        ReduceLROnPlateau("accuracy", np.greater, patience=2, factor=2.5),
    ):
        made = parts("head")
        learn, log = quiet(build_learner(made, dataloaders(made))), EpochLog("head", lambda _: None)
        if optimizer == "torch" and isinstance(callback, ReduceRates):  # fastai's own does nothing there
            learn.opt_func = lambda groups, **rates: OptimWrapper(groups, torch.optim.SGD, **rates)
            learn.create_opt()
        learn.metrics = [Scripted(VALUES)]
        learn.fit(len(VALUES), 1e-3, cbs=[log, callback])
        seen.append([step["lr"] for step in log.steps])
    assert seen[0] == pytest.approx(seen[1])
    assert len(set(seen[1])) > 2


def test_a_falling_rate_falls_from_where_the_schedule_is(parts: Any) -> None:
    callback = ReduceRates(0.5, 1, monitor="accuracy", comp=np.greater)
    _, log = scripted_fit(parts, [0.5, 0.4, 0.3], callback, lambda position: 1 - position / 4)
    shares = [1, 11 / 12, 10 / 12, 9 / 12, 8 / 12, 7 / 12, 0.5 * 6 / 12, 0.5 * 5 / 12, 0.5 * 4 / 12]
    assert [step["lr"] for step in log.steps] == pytest.approx([1e-3 * share for share in shares])


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceOnPlateau])
@pytest.mark.parametrize(
    ("monitor", "better"),
    [
        *(("valid_loss", np.less), ("train_loss", np.less), ("log_loss", np.less)),
        *(("accuracy", np.greater), ("roc_auc", np.greater), ("balanced_accuracy", np.greater)),
        *(("expected_calibration_error", np.less), ("top_2_accuracy", np.greater)),
    ],
)
def test_the_direction_is_the_metrics(kind: Any, monitor: str, better: Any) -> None:
    (callback,) = kind(monitor=monitor, min_delta=0.1).callbacks()
    assert callback.comp is better
    assert callback.min_delta == (0.1 if better is np.greater else -0.1)


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceOnPlateau])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"monitor": "val_auc"},
            "there is no 'val_auc' to monitor; choose one of train_loss, valid_loss, acc",
        ),
        ({"patience": 0}, "greater than or equal to 1"),
        ({"min_delta": -0.1}, "greater than or equal to 0"),
    ],
)
def test_options_that_cannot_work(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind.model_validate(options)


def test_a_figure_that_is_not_recorded_is_named(parts: Any) -> None:
    made = parts("head")
    learn = quiet(build_learner(made, dataloaders(made)))
    with pytest.raises(
        AblateError, match=r"^monitor: roc_auc is not there .* train_loss, valid_loss, accuracy\.$"
    ):
        learn.fit(1, 1e-3, cbs=[StopEarly("roc_auc", np.greater)])


def test_without_validation_images_the_training_loss_alone_can_be_gone_by() -> None:
    recorder = SimpleNamespace(metric_names=["epoch", "train_loss", "time"])
    learn = SimpleNamespace(dls=SimpleNamespace(valid=[]), recorder=recorder)
    for monitor in ("valid_loss", "roc_auc"):
        (tracker,) = EarlyStopping(monitor=monitor).callbacks()
        tracker.learn = learn
        with pytest.raises(AblateError, match=f"^monitor: {monitor} needs validation images"):
            tracker.before_fit()
    (tracker,) = EarlyStopping(monitor="train_loss").callbacks()
    tracker.learn = learn
    tracker.before_fit()
    assert tracker.idx == 0


def test_two_schedules_are_refused(recipe: Callable[..., Any]) -> None:
    study = {"baseline": ["reduce_on_plateau", "schedule"], "seeds": 1}
    with pytest.raises(AblateError, match="reduce_on_plateau and schedule both set the rates"):
        recipe(study=study).parts("body", (), 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4))
def test_the_hand_made_rule_never_stops_before_patience_is_over(values: list[float], patience: int) -> None:
    last = last_by_hand(values, patience, 0.0)
    assert last >= min(patience, len(values) - 1)


class Steers(Technique):
    """Gives each epoch a network that likes one class by so much, before it validates."""

    name: ClassVar[str] = "steers"
    likes: list[float] = Field(default_factory=list)
    weights: ClassVar[list[dict[str, torch.Tensor]]] = []

    def callbacks(self, context: Context | None = None) -> list[Any]:
        likes = self.likes

        class Steer(Callback):
            def after_train(self) -> None:
                head = self.learn.model[-1][-1]
                head.weight.data.zero_()
                head.weight.data[0] = likes[self.learn.epoch] / 1000
                state = self.learn.model.state_dict()
                Steers.weights.append({name: tensor.clone() for name, tensor in state.items()})

        return [Steer()]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_phase_that_stops_early_has_its_history_its_last_and_its_best_epoch(
    runner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    known = techniques.registry() | {"steers": Steers}
    monkeypatch.setattr(techniques, "registry", lambda: known)
    Steers.weights.clear()
    made = runner(
        keep=keep,
        phases=[{"name": "body", "epochs": 8, "lr": 1e-3}],
        techniques={
            "steers": {"likes": [500.0, 0.0, 700.0, 800.0, 900.0, 0.0, 0.0, 0.0]},
            "early_stopping": {"monitor": "valid_loss", "patience": 3, "min_delta": 0.0},
        },
        study={"baseline": ["normalize", "steers", "early_stopping"], "seeds": 1},
    )
    table = made.predictions()
    folder = made.folder(made.fit().key)
    history = pd.read_csv(folder / "history.csv")
    losses = history["valid_loss"].tolist()
    stopped = len(losses) - 1
    assert stopped == last_by_hand([-loss for loss in losses], 3, 0.0) == 4
    assert history["epoch"].tolist() == list(range(5))
    assert len(pd.read_csv(folder / "steps.csv")) == 15
    best = int(np.argmin(losses))
    assert json.loads((folder / "best.json").read_text())["all"] == f"epoch-{best}.safetensors"
    for name, epoch in (("weights.safetensors", stopped), (f"epoch-{best}.safetensors", best)):
        stored = load_file(folder / name)
        assert all(torch.equal(stored[key], Steers.weights[epoch][key]) for key in stored)
    assert len(table) == 6
