"""Studies run for real on digits: outputs, sharing, going on, failures, folds, the test split, quick runs."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from real_runs import Runs, leftovers, outputs
from safetensors.torch import load_file, save_file
from scipy import stats
from tiny_stores import flip

from ablate import sealed
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
    start = LocalExecutor.start

    def listening(self: LocalExecutor, job: Any, report: Any) -> Any:
        ran.append(job.label)
        return start(self, job, report)

    monkeypatch.setattr(LocalExecutor, "start", listening)
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
        "details.csv",
        "pairs.csv",
        "machine.json",
        "report.html",
        "report.md",
        "plots",
        "thumbnails",
    }
    assert {path.name for path in (finished.folder / "plots").iterdir()} == {
        "effects.svg",
        "curves.svg",
        "confusion.svg",
    }
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


def damage_truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_remove_the_seal(path: Path) -> None:
    (path.parent / "DONE.json").unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_remove_the_seal])
@pytest.mark.parametrize(
    ("file", "label"),
    [("weights.safetensors", "baseline · two"), ("predictions.parquet", "baseline · predict valid")],
)
def test_a_damaged_stage_is_computed_again(
    copy_of: Study, monkeypatch, capsys, damage: Callable[[Path], None], file: str, label: str
):
    before, folder = contents(copy_of), stage_folder(copy_of, f"{label} · seed 0")
    damage(folder / file)
    ran = jobs(monkeypatch)
    study = Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    assert [one for one in ran if one != "preflight"] == [f"{label} · seed 0"]
    assert capsys.readouterr().err == f"{folder}: is damaged; it is set aside and computed again.\n"
    assert contents(study) == before
    assert len(list((folder.parent / ".damaged").iterdir())) == 1


def test_damage_that_only_reading_finds_is_found_by_the_stage_that_reads(copy_of: Study, monkeypatch, capsys):
    """The file's size and time are as they were; a prediction that is missing needs it."""
    before, folder = contents(copy_of), stage_folder(copy_of, "baseline · two · seed 0")
    flip(folder / "weights.safetensors")
    shutil.rmtree(stage_folder(copy_of, "baseline · predict valid · seed 0"))
    ran = jobs(monkeypatch)
    study = Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    predicts = "baseline · predict valid · seed 0"
    assert ran == [predicts, "baseline · two · seed 0", predicts]
    assert capsys.readouterr().err == f"{folder}: is damaged; it is set aside and computed again.\n"
    assert contents(study) == before


def test_damage_that_only_reading_finds_is_found_by_the_tables(copy_of: Study, monkeypatch, capsys):
    before, folder = contents(copy_of), stage_folder(copy_of, "baseline+tta · predict valid · seed 1")
    flip(folder / "predictions.parquet")
    (copy_of.folder / "predictions.parquet").unlink()
    ran = jobs(monkeypatch)
    study = Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    assert ran == ["baseline+tta · predict valid · seed 1"]
    assert capsys.readouterr().err == f"{folder}: is damaged; it is set aside and computed again.\n"
    assert contents(study) == before


def stage_folder(study: Study, label: str) -> Path:
    """Where a study's stage is stored."""
    plan = study.plan
    return Path(plan["store"]) / next(k for k, stage in plan["stages"].items() if stage["label"] == label)


def contents(study: Study) -> dict[str, Any]:
    """What a study has written and stored, without times."""
    return outputs(study.folder, Path(study.plan["store"]))


