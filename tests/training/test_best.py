"""The best epoch: chosen on one half of the validation items, scored on the other."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, roc_auc_score

from ablate import sealed, techniques
from ablate.data.items import Item
from ablate.errors import AblateError, Damaged
from ablate.techniques.base import Context, Technique
from ablate.training.best import BestEpochs, halves, weights_for, weights_name
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def make_items(groups: list[str]) -> list[Item]:
    return [
        Item(i, f"item {i}", np.zeros((1, 1, 3), np.uint8), i % 3, group) for i, group in enumerate(groups)
    ]


@given(st.lists(st.sampled_from(["", "", "p", "q", "r", "item 1"]), max_size=20))
def test_halves_alternate_and_keep_groups_together(groups: list[str]):
    half = halves(make_items(groups))
    units = [group or i for i, group in enumerate(groups)]
    sides = dict(zip(units, half.tolist(), strict=True))
    assert [sides[unit] for unit in units] == half.tolist()  # one side for each unit
    assert list(sides.values()) == [i % 2 for i in range(len(sides))]  # in turn, by first appearance
    assert half.shape == (len(groups),)


def test_without_groups_every_other_item_is_on_the_other_side():
    assert halves(make_items([""] * 5)).tolist() == [0, 1, 0, 1, 0]


class Validations:
    """Plays the validation of some epochs to `BestEpochs`, as a learner does."""

    def __init__(self, items: list[Item], batch_size: int, by: str = "log_loss"):
        self.best, self.size = BestEpochs(items, by), batch_size
        self.targets = torch.tensor([item.target for item in items])
        self.best.learn = SimpleNamespace(training=False, epoch=-1, loss_func=None)

    def epoch(self, logits: np.ndarray, losses: Sequence[float] = (9.0,)) -> None:
        learn = self.best.learn
        learn.epoch += 1
        # what is seen in training does not count
        learn.training, learn.pred, learn.yb = True, torch.tensor(logits)[:1] * 100, (self.targets[:1],)
        self.best.before_train()
        for loss in losses:
            learn.loss = torch.tensor(loss)
            self.best.after_pred()
            self.best.after_batch()
        learn.training = False
        self.best.before_validate()
        for start in range(0, len(logits), self.size):
            part = slice(start, start + self.size)
            learn.pred, learn.yb = torch.tensor(logits[part]), (self.targets[part],)
            learn.loss = torch.tensor(1e-3)
            self.best.after_pred()
            self.best.after_batch()
        self.best.after_epoch()


def log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """By hand, in double precision."""
    p = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    return float(-np.log((p / p.sum(1, keepdims=True))[np.arange(len(p)), targets]).mean())


@given(
    groups=st.lists(st.sampled_from(["", "p", "q"]), min_size=1, max_size=9),
    epochs=st.integers(1, 6),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_best_epochs_are_those_of_a_hand_computation(
    groups: list[str], epochs: int, batch_size: int, seed: int
):
    items = make_items(groups)
    rng = np.random.default_rng(seed)
    played = Validations(items, batch_size)
    shown = [rng.normal(0, 2, (len(items), 3)).astype(np.float32) for _ in range(epochs)]
    for logits in shown:
        played.epoch(logits)
    half, targets = halves(items), np.array([item.target for item in items])
    everything = np.ones(len(items), bool)
    sides = [side if side.any() else everything for side in (half == 0, half == 1)]
    losses = [[log_loss(logits[side], targets[side]) for logits in shown] for side in [*sides, everything]]
    assert played.best.chosen == [int(np.argmin(one)) for one in losses]
    assert played.best.scores == pytest.approx([min(one) for one in losses], rel=1e-5)
    assert played.best.epochs == set(played.best.chosen)


@given(
    groups=st.lists(st.sampled_from(["", "p", "q", "r"]), min_size=2, max_size=12),
    epochs=st.integers(1, 6),
    classes=st.integers(2, 3),
    by=st.sampled_from(["accuracy", "roc_auc"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_best_by_another_criterion(groups: list[str], epochs: int, classes: int, by: str, seed: int):
    """By scikit-learn's; a half of a single class has no ROC AUC, and all items choose in its place."""
    items, rng = make_items(groups), np.random.default_rng(seed)
    items = [replace(item, target=int(rng.integers(classes))) for item in items]
    targets, everything = np.array([item.target for item in items]), np.ones(len(items), bool)
    assume(len(set(targets)) > 1)
    played = Validations(items, 4, by)
    # few distinct logits, so that epochs are equal now and then
    shown = [rng.integers(0, 3, (len(items), classes)).astype(np.float32) for _ in range(epochs)]

    def score(logits: np.ndarray, side: np.ndarray) -> float:
        if by == "accuracy":
            return accuracy_score(targets[side], logits[side].argmax(1))
        shares = torch.tensor(logits[side]).double().softmax(1).numpy()
        if classes == 2:
            return roc_auc_score(targets[side], shares[:, 1])
        return np.mean([roc_auc_score(targets[side] == c, shares[:, c]) for c in set(targets[side])])

    for logits in shown:
        played.epoch(logits)
    half, needed = halves(items), 2 if by == "roc_auc" else 1
    sides = [side if len(set(targets[side])) >= needed else everything for side in (half == 0, half == 1)]
    scores = np.array([[score(logits, side) for logits in shown] for side in [*sides, everything]])
    assert played.best.chosen == [int(np.argmax(one.round(9))) for one in scores]
    assert played.best.scores == pytest.approx(scores.max(1).tolist())


