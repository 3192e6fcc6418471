"""Studies run for real on digits: outputs, sharing, going on, failures, folds, the test split, quick runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablate.data.splits import QUICK_ITEMS
from ablate.errors import AblateError, StageFailed
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

EFFECTS = (
    "factor,level,contrast,metric,n_seeds,effect,ci_low,ci_high,p_value,p_adjusted,verdict,"
    "seed_ci_low,seed_ci_high,primary"
)


def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of all jobs that run from now on."""
    ran: list[str] = []
    run = LocalExecutor.run

    def listening(self: LocalExecutor, job: Any, report: Any) -> None:
        ran.append(job.label)
        run(self, job, report)

    monkeypatch.setattr(LocalExecutor, "run", listening)
    return ran


def test_every_file_of_the_contract_is_written(finished: Study):
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "recipe.yaml",
        "plan.json",
        "trials.csv",
        "predictions.parquet",
        "history.csv",
        "effects.csv",
        "report.md",
        "plots",
    }
    assert {path.name for path in (finished.folder / "plots").iterdir()} == {"effects.svg", "curves.svg"}
    assert (finished.folder / "effects.csv").read_text().splitlines()[0] == EFFECTS


def test_trials_have_a_row_each_with_levels_and_metrics(finished: Study):
    trials = finished.trials
    assert list(trials.columns) == [
        *("variant", "seed", "fold", "mixup", "tta", "phases.one.lr"),
        *("accuracy", "balanced_accuracy", "log_loss", "train_seconds", "status"),
    ]
    assert len(trials) == 4 * 2
    assert set(trials.status) == {"ok"}
    row = trials[(trials.variant == "baseline+mixup") & (trials.seed == 1)].iloc[0]
    assert (row["mixup"], row["tta"], row["phases.one.lr"]) == ("on", "off", 0.003)


def test_predictions_have_a_row_per_trial_and_item(finished: Study):
    predictions = finished.predictions()
    assert list(predictions.columns) == [
        *("variant", "seed", "fold", "split", "item", "group", "target", "pred"),
        *(f"p_{k}" for k in range(10)),
    ]
    assert len(predictions) == 8 * 359
    assert not predictions.duplicated(["variant", "seed", "fold", "item"]).any()
    hits = (predictions.pred == predictions.target).groupby([predictions.variant, predictions.seed]).mean()
    for trial in finished.trials.itertuples():
        assert hits[trial.variant, trial.seed] == pytest.approx(trial.accuracy)


def test_histories_contain_their_shared_phases(finished: Study):
    rows = finished.history.groupby(["variant", "seed"])[["phase", "epoch"]].apply(
        lambda part: [tuple(row) for row in part.to_numpy().tolist()]
    )
    assert len(rows) == 8
    assert all(row == [("one", 0), ("two", 0)] for row in rows)


def test_effects_are_paired_differences_over_seeds(finished: Study):
    trials = finished.trials.pivot(index="seed", columns="variant", values="accuracy")
    effects = finished.effects()
    for row in effects[effects.metric == "accuracy"].itertuples():
        variant = row.contrast.removesuffix(" − baseline")
        difference = trials[variant] - trials["baseline"]
        assert row.effect == pytest.approx(difference.mean(), abs=1e-12)
        expected = stats.ttest_rel(trials[variant], trials["baseline"]).confidence_interval(0.95)
        if difference.std() > 1e-12:
            assert (row.seed_ci_low, row.seed_ci_high) == pytest.approx((expected.low, expected.high))


def test_the_plan_file_tells_what_is_shared(finished: Study):
    plan = finished.plan
    assert plan["summary"]["trials"] == 8
    assert plan["summary"]["requested_epochs"] == 16
    assert plan["summary"]["unique_epochs"] == 2 * (2 + 1 + 2)
    assert plan["summary"]["merge_rate"] == pytest.approx(1.6)
    assert len(plan["trials"]) == 8
    assert {"torch", "fastai", "timm"} <= plan["versions"].keys()


