"""ablate.study.upkeep: reading a store again, and making it smaller."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny_stores import begin, computed_elsewhere, finish, flip, make_store, study

from ablate import sealed
from ablate.errors import AblateError
from ablate.study import upkeep
from ablate.study.store import Store
from ablate.study.stored import TRASH, contents
from ablate.study.upkeep import Checked, Criteria, Pruning, parse_age, prune, verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def keys(store: Store) -> set[str]:
    return {stage.key for stage in contents(store).stages}


def pruned(done: Pruning) -> set[str]:
    return {stage.key for stage in done.stages}


class TestVerify:
    def test_all_is_sound(self, store: Store) -> None:
        finish(store, "a")
        begin(store, "b", epochs=1)
        assert list(verify(store)) == [Checked(store.folder("a"), "label of a", ())]

    @pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
    def test_a_damaged_file(self, store: Store, damage: str) -> None:
        finish(store, "a", text="x" * 1000)
        finish(store, "b")
        file = store.folder("a") / "weights"
        if damage == "flip":
            flip(file)
        elif damage == "truncate":
            os.truncate(file, 500)
        else:
            file.unlink()
        first, second = verify(Store(store.root))
        assert first == Checked(store.folder("a"), "label of a", ("weights",), set_aside=True)
        assert not second.damaged
        assert Store(store.root).keys() == ["b"]
        assert [one.path.name[0] for one in contents(store).aside] == ["a"]

    def test_a_folder_without_a_seal(self, store: Store, tmp_path: Path) -> None:
        finish(store, "a")
        study(store, tmp_path / "one", "a")
        (store.folder("a") / "DONE.json").unlink()
        (checked,) = verify(store)
        assert checked == Checked(store.folder("a"), "planned a", ("DONE.json",), set_aside=True)

    def test_a_store_that_cannot_be_written(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        finish(store, "a")
        flip(store.folder("a") / "weights")
        monkeypatch.setattr(Path, "rename", refuse)
        (checked,) = verify(store)
        assert (checked.damaged, checked.set_aside) == (("weights",), False)
        assert store.folder("a").is_dir()

    def test_a_stage_that_is_removed_while_it_is_read(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def remove(folder: Path) -> list[str]:
            shutil.rmtree(folder, ignore_errors=True)
            return ["weights"]

        finish(store, "a")
        monkeypatch.setattr(sealed, "damaged_files", remove)
        (checked,) = verify(store)
        assert not checked.damaged


class TestCriteria:
    def test_one_is_needed(self) -> None:
        with pytest.raises(AblateError, match="needs --study, --older-than or --unreferenced"):
            Criteria()

    def test_what_cannot_both_be(self) -> None:
        with pytest.raises(AblateError, match="exclude each other"):
            Criteria(study="a", unreferenced=True)

    @pytest.mark.parametrize(
        ("text", "seconds"), [("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1.5 d", 129600), ("0h", 0)]
    )
    def test_ages(self, text: str, seconds: float) -> None:
        assert parse_age(text) == seconds

    @pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3m", "3 days", "1e3d"])
    def test_what_is_no_age(self, text: str) -> None:
        with pytest.raises(AblateError, match="give hours, days or weeks"):
            parse_age(text)


@pytest.fixture
def two_studies(store: Store, tmp_path: Path) -> Store:
    """a, b belong to one; b, c to two; d, e to none; e and c are not finished; all but c and d are old."""
    for key, days in (("a", 40.0), ("b", 40.0), ("d", 1.0)):
        finish(store, key, days=days)
    begin(store, "c", epochs=2)
    begin(store, "e", days=40)
    study(store, tmp_path / "runs" / "one", "a", "b")
    study(store, tmp_path / "runs" / "two", "b", "c")
    return store


class TestPrune:
    @pytest.mark.parametrize("by_folder", [False, True])
    def test_a_study(self, two_studies: Store, tmp_path: Path, by_folder: bool) -> None:
        folder = tmp_path / "runs" / "one"
        done = prune(two_studies, Criteria(study=str(folder) if by_folder else "one"))
        assert (pruned(done), done.forgotten, done.kept) == ({"a"}, str(folder), 0)
        assert keys(two_studies) == {"b", "c", "d", "e"}
        assert [reference.folder for reference in contents(two_studies).studies] == [
            str(tmp_path / "runs" / "two")
        ]
        assert (folder / "plan.json").is_file()

    def test_the_last_study_takes_what_was_shared(self, two_studies: Store) -> None:
        prune(two_studies, Criteria(study="one"))
        assert pruned(prune(two_studies, Criteria(study="two"))) == {"b", "c"}

    def test_a_study_by_a_relative_folder(
        self, two_studies: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert pruned(prune(two_studies, Criteria(study="../runs/one/"))) == {"a"}

    def test_a_study_that_there_is_not(self, two_studies: Store) -> None:
        with pytest.raises(AblateError, match=r"--study three: no such study .*one, two.*--unreferenced"):
            prune(two_studies, Criteria(study="three"))

    def test_two_studies_of_one_name(self, two_studies: Store, tmp_path: Path) -> None:
        study(two_studies, tmp_path / "more" / "one", "d")
        with pytest.raises(AblateError, match=r"is the name of .* and .*; give the folder"):
            prune(two_studies, Criteria(study="one"))
        assert pruned(prune(two_studies, Criteria(study=str(tmp_path / "more" / "one")))) == {"d"}

    def test_by_age(self, two_studies: Store) -> None:
        assert pruned(prune(two_studies, Criteria(older_than=parse_age("30d")))) == {"a", "b", "e"}
        assert keys(two_studies) == {"c", "d"}

    def test_unreferenced(self, two_studies: Store) -> None:
        assert pruned(prune(two_studies, Criteria(unreferenced=True))) == {"d", "e"}
        assert keys(two_studies) == {"a", "b", "c"}

    def test_unreferenced_and_old(self, two_studies: Store) -> None:
        assert pruned(prune(two_studies, Criteria(unreferenced=True, older_than=parse_age("30d")))) == {"e"}

    def test_of_a_study_and_old(self, two_studies: Store) -> None:
        done = prune(two_studies, Criteria(study="two", older_than=parse_age("30d")))
        assert (pruned(done), done.forgotten) == (set(), None)
        assert len(contents(two_studies).studies) == 2
        done = prune(two_studies, Criteria(study="one", older_than=parse_age("4w")))
        assert pruned(done) == {"a"}
        assert done.forgotten is not None
        assert len(contents(two_studies).studies) == 1

    @pytest.mark.parametrize("chosen", [{"study": "one"}, {"older_than": 0.0}, {"unreferenced": True}])
    def test_a_dry_run_tells_the_same_and_does_nothing(self, two_studies: Store, chosen: dict) -> None:
        finish(two_studies, "f")
        flip(two_studies.folder("f") / "weights")
        assert two_studies.set_aside("f")

        def tree() -> list[Path]:
            return sorted(two_studies.root.rglob("*"))

        before = tree()
        told = prune(two_studies, Criteria(**chosen), dry_run=True)
        assert tree() == before
        done = prune(two_studies, Criteria(**chosen))
        assert (pruned(told), told.bytes, told.forgotten) == (pruned(done), done.bytes, done.forgotten)
        assert [one.path for one in told.aside] == [one.path for one in done.aside]
        assert done.bytes > 0

    def test_workplaces_and_locks_go_too(self, two_studies: Store) -> None:
        prune(two_studies, Criteria(older_than=0.0))
        assert keys(two_studies) == set()
        for name in (".work", ".locks", TRASH):
            assert list((two_studies.root / name).iterdir()) == []

    def test_what_was_set_aside_goes_with_the_unreferenced(self, two_studies: Store) -> None:
        flip(two_studies.folder("a") / "weights")
        assert two_studies.set_aside("a")
        assert prune(two_studies, Criteria(older_than=0.0), dry_run=True).aside == []
        assert prune(two_studies, Criteria(unreferenced=True, older_than=3600.0)).aside == []
        done = prune(two_studies, Criteria(unreferenced=True))
        assert [one.path.name[0] for one in done.aside] == ["a"]
        assert contents(two_studies).aside == []

    def test_what_is_locked_stays(self, two_studies: Store) -> None:
        with computed_elsewhere(two_studies, "e"):
            done = prune(two_studies, Criteria(unreferenced=True))
            assert (pruned(done), done.kept) == ({"d"}, 1)
            assert (two_studies.root / ".work" / "e").is_dir()
        assert pruned(prune(two_studies, Criteria(unreferenced=True))) == {"e"}

    def test_what_a_running_study_uses_stays(self, two_studies: Store) -> None:
        with computed_elsewhere(two_studies, "c"):
            assert (done := prune(two_studies, Criteria(older_than=0.0))).kept == 2
            assert pruned(done) == {"a", "d", "e"}
        assert keys(two_studies) == {"b", "c"}

    def test_a_study_that_is_running_stays_its_user(self, two_studies: Store) -> None:
        with computed_elsewhere(two_studies, "c"):
            assert prune(two_studies, Criteria(study="two")).forgotten is None
        assert len(contents(two_studies).studies) == 2

    @pytest.mark.parametrize("chosen", [{"study": "one"}, {"unreferenced": True}])
    def test_a_plan_that_cannot_be_read_protects_everything(
        self, two_studies: Store, tmp_path: Path, chosen: dict
    ) -> None:
        (tmp_path / "runs" / "two" / "plan.json").write_text("")
        with pytest.raises(AblateError, match=r"two/plan.json: cannot be read, so it cannot be told"):
            prune(two_studies, Criteria(**chosen))
        assert keys(two_studies) == {*"abcde"}

    def test_a_study_whose_folder_is_gone_protects_nothing(self, two_studies: Store, tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / "runs" / "one")
        assert pruned(prune(two_studies, Criteria(unreferenced=True))) == {"a", "d", "e"}

    def test_a_kill_never_leaves_half_a_stage(
        self, two_studies: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Killed(BaseException):
            pass

        def kill(path: Path, **_: object) -> None:
            next(iter(path.iterdir())).unlink()
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(upkeep.shutil, "rmtree", kill)
            with pytest.raises(Killed):
                prune(two_studies, Criteria(study="one"))
        assert not two_studies.folder("a").exists()
        assert not any(checked.damaged for checked in verify(Store(two_studies.root)))
        assert len(contents(two_studies).aside) == 1
        prune(two_studies, Criteria(study="one"))
        assert contents(two_studies).aside == []
        assert len(contents(two_studies).studies) == 1

    def test_a_stage_can_be_computed_again(self, two_studies: Store) -> None:
        prune(two_studies, Criteria(older_than=0.0))
        finish(Store(two_studies.root), "a")
        assert keys(two_studies) == {"a"}

    def test_a_disk_that_cannot_be_written(self, two_studies: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(os, "rename", refuse)
        with pytest.raises(AblateError, match=r"cannot be removed \(Read-only file system\)"):
            prune(two_studies, Criteria(unreferenced=True))
