"""Ctrl-C, SIGTERM and kill -9 while a study runs: when it ends, with what exit code, and that it goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_runs import Running, Runs, differing, is_stage, kill, leftovers, outputs, session

from ablate import sealed
from ablate.errors import Terminated
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.interrupts import Interrupts
from ablate.study.study import Study

LONG: dict[str, Any] = {
    "name": "long",
    "data": {"source": "digits", "split": {"random": 0.2}},
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "only", "epochs": 10, "lr": 3e-3}],
    "study": {"seeds": 1},
}


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


class TestHere:
    """In this process."""

    def test_the_first_ctrl_c_asks_and_is_told_once_outside_the_handler(self):
        told: list[str] = []
        with Interrupts(told.append) as interrupts:
            assert not interrupts.stopping()
            send(signal.SIGINT)
            assert told == []
            assert interrupts.stopping()
            assert interrupts.stopping()
        assert told == ["stopping after this epoch; Ctrl-C again stops at once"]

    def test_the_second_ctrl_c_stops_at_once(self):
        with Interrupts(lambda _text: None) as interrupts:
            send(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
            assert interrupts.asked

    def test_sigterm_stops_at_once(self):
        with Interrupts(lambda _text: None) as interrupts:
            with pytest.raises(Terminated):
                send(signal.SIGTERM)
            assert not interrupts.asked

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_afterwards_signals_mean_what_they_meant_before(self, number: signal.Signals):
        before = signal.getsignal(number)
        with Interrupts(lambda _text: None):
            assert signal.getsignal(number) != before
        assert signal.getsignal(number) == before

    def test_outside_the_main_thread_nothing_changes(self):
        before, found = signal.getsignal(signal.SIGINT), []

        def enter() -> None:
            with Interrupts(lambda _text: None) as interrupts:
                found.append((signal.getsignal(signal.SIGINT), interrupts.stopping()))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert found == [(before, False)]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outputs of that study, never interrupted."""
    root = tmp_path_factory.mktemp("quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(root / "cache"))
        patch.setenv("ABLATE_STORE", str(root / "runs" / ".stages"))
        Recipe.from_dict(LONG).run(root / "runs", threads=1)
    return outputs(root / "runs" / "long", root / "runs" / ".stages")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "interrupted", LONG)


@pytest.fixture
def running(runs: Runs) -> Iterator[Running]:
    """A real `ablate run` that has finished an epoch and not the stage."""
    run = runs.start()
    run.until(lambda: runs.epochs() >= 1)
    yield run
    run.kill()


@pytest.fixture
def goes_on(runs: Runs, quiet: dict[str, Any], monkeypatch) -> Callable[[], None]:
    """Checks that the same study goes on after the last checkpoint, and ends as if nothing had happened."""

    def check() -> None:
        done, reports = runs.epochs(), list[dict[str, Any]]()
        start = LocalExecutor.start

        def listening(self: LocalExecutor, job: Any, report: Any) -> Any:
            return start(self, job, lambda message: (reports.append(message), report(message)))

        monkeypatch.setattr(LocalExecutor, "start", listening)
        monkeypatch.setenv("ABLATE_STORE", str(runs.store))
        Recipe.load(runs.root / "recipe.yaml").run(runs.root / "runs", threads=1)
        epochs = [message["epoch"]["epoch"] for message in reports if "epoch" in message]
        assert epochs == list(range(done, 10))
        assert differing(outputs(runs.study, runs.store), quiet) == []
        assert leftovers(runs.study, runs.store) == []

    return check


def test_sigterm_ends_it_within_seconds_and_the_last_checkpoint_stands(
    runs: Runs, running: Running, goes_on: Callable[[], None]
):
    began, epochs = time.monotonic(), runs.epochs()
    running.process.terminate()
    assert running.wait() == 143
    assert time.monotonic() - began < 5
    assert running.stderr == "terminated; the same command goes on from the last finished epoch.\n"
    assert not running.stages()
    (checkpoint,) = runs.checkpoints()
    assert not list(sealed.damaged_files(checkpoint))
    assert runs.epochs() >= epochs
    goes_on()


def test_ctrl_c_stops_after_the_epoch(runs: Runs, running: Running, goes_on: Callable[[], None]):
    epochs = runs.epochs()
    running.signal(signal.SIGINT)  # to all processes, as from a terminal
    assert running.wait() == 130
    assert "stopping after this epoch; Ctrl-C again stops at once\n" in running.stdout
    assert running.stderr == "stopped; the same command goes on from here.\n"
    assert not running.stages()
    assert epochs < runs.epochs() < 10
    study = Study.open(runs.study)
    assert list(study.trials.status) == ["pending"]
    assert study.is_unfinished
    goes_on()


def test_a_second_ctrl_c_stops_at_once(runs: Runs):
    runs.write(LONG | {"size": 224, "phases": [{"name": "only", "epochs": 1}]})
    running = runs.start()
    running.until(lambda: [path for path in runs.study.glob("logs/*.log") if path.stem != "preflight"])
    running.signal(signal.SIGINT)
    running.until(lambda: "stopping after this epoch" in running.stdout, seconds=5)
    time.sleep(0.5)
    assert running.process.poll() is None  # an epoch takes a minute
    began = time.monotonic()
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    assert time.monotonic() - began < 5
    assert running.stderr == "stopped; the same command goes on from here.\n"
    assert not running.stages()
    assert not runs.finished()


def test_a_stage_dies_with_the_run_that_wanted_it_and_its_lock_is_no_obstacle(
    runs: Runs, running: Running, goes_on: Callable[[], None]
):
    stages = running.stages()
    assert stages
    kill(running.process.pid)
    running.wait()
    end = time.monotonic() + 5
    while any(is_stage(pid) for pid in session(running.process.pid)):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert list((runs.store / ".locks").iterdir())
    assert not runs.finished()
    goes_on()