@given(losses=st.lists(st.lists(st.floats(0, 5, width=16), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_best_by_the_training_loss_does_not_look_at_validation(losses: list[list[float]]):
    played, rng = Validations(make_items(["", "", ""]), 2, "train_loss"), np.random.default_rng(0)
    for epoch in losses:
        played.epoch(rng.normal(size=(3, 3)), epoch)
    means = [np.mean(epoch) for epoch in losses]
    assert played.best.chosen == [int(np.argmin(means))] * 3
    assert played.best.scores == pytest.approx([min(means)] * 3)


def test_the_training_loss_needs_no_validation_items():
    played = Validations([], 2, "train_loss")
    for loss in (3.0, 1.0, float("nan"), 1.0):
        played.epoch(np.zeros((0, 3)), [loss])
    assert played.best.chosen == [1, 1, 1]


def test_without_validation_items_the_last_is_as_good_as_any():
    played = Validations([], 2)
    for _ in range(3):
        played.epoch(np.zeros((0, 3)))
    assert played.best.chosen == [2, 2, 2]


def test_a_single_class_has_no_roc_auc():
    items = [replace(item, target=1) for item in make_items(["", ""])]
    with pytest.raises(AblateError, match=r"^keep_by: all validation images are of one class"):
        BestEpochs(items, "roc_auc")


def test_a_loss_of_its_own_says_what_the_probabilities_are():
    """As a loss over the classes' own probabilities does, whose logits are not those of a softmax."""
    items = make_items(["", "", ""])
    played = Validations(items, 2)
    played.best.learn.loss_func = SimpleNamespace(scores=lambda logits: -logits)
    logits = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    played.epoch(logits)
    assert played.best.scores[2] == pytest.approx(log_loss(-logits, np.arange(3)), rel=1e-5)


def test_the_first_of_equals_is_the_best_and_what_is_not_a_number_never_is():
    played = Validations(make_items(["", "", ""]), 2)
    for value in (np.nan, 1.0, 1.0, np.nan):
        played.epoch(np.full((3, 3), value, np.float32))
    assert played.best.chosen == [1, 1, 1]
    assert played.best.scores == pytest.approx([np.log(3)] * 3)


class Steered(Technique):
    """Gives each epoch a network that predicts one class, or none more than another, before it validates."""

    name: ClassVar[str] = "steered"
    classes: list[int | None] = Field(default_factory=list)

    def callbacks(self, context: Context | None = None) -> list[Any]:
        classes = self.classes

        class Steer(Callback):
            def after_train(self) -> None:
                head = self.learn.model[-1][-1]
                head.weight.data.zero_()
                if head.bias is None:
                    head.bias = torch.nn.Parameter(torch.zeros(3))
                head.bias.data.zero_()
                favourite = classes[self.learn.epoch]
                if favourite is not None:
                    head.bias.data[favourite] = 10.0

        return [Steer()]

    def model(self, model: Any, context: Context) -> Any:
        last = model[-1][-1]
        model[-1][-1] = torch.nn.Linear(last.in_features, last.out_features)
        return model


class Watched(Technique):
    """Keeps the validation predictions and the weights of each epoch, by means of its own."""

    name: ClassVar[str] = "watched"
    seen: ClassVar[list[np.ndarray]] = []
    weights: ClassVar[list[dict[str, torch.Tensor]]] = []

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Watch(Callback):
            def before_validate(self) -> None:
                self.logits: list[torch.Tensor] = []

            def after_batch(self) -> None:
                if not self.learn.training:
                    self.logits.append(self.learn.pred.clone())

            def after_validate(self) -> None:
                Watched.seen.append(torch.cat(self.logits).numpy())
                state = self.learn.model.state_dict()
                Watched.weights.append({name: tensor.clone() for name, tensor in state.items()})

        return [Watch()]


@pytest.fixture
def best_runner(runner, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Iterator[Callable[..., Any]]:
    """A runner of one phase, predicting with `keep: best`; knows the techniques above."""
    known = techniques.registry() | {"steered": Steered, "watched": Watched}
    monkeypatch.setattr(techniques, "registry", lambda: known)

    def make(classes: list[int | None] | None = None, **overrides: Any) -> Any:
        study = {"baseline": ["normalize", "steered" if classes else "watched"], "seeds": 1}
        epochs = len(classes or [0] * 5)
        chosen = {"techniques__steered__classes": classes} if classes else {}
        phases = [{"name": "body", "epochs": epochs, "lr": 1e-2}]
        return runner(**{"keep": "best", "phases": phases, "study": study} | chosen | overrides)

    yield make
    Watched.seen.clear()
    Watched.weights.clear()


def table(photos: Path, valid: set[str], test: set[str] = frozenset()) -> str:
    """Another table of the photos, with a split of one's own."""
    rows = list(csv.DictReader((photos / "table.csv").open()))
    with (photos / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "is_test"])
        writer.writeheader()
        for row in rows:
            name = row["image"].split(".")[0]
            writer.writerow(row | {"is_val": name in valid, "is_test": name in test})
    return "other.csv"


@pytest.mark.parametrize(
    ("classes", "best"),
    [([None, 0, 0], 0), ([0, None, 0], 1), ([0, 0, None], 2), ([None], 0), ([None, None], 0)],
    ids=["first", "middle", "last", "only", "equal"],
)
def test_the_weights_of_the_best_epoch_are_kept(best_runner, classes: list[int | None], best: int):
    made = best_runner(classes)
    folder = made.run(made.fit())
    last = len(classes) - 1
    kept = "weights.safetensors" if best == last else f"epoch-{best}.safetensors"
    content = json.loads((folder / "best.json").read_text())
    assert (content["halves"], content["all"], content["epochs"]) == ([kept, kept], kept, [best] * 3)
    assert content["log_loss"] == pytest.approx([np.log(3)] * 3, rel=1e-5)
    assert {path.name for path in folder.glob("*.safetensors")} == {
        "weights.safetensors",
        "optimizer.safetensors",
        kept,
    }
    assert not load_file(folder / kept)["1.8.bias"].any()
    table = made.predictions()
    assert np.allclose(table[["p_0", "p_1", "p_2"]], 1 / 3)


def test_each_half_is_predicted_by_the_epoch_that_the_other_half_chose(best_runner):
    """Patients: cat-3 and fox-3 on one side, dog-3 on the other, which prefers an epoch that says dog."""
    split = {"column": "is_val", "group": "patient"}
    made = best_runner([1, None, 0], data__split=split)
    folder = made.run(made.fit())
    content = json.loads((folder / "best.json").read_text())
    assert content["epochs"] == [1, 0, 1]
    assert content["log_loss"] == pytest.approx([np.log(3), 0, np.log(3)], abs=1e-3)
    assert content["halves"] == ["epoch-1.safetensors", "epoch-0.safetensors"]
    table = made.predictions().set_index("group")
    assert np.allclose(table.loc[["cat-3", "fox-3"], "p_1"], 1, atol=1e-3)  # by the dogs' choice
    assert np.allclose(table.loc["dog-3", "p_1"], 1 / 3)  # by the others'
    assert weights_name(folder, "best") == "epoch-1.safetensors"
    assert weights_name(folder, "last") == "weights.safetensors"


def test_a_single_group_is_too_few_for_halves(best_runner, photos: Path):
    name = table(photos, {"cat/6", "cat/7"})
    split = {"column": "is_val", "group": "patient"}
    made = best_runner([1, 0, None], data__split=split, data__table=name)
    folder = made.run(made.fit())
    assert json.loads((folder / "best.json").read_text())["epochs"] == [1, 1, 1]
    assert np.allclose(made.predictions()["p_0"], 1, atol=1e-3)


def test_one_validation_item(best_runner, photos: Path):
    made = best_runner([0, 2, None], data__table=table(photos, {"fox/0"}))
    folder = made.run(made.fit())
    assert json.loads((folder / "best.json").read_text())["epochs"] == [1, 1, 1]
    predicted = made.predictions()
    assert predicted["item"].tolist() == ["fox/0.jpg"]
    assert predicted["p_2"].item() == pytest.approx(1, abs=1e-3)


def test_test_items_are_predicted_by_the_epoch_that_all_of_validation_chose(best_runner, photos: Path):
    """A cat and a dog on one side, a cat on the other: only the second half alone prefers to say cat."""
    name = table(photos, {"cat/0", "cat/1", "dog/0"}, {"fox/6", "fox/7", "dog/6"})
    made = best_runner([0, None, 2], data__table=name, data__test={"column": "is_test"})
    folder = made.run(made.fit())
    assert json.loads((folder / "best.json").read_text())["epochs"] == [1, 0, 1]
    trial = made.trial()
    assert trial.test is not None
    predicted = pd.read_parquet(made.run_needed(trial.test) / "predictions.parquet")
    assert predicted["item"].tolist() == ["dog/6.jpg", "fox/6.jpg", "fox/7.png"]
    assert np.allclose(predicted[["p_0", "p_1", "p_2"]], 1 / 3)


@pytest.mark.parametrize(("group", "rate"), [(None, 5e-3), ("patient", 1e-2)])
def test_real_training_against_a_hand_made_reference(best_runner, group: str | None, rate: float):
    """The epoch, the weights and the predictions, from what another callback wrote down.

    With these rates the halves choose different epochs.
    """
    phases = [{"name": "body", "epochs": 5, "lr": rate}]
    made = best_runner(data__split={"column": "is_val", "group": group}, phases=phases)
    stage = made.fit()
    folder = made.run(stage)
    assert len(Watched.seen) == 5
    fold, items = made.prepared.folds[0], made.prepared.items
    valid = [items.items[i] for i in fold.valid]
    targets = np.array([item.target for item in valid])
    half = np.array([0, 0, 1, 1, 0, 0] if group else [0, 1, 0, 1, 0, 1])
    choice = [
        int(np.argmin([log_loss(p[side], targets[side]) for p in Watched.seen]))
        for side in (half == 0, half == 1)
    ]
    assert choice[0] != choice[1]
    whole = [log_loss(p, targets) for p in Watched.seen]
    content = json.loads((folder / "best.json").read_text())
    assert content["epochs"] == [*choice, int(np.argmin(whole))]
    history = pd.read_csv(folder / "history.csv")
    assert history["valid_loss"].tolist() == pytest.approx(whole, abs=1e-5)

    parts = made.recipe.parts("body", [], 0)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    expected = np.empty((len(valid), 3))
    for side in (0, 1):
        epoch = choice[1 - side]
        name = "weights.safetensors" if epoch == 4 else f"epoch-{epoch}.safetensors"
        stored = load_file(folder / name)
        assert all(torch.equal(stored[k], Watched.weights[epoch][k]) for k in Watched.weights[epoch])
        learn.model.load_state_dict(Watched.weights[epoch])
        expected[half == side] = learn.get_preds()[0].numpy()[half == side]
    predicted = made.predictions()
    assert predicted["item"].tolist() == [item.id for item in valid]
    assert np.allclose(predicted[["p_0", "p_1", "p_2"]], expected, atol=1e-6)
    assert sorted(weights_for(folder, valid, "valid", "last")[0][1]) == list(range(len(valid)))


def test_the_best_by_accuracy_and_by_log_loss_differ(best_runner):
    """Saying dog to all is right in a third of the images, and as wrong as can be in the others."""
    for by, best in (("log_loss", 2), ("accuracy", 0), ("roc_auc", 0)):
        made = best_runner([1, 0, None], keep_by=by)
        folder = made.run(made.fit())
        content = json.loads((folder / "best.json").read_text())
        assert content["epochs"] == [best] * 3, by
        assert content[by] == pytest.approx(
            {"log_loss": [np.log(3)] * 3, "accuracy": [1 / 3] * 3}.get(by, [0.5] * 3)
        )


def test_the_best_by_the_training_loss_of_a_real_phase(best_runner):
    made = best_runner(keep_by="train_loss", phases=[{"name": "body", "epochs": 4, "lr": [1e-3, 0.5]}])
    folder = made.run(made.fit())
    steps = pd.read_csv(folder / "steps.csv")
    means = steps.groupby("epoch")["loss"].mean().to_numpy()
    content = json.loads((folder / "best.json").read_text())
    best = int(means.argmin())
    assert content["epochs"] == [best] * 3
    assert content["train_loss"] == pytest.approx([means.min()] * 3, rel=1e-6)
    name = "weights.safetensors" if best == 3 else f"epoch-{best}.safetensors"
    assert weights_for(folder, made.prepared.items.items[:4], "test", "best")[0][0] == name
    stored = load_file(folder / name)
    assert all(torch.equal(stored[key], Watched.weights[best][key]) for key in stored)


def test_the_last_epoch_is_what_predicts_unless_asked(best_runner):
    made = best_runner([None, 0, 1], keep="last")
    assert np.allclose(made.predictions()["p_1"], 1, atol=1e-3)


def test_the_choice_is_not_read_from_a_damaged_file(best_runner):
    made = best_runner([None, 0])
    folder = made.run(made.fit())
    (folder / "best.json").write_text((folder / "best.json").read_text().replace("epoch-0", "epoch-1"))
    with pytest.raises(Damaged):
        weights_name(folder, "best")
    assert list(sealed.damaged_files(folder)) == ["best.json"]
