"""A study's files read back: what is missing or broken is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ablate.analysis.saved import StudyFiles
from ablate.errors import AblateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_text('{"metric": "accuracy"}')
    trials = pd.DataFrame({"variant": ["a", "b"], "seed": [0, 0], "fold": [0, 0], "status": ["ok", "failed"]})
    trials.to_csv(tmp_path / "trials.csv", index=False)
    pd.DataFrame({"contrast": ["c"], "primary": [True]}).to_csv(tmp_path / "effects.csv", index=False)
    rows = {"variant": ["a"] * 3, "split": ["valid", "valid", "test"], "item": ["p", "q", "r"], "seed": 0}
    rows |= {"target": [0, 1, 0], "pred": [0, 0, 0]}
    pd.DataFrame(rows).to_parquet(tmp_path / "predictions.parquet")
    return tmp_path


def test_it_tells_validation_from_test(folder: Path):
    read = StudyFiles.read(folder)
    assert read.validation_items() == 2
    assert read.test_predictions("a")["item"].tolist() == ["r"]
    assert read.finished["variant"].tolist() == ["a"]
    assert read.history is None
    assert read.metric == "accuracy"


@pytest.mark.parametrize("name", ["plan.json", "trials.csv", "effects.csv", "predictions.parquet"])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(AblateError, match=name):
        StudyFiles.read(folder)


def test_a_plan_that_is_not_json_is_named(folder: Path):
    (folder / "plan.json").write_text("{")
    with pytest.raises(AblateError, match=r"plan\.json is not JSON"):
        StudyFiles.read(folder)
