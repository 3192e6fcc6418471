"""Exact resume: whatever a fit is broken off by, and however often, what comes out is the same, byte by byte.

One test runs over every registered technique, every callback with state and every optimizer. A new technique
is tested with its defaults by being there; options worth a test of their own go into `technique_settings.py`.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import itertools
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, TrackerCallback
from fastai.callback.training import GradientAccumulation
from safetensors import SafetensorError
from technique_settings import SETTINGS, all_at_once

from ablate import sealed, techniques
from ablate.errors import AblateError, StageStopped, Terminated
from ablate.techniques.base import Context, Technique
from ablate.training import checkpoint


class PowerLoss(Exception):
    """What the tests break a fit off with."""


def lose_power() -> None:
    raise PowerLoss("the lights went out")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Interrupt(Technique):
    """Does something bad at the next of some points: an epoch, an event, and whether in training."""

    name: ClassVar[str] = "interrupt"
    points: ClassVar[list[tuple[int, str, bool]]] = []
    happens: ClassVar[Callable[[], None]] = lose_power

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Breaker(Callback):
            order = 109  # after every callback but the one that keeps checkpoints

            def __call__(self, event_name: str) -> None:
                if not Interrupt.points:
                    return
                epoch, event, training = Interrupt.points[0]
                if event_name != event or self.learn.epoch != epoch:
                    return
                inside = event.endswith(("batch", "pred", "loss", "step", "backward"))
                # the second of three batches in training, the only one in validation
                if not inside or (self.learn.training, self.learn.iter) == (training, int(training)):
                    Interrupt.points.pop(0)
                    Interrupt.happens()

        return [Breaker()]


class Stops(Technique):
    """fastai's early stopping: forgets on resume what it has waited for."""

    name: ClassVar[str] = "stops"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        return [EarlyStoppingCallback(min_delta=100, patience=1)]


class Slows(Technique):
    """fastai's ReduceLROnPlateau; its last reduction stands in the optimizer's file."""

    name: ClassVar[str] = "slows"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        return [ReduceLROnPlateau(min_delta=100, patience=2)]


class KeepsBest(Technique):
    """Like fastai's SaveModelCallback, but without a file: ends with the weights of the best epoch."""

    name: ClassVar[str] = "keeps_best"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Keep(TrackerCallback):
            kept: dict[str, torch.Tensor]

            def after_epoch(self) -> None:
                super().after_epoch()
                if self.new_best:
                    state = self.learn.model.state_dict()
                    self.kept = {name: tensor.clone() for name, tensor in state.items()}

            def after_fit(self) -> None:
                self.learn.model.load_state_dict(self.kept)
                super().after_fit()

            def state_dict(self) -> dict[str, Any]:
                return {"kept": self.kept}

            def load_state_dict(self, state: dict[str, Any]) -> None:
                self.kept = state["kept"]

        return [Keep("accuracy")]


class Averages(Technique):
    """Somebody's own: an average of the weights, which takes the place of the weights at the end.

    Its state has everything that state may have: tensors, numbers of numpy, text, None, nesting.
    """

    name: ClassVar[str] = "averages"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Average(Callback):
            order = 70  # after the recorder

            def before_fit(self) -> None:
                self.run = not hasattr(self.learn, "gather_preds")  # as fastai's own say that they sit out
                self.state: dict[str, Any] = {"weights": None, "seen": np.float32(0), "log": [], "at": ()}

            def after_step(self) -> None:
                own, state = self.state, self.learn.model.state_dict()
                own["seen"] = own["seen"] * np.float32(0.9) + np.float32(self.learn.loss.item())
                own["at"] = (int(self.learn.epoch), {"iter": self.learn.iter, 3: "three"})
                if own["weights"] is None:
                    own["weights"] = {name: tensor.clone() for name, tensor in state.items()}
                for name, tensor in own["weights"].items():
                    if tensor.is_floating_point():
                        tensor.lerp_(state[name], 0.1 + 0.001 * float(own["seen"]) + 0.1 * len(own["log"]))

            def after_epoch(self) -> None:
                self.state["log"].append([f"epoch {self.learn.epoch}", self.learn.recorder.values[-1][0]])

            def after_fit(self) -> None:
                self.learn.model.load_state_dict(self.state["weights"])

            def state_dict(self) -> dict[str, Any]:
                return self.state

            def load_state_dict(self, state: dict[str, Any]) -> None:
                self.state = state

        return [Average()]