def test_a_second_run_does_nothing_and_says_so(copy_of: Study, monkeypatch, capsys):
    ran = jobs(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in copy_of.folder.rglob("*.csv")}
    Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    assert ran == []
    assert "everything is finished; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in copy_of.folder.rglob("*.csv")} == before


def test_lost_outputs_are_made_again_without_training(copy_of: Study, monkeypatch):
    ran = jobs(monkeypatch)
    before = (copy_of.folder / "trials.csv").read_text()
    (copy_of.folder / "trials.csv").unlink()
    Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    assert ran == []
    assert (copy_of.folder / "trials.csv").read_text() == before


def test_another_seed_trains_only_that_seed(copy_of: Study, monkeypatch):
    ran = jobs(monkeypatch)
    study = Recipe.load(copy_of.folder / "recipe.yaml", {"study.seeds": 3}).run(
        copy_of.folder.parent, threads=1
    )
    assert {label.split(" · ")[-1] for label in ran} == {"preflight", "seed 2"}
    assert set(study.trials.seed) == {0, 1, 2}


def test_another_study_with_the_same_store_trains_nothing_twice(copy_of: Study, monkeypatch):
    ran = jobs(monkeypatch)
    study = Recipe.load(
        copy_of.folder / "recipe.yaml",
        {"name": "other", "study.vary": ["tta"], "study.smallest_effect": 0.02},
    ).run(copy_of.folder.parent, threads=1)
    assert ran == []
    assert study.folder.name == "other"
    assert len(study.trials) == 4


def test_a_damaged_stage_is_computed_again(copy_of: Study, monkeypatch):
    trial = copy_of.plan["trials"][0]
    folder = Path(os.environ["ABLATE_STORE"]) / trial["fits"][-1]
    before = copy_of.predictions()
    (folder / "weights.safetensors").write_bytes(b"\0" * 100)
    (copy_of.folder / "trials.csv").unlink()
    ran = jobs(monkeypatch)
    study = Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    assert [label for label in ran if label != "preflight"] == ["baseline · two · seed 0"]
    pd.testing.assert_frame_equal(before, study.predictions(), check_exact=True)


