"""The notebook's view of a finished study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import ablate
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.study.study import Study


def test_open_wants_a_study(tmp_path: Path):
    with pytest.raises(AblateError, match="is no study"):
        Study.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"threads": null}', bytes(range(256))])
def test_a_plan_that_cannot_be_read_tells_no_threads(copy_of: Study, content: bytes):
    assert copy_of.threads == 1
    (copy_of.folder / "plan.json").write_bytes(content)
    assert copy_of.threads is None


def test_outputs_are_finished_for_exactly_one_plan_and_as_long_as_they_are_there(copy_of: Study):
    plan = (copy_of.folder / "plan.json").read_text()
    assert copy_of.is_finished(plan)
    assert not copy_of.is_finished(plan.replace("tiny", "tinny"))
    (copy_of.folder / "report.md").unlink()
    assert not copy_of.is_finished(plan)


@pytest.mark.parametrize(
    ("status", "done"), [("ok", True), ("diverged", True), ("failed", False), ("pending", False)]
)
def test_a_study_whose_trials_can_be_tried_again_is_not_finished(copy_of: Study, status: str, done: bool):
    trials = copy_of.trials
    trials.loc[3, "status"] = status
    trials.to_csv(copy_of.folder / "trials.csv", index=False)
    (copy_of.folder / ".finished").unlink()
    copy_of.finish()
    assert copy_of.is_finished((copy_of.folder / "plan.json").read_text()) == done
    assert copy_of.is_unfinished == (status == "pending")


def test_to_begin_with_another_plan_removes_every_output_of_the_one_before(copy_of: Study):
    recipe, plan = Recipe.load(copy_of.folder / "recipe.yaml"), (copy_of.folder / "plan.json").read_text()
    (copy_of.folder / "failures.json").write_text("{}")
    outputs = {path for path in copy_of.folder.rglob("*") if path.is_file() and path.parent.name != "logs"}
    copy_of.begin(recipe, plan, {})
    assert {path for path in outputs if not path.exists()} == {copy_of.folder / ".finished"}
    copy_of.begin(recipe, plan.replace("tiny", "tinny"), {})
    assert {path.name for path in outputs if path.exists()} == {"recipe.yaml", "plan.json", "machine.json"}
    assert copy_of.plan["name"] == "tinny"


def test_effects_plot_and_tables(finished: Study):
    assert isinstance(finished.plot(), Figure)
    assert finished.plot()._repr_svg_().startswith("<?xml")
    assert "<caption>Effects on accuracy</caption>" in finished.effects()._repr_html_()
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