class Looks(Technique):
    """A callback without state that goes by what fastai's learner and recorder know of the fit so far."""

    name: ClassVar[str] = "looks"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Look(Callback):
            run_valid = False
            order = 65  # after the schedule

            def before_batch(self) -> None:
                learn, recorder = self.learn, self.learn.recorder
                known = [learn.train_iter, learn.pct_train, len(recorder.lrs), sum(recorder.iters)]
                known += [sum(recorder.lrs), *(float(loss) for loss in recorder.losses)]
                known += [value for row in recorder.values for value in row]
                if learn.epoch:
                    known += [float(learn.smooth_loss), *learn.final_record]
                learn.opt.set_hyper("wd", float(np.sin(sum(known))) ** 2)

        return [Look()]


class Draws(Technique):
    """Draws from every global generator at every event of an epoch, and trains accordingly."""

    name: ClassVar[str] = "draws"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Draw(Callback):
            def draw(self) -> None:
                drawn = random.random() + np.random.random() + float(torch.rand(()))
                for parameter in self.learn.model.parameters():
                    parameter.data.mul_(1 + 1e-3 * drawn)

            before_fit = before_epoch = before_train = before_batch = after_pred = after_batch = draw
            after_train = before_validate = after_validate = after_epoch = draw

        return [Draw()]


class Accumulates(Technique):
    """fastai's GradientAccumulation: two batches to a step, so that gradients outlive an epoch of three."""

    name: ClassVar[str] = "accumulates"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        return [GradientAccumulation(12)]


class Freezes(Technique):
    """Takes the body out of training after the first epoch: without gradients, momentum still moves it."""

    name: ClassVar[str] = "freezes"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Freeze(Callback):
            def before_train(self) -> None:
                self.learn.model[0].requires_grad_(self.learn.epoch == 0)

        return [Freeze()]


class Decays(Technique):
    """Changes a number of the optimizer that no schedule sets again."""

    name: ClassVar[str] = "decays"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Decay(Callback):
            def after_epoch(self) -> None:
                for group in self.learn.opt.hypers:
                    group["wd"] *= 3

        return [Decay()]


class Explodes(Technique):
    """Ends in numbers that are not finite."""

    name: ClassVar[str] = "explodes"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Explode(Callback):
            def before_train(self) -> None:
                if self.learn.epoch == 2:
                    for parameter in self.learn.model.parameters():
                        parameter.data.fill_(float("inf"))

        return [Explode()]


class Worsens(Technique):
    """Makes the first epoch the best."""

    name: ClassVar[str] = "worsens"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Worsen(Callback):
            def after_train(self) -> None:
                if self.learn.epoch:
                    self.learn.model[-1][-1].weight.data.mul_(100)

        return [Worsen()]


class Optimized(Technique):
    """Trains with the optimizer in turn."""

    name: ClassVar[str] = "optimized"
    maker: ClassVar[Callable[..., Any]]

    def optimizer(self, optimizer: Any, context: Context) -> Any:
        return Optimized.maker


CALLBACKS = (Stops, Slows, KeepsBest, Averages, Looks, Draws, Accumulates, Freezes, Decays, Explodes, Worsens)
OWN = (Interrupt, Optimized, *CALLBACKS)
ONE = [{"name": "late", "epochs": 3, "lr": [1e-3, 4e-3]}]
TWO = [{"name": "early", "epochs": 2, "lr": 2e-3}, *ONE]


