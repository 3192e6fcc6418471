"""Studies without a validation set: they train, predict their test split, and compare nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ablate.analysis.report import write_report
from ablate.recipe.recipe import Recipe
from ablate.study.planning import plan_study
from ablate.study.rebuild import trained_learner
from ablate.study.status import Status
from ablate.study.store import Store
from ablate.study.study import Study

WITHOUT: dict[str, Any] = {
    "name": "without",
    "data": {"source": "digits", "split": {"none": True}, "test": {"random": 0.2}},
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "keep": "best",
    "keep_by": "train_loss",
    "phases": [{"name": "one", "epochs": 2, "lr": 3e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "study": {"baseline": ["normalize"], "seeds": 2, "metrics": ["top_3_accuracy"]},
}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study without a validation set and with a test split, run. Only to be read."""
    folder = tmp_path_factory.mktemp("without")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(folder / "cache"))
        patch.setenv("ABLATE_STORE", str(folder / "store"))
        return Recipe.from_dict(WITHOUT).run(folder / "runs", threads=1)


def test_all_images_but_those_of_the_test_are_trained_on(without: Study):
    summary = without.plan["summary"]
    assert (summary["train_images"], summary["valid_images"]) == (1797 - 359, 0)
    assert summary["detectable_effect"] is None


def test_trials_finish_without_a_score(without: Study):
    trials = without.trials
    assert trials.status.tolist() == ["ok", "ok"]
    assert (trials.train_seconds > 0).all()
    assert trials[["accuracy", "balanced_accuracy", "log_loss", "top_3_accuracy"]].isna().all(axis=None)
    assert Status(without).state == "finished"


def test_the_history_has_the_training_loss_alone(without: Study):
    history = without.history
    assert list(history.columns) == ["variant", "seed", "fold", "phase", "epoch", "train_loss", "seconds"]
    assert len(history) == 2 * 3
    assert history.train_loss.notna().all()


def test_the_test_split_is_predicted(without: Study):
    predictions = without.predictions()
    assert set(predictions.split) == {"test"}
    assert len(predictions) == 2 * 359
    accuracy = (predictions.pred == predictions.target).groupby(predictions.seed).mean().mean()
    report = (without.folder / "report.md").read_text()
    assert f"`baseline` reaches **{100 * accuracy:.2f} ± " in report
    assert "on the test split (359 images, 2 seeds).\n" in report


def test_the_report_says_that_nothing_is_compared(without: Study):
    short = (without.folder / "report.md").read_text()
    assert "There is no validation set, and nothing is compared." in short
    assert "nan" not in short
    whole = (without.folder / "report.html").read_text()
    assert "There is no validation set, and nothing is compared." in whole
    assert "Learning curves on the training images" in whole
    assert "Train loss by epoch" in whole
    assert without.effects().empty
    assert (without.folder / "plots" / "curves.svg").is_file()
    before = short
    write_report(without.folder)
    without.analyse()
    assert (without.folder / "report.md").read_text() == before


def test_the_best_epoch_is_the_one_with_the_lowest_training_loss(without: Study):
    plan, store = without.stored_plan(), Store(Path(without.plan["store"]))
    for trial in plan.trials:
        chosen = json.loads((store.folder(trial.fits[-1]) / "best.json").read_text())
        assert len(set(chosen["epochs"])) == 1
        weights = load_file(store.folder(trial.fits[-1]) / chosen["all"])
        learn = trained_learner(without, "baseline", trial.seed, 0)
        state = learn.model.state_dict()
        assert all(state[name].equal(value) for name, value in weights.items() if name in state)


def test_a_second_run_has_nothing_to_do(without: Study, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("ABLATE_STORE", without.plan["store"])
    stamps = {path: path.stat().st_mtime_ns for path in without.folder.glob("*.[chmr]*")}
    recipe = Recipe.from_dict(WITHOUT)
    recipe.run(without.folder.parent, threads=1)
    assert "everything is finished; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    numbers, _ = plan_study(recipe, without.folder.parent, device="cpu")
    assert numbers["epochs_left"] == 0


def test_without_a_test_split_either_every_file_is_there(tmp_path: Path):
    values = WITHOUT | {"data": {"source": "digits", "split": {"none": True}}}
    study = Recipe.from_dict(values, {"study.seeds": 1}).run(tmp_path / "runs", threads=1)
    assert study.predictions().empty
    assert study.trials.status.tolist() == ["ok"]
    assert Status(study).state == "finished"
    assert "There is no validation set" in (study.folder / "report.md").read_text()
    assert "test split" not in (study.folder / "report.md").read_text()


def test_further_metrics_are_measured_and_explored(copy_of: Study, tiny: dict[str, Any]):
    recipe = Recipe.from_dict(tiny, {"study.metrics": ["top_3_accuracy", "f1"]})
    stages = len([*Path(copy_of.plan["store"]).iterdir()])
    study = recipe.run(copy_of.folder.parent, threads=1)
    assert len([*Path(copy_of.plan["store"]).iterdir()]) == stages
    trials, effects = study.trials, study.effects()
    names = ["accuracy", "balanced_accuracy", "log_loss", "top_3_accuracy", "f1"]
    assert [name for name in trials.columns if name in names] == names
    assert set(effects.metric) == set(names)
    assert set(effects[effects.primary].metric) == {"accuracy"}
    predictions = study.predictions()
    chances = predictions[[f"p_{k}" for k in range(10)]].to_numpy()
    own = chances[range(len(chances)), predictions.target]
    hits = ((chances > own[:, None]).sum(axis=1) < 3).astype(float)
    expected = (
        predictions.assign(hit=hits)
        .groupby(["variant", "seed"])
        .hit.mean()
        .reindex(trials.set_index(["variant", "seed"]).index)
    )
    assert trials.top_3_accuracy.tolist() == pytest.approx(expected.tolist())
    before = (study.folder / "effects.csv").read_text()
    assert "top-3 accuracy" in (study.folder / "report.html").read_text()
    study.analyse()  # from files alone, as `ablate report` does
    assert (study.folder / "effects.csv").read_text() == before