def failing(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Every job with this in its label fails."""
    start = LocalExecutor.start

    def sometimes(self: LocalExecutor, job: Any, report: Any) -> Any:
        if part in job.label:
            raise StageFailed(f"{job.label}: broke")
        return start(self, job, report)

    monkeypatch.setattr(LocalExecutor, "start", sometimes)


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


def test_a_stage_that_failed_is_tried_again_from_its_checkpoint(tiny, tmp_path: Path, monkeypatch, capsys):
    """Killed in its second epoch, twice; the third try goes on from the second."""
    tiny |= {"phases": [{"name": "one", "epochs": 4}], "techniques": {}, "study": {"seeds": 1, "retries": 2}}
    with monkeypatch.context() as patch:
        patch.setenv("ABLATE_STORE", str(tmp_path / "quiet"))
        quiet = Recipe.from_dict(tiny).run(tmp_path / "quiet", threads=1)
    runs: list[list[int]] = []
    start = LocalExecutor.start

    def killed_in_the_second_epoch(self: LocalExecutor, job: Any, report: Any) -> Any:
        epochs: list[int] = []
        runs.append(epochs)

        def kills(message: dict[str, Any]) -> None:
            if "epoch" in message:
                epochs.append(message["epoch"]["epoch"])
            if "one" in job.label and len(runs) in (2, 3) and len(epochs) == 2:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            report(message)

        return start(self, job, kills)

    monkeypatch.setattr(LocalExecutor, "start", killed_in_the_second_epoch)
    study = Recipe.from_dict(tiny).run(threads=1)
    assert set(study.trials.status) == {"ok"}
    assert runs[1][0] == 0
    assert runs[2][0] in (1, 2)
    assert runs[3] == list(range(runs[3][0], 4))
    assert runs[3][0] > runs[2][0]
    assert list(study.history.epoch) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(study.predictions(), quiet.predictions(), check_exact=True)
    told = capsys.readouterr().err
    assert "Trying again (2 left)." in told
    assert "Trying again (1 left)." in told
    assert study.failures() == {}


def test_a_diverged_trial_is_a_result(tiny, monkeypatch):
    tiny["study"]["vary"] = [{"phases.two.lr": [1e-3, 1e25]}]
    recipe = Recipe.from_dict(tiny)
    study = recipe.run(threads=1)
    trials = study.trials.set_index("variant")
    assert set(trials.loc["baseline", "status"]) == {"ok"}
    assert set(trials.loc["baseline+phases.two.lr=1e+25", "status"]) == {"diverged"}
    assert trials.loc["baseline+phases.two.lr=1e+25", "accuracy"].isna().all()
    assert "diverged" in (study.folder / "report.md").read_text()
    ran = jobs(monkeypatch)
    recipe.run(threads=1)  # is not tried again
    assert ran == []


def test_a_prediction_that_is_not_finite_is_a_result_too(copy_of: Study):
    """Training ended well, by its losses; a weight that only prediction uses is not a number."""
    fit = stage_folder(copy_of, "baseline+mixup · two · seed 1")
    weights = load_file(fit / "weights.safetensors")
    name = next(name for name, tensor in weights.items() if name.endswith("weight"))
    weights[name][0] = float("nan")
    save_file(weights, fit / "weights.safetensors")
    sealed.seal(fit, label="baseline+mixup · two · seed 1", status="ok", seconds=1.0)
    shutil.rmtree(stage_folder(copy_of, "baseline+mixup · predict valid · seed 1"))
    study = Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)
    trials = study.trials.set_index(["variant", "seed"])
    assert trials["status"].pop(("baseline+mixup", 1)) == "diverged"
    assert np.isnan(trials.loc[("baseline+mixup", 1), "accuracy"])
    assert set(trials["status"].drop(("baseline+mixup", 1))) == {"ok"}
    assert set(study.predictions().query("variant == 'baseline+mixup'").seed) == {0}


def test_sharing_changes_no_prediction(finished: Study, tmp_path: Path, monkeypatch):
    ran = jobs(monkeypatch)
    alone = Recipe.load(finished.folder / "recipe.yaml").run(tmp_path / "alone", threads=1, share=False)
    assert len([label for label in ran if label != "preflight"]) == 8 * 3
    expected, found = finished.predictions(), alone.predictions()
    for (variant, seed), part in expected.groupby(["variant", "seed"], sort=False):
        own = found[(found.variant == variant) & (found.seed == seed)]
        assert own.to_csv(index=False) == part.to_csv(index=False)
        columns = [f"p_{k}" for k in range(10)]
        assert own[columns].to_numpy().tobytes() == part[columns].to_numpy().tobytes()
    assert len(found) == len(expected)
    assert (alone.folder / "effects.csv").read_bytes() == (finished.folder / "effects.csv").read_bytes()


def test_outputs_are_never_a_mixture_of_two_plans(copy_of: Study, monkeypatch):
    """Another recipe in the same folder, stopped before its first result, leaves none of the earlier one."""
    recipe = Recipe.load(
        copy_of.folder / "recipe.yaml", {"phases.two.lr": 2e-3, "study.smallest_effect": 0.1}
    )

    start = LocalExecutor.start

    def interrupted(self: LocalExecutor, job: Any, report: Any) -> Any:
        if job.key != "preflight":
            raise KeyboardInterrupt
        return start(self, job, report)

    monkeypatch.setattr(LocalExecutor, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recipe.run(copy_of.folder.parent, threads=1)
    assert copy_of.plan["smallest_effect"] == 0.1
    files = [path for path in copy_of.folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    left = {path.name for path in files if path.parent.name != "history"}
    assert left == {"recipe.yaml", "plan.json", "machine.json"}
    logged = {path.stem for path in files if path.parent.name == "history"}
    store = Path(copy_of.plan["store"])
    fits = {key for key, stage in copy_of.plan["stages"].items() if stage["kind"] == "fit"}
    assert logged
    assert logged == {key for key in fits if (store / key).is_dir()}  # what both recipes have in common


def test_outputs_grow_seed_by_seed(tiny, monkeypatch):
    """After the first seed there is a first answer, which is written while the second trains."""
    tiny["study"]["vary"] = ["tta"]
    found: list[Any] = []
    start = LocalExecutor.start

    def looks(self: LocalExecutor, job: Any, report: Any) -> Any:
        study = Study(Path(os.environ["ABLATE_OUT"]) / "tiny")
        there = (study.folder / "effects.csv").is_file()
        found.append((job.label.split(" · ")[-1], there and sorted(study.predictions().seed.unique())))
        return start(self, job, report)

    monkeypatch.setattr(LocalExecutor, "start", looks)
    Recipe.from_dict(tiny).run(threads=1)
    assert found == [
        ("preflight", False),
        *[("seed 0", False)] * 4,
        ("seed 1", False),
        *[("seed 1", [0])] * 3,
    ]


def test_ctrl_c_before_the_winner_is_tested_leaves_that_to_the_next_run(tiny, monkeypatch):
    tiny["data"] = {"source": "digits", "split": {"random": 0.2}, "test": {"random": 0.1}}
    tiny["study"] = {"seeds": 1}
    recipe = Recipe.from_dict(tiny)
    wait = LocalExecutor.wait

    def then_ctrl_c(self: LocalExecutor, *args: Any) -> Any:
        ended = wait(self, *args)
        if any("predict valid" in one.job.label for one in ended):
            os.kill(os.getpid(), signal.SIGINT)
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "wait", then_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            recipe.run(threads=1)
    ran = jobs(monkeypatch)
    study = recipe.run(threads=1)
    assert ran == ["baseline · predict test · seed 0"]
    assert set(study.predictions().split) == {"valid", "test"}


class TestTwoAtOnce:
    """Two `ablate run` with one store: this process, and one that has started before and is as far."""

    def together(
        self, there: Runs, here: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[list[str], list[str]]:
        """Run both to the end; gives the stages that either has computed."""
        monkeypatch.setenv("ABLATE_STORE", str(there.store))
        ran = jobs(monkeypatch)
        running = there.start(shots=[])
        calls = there.injection / "calls"
        running.until(lambda: calls.exists() and " lock open " in calls.read_text())
        study = here.run(there.root / "runs", threads=1)
        assert set(study.trials.status) == {"ok"}
        assert running.wait() == 0, running.stderr
        assert running.stderr == ""
        keys = re.findall(r"rename \.stages/\.work/(\w+)/out/DONE\.json", calls.read_text())
        stages = Study.open(there.study).plan["stages"]
        assert leftovers(there.study, there.store) == []
        return ran[ran[0] == "preflight" :], [stages[key]["label"] for key in keys]

    def test_of_the_same_study(self, tiny, finished: Study, tmp_path: Path, monkeypatch):
        there = Runs(tmp_path / "both", tiny)
        here, others = self.together(there, Recipe.load(there.root / "recipe.yaml"), monkeypatch)
        assert sorted([*here, *others]) == sorted(
            stage["label"] for stage in finished.plan["stages"].values()
        )
        assert here
        assert others
        assert contents(Study.open(there.study)) == contents(finished)

    @pytest.mark.slow
    def test_of_two_studies_that_overlap(self, tiny, finished: Study, tmp_path: Path, monkeypatch):
        there = Runs(tmp_path / "both", tiny | {"study": tiny["study"] | {"vary": ["tta"]}})
        recipe = Recipe.load(there.root / "recipe.yaml", {"name": "other", "study.vary": ["mixup"]})
        here, others = self.together(there, recipe, monkeypatch)
        assert len(set(here)) == len(here)
        assert not set(here) & set(others)
        assert len(here) + len(others) == len(there.finished()) == 2 * (2 + 1 + 1 + 1 + 1)
        expected = finished.predictions()
        for name, technique in (("tiny", "tta"), ("other", "mixup")):
            found = Study.open(there.root / "runs" / name).predictions()
            variants = ["baseline", f"baseline+{technique}"]
            part = expected[expected.variant.isin(variants)].reset_index(drop=True)
            pd.testing.assert_frame_equal(found, part, check_exact=True)


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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_the_very_end_is_one_sentence(copy_of: Study, monkeypatch, code: int):
    (copy_of.folder / "report.md").unlink()
    recipe = Recipe.load(copy_of.folder / "recipe.yaml")

    def fails(_folder: Path) -> None:
        raise OSError(code, os.strerror(code), "/some/report.md")

    with monkeypatch.context() as patch:
        patch.setattr("ablate.analysis.report.write_report", fails)
        told = rf"^/some/report\.md: cannot be written \({os.strerror(code)}\); once it can, the same command"
        with pytest.raises(AblateError, match=told):
            recipe.run(copy_of.folder.parent, threads=1)
    recipe.run(copy_of.folder.parent, threads=1)
    assert (copy_of.folder / "report.md").is_file()


def test_a_bug_is_not_told_as_a_disk_that_fails(copy_of: Study, monkeypatch):
    def fails(_folder: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    (copy_of.folder / "report.md").unlink()
    monkeypatch.setattr("ablate.analysis.report.write_report", fails)
    with pytest.raises(FileNotFoundError):
        Recipe.load(copy_of.folder / "recipe.yaml").run(copy_of.folder.parent, threads=1)


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


def test_extra_images_that_leak_are_told_and_listed(more_photos: Path, tmp_path: Path, capsys):
    values = {
        "name": "more",
        "data": {
            "root": str(more_photos),
            "table": "table.csv",
            "split": {"folds": 2},
            "extra": {"table": "more.csv", "folder": "more"},
        },
        "model": {"arch": "test_vit", "pretrained": False},
        "size": 16,
        "batch_size": 6,
        "phases": [{"name": "one", "epochs": 1}],
        "study": {"seeds": 1},
    }
    study = Recipe.from_dict(values).run(tmp_path / "out", threads=1)
    said = " ".join(capsys.readouterr().out.split())
    assert "left out, since they look like validation or test images or are of their groups: 2, see" in said
    listed = pd.read_csv(study.folder / "skipped.csv")
    assert listed["item"].tolist() == ["anew.jpg", "mirrored.png"]
    assert listed["reason"].str.match(r"near-duplicate of cat/7\.png in validation of fold [01], dist").all()
    assert set(study.predictions()["item"]) == set(pd.read_csv(more_photos / "table.csv")["image"])
    assert "2 that look like validation or test images" in (study.folder / "report.html").read_text()
    Recipe.from_dict(values, {"data.extra.near_duplicates": "keep"}).run(tmp_path / "kept", threads=1)
    assert not (tmp_path / "kept" / "more" / "skipped.csv").exists()


def test_plan_json_round_trips(finished: Study):
    stored = finished.stored_plan()
    assert json.loads((finished.folder / "plan.json").read_text())["summary"]["stages"] == len(
        stored.needed(trial.predict for trial in stored.trials)
    )
