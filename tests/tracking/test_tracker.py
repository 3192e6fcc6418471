"""The handle on the process that tells W&B: modes, files offline, and that nothing is left running."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from loopback import Fault, Loopback
from tracked import tellers, track, wait_until

from ablate.errors import AblateError
from ablate.tracking.tracker import Tracker


def test_off_starts_nothing(backend: Loopback, study: Path) -> None:
    said: list[str] = []
    tracker = Tracker(study, "off", said.append)
    tracker.start()
    assert tellers(backend.url) == []
    tracker.finish()
    tracker.abandon()
    assert (said, tracker.sent, backend.asked) == ([], True, [])
    assert not (study / "wandb").exists()


def test_wandbs_variable_turns_it_off(
    backend: Loopback, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert track(study, "auto") == []
    assert not (study / "wandb").exists()


def test_a_mode_that_is_none_is_told(study: Path) -> None:
    with pytest.raises(AblateError, match=r"--wandb"):
        Tracker(study, "on", print)


def test_auto_is_online_with_a_key_and_offline_without(
    backend: Loopback, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert track(study, "auto") == []
    assert backend.asked == []
    first = offline_runs(study)
    assert len(first) == 3
    netrc = study.parents[1] / ".netrc"
    netrc.write_text(
        f"machine {backend.url.removeprefix('http://')} login user password {'0123456789' * 4}\n"
    )
    netrc.chmod(0o600)
    assert track(study, "auto") == []
    assert len(backend.runs) == 3


def test_online_without_a_key_says_so_once_and_writes_files(
    backend: Loopback, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    (sentence,) = track(study, "online")
    assert "no API key" in sentence
    assert "wandb login" in sentence
    assert len(offline_runs(study)) == 3


def test_offline_files_are_what_wandb_sends(backend: Loopback, study: Path) -> None:
    track(study, "offline")
    before = offline_runs(study)
    assert backend.asked == []
    (study / "wandb" / "sent.json").unlink()  # as if it was killed before it could note that
    track(study, "offline")
    after = offline_runs(study)
    assert len(after) == 3  # a run is there once
    assert {run.name.rpartition("-")[2] for run in after} == {run.name.rpartition("-")[2] for run in before}
    words = [sys.executable, "-m", "wandb", "sync", *map(str, after)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    assert sorted(run.name for run in backend.runs.values()) == [
        "baseline seed 0",
        "baseline+label_smoothing seed 0",
        "tracked",
    ]
    assert all(run.steps == list(range(len(run.rows))) for run in backend.runs.values())
    assert {len(run.rows) for run in backend.trials.values()} == {len(backend.trials["baseline seed 0"].rows)}
    assert any(one.type == "study" and one.committed for one in backend.artifacts)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_no_temporary_file_is_left(
    backend: Loopback, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    assert track(study, mode) == []
    assert list(temporary.iterdir()) == []


def offline_runs(study: Path) -> list[Path]:
    return sorted((study / "wandb").glob("offline-run-*"))


def test_nothing_runs_on_once_it_was_abandoned(backend: Loopback, study: Path) -> None:
    tracker = Tracker(study, "online", print)
    tracker.start()
    tracker.start()
    wait_until(lambda: "UpsertBucket" in backend.asked)
    tracker.abandon()
    wait_until(lambda: not tellers(backend.url), 5)
    tracker.abandon()
    tracker.finish()
    assert not tracker.sent


def test_ctrl_c_at_the_end_gives_w_and_b_up(
    backend: Loopback, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.fault = Fault("hang")
    said: list[str] = []
    tracker = Tracker(study, "online", said.append)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker._ended, "wait", interrupted)
    tracker.finish()
    assert len(said) == 1
    assert f"ablate sync {study}" in said[0]
    wait_until(lambda: not tellers(backend.url), 5)
