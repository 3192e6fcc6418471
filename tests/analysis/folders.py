"""Folders as finished studies leave them, written from drawn tables, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ablate.analysis.contrasts import against_baseline
from ablate.analysis.effects import analyse
from ablate.analysis.metrics import metric_values

SECONDS = {"baseline": 60.0}
"""Train time of one trial of a variant; the others take 90."""


def write_study(
    folder: Path, trials: pd.DataFrame, predictions: pd.DataFrame, classes: list[str], **plan: Any
) -> Path:
    """Every file of a study on these tables, with two phases of history."""
    contrasts = against_baseline(list(trials["variant"]), "baseline")
    found = analyse(trials, predictions, contrasts=contrasts, classes=classes)
    for name, table in vars(found).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    predictions.to_parquet(folder / "predictions.parquet")
    finished = trials[trials["status"] == "ok"].drop(columns="status").merge(predictions)
    scores = metric_values(finished, ["accuracy", "balanced_accuracy", "log_loss"])
    scores["train_seconds"] = scores["variant"].map(SECONDS).fillna(90.0)
    trials.merge(scores, how="left").to_csv(folder / "trials.csv", index=False)
    history = trials.merge(pd.DataFrame({"phase": ["head", "tune"], "epoch": [0, 0]}), how="cross")
    history = history.assign(valid_loss=1.0, accuracy=np.linspace(0.4, 0.6, len(history)))
    history.to_csv(folder / "history.csv", index=False)
    content = {
        "name": "demo",
        "quick": False,
        "metric": "accuracy",
        "smallest_effect": 0.005,
        "baseline": "baseline",
        "classes": classes,
        "contrasts": [each.to_dict() for each in contrasts],
        "versions": {"torch": "2.15", "fastai": "2.8.12"},
        "device": "cpu",
        "threads": 1,
        "summary": {
            "trials": len(trials),
            "variants": trials["variant"].nunique(),
            "seeds": trials["seed"].nunique(),
            "folds": trials["fold"].nunique(),
            "stages": 30,
            "requested_epochs": 24,
            "unique_epochs": 16,
            "merge_rate": 1.5,
        },
        "trials": [],
    }
    (folder / "plan.json").write_text(json.dumps(content | plan), encoding="utf-8")
    (folder / "recipe.yaml").write_text("name: demo\n", encoding="utf-8")
    machine = {"platform": "Linux-6", "cpu": "Some CPU", "cores": 8, "memory": 2**34, "gpus": ["H1", "H1"]}
    (folder / "machine.json").write_text(json.dumps([machine]), encoding="utf-8")
    return folder


def write_thumbnails(folder: Path, items: list[str]) -> None:
    """A grey image for each item."""
    (folder / "thumbnails").mkdir()
    for number, _ in enumerate(items):
        Image.new("RGB", (96, 72), (number * 9 % 256, 120, 90)).save(folder / "thumbnails" / f"{number}.jpg")
    index = {item: f"{number}.jpg" for number, item in enumerate(items)}
    (folder / "thumbnails" / "index.json").write_text(json.dumps(index), encoding="utf-8")
