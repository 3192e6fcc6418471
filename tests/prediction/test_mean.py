"""Predictions of new images: those of the study itself, of one network bit for bit, of several their mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_studies import Alone

from ablate.errors import AblateError
from ablate.prediction.asked import Asking, predict_images
from ablate.prediction.images import find_images
from ablate.prediction.look import Looked
from ablate.prediction.mean import Place, trained
from ablate.prediction.networks import find_ensemble

ASKING = Asking(device="cpu", threads=1, workers=0)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("p_")]].to_numpy()


@pytest.mark.parametrize("variant", ["baseline", "baseline+label_smoothing"])
@pytest.mark.parametrize(("seed", "fold"), [(0, 0), (1, 1)])
def test_a_network_predicts_what_it_did_in_its_study_bit_for_bit(
    small: Alone, tmp_path: Path, variant: str, seed: int, fold: int
):
    own = small.own(variant, seed, fold)
    ensemble = find_ensemble(small.folder, variant)
    asked = small.rows(list(own["item"]), tmp_path / "asked.csv")
    one = replace(ensemble, networks=[ensemble.one(seed, fold)])
    found = predict_images(one, asked, ASKING, root=small.images)
    assert list(found["id"]) == list(own["item"])
    assert np.array_equal(probabilities(found), probabilities(own))


def test_augmented_views_are_those_of_the_study_where_the_rows_are(small: Alone):
    """Up to the order of sums: the batches hold other images."""
    own = small.own("baseline+tta", 1, 0).set_index("item")
    ensemble = find_ensemble(small.folder, "baseline+tta")
    one = replace(ensemble, networks=[ensemble.one(1, 0)])
    found = predict_images(one, small.tables / "train.csv", ASKING, root=small.images).set_index("id")
    assert np.allclose(probabilities(found.loc[own.index]), probabilities(own), atol=1e-6)
    plain = small.own("baseline", 1, 0)
    assert not np.allclose(probabilities(plain), probabilities(own), atol=1e-4)


def test_several_networks_give_the_mean_of_their_probabilities(small: Alone, tmp_path: Path):
    """The study scores its best variant on test images, which come after the others and are drawn for so."""
    best = find_ensemble(small.folder)
    own = [
        small.own(best.variant, network.seed, network.fold, "test").sort_values("item")
        for network in best.networks
    ]
    assert len(own) == 4
    expected = np.mean([probabilities(table).astype(np.float64) for table in own], axis=0)
    rows = [pd.read_csv(small.tables / name) for name in ("train.csv", "test.csv")]
    pd.concat(rows).to_csv(tmp_path / "all.csv", index=False)
    found = predict_images(best, tmp_path / "all.csv", ASKING, root=small.images)
    found = found.set_index("id").loc[own[0]["item"]]
    assert np.allclose(probabilities(found), expected, atol=1e-6)
    assert list(found["label"]) == [["cat", "dog", "fox"][k] for k in expected.argmax(1)]


def test_the_best_epoch_predicts_where_the_recipe_keeps_it(table: Alone):
    network = find_ensemble(table.folder).networks[0]
    best = json.loads((network.folder / "best.json").read_text())["all"]
    assert {path.name for path in network.folder.iterdir()} == {best, "best.json", "inputs.json", "DONE.json"}
    images = find_images(table.tables / "train.csv", find_ensemble(table.folder).data, table.images)
    learn, _ = trained(network, Looked(images, np.arange(len(images.items))), Place())
    stored, state = load_file(network.folder / best), learn.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in stored.items())
    assert len(stored) == len(state)


def test_the_table_columns_change_what_is_predicted(table: Alone, tmp_path: Path):
    rows = pd.read_csv(table.tables / "train.csv", dtype=str, keep_default_na=False)
    rows.to_csv(tmp_path / "as-it-is.csv", index=False)
    rows.assign(age="99").to_csv(tmp_path / "older.csv", index=False)
    ensemble = find_ensemble(table.folder)
    young, old = (
        predict_images(ensemble, tmp_path / name, ASKING, root=table.images)
        for name in ("as-it-is.csv", "older.csv")
    )
    assert not np.allclose(probabilities(young), probabilities(old), atol=1e-3)


def test_workers_and_the_cache_change_nothing(small: Alone):
    ensemble = find_ensemble(small.folder, "baseline")
    one = replace(ensemble, networks=ensemble.networks[:1])
    plain = predict_images(one, small.images, ASKING)
    cached = predict_images(one, small.images, replace(ASKING, workers=2))
    pd.testing.assert_frame_equal(plain, cached)
    uncached = replace(one, recipe=one.recipe.override({"data.cache": "off"}))
    pd.testing.assert_frame_equal(plain, predict_images(uncached, small.images, ASKING))


def test_progress_is_told_by_network_and_image(small: Alone):
    told: list[tuple[int, int, str]] = []
    asking = replace(ASKING, report=lambda *what: told.append(what))
    predict_images(find_ensemble(small.folder, "baseline"), small.images, asking)
    assert told[0][1:] == (27, "new images looked at")
    assert told[-1] == (27, 27, "images by network 4 of 4")


def test_weights_that_are_not_what_was_written_are_named(changed: Alone):
    ensemble = find_ensemble(changed.folder, "baseline")
    file = ensemble.networks[0].folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(AblateError, match=rf"{file}: is missing or damaged; copy the study's folder again"):
        predict_images(ensemble, changed.images, ASKING)


def test_the_notebook_gives_the_same(small: Alone):
    ours = small.study.predict(
        small.images, "baseline", device="cpu", threads=1, workers=0, note=lambda _: None
    )
    pd.testing.assert_frame_equal(
        ours, predict_images(find_ensemble(small.folder, "baseline"), small.images, ASKING)
    )
    assert list(ours) == ["id", "label", "p_cat", "p_dog", "p_fox"]
    assert len(ours) == 27
