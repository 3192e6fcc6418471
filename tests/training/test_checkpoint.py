"""What a checkpoint is made of, which one is used, what cannot be kept. That it suffices: `test_resume`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastai.callback.core import Callback
from safetensors.torch import load_file

from ablate import sealed
from ablate.errors import StageStopped
from ablate.training.best import BestEpochs
from ablate.training.checkpoint import Checkpoints, latest
from ablate.training.data import dataloaders
from ablate.training.fit import fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.state import load_state

EPOCHS = [{"name": "body", "epochs": 3, "lr": 1e-3}]
ALWAYS = {"weights.safetensors", "optimizer.json", "optimizer.safetensors"}
ALWAYS |= {"callbacks.json", "callbacks.safetensors", "DONE.json"}


class Fixed(BestEpochs):
    """Takes the first epoch for the best."""

    def after_epoch(self) -> None:
        self.chosen = [0, 0, int(self.learn.epoch)]


def fit(
    made: Any, folder: Path, stopping: Callable[[], bool] = lambda: False, *callbacks: Callback
) -> Checkpoints:
    """Train three epochs, or what is left of them, with checkpoints."""
    best = Fixed(made.side("valid"))
    checkpoints = Checkpoints(folder, best, stopping)
    learn = quiet(build_learner(made, dataloaders(made)))
    fit_phase(learn, made.phase, [1e-3, 1e-3], [best, checkpoints, *callbacks], checkpoints.start_epoch)
    return checkpoints


@pytest.fixture
def made(parts: Callable[..., Any]) -> Any:
    return parts(phases=EPOCHS)


def test_a_checkpoint_is_a_sealed_folder_without_pickles(made: Any, tmp_path: Path):
    place = tmp_path / "place"
    seen: list[tuple[set[str], set[str], bool]] = []

    def look() -> bool:
        (checkpoint,) = place.iterdir()  # one at a time
        files = {path.name for path in checkpoint.iterdir()}
        seen.append(({checkpoint.name}, files, sealed.is_whole(checkpoint)))
        return False

    checkpoints = fit(made, place, look)
    # the best epoch's weights go along; the last epoch's checkpoint is the finished stage
    assert seen == [({"epoch-0"}, ALWAYS, True), ({"epoch-1"}, ALWAYS | {"epoch-0.safetensors"}, True)]
    assert not checkpoints.stopped


def test_an_epoch_is_told_once_its_checkpoint_is_there(made: Any, tmp_path: Path):
    told: list[tuple[dict[str, Any], bool]] = []

    def report(message: dict[str, Any]) -> None:
        told.append((message, sealed.is_whole(tmp_path / f"epoch-{message['checkpoint']}")))

    best = Fixed(made.side("valid"))
    learn = quiet(build_learner(made, dataloaders(made)))
    checkpoints = Checkpoints(tmp_path, best, lambda: False, report)
    fit_phase(learn, made.phase, [1e-3, 1e-3], [best, checkpoints])
    assert told == [({"checkpoint": 0}, True), ({"checkpoint": 1}, True)]


def test_a_new_fit_starts_at_the_beginning(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "nowhere", BestEpochs([]), lambda: False)
    assert (checkpoints.start_epoch, checkpoints.latest) == (0, None)


def test_a_fit_that_was_asked_to_stop_goes_on_after_its_last_checkpoint(made: Any, tmp_path: Path):
    first = fit(made, tmp_path, lambda: True)
    assert first.stopped
    again = Checkpoints(tmp_path, BestEpochs([]), lambda: False)
    assert (again.start_epoch, again.latest) == (1, tmp_path / "epoch-0")
    assert fit(made, tmp_path, lambda: True).start_epoch == 2
    assert not fit(made, tmp_path, lambda: True).stopped  # the last epoch is the end


def test_the_best_epochs_weights_cost_no_further_room(made: Any, tmp_path: Path):
    first = fit(made, tmp_path, lambda: True)
    assert first.latest is not None
    weights = (first.latest / "weights.safetensors").stat()
    second = fit(made, tmp_path, lambda: True)
    assert second.latest is not None
    assert (second.latest / "epoch-0.safetensors").stat().st_ino == weights.st_ino
    out = tmp_path / "out"
    out.mkdir()
    second.keep_best(out, 2)
    assert {path.name for path in out.iterdir()} == {"epoch-0.safetensors", "epoch-1.safetensors"}
    for epoch, name in enumerate(("epoch-0.safetensors", "weights.safetensors")):
        kept = load_file(out / f"epoch-{epoch}.safetensors")
        stored = load_file(second.latest / name)
        assert all(bool((kept[key] == stored[key]).all()) for key in stored)


def test_a_file_system_without_links_gets_copies(made: Any, tmp_path: Path, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    fit(made, tmp_path, lambda: True)
    weights = (tmp_path / "epoch-0" / "weights.safetensors").read_bytes()
    monkeypatch.setattr(os, "link", unsupported)
    fit(made, tmp_path, lambda: True)
    assert (tmp_path / "epoch-1" / "epoch-0.safetensors").read_bytes() == weights


@pytest.mark.parametrize("numbers", [[0, 1], [9, 10], [2, 10, 9]])
def test_the_latest_is_that_of_the_highest_epoch(made: Any, tmp_path: Path, numbers: list[int]):
    fit(made, tmp_path / "made", lambda: True)
    for number in numbers:
        (tmp_path / f"epoch-{number}").symlink_to(tmp_path / "made" / "epoch-0")
    assert latest(tmp_path) == tmp_path / f"epoch-{max(numbers)}"


def test_what_is_half_written_or_of_another_ablate_is_not_there(made: Any, tmp_path: Path):
    fit(made, tmp_path, lambda: True)
    (tmp_path / "epoch-0").rename(tmp_path / ".epoch-0")
    assert latest(tmp_path) is None
    (tmp_path / ".epoch-0").rename(tmp_path / "epoch-0")
    assert latest(tmp_path) == tmp_path / "epoch-0"
    (tmp_path / "epoch-1").mkdir()
    (tmp_path / "epoch-2").mkdir()
    sealed.seal(tmp_path / "epoch-2", layout=0)
    assert latest(tmp_path) == tmp_path / "epoch-0"
    (tmp_path / "epoch-0" / "weights.safetensors").write_bytes(b"")
    assert latest(tmp_path) is None


class Remembers(Callback):
    """Has a state, whatever it is given."""

    order = 70

    def __init__(self, state: Any):
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return {"remembered": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["remembered"]


def test_every_callback_gets_its_own_state_back_after_all_have_begun(made: Any, tmp_path: Path):
    events: list[Any] = []

    class Late(Remembers):
        order = 105

        def before_fit(self) -> None:
            self.state = 0
            events.append("begun")

        def after_epoch(self) -> None:
            self.state += 1

        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(state)
            events.append(self.state)

    fit(made, tmp_path, lambda: True, Remembers("one"), Remembers({"two": (2,)}), Late(None))
    again = [Remembers(None), Remembers(None), Late(None)]
    fit(made, tmp_path, lambda: True, *again)
    assert [callback.state for callback in again] == ["one", {"two": (2,)}, 2]
    assert events == ["begun", "begun", 1]


def test_a_state_that_cannot_be_kept_is_named_in_the_first_epoch(made: Any, tmp_path: Path):
    with pytest.raises(
        TypeError, match=r"remembers\.remembered: a set cannot be kept; give tensors, numbers or text"
    ):
        fit(made, tmp_path, lambda: False, Remembers({1, 2}))


def test_a_networks_own_state_dict_is_not_taken_for_a_callbacks(made: Any, tmp_path: Path):
    """fastai's callbacks hand on what they lack to the learner, and that to the network."""
    fit(made, tmp_path, lambda: True, Callback())
    own = load_state(tmp_path / "epoch-0", "callbacks")["own"]
    assert [name.split(".")[1] for name in own] == ["fixed"]


def test_a_stage_leaves_its_checkpoint_beside_its_folder(runner: Callable[..., Any]):
    made = runner(phases=EPOCHS)
    stage = made.fit()
    with pytest.raises(StageStopped):
        made.run(stage, stopping=lambda: True)
    place = made.folder(stage.key).parent
    assert sorted(path.name for path in place.iterdir()) == ["epoch-0", "out"]
    assert not list((place / "out").iterdir())
