"""ablate.study.summary: a plan in numbers, and plan.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.contrasts import Contrast
from ablate.analysis.power import detectable_effect
from ablate.recipe.recipe import Recipe
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.summary import left_numbers, plan_file, plan_numbers

VALUES: dict[str, Any] = {
    "name": "sums",
    "size": 32,
    "phases": [{"name": "one", "epochs": 3}, {"name": "two", "epochs": 2}],
    "techniques": {"mixup": {"phases": ["two"]}},
    "study": {"vary": ["mixup", "tta"], "seeds": 3, "metric": "log_loss", "smallest_effect": 0.01},
}


def numbers(**changes: Any) -> dict[str, Any]:
    recipe = Recipe.from_dict(VALUES | changes)
    prepared = prepare(recipe)
    return plan_numbers(recipe, make_plan(recipe, prepared.identities), prepared)


def test_numbers_by_hand() -> None:
    assert numbers() == {
        "trials": 9,
        "stages": 3 * (3 + 3),
        "requested_epochs": 3 * 3 * 5,
        "unique_epochs": 3 * (5 + 2),
        "merge_rate": 2.143,
        "detectable_effect": detectable_effect(359, 3),
        "expected": {"error": 0.1, "seed_sd": 0.005},
        "design": "one at a time",
        "variants": 3,
        "seeds": 3,
        "folds": 1,
        "train_images": 1438,
        "valid_images": 359,
        "metric": "log_loss",
        "smallest_effect": 0.01,
        "skipped_images": 0,
        "leaking_images": 0,
    }


def test_plan_json_keeps_design_and_aliases() -> None:
    study = {"vary": ["mixup", "tta", "cutmix"], "design": "fractional", "fraction": {"variants": 4}}
    recipe = Recipe.from_dict(VALUES | {"study": study})
    prepared = prepare(recipe)
    plan = make_plan(recipe, prepared.identities)
    content = json.loads(plan_file(recipe, plan, prepared, Path("store"), "cpu", 1, False))
    assert content["summary"]["design"] == "fractional: 4 of 8 variants, resolution III"
    assert [contrast["aliases"] for contrast in content["contrasts"]] == [
        ["tta × cutmix"],
        ["mixup × cutmix"],
        ["mixup × tta"],
    ]
    assert [Contrast.from_dict(contrast) for contrast in content["contrasts"]] == plan.contrasts


def test_all_folds_validate_on_all_images() -> None:
    got = numbers(data={"split": {"folds": 3}})
    assert (got["trials"], got["folds"], got["valid_images"], got["train_images"]) == (27, 3, 1797, 1198)


def test_more_seeds_see_smaller_effects() -> None:
    effects = [numbers(study={"seeds": seeds})["detectable_effect"] for seeds in (1, 2, 5, 20)]
    assert effects[0] is None
    assert effects[1:] == sorted(effects[1:], reverse=True)


def test_what_is_left_without_a_store(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(VALUES)
    plan = make_plan(recipe, prepare(recipe).identities)
    left = left_numbers(plan, Store(tmp_path / "not" / "yet"))
    assert left.pop("free_bytes") > 0
    assert left == {
        "stored_stages": 0,
        "epochs_left": plan.unique_epochs,
        "unmeasured_stages": len(plan.stages),
        "estimated_seconds": None,
        "estimated_bytes": None,
    }
    assert not (tmp_path / "not").exists()


def test_nothing_is_left_of_a_finished_study(finished: Study) -> None:
    left = left_numbers(finished.stored_plan(), Store(finished.folder.parent.parent / "store"))
    assert left.pop("free_bytes") > 0
    assert left == {
        "stored_stages": 18,
        "epochs_left": 0,
        "unmeasured_stages": 0,
        "estimated_seconds": 0,
        "estimated_bytes": 0,
    }


def test_what_is_left_is_estimated_from_the_measured_stages(copy_of: Study) -> None:
    store, plan = Store(copy_of.folder.parent.parent / "store"), copy_of.stored_plan()
    gone = (*plan.trials[0].fits, plan.trials[0].predict)
    seconds = sum(store.result(key)["seconds"] for key in plan.stages)
    for key in gone:
        shutil.rmtree(store.folder(key))
    left = left_numbers(plan, store)
    assert (left["stored_stages"], left["epochs_left"], left["unmeasured_stages"]) == (15, 2, 0)
    assert 0 < left["estimated_seconds"] < seconds
    assert left["estimated_bytes"] > 0
    (store.root / ".measured.jsonl").unlink()
    left = left_numbers(plan, store)
    assert (left["unmeasured_stages"], left["estimated_seconds"]) == (3, None)


def test_a_part_that_is_like_nothing_measured(copy_of: Study) -> None:
    """Fits are known, predictions are not."""
    store, plan = Store(copy_of.folder.parent.parent / "store"), copy_of.stored_plan()
    measured = store.root / ".measured.jsonl"
    measured.write_text("".join(f"{x}\n" for x in measured.read_text().splitlines() if '"fit"' in x))
    for key in plan.stages:
        shutil.rmtree(store.folder(key))
    left = left_numbers(plan, store)
    kinds = [stage.kind for stage in plan.stages.values()]
    assert left["unmeasured_stages"] == kinds.count("predict")
    assert left["estimated_seconds"] > 0


def test_plan_json(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(VALUES)
    prepared = prepare(recipe)
    plan = make_plan(recipe, prepared.identities)
    content = json.loads(plan_file(recipe, plan, prepared, tmp_path, "cpu", 2, quick=True))
    assert content["name"] == "sums"
    assert content["quick"] is True
    assert (content["device"], content["threads"], content["store"]) == ("cpu", 2, str(tmp_path))
    assert content["summary"] == plan_numbers(recipe, plan, prepared)
    assert [Contrast.from_dict(values) for values in content["contrasts"]] == plan.contrasts
    assert set(content["stages"]) == set(plan.stages)
    assert [trial["variant"] for trial in content["trials"]] == [trial.variant for trial in plan.trials]
    assert content["classes"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("side", ["train", "valid"])
def test_stages_in_plan_json_have_their_whole_settings(side: str, tmp_path: Path) -> None:
    from ablate.study.plan import stage_key

    recipe = Recipe.from_dict(VALUES)
    prepared = prepare(recipe)
    content = json.loads(
        plan_file(recipe, make_plan(recipe, prepared.identities), prepared, tmp_path, "cpu", 1, False)
    )
    for key, stage in content["stages"].items():
        assert stage_key(stage["settings"]) == key
        if stage["kind"] == "fit":
            assert stage["settings"]["data"][side] == getattr(prepared.identities[0], side)


def test_the_detectable_effect_rests_on_what_is_expected_of_the_results():
    worse = numbers(study={"seeds": 3, "expected": {"error": 0.4, "seed_sd": 0.02}})
    assert worse["detectable_effect"] == detectable_effect(359, 3, error=0.4, seed_sd=0.02)
    assert worse["detectable_effect"] > numbers(study={"seeds": 3})["detectable_effect"]


def test_a_design_without_a_baseline_is_seen_beside_its_full_variant() -> None:
    for design, expected in (("leave_one_out", "full"), ("cumulative", "baseline")):
        recipe = Recipe.from_dict(VALUES | {"study": {"vary": ["mixup", "tta"], "design": design}})
        prepared = prepare(recipe)
        plan = make_plan(recipe, prepared.identities)
        text = plan_file(recipe, plan, prepared, Path("store"), "cpu", 1, False)
        assert json.loads(text)["baseline"] == expected
