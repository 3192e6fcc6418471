"""ablate.study.estimate: how long a stage takes, from stages like it."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_stores import make_store

from ablate.study.estimate import MEASURED, Estimate, Estimator, remember
from ablate.study.graph import Stage
from ablate.study.store import Store
from ablate.study.study import Study

PHASE = {
    "name": "one",
    "epochs": 4,
    "size": 32,
    "freeze": False,
    "batch_size": 64,
    "precision": "fp32",
    "lr": 1e-3,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def settings(kind: str = "fit", on: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    """A stage's settings; changes are of the phase, or replace a section."""
    values: dict[str, Any] = {
        "kind": kind,
        "model": {"arch": "resnet18", "pretrained": True},
        "device": {"class": "cpu", "threads": 2},
        "data": {"train": "abc", "valid": "def"},
        "seed": 0,
        "parent": None,
    }
    sections = {name: changes.pop(name) for name in list(changes) if name in values}
    names = [{"name": name, "options": {}} for name in on]
    return values | sections | {"phase": PHASE | changes, "techniques": names}


def stage(**changes: Any) -> Stage:
    values = settings(**changes)
    return Stage("key", values["kind"], "label", values, values["seed"], 0)


def test_nothing_is_known_at_first(store: Store, tmp_path: Path) -> None:
    assert Estimator(store)(stage()) is None
    assert Estimator(Store(tmp_path / "none"))(stage()) is None


def test_the_mean_of_the_same_with_other_seeds_and_parents(store: Store) -> None:
    remember(store, settings(seed=0), 10.0, 1000)
    remember(store, settings(seed=1, parent="x"), 20.0, 2000)
    remember(store, settings(on=("mixup",)), 90.0, 9000)
    assert Estimator(store)(stage(seed=2, lr=1e-5)) == Estimate(15.0, 1500.0)
    assert Estimator(store)(stage(seed=2, on=("mixup",))) == Estimate(90.0, 9000.0)


def test_others_by_epochs_and_pixels(store: Store) -> None:
    remember(store, settings(), 10.0, 1000)
    assert Estimator(store)(stage(epochs=8)) == Estimate(20.0, 1000.0)
    assert Estimator(store)(stage(size=64)) == Estimate(40.0, 1000.0)
    assert Estimator(store)(stage(on=("cutmix",), batch_size=16)) == Estimate(10.0, 1000.0)


def test_frozen_phases_tell_of_frozen_phases_first(store: Store) -> None:
    remember(store, settings(freeze=True), 1.0, 1000)
    assert Estimator(store)(stage(epochs=8)) == Estimate(2.0, 1000.0)
    remember(store, settings(), 10.0, 2000)
    assert Estimator(store)(stage(epochs=8)) == Estimate(20.0, 2000.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "predict"},
        {"model": {"arch": "resnet50"}},
        {"device": {"class": "cuda"}},
        {"device": {"class": "cpu", "threads": 1}},
        {"data": {"train": "abc", "valid": "xyz"}},
    ],
    ids=str,
)
def test_what_tells_nothing(store: Store, changes: dict[str, Any]) -> None:
    remember(store, settings(), 10.0, 1000)
    assert Estimator(store)(stage(**changes)) is None


def test_predictions_do_not_depend_on_epochs_and_do_on_tta(store: Store) -> None:
    remember(store, settings("predict", epochs=100, freeze=True), 1.0, 10)
    remember(store, settings("predict", on=("tta",)), 8.0, 10)
    estimator = Estimator(store)
    assert estimator(stage(kind="predict", epochs=1)) == Estimate(1.0, 10.0)
    assert estimator(stage(kind="predict", on=("tta",), batch_size=8, size=64)) == Estimate(32.0, 10.0)


@pytest.mark.parametrize("broken", ["", "{", "[]", "3", '{"kind": "fit"}', "\x00\xff", '{"kind": {}, "a": ['])
def test_a_broken_line_is_passed_over(store: Store, broken: str) -> None:
    remember(store, settings(), 10.0, 1000)
    with (store.root / MEASURED).open("a") as file:
        file.write(broken + "\n")
    remember(store, settings(), 20.0, 1000)
    assert Estimator(store)(stage()) == Estimate(15.0, 1000.0)


@pytest.mark.parametrize(
    "change", [("32", '"x"'), ('"epochs": 4', '"epochs": 0'), ('"fit"', "{}"), ("10.0", "null")]
)
def test_a_line_with_a_strange_value_is_passed_over(store: Store, change: tuple[str, str]) -> None:
    remember(store, settings(), 10.0, 1000)
    file = store.root / MEASURED
    file.write_text(file.read_text().replace(*change))
    assert Estimator(store)(stage()) is None


def test_a_store_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    remember(Store(tmp_path / "none"), settings(), 10.0, 1000)
    assert list(tmp_path.iterdir()) == []


def _remember(root: Path) -> None:
    for _ in range(200):
        remember(Store(root), settings(), 10.0, 1000)


def test_two_processes_do_not_mix_their_lines(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_remember, args=(store.root,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = (store.root / MEASURED).read_text().splitlines()
    assert len(lines) == 400
    assert len(set(lines)) == 1


def test_a_run_measures_every_stage_that_it_computes(finished: Study) -> None:
    store = Store(finished.folder.parent.parent / "store")
    stages = finished.stored_plan().stages
    assert len((store.root / MEASURED).read_text().splitlines()) == len(stages)
    estimator = Estimator(store)
    for key, own in stages.items():
        estimate = estimator(replace(own, seed=99))
        assert estimate is not None
        assert estimate.seconds > 0
        assert estimate.bytes == pytest.approx(
            sum(path.stat().st_size for path in store.folder(key).iterdir()), rel=0.2
        )
