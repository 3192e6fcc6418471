"""The notebook's view of a finished study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import ablate
from ablate.errors import AblateError
from ablate.study.study import Study


def test_open_wants_a_study(tmp_path: Path):
    with pytest.raises(AblateError, match="is no study"):
        Study.open(tmp_path)


def test_effects_plot_and_tables(finished: Study):
    assert isinstance(finished.plot(), Figure)
    assert {"variant", "seed"} <= set(finished.trials)
    again = ablate.effects(finished.trials, finished.predictions(), baseline="baseline", smallest_effect=0.01)
    stored = finished.effects()
    assert again["effect"].to_numpy() == pytest.approx(stored["effect"].to_numpy())


def test_a_trained_learner_predicts_what_the_study_wrote(finished: Study):
    learn = finished.learner("baseline+mixup", seed=1)
    probabilities = learn.get_preds()[0].numpy()
    stored = finished.predictions().query("variant == 'baseline+mixup' and seed == 1")
    assert np.allclose(probabilities, stored[[f"p_{k}" for k in range(10)]], atol=1e-5)
    assert len(learn.tta(n=1)[0]) == len(probabilities)


def test_a_trial_that_is_not_there_gets_a_suggestion(finished: Study):
    with pytest.raises(AblateError, match=r"no 'baseline\+mixupp'; did you mean baseline\+mixup"):
        finished.learner("baseline+mixupp")
    with pytest.raises(AblateError, match="no trial with seed 9"):
        finished.learner("baseline", seed=9)


def test_reports_are_made_again_from_files_alone(copy_of: Study, monkeypatch, tmp_path: Path):
    before = (copy_of.folder / "effects.csv").read_text()
    (copy_of.folder / "effects.csv").unlink()
    (copy_of.folder / "report.md").unlink()
    monkeypatch.setenv("ABLATE_STORE", str(tmp_path / "gone"))
    copy_of.analyse()
    assert (copy_of.folder / "effects.csv").read_text() == before
    assert (copy_of.folder / "report.md").is_file()