@dataclass(frozen=True)
class Case:
    """What is trained: techniques with their options, phases, fields of the recipe."""

    name: str
    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    phases: list[dict[str, Any]] = field(default_factory=lambda: ONE)
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> dict[str, Any]:
        on = {**self.on, "interrupt": {}}
        own = {"study": {"baseline": list(on), "seeds": 1}, "techniques": on, "phases": self.phases}
        if "tabular" in on:
            own["data.tabular"] = {"categorical": ["patient"]}
        if "sigmoid_output" in on:
            own["data.table"] = "two_classes.csv"
        return {**own, "keep": "best", **self.fields}


def every_technique() -> Iterator[Any]:
    """In two phases, of which the later one keeps the optimizer of the earlier; further options are slow."""
    for name in techniques.registry():
        for number, options in enumerate(SETTINGS.get(name, [{}])):
            case = Case(f"{name} {number}" if number else name, {name: options}, TWO)
            yield pytest.param(case, marks=pytest.mark.slow) if number else case


EVERYTHING = Case(
    "everything",
    all_at_once() | {"averages": {}, "slows": {}, "looks": {}},
    [TWO[0] | {"freeze": True}, *ONE],
    {"precision": "bfloat16", "micro_batch": 4},
)
CASES = [
    Case("nothing"),
    *every_technique(),
    Case("all techniques", all_at_once(), TWO),
    EVERYTHING,
    Case("frozen", phases=[ONE[0] | {"freeze": True}]),
    Case("unfrozen after frozen", {"normalize": {}}, [TWO[0] | {"freeze": True}, *ONE]),
    Case("frozen after unfrozen", {"augment": {}}, [TWO[0], ONE[0] | {"freeze": True}]),
    Case("no weight decay", fields={"weight_decay": 0.0}),
    Case("bfloat16", fields={"precision": "bfloat16"}),
    Case("float16", fields={"precision": "float16"}),
    Case("micro-batches", {"mixup": {}}, fields={"micro_batch": 2}),
    Case("float16 in micro-batches", {"cutmix": {}}, fields={"precision": "float16", "micro_batch": 4}),
    *(Case(own.name, {own.name: {}}) for own in CALLBACKS),
    Case("trackers together", {"slows": {}, "keeps_best": {}, "stops": {}}),
    Case("rates that are found", phases=[ONE[0] | {"lr": "find"}]),
    Case("another network", {"mixup": {}}, fields={"model.arch": "test_vit"}),
    Case("an average of frozen batch norms", {"swa": {"share": 1.0}, "freeze_bn": {}, "early_stopping": {}}),
    Case("a second pass in parts", {"sam": {}, "ema": {}}, fields={"precision": "float16", "micro_batch": 4}),
    *(Case(f"best by {by}", {"worsens": {}}, fields={"keep_by": by}) for by in ("accuracy", "train_loss")),
]


