"""What must have arrived of a study, worked out by hand from its folder, beside what has."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from wandb_backend import Backend, Run

ARTIFACTS = ("trials.csv", "predictions.parquet", "effects.csv", "recipe.yaml", "plan.json")
VOLATILE = ("_timestamp", "_runtime", "epoch_seconds")


def histories(study: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each trial by its name: losses and rates by step, at an epoch's end its scores as well."""
    found = {}
    for trial in json.loads((study / "plan.json").read_text())["trials"]:
        rows: list[dict[str, Any]] = []
        for key in trial["fits"]:
            for line in (study / "history" / f"{key}.jsonl").read_text().splitlines():
                epoch = json.loads(line)
                if "finished" not in epoch:
                    steps = epoch["steps"]
                    rows += [
                        {"loss": loss, "lr": lr} for loss, lr in zip(steps["loss"], steps["lr"], strict=True)
                    ]
                    rows[-1] |= {name: epoch["epoch"][name] for name in ("valid_loss", "accuracy")}
        found[f"{trial['variant']} seed {trial['seed']}"] = rows
    return found


def lacking(backend: Backend, study: Path) -> list[str]:
    """What is not as it must be once a finished study was sent whole; empty: all is there, once."""
    expected = histories(study)
    wrong = [f"{name}: no run" for name in expected.keys() - backend.trials.keys()]
    wrong += [f"{name}: no such trial" for name in backend.trials.keys() - expected.keys()]
    if len(backend.runs) != len(expected) + 1:
        wrong.append(f"{len(backend.runs)} runs of {len(expected)} trials and a study")
    for name, run in backend.trials.items():
        wrong += [f"{name}: {what}" for what in _wrong_rows(run, expected.get(name, []))]
        if run.exit_code != 0:
            wrong.append(f"{name}: exit code {run.exit_code}")
    return wrong + [f"study: {what}" for what in _wrong_study(backend, study)]


def _wrong_rows(run: Run, expected: list[dict[str, Any]]) -> list[str]:
    wrong = [f"lines {run.gaps} never came"] if run.gaps else []
    wrong += [f"{before} became {after}" for before, after in run.changed]
    trained = [row for row in run.rows if "loss" in row]
    if run.steps != list(range(len(run.rows))):
        wrong.append(f"steps {run.steps}")
    if len(trained) != len(expected) or len(run.rows) > len(expected) + 1:
        wrong.append(f"{len(trained)} steps in {len(run.rows)} rows for {len(expected)}")
    for step, (row, one) in enumerate(zip(trained, expected, strict=False)):
        if not all(math.isclose(row.get(name, math.nan), value) for name, value in one.items()):
            wrong.append(f"step {step} is {row}, not {one}")
    return wrong


def _wrong_study(backend: Backend, study: Path) -> list[str]:
    run = backend.study
    wrong = [] if run.exit_code == 0 else [f"exit code {run.exit_code}"]
    # the client's own artifacts, tables and histories of runs, are not counted
    files = {name: one.files for one in backend.artifacts if one.committed for name in one.files}
    wrong += [f"{name} is no artifact" for name in ARTIFACTS if name not in files]
    wrong += [
        f"{name} is another" for name in ARTIFACTS if _other(files.get(name, {}).get(name), study / name)
    ]
    if not any(name.endswith(".html") for name in run.files):
        wrong.append("no report")
    return wrong


def _other(content: bytes | None, file: Path) -> bool:
    return content is not None and content != file.read_bytes()


def rows(backend: Backend) -> dict[str, list[dict[str, Any]]]:
    """All rows of the trials' training, without what depends on the clock."""
    return {
        name: [_without_times(row) for row in run.rows if "loss" in row]
        for name, run in backend.trials.items()
    }


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in VOLATILE}


def is_whole(study: Path) -> bool:
    """Whether a study has all its outputs, for all its trials."""
    trials = pd.read_csv(study / "trials.csv")
    planned = json.loads((study / "plan.json").read_text())["trials"]
    outputs = [*ARTIFACTS, "history.csv", "report.html", "report.md", "plots/effects.svg"]
    return len(trials) == len(planned) and all((study / name).is_file() for name in outputs)
