"""What W&B calls the runs: ids that stay, names, tags, and configs whose keys it can filter by."""

import json
import re
from pathlib import Path

import pytest

from ablate.tracking.described import Described, flat, key_of, study_id


def test_nested_values_become_one_level() -> None:
    nested = {
        "model": {"arch": "vit", "head": None},
        "lr": [1e-6, 1e-4],
        "vary": [{"a": 1}, {"a": 2}],
        "n": {},
    }
    assert flat(nested) == {
        "model_arch": "vit",
        "model_head": None,
        "lr": [1e-6, 1e-4],
        "vary_0_a": 1,
        "vary_1_a": 2,
    }


def test_keys_are_what_wandb_filters_by() -> None:
    assert key_of("phases.head.lr") == "phases_head_lr"
    assert key_of("recall:basal cell") == "recall_basal_cell"
    assert key_of("5_fold") == "_5_fold"
    assert all(re.fullmatch(r"[_a-zA-Z][_a-zA-Z0-9]*", key_of(name)) for name in ("é", "1", "a-b", "x/y"))


def test_keys_that_come_to_the_same_are_kept_apart() -> None:
    assert flat({"a-b": 1, "a": {"b": 2}}) == {"a_b": 1, "a_b_": 2}


@pytest.fixture(scope="module")
def described(untold: Path) -> Described:
    return Described(untold, "an id")


def test_a_trial_is_described_by_its_resolved_settings(described: Described, untold: Path) -> None:
    plain, smoothed = described.trials
    assert (plain.name, smoothed.name) == ("baseline seed 0", "baseline+label_smoothing seed 0")
    assert "label_smoothing" in smoothed.tags
    assert "label_smoothing" not in plain.tags
    assert smoothed.config["techniques_label_smoothing_eps"] == 0.2
    assert smoothed.config["techniques_label_smoothing_phases"] == ["two"]
    assert smoothed.config["factor_label_smoothing"] == "on"
    assert plain.config["factor_label_smoothing"] == "off"
    assert not any(name.startswith("techniques_label_smoothing") for name in plain.config)
    expected = {
        "variant": "baseline",
        "seed": 0,
        "fold": 0,
        "model_arch": "test_vit",
        "phases_one_epochs": 2,
        "phases_two_lr": 1e-3,
        "phases_one_size": 16,
        "data_source": "digits",
        "device": "cpu",
        "threads": 1,
        "study": "tracked",
    }
    assert expected.items() <= plain.config.items()
    plan = json.loads((untold / "plan.json").read_text())
    assert plain.config["versions_torch"] == plan["versions"]["torch"]
    assert all(key_of(name) == name for name in plain.config)


def test_ids_stay_and_differ(described: Described, untold: Path) -> None:
    ids = [described.study_id, *(trial.id for trial in described.trials)]
    again = Described(untold, "an id")
    assert ids == [again.study_id, *(trial.id for trial in again.trials)]
    others = Described(untold, "another id")
    assert len({*ids, others.study_id, *(trial.id for trial in others.trials)}) == 6
    assert study_id("an id") == described.study_id


def test_a_trial_that_is_made_of_other_stages_is_another_run(untold: Path, tmp_path: Path) -> None:
    for name in ("plan.json", "recipe.yaml"):
        (tmp_path / name).write_text((untold / name).read_text())
    before = Described(tmp_path, "an id").trials[0].id
    plan = json.loads((tmp_path / "plan.json").read_text())
    key = plan["trials"][0]["fits"][0]
    (tmp_path / "plan.json").write_text((tmp_path / "plan.json").read_text().replace(key, "0" * len(key)))
    assert Described(tmp_path, "an id").trials[0].id != before


def test_the_studys_config_has_recipe_and_plan(described: Described) -> None:
    assert described.config["study_seeds"] == 1
    assert described.config["plan_trials"] == 2
    assert described.config["model_arch"] == "test_vit"
