"""Embeddings are what the last layer sees, on the unit sphere; neighbours are scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from small_studies import Alone

from ablate.devices.cpu import Cpu
from ablate.errors import AblateError
from ablate.prediction.asked import Asking, embed_images, nearest_images
from ablate.prediction.embeddings import embeddings, nearest, neighbours_table, normalised, write_embeddings
from ablate.prediction.images import find_images
from ablate.prediction.look import Looked
from ablate.prediction.mean import Place, trained
from ablate.prediction.networks import find_ensemble

ASKING = Asking(device="cpu", threads=1, workers=0)


def unit(n: int, seed: int = 0) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32))


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_the_nearest_are_scikit_learns(at_once: int):
    queries, gallery = unit(11), unit(40, seed=1)
    found, similar = nearest(queries, gallery, 4, at_once=at_once)
    distance, place = (
        NearestNeighbors(n_neighbors=4, metric="cosine", algorithm="brute").fit(gallery).kneighbors(queries)
    )
    assert np.array_equal(found, place)
    assert np.allclose(similar, 1 - distance, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 100, 10_000])
def test_none_is_its_own_neighbour(at_once: int):
    vectors = unit(30)
    found, _ = nearest(vectors, vectors, 3, themselves=True, at_once=at_once)
    _, place = NearestNeighbors(n_neighbors=3, metric="cosine", algorithm="brute").fit(vectors).kneighbors()
    assert np.array_equal(found, place)


def test_a_gallery_smaller_than_asked_for_is_given_whole():
    vectors = unit(3)
    assert nearest(vectors, unit(2, seed=1), 5)[0].shape == (3, 2)
    found, similar = nearest(vectors, vectors, 5, themselves=True)
    assert sorted(found[0]) == [1, 2]
    assert np.isfinite(similar).all()


def test_the_vote_is_the_label_with_the_largest_sum_of_similarities():
    found = np.array([[0, 1, 2], [3, 0, 1]])
    similar = np.array([[0.9, 0.5, 0.45], [0.8, 0.3, 0.1]], np.float32)
    table = neighbours_table(["x", "y"], list("abcd"), found, similar, ["cat", "dog", "dog", "fox"])
    assert list(table) == ["item", "rank", "neighbour", "similarity", "label", "vote"]
    assert table["neighbour"].tolist() == ["a", "b", "c", "d", "a", "b"]
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table.drop_duplicates("item")["vote"].tolist() == ["dog", "fox"]
    assert list(neighbours_table(["x", "y"], list("abcd"), found, similar))[-1] == "similarity"


def test_vectors_without_a_direction_are_refused():
    for vector in ([0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(
            AblateError, match="embeddings: the network gives vectors that are zero or no numbers"
        ):
            normalised(np.array([[1.0, 1.0], vector], np.float32))


def test_they_are_what_the_last_linear_layer_is_given(small: Alone):
    """Worked out from the network's own parts: its body, and its head but for the last layer."""
    ensemble = find_ensemble(small.folder, "baseline")
    network = ensemble.one(1, 0)
    ids, vectors = embed_images(ensemble, network, small.images, ASKING)
    assert len(ids) == len(vectors) == 27
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    images = find_images(small.images, ensemble.data)
    learn, _ = trained(network, Looked(images, np.arange(27)), Place())
    body, head = learn.model[0].eval(), learn.model[1].eval()
    with torch.no_grad():
        batch = learn.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
        seen = head[:-1](body(batch)).numpy()
    assert np.allclose(seen / np.linalg.norm(seen, axis=1, keepdims=True), vectors[: len(seen)], atol=1e-5)


def test_a_last_batch_that_is_filled_up_adds_none(small: Alone, monkeypatch: pytest.MonkeyPatch):
    """As on XLA; nor does it count as images that are done."""
    ensemble = find_ensemble(small.folder, "baseline")
    looked = Looked(find_images(small.images, ensemble.data), np.arange(27))
    network, told = ensemble.one(1, 0), list[int]()
    found = []
    for fixed in (False, True):
        monkeypatch.setattr(Cpu, "fixed_shapes", fixed)
        found.append(embeddings(network, looked, Place(), lambda done, *_: told.append(done)))
    assert told == 2 * [6, 12, 18, 24, 27]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.npz"])
def test_files(tmp_path: Path, name: str):
    vectors = unit(4)
    write_embeddings(list("abcd"), vectors, tmp_path / name)
    if name.endswith(".npz"):
        with np.load(tmp_path / name) as arrays:
            assert arrays["item"].tolist() == list("abcd")
            assert np.array_equal(arrays["embeddings"], vectors)
        return
    read = pd.read_csv(tmp_path / name) if name.endswith(".csv") else pd.read_parquet(tmp_path / name)
    assert list(read) == ["item", *(f"e_{i}" for i in range(5))]
    assert np.allclose(read.drop(columns="item").to_numpy(np.float32), vectors, atol=1e-7)


def test_neighbours_in_a_gallery_and_among_themselves(small: Alone):
    ensemble = find_ensemble(small.folder, "baseline")
    network = ensemble.one(None, None)
    train, test = small.tables / "train.csv", small.tables / "test.csv"
    found = nearest_images(
        ensemble, network, test, ASKING, 2, root=small.images, gallery=train, gallery_root=small.images
    )
    labels = pd.read_csv(train).set_index("image")["label"]
    assert len(found) == 18
    assert found["label"].tolist() == labels[found["neighbour"]].tolist()
    alone = nearest_images(ensemble, network, small.images, ASKING, 3)
    assert (alone["item"] != alone["neighbour"]).all()
    assert list(alone) == ["item", "rank", "neighbour", "similarity"]
