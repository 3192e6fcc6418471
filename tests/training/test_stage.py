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
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ablate import sealed
from ablate.errors import AblateError, Damaged, StageStopped
from ablate.study.job import Job
from ablate.study.prepare import prepare
from ablate.training.stage import build_parts, is_out_of_memory, no_space, run_job


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
        "samples.jpg",
        "best.json",
        "inputs.json",
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


@pytest.mark.parametrize("quick", [False, True])
def test_a_stage_has_the_images_that_were_prepared_for_its_fold(runner, more_photos: Path, quick: bool):
    for name in ("cat/1.png", "fox/0.jpg", "dog/2.jpg"):
        (more_photos / name).write_bytes(b"")
    made = runner(
        data__split={"folds": 4},
        data__extra={"table": "more.csv", "folder": "more"},
        data__on_bad_image="skip",
    )
    prepared = prepare(made.recipe, quick=quick)
    assert prepared.n_leaking
    for stage in made.plan.stages.values():
        job = dataclasses.replace(made.job(stage), quick=quick, skipped=prepared.without(stage.fold))
        fold = build_parts(job, stage.settings).fold
        for side in ("train", "valid", "test"):
            np.testing.assert_array_equal(getattr(fold, side), getattr(prepared.folds[stage.fold], side))


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
        "samples.jpg",
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
        assert not list(tmp_path.rglob("samples.jpg"))
        return told

    return run


def test_preflight_builds_every_phase_and_trains_none(preflight):
    assert preflight()[-1] == {"done": 4, "total": 4}


WITHOUT = {"data__split": {"none": True}, "study__vary": []}
"""No validation set, and so nothing to compare."""


def test_preflight_without_a_validation_set(preflight):
    assert preflight(**WITHOUT, study__baseline=["normalize", "early_stopping"], **MONITOR)[-1]["done"] == 2


def test_what_goes_by_the_validation_images_is_refused_where_there_are_none(preflight):
    with pytest.raises(AblateError, match="valid_loss needs validation images, and there are none"):
        preflight(**WITHOUT, study__baseline=["normalize", "early_stopping"])


MONITOR = {"techniques__early_stopping": {"monitor": "train_loss"}}


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_fit_without_a_validation_set_goes_on_after_an_interruption(runner, keep: str):
    settings = {**WITHOUT, "keep": keep, "keep_by": "train_loss", "phases": [{"name": "a", "epochs": 3}]}
    whole, parts = runner("whole", **settings), runner("parts", **settings)
    expected = whole.run(whole.fit())
    for _ in range(2):
        with pytest.raises(StageStopped):
            parts.run(parts.fit(), stopping=lambda: True)
    found = parts.run(parts.fit(), stopping=lambda: True)
    pd.testing.assert_frame_equal(*(read_history(folder) for folder in (expected, found)))
    assert list(read_history(found)) == ["phase", "epoch", "train_loss"]
    one, other = (load_file(folder / "weights.safetensors") for folder in (expected, found))
    assert all(one[name].equal(other[name]) for name in one)
    assert (found / "best.json").read_text() == (expected / "best.json").read_text()
    assert parts.predictions().empty


def read_history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


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


def test_above_1000_classes_predictions_are_short(runner, tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = ["image,label,is_val"]
    (tmp_path / "many").mkdir()
    for number in range(2 * 1010):
        name = f"{number:04d}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "many" / name)
        rows.append(f"{name},{number // 2:04d},{number % 2}")
    (tmp_path / "many" / "table.csv").write_text("\n".join(rows))
    fields = {"size": 8, "presize": 8, "batch_size": 64, "phases": [{"name": "one", "epochs": 1}]}
    fields |= {"study__metric": "top_100_accuracy", "study__vary": [], "study__baseline": ["tta"]}
    made = runner(data__root=str(tmp_path / "many"), techniques__tta={"n": 2}, **fields)
    table = made.predictions()
    assert list(table) == [
        *("item", "group", "target", "pred"),
        *(f"top_{i}" for i in range(1, 11)),
        *(f"p_top_{i}" for i in range(1, 11)),
        *("p_target", "rank_target"),
    ]
    assert table["target"].tolist() == list(range(1010))
    assert table["rank_target"].between(1, 1010).all()
    assert (table["p_top_1"] >= table["p_top_10"]).all()
    hit = table["rank_target"] == 1
    assert (table["pred"] == table["target"])[hit].all()
