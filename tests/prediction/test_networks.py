"""Which networks predict: those of the best variant or of one named, if finished and with their weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from small_studies import Alone

from ablate import sealed
from ablate.errors import AblateError
from ablate.prediction.networks import find_ensemble


def test_the_default_is_the_best_variant_with_all_its_seeds_and_folds(small: Alone):
    trials = small.study.trials
    means = trials.groupby("variant", sort=False)["accuracy"].mean()
    found = find_ensemble(small.folder)
    assert found.variant == means.idxmax()
    assert [(network.seed, network.fold) for network in found.networks] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found.note == f"{found.variant}, the best of 3 variants by accuracy: 4 networks (2 seeds, 2 folds)"
    assert found.classes == ["cat", "dog", "fox"]


def test_one_variant_needs_no_choice(table: Alone):
    found = find_ensemble(table.folder)
    assert (found.variant, found.note) == ("baseline", "baseline: 1 network")


def test_a_variant_that_is_not_there_is_suggested(small: Alone):
    with pytest.raises(
        AblateError, match=r"--variant: there is no 'baseline\+ta'; did you mean baseline\+tta\?"
    ):
        find_ensemble(small.folder, "baseline+ta")


def test_a_folder_without_a_study_is_refused(tmp_path: Path):
    with pytest.raises(AblateError, match="is no study"):
        find_ensemble(tmp_path)


def test_trials_that_are_not_finished_are_left_out_and_told(changed: Alone):
    trials = changed.study.trials
    trials.loc[(trials.variant == "baseline") & (trials.seed == 1), "status"] = ["diverged", "pending"]
    trials.to_csv(changed.folder / "trials.csv", index=False)
    found = find_ensemble(changed.folder, "baseline")
    assert {network.seed for network in found.networks} == {0}
    assert found.note == (
        "baseline: 2 networks (2 folds) (2 of its 4 trials are not finished or diverged, and are left out)"
    )
    trials.assign(status="pending").to_csv(changed.folder / "trials.csv", index=False)
    with pytest.raises(
        AblateError, match=r"no trial of baseline is finished \(pending\); `ablate run` goes on"
    ):
        find_ensemble(changed.folder, "baseline")


def test_the_networks_of_a_smoke_run_are_called_so(changed: Alone):
    plan = json.loads((changed.folder / "plan.json").read_text()) | {"quick": True}
    (changed.folder / "plan.json").write_text(json.dumps(plan))
    assert find_ensemble(changed.folder).note.endswith("; of a smoke run, so what they predict means nothing")


def test_without_a_score_somebody_has_to_choose(changed: Alone):
    trials = changed.study.trials
    trials.assign(accuracy=float("nan")).to_csv(changed.folder / "trials.csv", index=False)
    with pytest.raises(AblateError, match="so none is the best; choose with --variant; there are baseline, "):
        find_ensemble(changed.folder)


@pytest.mark.parametrize("gone", ["weights.safetensors", "inputs.json", "DONE.json"])
def test_what_was_not_copied_is_named(changed: Alone, gone: str):
    network = find_ensemble(changed.folder, "baseline").networks[0]
    (network.folder / gone).unlink()
    with pytest.raises(AblateError, match=rf"{network.folder.name}/{gone}: is missing or damaged; copy"):
        raise network.unusable()


def test_all_weights_may_be_missing(changed: Alone):
    shutil.rmtree(changed.folder / "weights")
    ensemble = find_ensemble(changed.folder, "baseline")
    with pytest.raises(AblateError, match=r"weights/.*/DONE.json: is missing or damaged"):
        _ = ensemble.classes


def test_weights_of_an_earlier_ablate_are_told_apart_from_damage(changed: Alone):
    network = find_ensemble(changed.folder, "baseline").networks[0]
    (network.folder / "inputs.json").unlink()
    sealed.seal(network.folder, status="ok")
    with pytest.raises(AblateError, match="an earlier ablate trained this network and did not keep all"):
        _ = network.inputs


def test_weights_that_are_not_in_the_folder_are_taken_from_the_store(changed: Alone, tmp_path: Path):
    (changed.folder / "weights").rename(tmp_path / "store")
    plan = json.loads((changed.folder / "plan.json").read_text()) | {"store": str(tmp_path / "store")}
    (changed.folder / "plan.json").write_text(json.dumps(plan))
    ensemble = find_ensemble(changed.folder, "baseline")
    assert ensemble.networks[0].folder.parent == tmp_path / "store"
    assert ensemble.classes == ["cat", "dog", "fox"]


def test_tta_is_the_recipes_and_only_where_there_is_none(small: Alone):
    with_tta = find_ensemble(small.folder, "baseline").with_tta()
    techniques = [network.settings["techniques"] for network in with_tta.networks]
    assert all(own[-1]["options"] == {"n": 2, "transforms": "flips"} for own in techniques)
    assert with_tta.note.endswith(", with tta")
    with pytest.raises(
        AblateError, match=r"--tta: baseline\+tta predicts with tta already; leave --tta away"
    ):
        find_ensemble(small.folder, "baseline+tta").with_tta()


def test_one_network_is_the_first_that_was_asked_for(small: Alone):
    ensemble = find_ensemble(small.folder, "baseline")
    assert [ensemble.one(*asked).name for asked in ((None, None), (1, None), (None, 1), (1, 1))] == [
        "seed 0, fold 0",
        "seed 1, fold 0",
        "seed 0, fold 1",
        "seed 1, fold 1",
    ]
    with pytest.raises(
        AblateError, match="--seed, --fold: baseline has no such trained network; there are: seed 0"
    ):
        ensemble.one(7, None)


def test_the_tables_of_a_study_are_enough(small: Alone):
    assert isinstance(small.study.trials, pd.DataFrame)
    assert not (Path(small.study.plan["store"])).exists()