@pytest.fixture(autouse=True)
def own_techniques(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = techniques.registry() | {technique.name: technique for technique in OWN}
    monkeypatch.setattr(techniques, "registry", lambda: known)
    monkeypatch.setattr(Interrupt, "points", [])
    with torch.compiler.set_stance("force_eager"):  # compiling takes minutes; its own test does
        yield


@pytest.fixture
def run_of(runner: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the runner of a case, in a store of its own."""

    def make(case: Case, name: str = "disturbed", workers: int = 0) -> Any:
        return runner(name, workers, **{key.replace(".", "__"): own for key, own in case.recipe.items()})

    return make


def outputs(folder: Path) -> dict[str, Any]:
    """All that a stage wrote, but for the times in it."""
    files: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    if "history.csv" in files:
        rows = list(csv.DictReader(files["history.csv"].decode().splitlines()))
        assert all(float(row.pop("seconds")) >= 0 for row in rows)
        files["history.csv"] = rows
    done = sealed.read_seal(folder)
    assert done is not None
    files["DONE.json"] = {name: done[name] for name in ("status", "label", "schema")}
    return files


def assert_same(undisturbed: Path, disturbed: Path) -> None:
    """Name the files that differ, before showing how."""
    expected, found = outputs(undisturbed), outputs(disturbed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


class Epochs:
    """The epochs that a stage reports to have trained."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def __call__(self, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.trained.append(message["epoch"]["epoch"])


def break_off(made: Any, stage: Any, *points: tuple[int, str, bool]) -> list[int]:
    """Run a stage that is broken off at each of some points, one after the other; the epochs it trained."""
    told = Epochs()
    for point in points:
        Interrupt.points.append(point)
        with pytest.raises(PowerLoss):
            made.run(stage, told)
        assert not Interrupt.points
    return told.trained


def kill_at(made: Any, stage: Any, *points: tuple[int, str, bool]) -> None:
    """Run a stage in processes that are killed, one after the other, at some points."""
    for point in points:
        assert exit_code(made, stage, lambda point=point: Interrupt.points.append(point)) == -signal.SIGKILL


def exit_code(made: Any, stage: Any, prepare: Callable[[], Any]) -> int:
    """How a process of its own ends that runs a stage."""
    child = os.fork()
    if not child:
        Interrupt.happens = kill
        prepare()
        made.run(stage)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(made: Any) -> dict[str, Path]:
    """Run what is left of the first trial; all of its stages' folders."""
    trial = made.trial()
    last = made.run_needed(trial.fits[-1])
    done = sealed.read_seal(last)
    assert done is not None
    if done["status"] == "ok":
        last = made.run_needed(trial.predict)
    return {key: made.folder(key) for key in made.plan.needed([last.parent.name])}


def assert_trial_same(undisturbed: Any, disturbed: Any) -> None:
    expected, found = finish(undisturbed), finish(disturbed)
    assert found.keys() == expected.keys()
    for key in expected:
        assert_same(expected[key], found[key])


def fits_of(made: Any) -> list[Any]:
    return [made.plan.stages[key] for key in made.trial().fits]


def disturb(made: Any, undisturbed: Any) -> None:
    """Break every fit of a trial off in the middle of every epoch, each time going on from the last."""
    for stage in fits_of(made):
        for parent in stage.parents:
            made.run_needed(parent)
        steps = csv.DictReader((undisturbed.folder(stage.key) / "steps.csv").open())
        last = max(int(step["epoch"]) for step in steps)
        points = [(epoch, "before_backward", True) for epoch in range(last + 1)]
        assert break_off(made, stage, *points) == list(range(last))  # each of them once
        told = Epochs()
        made.run(stage, told)
        assert told.trained in ([last], [])  # none where the last one diverged


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resume(run_of: Callable[..., Any], case: Case):
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    disturb(disturbed, undisturbed)
    assert_trial_same(undisturbed, disturbed)


def test_resume_with_every_optimizer(run_of: Callable[..., Any], optimizer: Callable[..., Any], monkeypatch):
    monkeypatch.setattr(Optimized, "maker", staticmethod(optimizer), raising=False)
    case = Case("optimizer", {"optimized": {}}, TWO)
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    disturb(disturbed, undisturbed)
    assert_trial_same(undisturbed, disturbed)


EVENTS = [
    *(("before_epoch", True), ("before_train", True), ("before_batch", True), ("after_pred", True)),
    *(("after_loss", True), ("before_backward", True), ("before_step", True), ("after_step", True)),
    *(("after_batch", True), ("after_train", True), ("before_validate", True), ("before_batch", False)),
    *(("after_pred", False), ("after_batch", False), ("after_validate", True), ("after_epoch", True)),
]
"""Every event of an epoch, and whether it is one of training."""


@pytest.mark.parametrize("epoch", [0, *(pytest.param(epoch, marks=pytest.mark.slow) for epoch in (1, 2))])
def test_resume_after_a_kill_at_every_event(run_of: Callable[..., Any], epoch: int):
    """Killed at each event of one epoch in turn, everything on, each time going on from the time before."""
    undisturbed, disturbed = run_of(EVERYTHING, "undisturbed"), run_of(EVERYTHING)
    finish(undisturbed)
    stage = fits_of(disturbed)[1]  # the recipe's own last phase; fixres adds one
    disturbed.run_needed(stage.parents[0])
    kill_at(disturbed, stage, *((epoch, event, training) for event, training in EVENTS))
    assert_trial_same(undisturbed, disturbed)


def test_resume_after_kills_at_any_file_operation(run_of: Callable[..., Any]):
    """In the middle of a checkpoint, of the removal of the one before, of the last writing of all."""
    case = Case("files", {"mixup": {}, "slows": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    stage = fits_of(disturbed)[0]
    place = str(disturbed.folder(stage.key).parent)

    def kill_after(operations: int) -> None:
        left = [operations]

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            at_files = event == "open" or event.startswith("os.")
            if at_files and any(str(argument).startswith(place) for argument in arguments[:2]):
                left[0] -= 1
                if not left[0]:
                    kill()

        sys.addaudithook(watch)

    seen: set[tuple[str, ...]] = set()
    killed = 0
    for operations in itertools.count(5, 4):
        code = exit_code(disturbed, stage, lambda number=operations: kill_after(number))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        seen.add(tuple(sorted(path.name for path in Path(place).iterdir())))
    assert killed > 10
    assert len(seen) > 3  # of half a checkpoint, two of them …
    finish(disturbed)
    assert_trial_same(undisturbed, disturbed)


@pytest.mark.parametrize("error", [KeyboardInterrupt("^C"), Terminated("SIGTERM")], ids=["SIGINT", "SIGTERM"])
def test_resume_after_a_signal(run_of: Callable[..., Any], error: BaseException, monkeypatch):
    case = Case("signal", {"mixup": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)

    def interrupt() -> None:
        raise error

    monkeypatch.setattr(Interrupt, "happens", interrupt)
    Interrupt.points.append((1, "after_loss", True))
    with pytest.raises(type(error)):
        disturbed.run(fits_of(disturbed)[0])
    assert_trial_same(undisturbed, disturbed)


@pytest.mark.parametrize("epoch", [0, 1])
def test_resume_after_a_stop_that_was_asked_for(run_of: Callable[..., Any], epoch: int):
    case = Case("stopped", {"averages": {}, "mixup": {}}, TWO)
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    stage = fits_of(disturbed)[1]
    disturbed.run_needed(stage.parents[0])
    told = Epochs()
    with pytest.raises(StageStopped, match=rf"late · seed 0: stopped after epoch {epoch + 1}\.$"):
        disturbed.run(stage, told, lambda: len(told.trained) > epoch)
    assert told.trained == list(range(epoch + 1))
    assert not (disturbed.folder(stage.key) / "DONE.json").exists()
    disturbed.run(stage, told)
    assert told.trained == [0, 1, 2]
    assert_trial_same(undisturbed, disturbed)


def test_a_stop_after_every_epoch(run_of: Callable[..., Any]):
    case = Case("stopped", {"slows": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    stage = fits_of(disturbed)[0]
    told: list[dict[str, Any]] = []
    for _ in range(2):
        with pytest.raises(StageStopped):
            disturbed.run(stage, told.append, lambda: True)
    folder = disturbed.run(stage, told.append, lambda: True)  # the last epoch ends the stage
    assert_trial_same(undisturbed, disturbed)
    # progress and seconds are those of the whole, too
    batches = [message for message in told if "done" in message]
    assert batches == [{"done": number, "total": 9} for number in range(1, 10)]
    done = sealed.read_seal(folder)
    assert done is not None
    assert done["seconds"] >= sum(m["epoch"]["seconds"] for m in told if "epoch" in m) - 0.01


def damage(folder: Path, how: str) -> None:
    """Damage one file of a checkpoint, or two."""
    victims = {"weights": "weights.safetensors", "callbacks": "callbacks.json", "best": "epoch-0.safetensors"}
    victim = folder / victims.get(how, "optimizer.safetensors")
    if how == "no seal":
        (folder / "DONE.json").unlink()
    elif how == "half a seal":
        (folder / "DONE.json").write_bytes((folder / "DONE.json").read_bytes()[:200])
    elif how == "another ablate's":
        victim = folder / "DONE.json"
        victim.unlink()
        sealed.seal(folder, layout=0)
    elif how == "removed":
        victim.unlink()
    elif how == "truncated":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        before = victim.stat()
        data = bytearray(victim.read_bytes())
        data[-2] ^= 4
        victim.unlink()  # it may be linked to from elsewhere
        victim.write_bytes(data)
        os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))  # as on a bad disk


@pytest.mark.parametrize("earlier", [True, False], ids=["with an earlier one", "alone"])
@pytest.mark.parametrize(
    "how",
    ["weights", "callbacks", "best", "removed", "truncated", "no seal", "half a seal", "another ablate's"],
)
def test_a_damaged_checkpoint_is_not_used(run_of: Callable[..., Any], how: str, earlier: bool):
    # the first epoch is the best, so that its weights are in the second one's checkpoint
    case = Case("damaged", {"keeps_best": {}, "worsens": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    stage = fits_of(disturbed)[0]
    place = disturbed.folder(stage.key).parent
    with pytest.raises(StageStopped):
        disturbed.run(stage, stopping=lambda: True)
    shutil.copytree(place / "epoch-0", place / "kept")
    with pytest.raises(StageStopped):
        disturbed.run(stage, stopping=lambda: True)
    assert [path.name for path in place.glob("epoch-*")] == ["epoch-1"]
    damage(place / "epoch-1", how)
    if earlier:  # as after a kill before its removal
        (place / "kept").rename(place / "epoch-0")
    told = Epochs()
    disturbed.run(stage, told)
    assert told.trained == ([1, 2] if earlier else [0, 1, 2])
    assert_trial_same(undisturbed, disturbed)


def test_another_number_of_workers_after_the_resume(run_of: Callable[..., Any]):
    case = Case("workers", {"augment": {}, "mixup": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    for workers in (2, 0, 1):
        disturbed.workers = workers
        with contextlib.suppress(StageStopped):
            disturbed.run(fits_of(disturbed)[0], stopping=lambda: True)
    assert_trial_same(undisturbed, disturbed)


@pytest.mark.parametrize("what", ["save_weights", "save_optimizer", "save_state", "seal", "link", "rename"])
def test_a_full_disk_is_told_and_costs_an_epoch(run_of: Callable[..., Any], what: str, monkeypatch):
    case = Case("full", {"slows": {}, "worsens": {}})
    undisturbed, disturbed = run_of(case, "undisturbed"), run_of(case)
    finish(undisturbed)
    stage = fits_of(disturbed)[0]
    with pytest.raises(StageStopped):
        disturbed.run(stage, stopping=lambda: True)
    owner = {"seal": sealed, "link": os, "rename": Path}.get(what, checkpoint)
    error: Exception = OSError(errno.ENOSPC, "No space left on device")
    if what.startswith("save"):  # safetensors has errors of its own
        error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def full(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, what, full)
        with pytest.raises(AblateError, match=r"the disk is full; free some of it .* goes on from the last"):
            disturbed.run(stage)
    told = Epochs()
    disturbed.run(stage, told)
    assert told.trained == [1, 2]
    assert_trial_same(undisturbed, disturbed)
