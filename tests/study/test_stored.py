"""ablate.study.stored: what lies in a store, and who uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_stores import DAY, begin, computed_elsewhere, finish, flip, make_store, study

from ablate.errors import AblateError
from ablate.study.store import Store
from ablate.study.stored import (
    TRASH,
    StoredStage,
    contents,
    count,
    folder_bytes,
    open_store,
    shares,
    store_place,
)
from ablate.study.study import Study


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def stage(store: Store, key: str) -> StoredStage:
    return next(one for one in contents(store).stages if one.key == key)


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_place(tmp_path / "out") == tmp_path / ".store"
    monkeypatch.delenv("ABLATE_STORE")
    assert store_place(tmp_path / "out") == tmp_path / "out" / ".stages"
    assert store_place() == tmp_path / ".out" / ".stages"
    monkeypatch.delenv("ABLATE_OUT")
    assert store_place() == tmp_path / "runs" / ".stages"


@pytest.mark.parametrize("there", [False, True])
def test_what_is_no_store_is_refused(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    if there:
        (folder / "precious").mkdir(parents=True)
    with pytest.raises(AblateError, match=r"photos: is no stage store; `ablate run` makes one, or .*--store"):
        open_store(folder)


def test_a_finished_stage(store: Store, tmp_path: Path) -> None:
    finish(store, "a", days=3)
    folder = study(store, tmp_path / "runs" / "one", "a")
    found = stage(open_store(store.root), "a")
    assert (found.label, found.kind, found.status) == ("label of a", "fit", "ok")
    assert found.bytes == sum(path.stat().st_size for path in store.folder("a").iterdir())
    assert found.age == pytest.approx(3 * DAY, abs=60)
    assert found.studies == (str(folder),)
    assert (found.epoch, found.running) == (None, False)


def test_a_stage_that_diverged(store: Store) -> None:
    finish(store, "a", status="diverged")
    assert stage(store, "a").status == "diverged"


def test_a_folder_without_a_seal_is_damaged(store: Store) -> None:
    finish(store, "a")
    (store.folder("a") / "DONE.json").unlink()
    assert (stage(store, "a").status, stage(store, "a").kind) == ("damaged", "fit")


def test_an_unfinished_stage_that_a_study_plans(store: Store, tmp_path: Path) -> None:
    begin(store, "a", epochs=3, days=2)
    study(store, tmp_path / "one", "a")
    found = stage(store, "a")
    assert (found.label, found.kind, found.status) == ("planned a", "fit", "unfinished")
    assert (found.epoch, found.epochs, found.running) == (3, 8, False)
    assert found.age == pytest.approx(2 * DAY, abs=60)
    assert found.bytes == len("weights")


def test_an_unfinished_stage_that_nobody_knows(store: Store) -> None:
    begin(store, "a", epochs=3)
    begin(store, "b")
    assert [(one.label, one.kind, one.epoch, one.epochs) for one in contents(store).stages] == [
        ("", "", 3, None),
        ("", "", None, None),
    ]


def test_a_stage_that_a_live_process_computes(store: Store) -> None:
    begin(store, "a")
    with computed_elsewhere(store, "a"):
        assert stage(store, "a").running
    assert not stage(store, "a").running


def test_nothing_but_stages_is_taken_for_one(store: Store) -> None:
    (store.root / ".work" / ".123").write_text("")
    (store.root / ".measured.jsonl").write_text("")
    assert contents(store).stages == []


def test_what_was_set_aside(store: Store) -> None:
    finish(store, "a")
    finish(store, "b")
    flip(store.folder("a") / "weights")
    assert store.set_aside("a")
    (store.root / TRASH).mkdir()
    store.folder("b").rename(store.root / TRASH / "b.1000000000")
    found = contents(store)
    assert found.stages == []
    assert [one.path.name[0] for one in found.aside] == ["a", "b"]
    assert all(one.bytes > 0 for one in found.aside)
    assert found.aside[0].age < 60 < found.aside[1].age


def test_a_study_whose_folder_is_gone_does_not_count(store: Store, tmp_path: Path) -> None:
    finish(store, "a")
    shutil.rmtree(study(store, tmp_path / "one", "a"))
    assert (contents(store).studies, stage(store, "a").studies) == ([], ())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stages": 3}', '{"name": "no stages"}'])
def test_a_plan_that_cannot_be_read_is_told(store: Store, tmp_path: Path, text: str) -> None:
    plan = study(store, tmp_path / "one", "a") / "plan.json"
    plan.write_text(text)
    assert contents(store).unreadable == [plan]


def test_a_plan_that_is_missing_is_told(store: Store, tmp_path: Path) -> None:
    plan = study(store, tmp_path / "one", "a") / "plan.json"
    plan.unlink()
    assert contents(store).unreadable == [plan]


def test_a_claim_that_a_kill_has_left_empty_is_told(store: Store) -> None:
    claim = store.root / ".studies" / "abc"
    claim.write_text("")
    assert contents(store).unreadable == [claim]


def test_own_and_shared(store: Store, tmp_path: Path) -> None:
    for key, size in (("a", 10), ("b", 200), ("c", 3000), ("d", 40000)):
        finish(store, key, text="x" * size)
    one, two = study(store, tmp_path / "one", "a", "b", "z"), study(store, tmp_path / "two", "b", "c")
    sizes = {key: folder_bytes(store.folder(key)) for key in "abcd"}
    found = {share.folder: (share.own, share.shared) for share in shares(contents(store))}
    assert found == {
        str(one): ((1, sizes["a"]), (1, sizes["b"])),
        str(two): ((1, sizes["c"]), (1, sizes["b"])),
    }
    assert count(contents(store).stages) == (4, sum(sizes.values()))


def test_a_store_of_a_newer_ablate(store: Store) -> None:
    finish(store, "a")
    seal = store.folder("a") / "DONE.json"
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"schema": 99}))
    with pytest.raises(AblateError, match="written by a newer ablate"):
        contents(store)


def test_a_real_study(finished: Study) -> None:
    found = contents(open_store(finished.folder.parent.parent / "store"))
    assert {one.key for one in found.stages} == set(finished.plan["stages"])
    assert {one.status for one in found.stages} == {"ok"}
    assert {one.kind for one in found.stages} == {"fit", "predict"}
    assert {one.studies for one in found.stages} == {(str(finished.folder),)}
    assert {one.epochs for one in found.stages if one.kind == "fit"} == {1}
