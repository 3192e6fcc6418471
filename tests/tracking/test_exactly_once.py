"""Every row of every trial arrives exactly once, whoever is killed and however often W&B goes away.

One real study is killed as a whole and run again. In the other tests a study goes by in its folder, as a
finished one left it, so that moments can be chosen: what sends knows nothing but the folder.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from arrived import lacking, rows
from loopback import Fault, Loopback
from real_runs import Runs, command_of, kill
from tracked import STUDY, Replay, sync, tellers, track, wait_until

from ablate.tracking.tracker import Tracker

LONG = [{"name": "one", "epochs": 12, "lr": 3e-3}, {"name": "two", "epochs": 4, "lr": 1e-3}]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to give W&B up: these tests are about rows, not about time."""
    monkeypatch.setattr("ablate.tracking.tracker.PATIENCE", 30.0)
    monkeypatch.setattr("ablate.tracking.tracker.STUCK", 60.0)


@pytest.fixture
def replay(study: Path) -> Replay:
    """The small study, about to begin."""
    return Replay(study)


@pytest.fixture
def tracker(study: Path, backend: Loopback) -> Iterator[Tracker]:
    """The handle of whoever runs it; what it says is in `tracker.said`."""
    made = Tracker(study, "online", lambda sentence: None)
    yield made
    made.abandon()


def some_rows(backend: Loopback) -> bool:
    return any(run.rows for run in backend.runs.values())


def test_a_study_that_is_killed_and_run_again_has_each_row_once(backend: Loopback, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs", STUDY | {"phases": LONG})
    running = runs.start("--wandb", "online")
    running.until(lambda: some_rows(backend))
    running.kill()
    wait_until(lambda: not tellers(backend.url), 5)  # what tells W&B ends with whom it tells of
    assert not any(run.exit_code == 0 for run in backend.runs.values())
    again = runs.run("--wandb", "online")
    assert again.process.returncode == 0, again.stderr
    assert lacking(backend, runs.study) == []
    assert all(run.received == len(run.rows) for run in backend.trials.values())
    wait_until(lambda: not tellers(backend.url), 5)
    undisturbed = Loopback()  # as much has arrived as of a study that is sent in one go
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", undisturbed.url)
        assert sync(runs.study).returncode == 0
    assert rows(backend) == rows(undisturbed)
    undisturbed.stop()


def test_rows_arrive_while_trials_train(backend: Loopback, replay: Replay, tracker: Tracker) -> None:
    tracker.start()
    replay.train(2)
    wait_until(lambda: some_rows(backend))
    assert not any(run.exit_code == 0 for run in backend.runs.values())
    replay.finish()
    tracker.finish()
    assert tracker.sent
    assert lacking(backend, replay.study) == []
    wait_until(lambda: not tellers(backend.url), 5)


@pytest.mark.slow
def test_a_sender_that_is_killed_is_replaced_and_goes_on(
    backend: Loopback, replay: Replay, tracker: Tracker
) -> None:
    tracker.start()
    for _ in range(2):
        replay.train(2)
        before = backend.asked.count("file_stream")
        wait_until(lambda: backend.asked.count("file_stream") > before)  # noqa: B023
        for pid in tellers(backend.url):
            kill(pid)
    replay.finish()
    tracker.finish()
    assert tracker.sent
    assert lacking(backend, replay.study) == []


@pytest.mark.slow
def test_whoever_sends_is_killed_at_any_moment(backend: Loopback, replay: Replay) -> None:
    rng = random.Random(0)
    while replay.lines:
        tracker = Tracker(replay.study, "online", lambda sentence: None)
        tracker.start()
        replay.train(2)
        time.sleep(rng.uniform(2, 5))
        tracker.abandon()
    replay.finish()
    for _ in range(5):  # at the end there are tables, pictures and artifacts as well
        told = len(backend.asked)
        command = [sys.executable, "-m", "ablate.cli", "sync", str(replay.study)]
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as sending:
            wait_until(lambda: sending.poll() is not None or "UpsertBucket" in backend.asked[told:])  # noqa: B023
            time.sleep(rng.uniform(0, 3))
            for pid in (sending.pid, *tellers(backend.url)):
                kill(pid)
    assert sync(replay.study).returncode == 0
    assert lacking(backend, replay.study) == []


@pytest.mark.slow
def test_wandb_core_that_is_killed_costs_no_row(backend: Loopback, replay: Replay, tracker: Tracker) -> None:
    tracker.start()
    replay.train(2)
    wait_until(lambda: some_rows(backend))
    for pid in tellers(backend.url):
        if "wandb-core" in command_of(pid):
            kill(pid)
    replay.finish()
    tracker.finish()
    if not tracker.sent:
        assert sync(replay.study).returncode == 0
    assert lacking(backend, replay.study) == []


def test_w_and_b_dies_in_the_middle_and_comes_back(
    backend: Loopback, replay: Replay, tracker: Tracker
) -> None:
    tracker.start()
    replay.train(2)
    wait_until(lambda: some_rows(backend))
    backend.stop()
    replay.train(4)
    wait_until(lambda: len(tellers(backend.url)) > 0)
    backend.start()
    replay.finish()
    tracker.finish()
    if not tracker.sent:
        assert sync(replay.study).returncode == 0
    assert lacking(backend, replay.study) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", every=2, only="file_stream"),
        pytest.param(Fault("status", every=3, only="file_stream"), marks=pytest.mark.slow),
    ],
    ids=["cut", "500"],
)
def test_answers_that_are_lost_double_no_row(fault: Fault, backend: Loopback, study: Path) -> None:
    backend.fault = fault
    track(study)
    backend.fault = None
    assert sync(study).returncode == 0
    assert lacking(backend, study) == []


def test_what_was_taken_with_nonsense_is_sent_again(
    backend: Loopback, replay: Replay, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb takes any answer with the status 200 for a receipt: rows are gone, and it goes on after them."""
    monkeypatch.setattr("ablate.tracking.tracker.STUCK", 5.0)
    tracker.start()
    replay.train(2)
    wait_until(lambda: some_rows(backend))
    backend.fault = Fault("html", only="file_stream")
    replay.finish()
    tracker.finish()
    assert not tracker.sent
    backend.fault = None
    assert sync(replay.study).returncode == 0
    assert lacking(backend, replay.study) == []


@pytest.mark.slow
def test_rows_lost_in_between_are_mended(backend: Loopback, replay: Replay, tracker: Tracker) -> None:
    tracker.start()
    replay.train(1)
    wait_until(lambda: some_rows(backend))
    backend.fault = Fault("html", only="file_stream")
    told = backend.asked.count("file_stream")
    replay.train(1)
    wait_until(lambda: backend.asked.count("file_stream") > told)
    backend.fault = None
    replay.finish()
    tracker.finish()
    if not tracker.sent:
        assert sync(replay.study).returncode == 0
    assert lacking(backend, replay.study) == []


def test_what_was_sent_is_not_sent_again(backend: Loopback, study: Path) -> None:
    assert track(study) == []
    assert lacking(backend, study) == []
    told = len(backend.asked)
    done = sync(study)
    assert done.returncode == 0
    assert backend.asked[told:].count("UpsertBucket") == 0
    assert sync(study, "--all").returncode == 0  # everything is looked at, and there it is
    assert lacking(backend, study) == []
    assert all(run.received == len(run.rows) for run in backend.trials.values())
