"""Whatever W&B does: no study is held up or fails, one sentence has the next step, later all is sent once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from arrived import is_whole, lacking
from loopback import Fault, Loopback, silent_socket
from real_runs import Runs
from tracked import STUDY, sync, tellers, track, wait_until

from ablate.tracking.tracker import Tracker

PATIENCE = 2.0
"""Seconds that a study of less than 200 waits at its end for a W&B that has just stopped to answer."""
SLACK = 1.5
"""What else may pass on a busy machine."""
FAULTS = {
    "hang": (Fault("hang"), "answer"),
    "page": (Fault("html"), "nonsense"),
    "broken JSON": (Fault("json"), "nonsense"),
    "500": (Fault("status", status=500), "500"),
}
SETTINGS = {
    "wrong key": ({"WANDB_API_KEY": "f" * 40}, "wandb login"),
    "no key": ({"WANDB_API_KEY": "short"}, "wandb login"),
    "missing project": ({"WANDB_PROJECT": "not-there"}, "WANDB_PROJECT"),
    "missing entity": ({"WANDB_ENTITY": "nobody"}, "WANDB_ENTITY"),
    "nothing listens": ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "WANDB_BASE_URL"),
    "no network": ({"WANDB_BASE_URL": "http://wandb.invalid"}, "WANDB_BASE_URL"),
    "hanging proxy": ({"WANDB_BASE_URL": "http://wandb.example", "HTTP_PROXY": "<silent>"}, "answer"),
}


@pytest.fixture(params=[*FAULTS, *SETTINGS])
def trouble(
    request: pytest.FixtureRequest, backend: Loopback, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Something is wrong with W&B, or with how it is reached; the word that the sentence must have."""
    backend.projects = {"ablate"}
    if request.param in FAULTS:
        backend.fault, word = FAULTS[request.param]
        yield word
        return
    settings, word = SETTINGS[request.param]
    with silent_socket() as proxy, monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value.replace("<silent>", proxy))
        yield word


def is_one_sentence(said: list[str], study: Path, word: str) -> bool:
    """Whether one thing was said, which has a word in it and names the next step."""
    (sentence,) = said
    assert word in sentence, sentence
    assert f"ablate sync {study}" in sentence
    assert re.fullmatch(r"W&B: [^\n]+[.]", sentence), sentence
    return True


def test_one_sentence_and_no_wait(trouble: str, backend: Loopback, study: Path) -> None:
    said: list[str] = []
    tracker = Tracker(study, "online", said.append)
    tracker.start()
    wait_until(lambda: said)
    began = time.monotonic()
    tracker.finish()
    tracker.abandon()
    assert time.monotonic() - began < SLACK
    assert not tracker.sent
    assert is_one_sentence(said, study, trouble)
    assert backend.runs == {}
    wait_until(lambda: not tellers(str(study.parents[1])), 5)


def test_w_and_b_that_hangs_at_the_end_is_waited_for_briefly(backend: Loopback, study: Path) -> None:
    said: list[str] = []
    tracker = Tracker(study, "online", said.append)
    tracker.start()
    wait_until(lambda: backend.runs)
    backend.fault = Fault("hang")
    began = time.monotonic()
    tracker.finish()
    assert time.monotonic() - began < PATIENCE + SLACK
    assert is_one_sentence([one for one in said if not one.startswith("W&B: sending")], study, "")
    wait_until(lambda: not tellers(backend.url), 5)
    backend.fault = None
    assert sync(study).returncode == 0
    assert lacking(backend, study) == []


@pytest.mark.parametrize("trouble", ["wrong key", pytest.param("500", marks=pytest.mark.slow)], indirect=True)
def test_sync_without_w_and_b_ends_with_one_sentence(trouble: str, backend: Loopback, study: Path) -> None:
    done = sync(study)
    assert done.returncode == 2
    assert trouble in done.stderr
    assert f"ablate sync {study}" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout == ""
    wait_until(lambda: not tellers(str(study.parents[1])), 5)


def test_a_folder_that_cannot_be_written(backend: Loopback, study: Path) -> None:
    (study / "wandb").write_text("a file where a folder should be")
    (sentence,) = track(study)
    assert str(study / "wandb") in sentence
    assert f"ablate sync {study}" in sentence
    assert sync(study).returncode == 2
    (study / "wandb").unlink()
    assert sync(study).returncode == 0
    assert lacking(backend, study) == []


@pytest.mark.slow
def test_after_all_of_it_everything_is_sent_once(backend: Loopback, study: Path) -> None:
    for fault in (Fault("html", every=3), Fault("status", every=2)):
        backend.fault = fault
        track(study)
    backend.stop()
    track(study)
    backend.start()
    backend.fault = Fault("slow", seconds=0.1)
    done = sync(study)
    assert done.returncode == 0, done.stderr
    assert lacking(backend, study) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("hang"),
        pytest.param(Fault("html"), marks=pytest.mark.slow),
        pytest.param(Fault("status"), marks=pytest.mark.slow),
        pytest.param(Fault("slow", seconds=0.5), marks=pytest.mark.slow),
        pytest.param(Fault("hang", only="file_stream"), marks=pytest.mark.slow),
        pytest.param(Fault("html", only="file_stream"), marks=pytest.mark.slow),
        pytest.param(Fault("cut"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_whole_study_ends_well(fault: Fault, backend: Loopback, tmp_path: Path) -> None:
    backend.fault = fault
    runs = Runs(tmp_path / "runs", STUDY)
    running = runs.run("--wandb", "online")
    assert running.process.returncode == 0, running.stderr
    assert is_whole(runs.study)
    said = running.stdout + running.stderr
    assert "Traceback" not in said
    if fault.kind != "slow":
        assert said.count("ablate sync") == 1
    wait_until(lambda: not tellers(backend.url), 5)
    backend.fault = None
    assert sync(runs.study).returncode == 0
    assert lacking(backend, runs.study) == []
