"""Collecting tables from a store, and writing files whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.errors import AblateError
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.tables import (
    history_table,
    predictions_table,
    replace_file,
    status_of,
    trials_table,
)


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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "folder" / "file.csv"
    replace_file(path, lambda temporary: temporary.write_text("one"))

    def breaks(temporary: Path) -> None:
        temporary.write_text("tw")
        raise OSError(28, "No space left on device")

    with pytest.raises(AblateError, match=r"file\.csv: cannot be written \(No space left on device\)"):
        replace_file(path, breaks)
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file.csv"]
