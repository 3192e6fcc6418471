"""The weights that predict, in the study's own folder: links to those of the store, or copies."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from ablate import sealed
from ablate.recipe.recipe import Recipe
from ablate.study import weights
from ablate.study.graph import Plan
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.upkeep import Criteria, prune
from ablate.study.weights import FOLDER, keep_weights


def parts(study: Study) -> tuple[Path, Plan, Store]:
    return study.folder, study.stored_plan(), Store(Path(study.plan["store"]))


def contents(study: Study) -> dict[str, bytes]:
    return {
        str(path.relative_to(study.folder)): path.read_bytes() for path in study.folder.glob(f"{FOLDER}/*/*")
    }


def no_links(source: Path, to: Path) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_a_run_leaves_what_predicts_and_nothing_else(finished: Study):
    _, plan, store = parts(finished)
    last = {trial.fits[-1] for trial in plan.trials}
    assert {path.name for path in (finished.folder / FOLDER).iterdir()} == last
    for key in last:
        names = {path.name for path in (finished.folder / FOLDER / key).iterdir()}
        assert names == {"weights.safetensors", "inputs.json", "DONE.json"}
        for name in names:
            assert os.path.samefile(finished.folder / FOLDER / key / name, store.folder(key) / name)


def test_the_inputs_are_those_of_the_training_split(finished: Study):
    key = finished.trial("baseline", 0, 0).fits[-1]
    content = json.loads(sealed.read(finished.folder / FOLDER / key, "inputs.json"))
    assert content["classes"] == [str(digit) for digit in range(10)]
    assert sum(content["train_counts"]) == finished.plan["summary"]["train_images"]
    assert content["tabular"] is None


def test_again_changes_nothing_and_mends_what_is_gone(copy_of: Study):
    folder, plan, store = parts(copy_of)
    before = contents(copy_of)
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob(f"{FOLDER}/*/*")}
    assert keep_weights(folder, plan, store) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob(f"{FOLDER}/*/*")} == stamps
    first = next((folder / FOLDER).iterdir())
    (first / "weights.safetensors").write_bytes(b"half")
    (first / "DONE.json").unlink()
    assert keep_weights(folder, plan, store) == 0
    assert contents(copy_of) == before


def test_a_finished_study_gets_its_weights_back(copy_of: Study, tiny, capsys: pytest.CaptureFixture):
    before = contents(copy_of)
    shutil.rmtree(copy_of.folder / FOLDER)
    Recipe.from_dict(tiny).run(copy_of.folder.parent, threads=1)
    assert "everything is finished; nothing to do" in capsys.readouterr().out
    assert contents(copy_of) == before


def test_copies_where_there_are_no_links(copy_of: Study, monkeypatch: pytest.MonkeyPatch):
    folder, plan, store = parts(copy_of)
    before = contents(copy_of)
    shutil.rmtree(folder / FOLDER)
    monkeypatch.setattr(os, "link", no_links)
    assert keep_weights(folder, plan, store) == 0
    assert contents(copy_of) == before
    assert all(path.stat().st_nlink == 1 for path in folder.glob(f"{FOLDER}/*/*"))
    monkeypatch.setattr(shutil, "copy2", lambda *_: pytest.fail("they are there already"))
    assert keep_weights(folder, plan, store) == 0


def test_without_room_for_copies_they_stay_in_the_store(copy_of: Study, monkeypatch: pytest.MonkeyPatch):
    class Usage(NamedTuple):
        free: int

    folder, plan, store = parts(copy_of)
    number = len(list((folder / FOLDER).iterdir()))
    shutil.rmtree(folder / FOLDER)
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(weights.SPARE + 1000))
    assert keep_weights(folder, plan, store) == number
    assert not contents(copy_of)


def test_another_plan_takes_the_weights_of_the_one_before_away(copy_of: Study):
    recipe, plan = Recipe.load(copy_of.folder / "recipe.yaml"), (copy_of.folder / "plan.json").read_text()
    copy_of.begin(recipe, plan, {})
    assert contents(copy_of)
    copy_of.begin(recipe, plan.replace("tiny", "tinny"), {})
    assert not (copy_of.folder / FOLDER).exists()


def test_they_stay_when_the_store_is_pruned_and_that_is_told(copy_of: Study):
    folder, plan, store = parts(copy_of)
    shutil.rmtree(folder / FOLDER)
    keep_weights(folder, plan, store)
    shutil.rmtree(store.root / ".studies")  # the copied store knows the first study too
    store.make_writable()
    store.refer(folder)
    before = contents(copy_of)
    planned = prune(store, Criteria(study=str(folder)), dry_run=True)
    done = prune(store, Criteria(study=str(folder)))
    assert done.linked == planned.linked == sum(len(content) for content in before.values())
    assert 0 < done.linked < done.bytes
    assert contents(copy_of) == before


def test_stages_of_an_earlier_ablate_are_passed_over(copy_of: Study):
    folder, plan, store = parts(copy_of)
    shutil.rmtree(folder / FOLDER)
    for key in {trial.fits[-1] for trial in plan.trials}:
        (store.folder(key) / "inputs.json").unlink()
        sealed.seal(store.folder(key), label="", status="ok", seconds=1.0)
    assert keep_weights(folder, plan, Store(store.root)) == 0
    assert not contents(copy_of)
