"""What W&B shows of a study: a run for each trial, and one for the study itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from loopback import Loopback
from tracked import Replay, sync, track, wait_until

from ablate.tracking.notes import Notes
from ablate.tracking.outputs import shown_items
from ablate.tracking.runs import MOST_CLASSES
from ablate.tracking.tracker import Tracker


def test_a_trials_run_has_all_that_is_known_of_it(
    backend: Loopback, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_TAGS", "ours,theirs")
    monkeypatch.setenv("WANDB_NOTES", "A word before.")
    monkeypatch.setenv("WANDB_NAME", "of another run")
    monkeypatch.setenv("WANDB_RUN_ID", "another")
    monkeypatch.setenv("WANDB_PROJECT", "elsewhere")
    plan = json.loads((study / "plan.json").read_text())
    assert track(study) == []
    run = backend.trials["baseline+label_smoothing seed 0"]
    assert (run.group, run.job_type, run.project, run.exit_code) == ("tracked", "trial", "elsewhere", 0)
    assert {"label_smoothing", "ours", "theirs"} <= set(run.tags)
    assert run.notes is not None
    assert run.notes.startswith("A word before.")
    assert f"{backend.url}/local/elsewhere/runs/{backend.study.id}" in run.notes
    assert run.config["techniques_label_smoothing_eps"] == 0.2

    *training, last = run.rows
    assert all("loss" in row and "lr" in row for row in training)
    trials = pd.read_csv(study / "trials.csv").set_index("variant").loc["baseline+label_smoothing"]
    history = pd.read_csv(study / "history.csv").query("variant == 'baseline+label_smoothing'")
    assert run.summary["score_accuracy"] == trials["accuracy"]
    assert run.summary["train_seconds"] == trials["train_seconds"]
    assert run.summary["status"] == "ok"
    accuracy = history["accuracy"].tolist()
    assert run.summary["accuracy"] == pytest.approx({"max": max(accuracy), "last": accuracy[-1]})
    losses = history["valid_loss"].tolist()
    assert run.summary["valid_loss"] == pytest.approx({"min": min(losses), "last": losses[-1]})
    assert "lr" not in run.summary

    table = json.loads(run.files[last["predictions"]["path"]])
    predictions = pd.read_parquet(study / "predictions.parquet").query(
        "variant == 'baseline+label_smoothing'"
    )
    shown = shown_items(predictions, plan["classes"])
    assert table["columns"] == list(shown)
    assert table["data"] == [list(row) for row in zip(*shown.values(), strict=True)]
    counts = json.loads(run.files[last["confusion_matrix_table"]["path"]])["data"]
    right = sum(count for actual, predicted, count in counts if actual == predicted)
    assert right / len(predictions) == pytest.approx(trials["accuracy"])
    assert len(plan["classes"]) <= MOST_CLASSES
    for phase, key in zip(("one", "two"), plan["trials"][1]["fits"], strict=True):
        assert run.files[last[f"samples_{phase}"]["path"]] == (study / "history" / f"{key}.jpg").read_bytes()


def test_the_studys_run_has_effects_plot_report_and_tables(backend: Loopback, study: Path) -> None:
    track(study)
    run = backend.study
    assert (run.name, run.group, run.exit_code) == ("tracked", "tracked", 0)
    (row,) = run.rows
    effects = pd.read_csv(study / "effects.csv")
    table = json.loads(run.files[row["effects"]["path"]])
    assert table["columns"] == list(effects.columns)
    assert [line[0] for line in table["data"]] == effects["factor"].tolist()
    assert run.files[row["forest_plot"]["path"]].startswith(b"\x89PNG")
    report = (study / "report.html").read_text(encoding="utf-8")
    assert run.files[row["report"]["path"]].decode() == report
    artifact = next(one for one in backend.artifacts if one.type == "study")
    names = ("trials.csv", "predictions.parquet", "effects.csv", "history.csv", "recipe.yaml", "plan.json")
    assert artifact.files == {name: (study / name).read_bytes() for name in names}
    kept = Notes(study).sent(f"{backend.url} local/ablate")
    assert kept[run.id]["url"] == f"{backend.url}/local/ablate/runs/{run.id}"
    assert not any(one.type == "model" for one in backend.artifacts)
    assert not list((study / "wandb").glob("run-*"))  # nothing is left of what has arrived


def test_weights_go_along_when_asked_for(backend: Loopback, study: Path) -> None:
    done = sync(study, "--weights")
    assert done.returncode == 0, done.stderr
    models = [one for one in backend.artifacts if one.type == "model"]
    plan = json.loads((study / "plan.json").read_text())
    assert {one.run for one in models} == {run.id for run in backend.trials.values()}
    for key, one in zip([trial["fits"][-1] for trial in plan["trials"]], models, strict=True):
        weights = (study / "weights" / key / "weights.safetensors").read_bytes()
        assert weights in [each.files["weights.safetensors"] for each in models]
        assert one.committed


def changed(study: Path, change: Callable[[pd.DataFrame], None]) -> None:
    table = pd.read_csv(study / "trials.csv")
    change(table)
    table.to_csv(study / "trials.csv", index=False)


@pytest.mark.parametrize("status", ["failed", "diverged", pytest.param("pending", marks=pytest.mark.slow)])
def test_a_trial_that_did_not_end_well_is_marked(status: str, backend: Loopback, study: Path) -> None:
    changed(study, lambda table: table.loc.__setitem__((0, "status"), status))
    assert sync(study).returncode == 0
    bad, good = backend.trials["baseline seed 0"], backend.trials["baseline+label_smoothing seed 0"]
    assert (bad.exit_code, good.exit_code) == (1, 0)
    assert (bad.summary["status"], good.summary["status"]) == (status, "ok")
    assert "predictions" not in bad.rows[-1]
    assert backend.study.exit_code == 1
    rows = len(bad.rows)
    changed(study, lambda table: table.loc.__setitem__((0, "status"), "ok"))
    assert sync(study).returncode == 0  # it was tried again
    assert bad.exit_code == backend.study.exit_code == 0
    assert bad.summary["status"] == "ok"
    if status != "diverged":
        assert len(bad.rows) == rows + 1
        assert "predictions" in bad.rows[-1]
    assert bad.changed == []


def test_the_best_is_that_of_all_rows_though_the_run_was_gone_on_with(backend: Loopback, study: Path) -> None:
    replay = Replay(study)
    tracker = Tracker(study, "online", print)
    tracker.start()
    replay.train(2)
    wait_until(lambda: any(run.rows for run in backend.runs.values()))
    tracker.abandon()
    replay.finish()
    assert sync(study).returncode == 0
    history = pd.read_csv(study / "history.csv")
    for variant, rows in history.groupby("variant"):
        run = backend.trials[f"{variant} seed 0"]
        expected = {"max": rows["accuracy"].max(), "last": rows["accuracy"].iloc[-1]}
        assert run.summary["accuracy"] == pytest.approx(expected)
