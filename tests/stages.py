"""Small real phases: tiny timm networks on the photos of `conftest.py`, stage by stage in this process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan, Stage, Trial
from ablate.study.job import Job
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.training.fit import Report
from ablate.training.stage import Stopping, run_job


def tiny_recipe(photos: Path, **overrides: Any) -> Recipe:
    """A recipe of two short phases, with fields overridden by dotted name, dots as `__`.

    `two_classes.csv` is the same table with the foxes among the dogs.
    """
    (photos / "two_classes.csv").write_text((photos / "table.csv").read_text().replace(",fox,", ",dog,"))
    values = {
        "name": "tiny",
        "data": {
            "root": str(photos),
            "table": "table.csv",
            "split": {"column": "is_val"},
        },
        "model": {"arch": "test_efficientnet", "pretrained": False},
        "size": 32,
        "presize": 40,
        "batch_size": 6,
        "phases": [
            {"name": "head", "epochs": 1, "lr": 1e-3, "freeze": True},
            {"name": "body", "epochs": 2, "lr": [1e-4, 1e-3]},
        ],
        "study": {"baseline": ["normalize"], "vary": ["mixup"], "seeds": 2},
    }
    return Recipe.from_dict(values, {name.replace("__", "."): value for name, value in overrides.items()})


class Runner:
    """Runs the stages of a recipe's plan one by one, in this process, as the store would have them.

    A stage's workplace is `<root>/<key>`; its files are in `out` there, its checkpoints beside that.
    """

    def __init__(self, recipe: Recipe, root: Path, workers: int = 0, device: str = "cpu"):
        self.recipe, self.root, self.workers, self.device = recipe, root, workers, device
        self.prepared = prepare(recipe)
        self.plan: Plan = make_plan(
            recipe, self.prepared.identities, device=device, weights_hash=self.prepared.weights_hash
        )

    def trial(self, variant: str = "baseline", seed: int = 0) -> Trial:
        return next(t for t in self.plan.trials if (t.variant, t.seed) == (variant, seed))

    def fit(self, variant: str = "baseline", phase: int = -1) -> Stage:
        """The stage of a variant's last phase, or another."""
        return self.plan.stages[self.trial(variant).fits[phase]]

    def folder(self, key: str) -> Path:
        return self.root / key / "out"

    def job(self, stage: Stage) -> Job:
        mean, std = self.prepared.pixels[stage.fold]
        return Job(
            key=stage.key,
            label=stage.label,
            settings=stage.settings,
            folder=str(self.folder(stage.key)),
            data=self.recipe.data.model_dump(mode="json"),
            fold=stage.fold,
            weights=stage.weights,
            parents={parent: str(self.folder(parent)) for parent in stage.parents},
            device=self.device,
            workers=self.workers,
            skipped=self.prepared.without(stage.fold),
            technique_files=self.recipe.technique_sources,
            pixel_mean=mean,
            pixel_std=std,
        )

    def run(self, stage: Stage, report: Report = lambda _: None, stopping: Stopping = lambda: False) -> Path:
        """Run a stage, or go on with it, and give its folder."""
        folder = self.folder(stage.key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_job(self.job(stage), report, stopping)
        return folder

    def run_needed(self, key: str) -> Path:
        """Run a stage and whatever it hangs on, as far as it is not there; gives its folder."""
        for needed in self.plan.needed([key]):
            if not (self.folder(needed) / "DONE.json").exists():
                self.run(self.plan.stages[needed])
        return self.folder(key)

    def predictions(self, variant: str = "baseline", seed: int = 0) -> pd.DataFrame:
        return pd.read_parquet(self.run_needed(self.trial(variant, seed).predict) / "predictions.parquet")
