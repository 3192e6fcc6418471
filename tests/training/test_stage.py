"""Stages in this process: what they write, and that nothing but their settings decides it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan, Stage
from ablate.study.job import Job
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.training.stage import is_out_of_memory, run_job


def ignore(_message: object) -> None:
    pass


class Runner:
    """Runs the stages of a recipe's plan one by one, in this process."""

    def __init__(self, recipe: Recipe, folder: Path, workers: int = 0):
        self.recipe, self.root, self.workers = recipe, folder, workers
        self.prepared = prepare(recipe)
        self.plan: Plan = make_plan(recipe, self.prepared.identities, weights_hash=self.prepared.weights_hash)

    def folder(self, key: str) -> Path:
        return self.root / key

    def run(self, stage: Stage) -> Path:
        folder = self.folder(stage.key)
        folder.mkdir(parents=True)
        mean, std = self.prepared.pixels[stage.fold]
        job = Job(
            key=stage.key,
            label=stage.label,
            settings=stage.settings,
            folder=str(folder),
            data=self.recipe.data.model_dump(mode="json"),
            fold=stage.fold,
            weights=stage.weights,
            parents={parent: str(self.folder(parent)) for parent in stage.parents},
            workers=self.workers,
            pixel_mean=mean,
            pixel_std=std,
        )
        run_job(job, ignore)
        return folder

    def predictions(self, variant: str, seed: int = 0) -> pd.DataFrame:
        trial = next(t for t in self.plan.trials if (t.variant, t.seed) == (variant, seed))
        for key in self.plan.needed([trial.predict]):
            if not self.folder(key).exists():
                self.run(self.plan.stages[key])
        return pd.read_parquet(self.folder(trial.predict) / "predictions.parquet")


@pytest.fixture
def runner(recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Runner]:
    def make(name: str = "stages", workers: int = 0, **overrides: object) -> Runner:
        return Runner(recipe(**overrides), tmp_path / name, workers)

    return make


def test_a_fit_writes_weights_optimizer_and_history(runner):
    made = runner()
    first = made.plan.stages[made.plan.trials[0].fits[0]]
    folder = made.run(first)
    assert {file.name for file in folder.iterdir() if file.is_file()} == {
        "weights.safetensors",
        "optimizer.safetensors",
        "optimizer.json",
        "history.csv",
        "steps.csv",
        "result.json",
    }
    assert json.loads((folder / "result.json").read_text())["status"] == "ok"


def test_predictions_have_a_row_per_validation_item_in_order(runner):
    made = runner(data__split={"column": "is_val", "group": "patient"})
    table = made.predictions("baseline")
    assert list(table.columns) == ["item", "group", "target", "pred", "p_0", "p_1", "p_2"]
    assert table["item"].tolist() == [made.prepared.items.items[i].id for i in made.prepared.folds[0].valid]
    assert table["group"].str.match(r"(cat|dog|fox)-3").all()
    assert np.allclose(table[["p_0", "p_1", "p_2"]].sum(axis=1), 1, atol=1e-5)
    assert (table["pred"] == table[["p_0", "p_1", "p_2"]].to_numpy().argmax(1)).all()


@pytest.mark.parametrize("variant", ["baseline", "baseline+mixup", "baseline+tta"])
def test_predictions_do_not_depend_on_the_number_of_workers(runner, variant):
    study = {"study__baseline": ["normalize", "augment"], "study__vary": ["mixup", "tta"]}
    alone, two = runner("alone", 0, **study), runner("two", 2, **study)
    pd.testing.assert_frame_equal(alone.predictions(variant), two.predictions(variant), check_exact=True)


def test_the_same_stage_twice_gives_the_same_bits(runner):
    one, two = runner("one").predictions("baseline+mixup"), runner("two").predictions("baseline+mixup")
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_shared_phase_gives_what_an_own_one_gives(runner):
    """mixup in the last phase only: its first phase is the baseline's, bit for bit."""
    limited = {"techniques": {"mixup": {"phases": ["body"]}}}
    shared = runner("shared", **limited)
    shared.predictions("baseline")
    alone = runner("alone", **limited)
    pd.testing.assert_frame_equal(
        shared.predictions("baseline+mixup"), alone.predictions("baseline+mixup"), check_exact=True
    )


def test_a_diverged_fit_says_so_and_leaves_no_weights(runner):
    made = runner(phases__0__lr=1e25, phases__0__freeze=False)
    folder = made.run(made.plan.stages[made.plan.trials[0].fits[0]])
    assert json.loads((folder / "result.json").read_text())["status"] == "diverged"
    assert not (folder / "weights.safetensors").exists()


def test_a_found_rate_is_recorded_and_used(runner):
    made = runner(phases__0__lr="find")
    made.predictions("baseline+mixup")
    finder = next(stage for stage in made.plan.stages.values() if stage.kind == "lr_find" and stage.seed == 0)
    rate = json.loads((made.folder(finder.key) / "lr.json").read_text())["lr"]
    fit = made.plan.trials[0].fits[0]
    steps = pd.read_csv(made.folder(made.plan.trials[1].fits[0]) / "steps.csv")
    assert made.plan.trials[1].fits[0] != fit
    assert steps["lr"].iloc[0] == pytest.approx(rate / 25)


def test_preflight_names_a_batch_that_is_larger_than_the_training_set(runner):
    made = runner(batch_size=500)
    with pytest.raises(AblateError, match="batch_size: 500 is more than the 18 training images"):
        made.run(made.plan.stages[made.plan.trials[0].fits[0]])


def test_preflight_builds_every_phase_and_trains_none(runner, tmp_path: Path):
    made = runner()
    fits = [stage.settings for stage in made.plan.stages.values() if stage.kind == "fit" and stage.seed == 0]
    told: list[dict] = []
    job = Job(
        "preflight",
        "preflight",
        {"kind": "preflight", "stages": fits},
        str(tmp_path),
        made.recipe.data.model_dump(),
    )
    run_job(job, told.append)
    assert told[-1] == {"done": len(fits), "total": len(fits)}
    assert not list(tmp_path.glob("*.safetensors"))


def test_out_of_memory_is_recognized():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_jobs_pickle(runner):
    import pickle

    made = runner()
    job = Job("k", "l", next(iter(made.plan.stages.values())).settings, "f", {})
    assert pickle.loads(pickle.dumps(dataclasses.replace(job, fold=1))).fold == 1