def failing(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Every job with this in its label fails."""
    run = LocalExecutor.run

    def sometimes(self: LocalExecutor, job: Any, report: Any) -> None:
        if part in job.label:
            raise StageFailed(f"{job.label}: broke")
        run(self, job, report)

    monkeypatch.setattr(LocalExecutor, "run", sometimes)


def test_a_failed_stage_skips_what_hangs_on_it_and_nothing_else(tiny, monkeypatch, capsys, tmp_path: Path):
    failing(monkeypatch, "baseline+mixup · two · seed 1")
    recipe = Recipe.from_dict(tiny)
    study = recipe.run(threads=1)
    status = study.trials.set_index(["variant", "seed"])["status"]
    assert status["baseline+mixup", 1] == "failed"
    assert (status.drop(("baseline+mixup", 1)) == "ok").all()
    captured = capsys.readouterr()
    assert "broke" in captured.err
    assert "1 of 8 trials did not finish well" in captured.out
    effects = study.effects()
    row = effects[(effects.factor == "mixup") & (effects.metric == "accuracy")].iloc[0]
    assert row["n_seeds"] == 1
    assert np.isnan(row["ci_low"])


def test_the_same_command_goes_on_after_a_failure(tiny, monkeypatch):
    recipe = Recipe.from_dict(tiny)
    with monkeypatch.context() as patch:
        failing(patch, "two · seed 0")
        recipe.run(threads=1)
    ran = jobs(monkeypatch)
    study = recipe.run(threads=1)
    assert set(study.trials.status) == {"ok"}
    assert all("seed 0" in label or label == "preflight" for label in ran)


def test_a_diverged_trial_is_a_result(tiny):
    tiny["study"]["vary"] = [{"phases.two.lr": [1e-3, 1e25]}]
    study = Recipe.from_dict(tiny).run(threads=1)
    status = study.trials.groupby("variant")["status"].agg(set)
    assert status["baseline"] == {"ok"}
    assert status["baseline+phases.two.lr=1e+25"] == {"diverged"}


def test_what_cannot_work_fails_in_the_preflight(tiny, monkeypatch):
    ran = jobs(monkeypatch)
    tiny["model"]["arch"] = "resnet5"
    with pytest.raises(AblateError, match="no architecture 'resnet5'; did you mean"):
        Recipe.from_dict(tiny).run(threads=1)
    assert ran == ["preflight"]
    assert not list(Path(os.environ["ABLATE_OUT"]).glob("tiny/*.*"))


def test_only_the_winner_is_scored_on_the_test_split(tiny):
    tiny["data"] = {"source": "digits", "split": {"random": 0.2}, "test": {"random": 0.1}}
    study = Recipe.from_dict(tiny).run(threads=1)
    predictions = study.predictions()
    tested = predictions[predictions.split == "test"]
    means = study.trials.groupby("variant")["accuracy"].mean()
    assert set(tested.variant) == {means.idxmax()}
    assert set(tested.seed) == {0, 1}
    assert set(tested.item).isdisjoint(predictions[predictions.split == "valid"].item)
    assert "test" in (study.folder / "report.md").read_text().lower()


def test_folds_validate_every_item_once(tiny):
    tiny["data"] = {"source": "digits", "split": {"folds": 3}}
    tiny["study"] |= {"vary": ["tta"], "seeds": 1}
    study = Recipe.from_dict(tiny).run(threads=1)
    assert sorted(study.trials.fold.unique()) == [0, 1, 2]
    baseline = study.predictions().query("variant == 'baseline'")
    assert len(baseline) == 1797
    assert baseline.item.is_unique


def test_quick_has_another_name_and_never_passes_for_the_study(tiny, capsys):
    study = Recipe.from_dict(tiny).run(quick=True, threads=1)
    assert study.folder.name == "tiny-quick"
    assert study.plan["quick"] is True
    assert "quick" in (study.folder / "report.md").read_text()
    shown = capsys.readouterr().out
    assert "its numbers mean nothing" in shown
    assert not any(verdict in shown for verdict in ("helps", "hurts", "negligible", "undecided"))
    assert len(study.predictions()) == len(study.trials) * QUICK_ITEMS


def test_an_output_folder_that_cannot_be_written_is_one_sentence(tiny, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("ABLATE_STORE")
    (tmp_path / "file").write_text("")
    with pytest.raises(AblateError, match="cannot be written"):
        Recipe.from_dict(tiny).run(tmp_path / "file")


def test_a_study_of_the_baseline_alone_prints_its_score(tiny, capsys):
    tiny["study"] = {"seeds": 1}
    Recipe.from_dict(tiny).run(threads=1)
    assert "points, the mean of 1 trials" in capsys.readouterr().out


def test_a_bad_image_stops_the_run_before_anything_is_written(tiny, photos: Path, tmp_path: Path):
    (photos / "cat" / "0.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes()[:300])
    (photos / "dog" / "1.png").write_text("no image")
    tiny["data"] = {"root": str(photos), "split": {"random": 0.25}}
    with pytest.raises(AblateError, match=r"0\.jpg: is damaged .*\(1 more; `ablate check` lists them all\)"):
        Recipe.from_dict(tiny).run(tmp_path / "out")
    assert not (tmp_path / "out" / "tiny" / "plan.json").exists()


def test_plan_json_round_trips(finished: Study):
    stored = finished.stored_plan()
    assert json.loads((finished.folder / "plan.json").read_text())["summary"]["stages"] == len(
        stored.needed(trial.predict for trial in stored.trials)
    )
