"""Collecting tables from a store, and writing files whole."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_stores import flip

from ablate.errors import AblateError, Damaged, Terminated
from ablate.files import replace_file, sweep
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.tables import history_table, predictions_table, status_of, trials_table


def test_nothing_finished_gives_empty_tables_and_pending_trials(finished: Study, tmp_path: Path):
    plan, store = finished.stored_plan(), Store(tmp_path / "empty")
    assert predictions_table(plan, store).empty
    assert history_table(plan, store).empty
    trials = trials_table(plan, store, {}, predictions_table(plan, store))
    assert set(trials["status"]) == {"pending"}
    assert list(trials.columns) == list(finished.trials.columns)
    assert trials["accuracy"].isna().all()


def test_a_trial_whose_stage_failed_has_failed(finished: Study, tmp_path: Path):
    plan = finished.stored_plan()
    trial = plan.trials[0]
    assert status_of(trial, Store(tmp_path / "empty"), {trial.fits[0]: "broke"}) == "failed"


def test_train_seconds_include_shared_phases(finished: Study):
    plan, store = finished.stored_plan(), Store(Path(finished.plan["store"]))
    trials = trials_table(plan, store, {}, predictions_table(plan, store))
    for trial, seconds in zip(plan.trials, trials["train_seconds"], strict=True):
        assert seconds == pytest.approx(sum(store.result(key)["seconds"] for key in trial.fits))


@pytest.mark.parametrize(
    ("name", "collect"), [("predictions.parquet", predictions_table), ("history.csv", history_table)]
)
def test_what_is_collected_is_what_was_written(copy_of: Study, name: str, collect):
    plan, store = copy_of.stored_plan(), Store(Path(copy_of.plan["store"]))
    trial = plan.trials[-1]
    key = trial.predict if name == "predictions.parquet" else trial.fits[-1]
    flip(store.folder(key) / name)
    with pytest.raises(Damaged, match=key):
        collect(plan, store)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), AblateError),
        (Terminated(), Terminated),
        (ValueError(), ValueError),
    ],
)
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, error: BaseException, told):
    path = tmp_path / "folder" / "file.csv"
    replace_file(path, lambda temporary: temporary.write_text("one"))

    def breaks(temporary: Path) -> None:
        temporary.write_text("tw")
        raise error

    with pytest.raises(told) as caught:
        replace_file(path, breaks)
    if told is AblateError:
        assert "file.csv: cannot be written (No space left on device)" in str(caught.value)
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file.csv"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch):
    """Else a power cut could leave the name with nothing behind it."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: (calls.append("fsync"), fsync(*args)))
    monkeypatch.setattr(os, "replace", lambda *args: (calls.append("replace"), replace(*args)))
    replace_file(tmp_path / "file", lambda temporary: temporary.write_text("one"))
    assert calls == ["fsync", "replace"]


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    return int(gone.stdout)


def test_unfinished_files_of_processes_that_are_gone_are_swept(dead: int, tmp_path: Path):
    alive = os.getppid()
    (tmp_path / "plots").mkdir()
    left = [f".trials.csv.{dead}", f"plots/.curves.svg.{dead}"]
    others = [f".trials.csv.{alive}", f".trials.csv.{os.getpid()}", "trials.csv", ".finished", ".hidden.csv"]
    for name in (*left, *others):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == {*others}


def test_folders_that_go_while_files_are_swept_do_no_harm(dead: int, tmp_path: Path, monkeypatch):
    """W&B's come and go while another `ablate run` of the same study sweeps."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f".file.{dead}").write_text("")
    unlink = Path.unlink

    def meanwhile(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        for other in tmp_path.iterdir():
            if other != self.parent and any(other.iterdir()):
                shutil.rmtree(other)
                return

    monkeypatch.setattr(Path, "unlink", meanwhile)
    sweep(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
