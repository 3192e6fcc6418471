"""Stages in this process: what they write, and that nothing but their settings decides it."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ablate import sealed
from ablate.errors import AblateError, Damaged
from ablate.study.job import Job
from ablate.training.stage import is_out_of_memory, no_space, run_job


def test_a_fit_writes_weights_optimizer_and_history(runner):
    made = runner()
    stage = made.fit(phase=0)
    folder = made.run(stage)
    assert {file.name for file in folder.iterdir() if file.is_file()} == {
        "weights.safetensors",
        "optimizer.safetensors",
        "optimizer.json",
        "history.csv",
        "steps.csv",
        "best.json",
        "settings.json",
        "DONE.json",
    }
    assert json.loads((folder / "settings.json").read_text()) == stage.settings
    done = sealed.read_seal(folder)
    assert done is not None
    assert (done["status"], done["label"]) == ("ok", stage.label)
    assert 0 < done["seconds"] < 60
    assert sealed.is_whole(folder)


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
    made = runner(phases__0__lr=1e25, phases__0__freeze=False, phases__0__epochs=3)
    folder = made.run(made.fit(phase=0))
    done = sealed.read_seal(folder)
    assert done is not None
    assert done["status"] == "diverged"
    assert {file.name for file in folder.iterdir()} == {
        "history.csv",
        "steps.csv",
        "settings.json",
        "DONE.json",
    }
    assert len(pd.read_csv(folder / "history.csv")) < 3
    assert not np.isfinite(pd.read_csv(folder / "steps.csv")["loss"].iloc[-1])


@pytest.mark.parametrize("share", [0, 1])
def test_predictions_that_are_not_finite_are_diverged(runner, share: int):
    """A fit may end finite with weights that overflow on other images."""
    made = runner()
    trial = made.trial()
    folder = made.run_needed(trial.fits[-1])
    weights = load_file(folder / "weights.safetensors")
    name = next(name for name in reversed(weights) if weights[name].ndim == 2)
    weights[name][:share] = float("nan")
    save_file(weights, folder / "weights.safetensors")
    sealed.seal(folder, status="ok")
    predicted = made.run(made.plan.stages[trial.predict])
    done = sealed.read_seal(predicted)
    assert done is not None
    assert done["status"] == ("diverged" if share else "ok")
    assert (predicted / "predictions.parquet").exists() == (not share)


def test_a_parent_that_was_damaged_is_named(runner):
    made = runner()
    trial = made.trial()
    folder = made.run_needed(trial.fits[-1])
    with (folder / "weights.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(Damaged) as caught:
        made.run(made.plan.stages[trial.predict])
    assert caught.value.folder == folder


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


@pytest.fixture
def preflight(runner, tmp_path: Path) -> Callable[..., list[dict]]:
    """Tries every distinct phase of a recipe, and gives what was reported."""

    def run(**overrides: object) -> list[dict]:
        made = runner(**overrides)
        fits = [
            stage.settings for stage in made.plan.stages.values() if (stage.kind, stage.seed) == ("fit", 0)
        ]
        out = tmp_path / "preflight" / "out"
        out.mkdir(parents=True)
        told: list[dict] = []
        settings = {"kind": "preflight", "stages": fits}
        job = Job("preflight", "preflight", settings, str(out), made.recipe.data.model_dump())
        run_job(job, told.append)
        assert not list(tmp_path.rglob("*.safetensors"))
        return told

    return run


def test_preflight_builds_every_phase_and_trains_none(preflight):
    assert preflight()[-1] == {"done": 4, "total": 4}


def test_preflight_names_micro_batch_where_memory_does_not_suffice(preflight, monkeypatch):
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("fastai.optimizer.Optimizer.step", full)
    with pytest.raises(AblateError, match=r"phase head: batches of 6 images of 32 pixels .* set micro_batch"):
        preflight()


def test_out_of_memory_is_recognized():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_a_full_disk_is_recognized():
    assert no_space(OSError(errno.ENOSPC, "No space left on device"))
    assert no_space(OSError(errno.EDQUOT, "Disk quota exceeded"))
    # as safetensors tells it on a full tmpfs
    assert no_space(
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    )
    assert not no_space(SafetensorError("Error while serializing: I/O error: File too large (os error 27)"))
    assert not no_space(OSError(errno.EACCES, "Permission denied"))


def test_jobs_pickle(runner):
    import pickle

    made = runner()
    job = Job("k", "l", next(iter(made.plan.stages.values())).settings, "f", {})
    assert pickle.loads(pickle.dumps(dataclasses.replace(job, fold=1))).fold == 1
