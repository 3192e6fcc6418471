"""A stage store at a URL: machines that share no disk have the same stages, each whole or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from shaky_filesystem import Killed, ShakyFileSystem
from tiny_stores import flip, settings

from ablate import sealed
from ablate.cli_store import store as commands
from ablate.errors import AblateError, Damaged
from ablate.recipe.recipe import Recipe
from ablate.study import remote_folders, remote_store
from ablate.study.remote_store import RemoteStore, store_at
from ablate.study.status import Status
from ablate.study.store import OUT, Store
from ablate.study.stored import contents, open_store, store_place
from ablate.study.study import Study
from ablate.study.upkeep import Criteria, prune, verify

URL = "shaky://bucket/stages"
FILES = {"weights": "weights", "settings.json": json.dumps(settings()), "deep/er": "x" * 100}

Machine = Callable[[str], RemoteStore]


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket with nothing in it, and no pauses."""
    monkeypatch.setattr(remote_folders, "PAUSES", (0.0, 0.0, 0.0))
    yield
    ShakyFileSystem.before, ShakyFileSystem.torn = staticmethod(lambda operation, path: None), False
    ShakyFileSystem.store.clear()
    ShakyFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes the store as a machine of a name sees it: with a disk of its own."""

    def make(name: str) -> RemoteStore:
        monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / name))
        store = store_at(URL)
        assert isinstance(store, RemoteStore)
        store.make_writable()
        return store

    return make


def compute(store: Store, key: str, text: str = "weights", **notes: Any) -> None:
    """Have the sealed `out` of a stage in its workplace."""
    out = store.workplace(key) / OUT
    for name, content in (FILES | {"weights": text}).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(content)
    sealed.seal(out, **{"label": f"label of {key}", "status": "ok", "seconds": 1.0} | notes)


def finish(store: Store, key: str, text: str = "weights", **notes: Any) -> None:
    compute(store, key, text, **notes)
    assert store.publish(key)


def checkpoint(store: Store, key: str, epoch: int, text: str = "weights") -> Path:
    """Write a checkpoint as training does."""
    work = store.root / ".work" / key
    folder = work / f".epoch-{epoch}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(text)
    sealed.seal(folder)
    for old in work.glob("epoch-*"):
        shutil.rmtree(old)
    folder.rename(work / f"epoch-{epoch}")
    return work / f"epoch-{epoch}"


def seen(store: Store, key: str) -> str | None:
    """The weights of a stage that is there; every file of it is as it was written."""
    if not store.has(key):
        return None
    folder = store.folder(key)
    assert list(sealed.damaged_files(folder)) == []
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {*FILES, sealed.SEAL}
    return (folder / "weights").read_text()


def objects(under: str = "") -> list[str]:
    """What is at the URL."""
    root = "/bucket/stages/"
    return sorted(name.removeprefix(root) for name in ShakyFileSystem.store if name.startswith(root + under))


def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what happens in the background."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


class Operations:
    """Counts the operations until one, at which it does something, undisturbed from then on."""

    def __init__(self, number: int | None = None, act: Callable[[], None] = lambda: None):
        self.number, self.act, self.count = number, act, 0
        self.names: list[str] = []
        ShakyFileSystem.before = staticmethod(self)

    def __call__(self, operation: str, path: str) -> None:
        self.count += 1
        self.names.append(operation)
        if self.count - 1 == self.number:
            Operations()
            self.act()


def kill() -> None:
    raise Killed


def test_which_store_a_place_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(store_at(tmp_path)) is Store
    assert store_at(tmp_path).place == str(tmp_path)
    assert store_at("s3://bucket/stages/").place == "s3://bucket/stages"
    assert store_at("s3://bucket/stages/").root == store_at("s3://bucket/stages").root
    assert store_at("s3://bucket/stages").root != store_at("s3://bucket/other").root
    monkeypatch.setenv("ABLATE_STORE", "s3://bucket/stages")
    assert store_place(tmp_path) == "s3://bucket/stages"


class TestFinishedStages:
    def test_another_machine_has_them(self, machine: Machine) -> None:
        finish(machine("one"), "a", status="diverged", seconds=7.0)
        two = machine("two")
        assert two.keys() == ["a"]
        assert (two.status("a"), two.result("a")["seconds"]) == ("diverged", 7.0)
        assert not two.has("b")
        assert two.status("b") is None
        assert not (two.root / "a").exists()  # what nobody has read is not copied
        assert seen(two, "a") == "weights"

    def test_what_was_copied_is_asked_for_no_more(self, machine: Machine) -> None:
        finish(machine("one"), "a")
        seen(machine("two"), "a")
        operations, two = Operations(), RemoteStore(URL)
        assert seen(two, "a") == "weights"
        assert operations.count == 0

    def test_a_copied_file_has_the_time_that_was_sealed(self, machine: Machine) -> None:
        one, two = machine("one"), machine("two")
        finish(one, "a")
        assert (two.folder("a") / "weights").stat().st_mtime == (one.folder("a") / "weights").stat().st_mtime

    def test_many_missing_stages_take_one_listing(self, machine: Machine) -> None:
        finish(machine("one"), "a")
        two, operations = machine("two"), Operations()
        assert not any(two.has(f"missing {number}") for number in range(1000))
        assert operations.names == ["list"]

    def test_a_listing_is_renewed(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        one, two = machine("one"), machine("two")
        assert not two.has("a")
        finish(one, "a")
        assert not two.has("a")
        assert two.publish("a")  # asks anew
        assert two.has("a")
        finish(one, "b")
        monkeypatch.setattr(remote_store, "_FRESH", 0.0)
        two._expires = 0.0
        assert two.has("b")

    def test_what_is_not_sealed_is_not_published(self, machine: Machine) -> None:
        one = machine("one")
        (one.workplace("a") / OUT / "weights").write_text("half")
        assert not one.publish("a")
        assert not machine("two").has("a")
        assert (one.root / ".work" / "a" / OUT / "weights").exists()

    def test_the_first_writer_wins(self, machine: Machine) -> None:
        one, two = machine("one"), machine("two")
        compute(two, "a", "second")
        finish(one, "a", "first")
        assert two.publish("a")
        assert [seen(store, "a") for store in (one, two, machine("three"))] == ["first"] * 3
        assert not (two.root / ".work" / "a").exists()

    def test_a_stage_that_was_pruned_there_is_sent_again(self, machine: Machine) -> None:
        one = machine("one")
        finish(one, "a")
        one.withdraw("a")
        assert objects("a/") == []
        assert one.has("a")
        assert one.publish("a")
        assert seen(machine("two"), "a") == "weights"

    def test_a_newer_ablate(self, machine: Machine) -> None:
        finish(machine("one"), "a")
        name = f"/bucket/stages/a/{sealed.SEAL}"
        content = json.loads(ShakyFileSystem.store[name].getvalue()) | {"schema": 99}
        ShakyFileSystem().pipe_file(name, json.dumps(content).encode())
        with pytest.raises(AblateError, match=rf"{URL}/a: was written by a newer ablate"):
            machine("two").has("a")


class TestInterruptions:
    """Whatever is interrupted, and wherever: nobody ever sees half a stage, and the next try mends it."""

    @pytest.mark.parametrize("torn", [False, True])
    def test_of_sending(self, machine: Machine, torn: bool) -> None:
        compute(machine("count"), "a")
        operations = Operations()
        assert RemoteStore(URL).publish("a")
        for number in range(operations.count):
            key = f"a{number}"
            one, ShakyFileSystem.torn = machine("one"), torn
            compute(one, key)
            Operations(number, kill)
            with pytest.raises(Killed):
                one.publish(key)
            assert seen(machine(f"reader {number}"), key) in (None, "weights")
            again = machine("one")
            assert again.publish(key)
            assert [seen(store, key) for store in (again, machine(f"later {number}"))] == ["weights"] * 2

    @pytest.mark.parametrize("torn", [False, True])
    def test_of_fetching(self, machine: Machine, torn: bool) -> None:
        finish(machine("one"), "a")
        counted, operations = machine("count"), Operations()
        assert seen(counted, "a")
        for number in range(operations.count):
            two, ShakyFileSystem.torn = machine(f"two {number}"), torn
            Operations(number, kill)
            with pytest.raises(Killed):
                seen(two, "a")
            assert Store(two.root).keys() in ([], ["a"])
            assert not Store(two.root).is_damaged("a")
            assert seen(machine(f"two {number}"), "a") == "weights"

    def test_by_another_writer_with_other_results(self, machine: Machine) -> None:
        """On a GPU two runs are not equal bit for bit: either result counts, never a mixture."""
        compute(machine("count"), "a")
        operations = Operations()
        assert RemoteStore(URL).publish("a")
        winners = set()
        for number in range(operations.count):
            key = f"a{number}"
            one, two = machine("one"), machine("two")
            compute(one, key, "of one")
            compute(two, key, "of two")
            acted = Operations(number, lambda two=two, key=key: two.publish(key))
            assert one.publish(key)
            assert acted.count == number + 1
            results = {seen(store, key) for store in (machine("one"), machine("two"), machine(f"{number}"))}
            assert len(results) == 1
            winners |= results
        assert winners == {"of one", "of two"}

    def test_by_somebody_who_removes_it(self, machine: Machine) -> None:
        """What is pruned while it is read is damaged for the reader, or read whole; then it is not there."""
        finish(machine("one"), "a")
        counted, operations = machine("count"), Operations()
        assert seen(counted, "a")
        for number in range(operations.count):
            finish(machine("one"), f"a{number}")
            remover, two, key = machine("remover"), machine(f"two {number}"), f"a{number}"
            Operations(number, lambda remover=remover, key=key: remover.withdraw(key))
            try:
                found = seen(two, key)
            except Damaged:
                assert not two.set_aside(key)
                found = seen(two, key)
                assert found is None
            assert found in (None, "weights")


class TestDamage:
    def damage(self, key: str) -> None:
        name = next(
            name
            for name in ShakyFileSystem.store
            if name.startswith(f"/bucket/stages/{key}/") and name.endswith("/weights")
        )
        ShakyFileSystem().pipe_file(name, b"weighty")

    def test_at_the_url_it_is_noticed_and_computed_again(self, machine: Machine) -> None:
        one, two = machine("one"), machine("two")
        finish(one, "a")
        self.damage("a")
        with pytest.raises(Damaged) as caught:
            two.folder("a")
        assert caught.value.folder == two.root / "a"
        assert two.set_aside("a")
        assert not two.has("a")
        finish(two, "a", "anew")
        assert [seen(store, "a") for store in (two, machine("three"))] == ["anew"] * 2

    def test_in_the_mirror_it_is_fetched_again(self, machine: Machine) -> None:
        finish(machine("one"), "a")
        two = machine("two")
        (two.folder("a") / "weights").write_text("something longer")
        later = machine("two")
        assert later.has("a")
        assert not later.is_damaged("a")
        assert seen(later, "a") == "weights"

    def test_in_the_mirror_a_flipped_byte_is_found_by_whoever_reads_it(self, machine: Machine) -> None:
        finish(machine("one"), "a")
        two = machine("two")
        flip(two.folder("a") / "weights")
        assert two.set_aside("a")
        assert seen(two, "a") == "weights"

    def test_what_is_sound_is_not_set_aside(self, machine: Machine) -> None:
        one = machine("one")
        finish(one, "a")
        assert not one.set_aside("a")
        assert not one.set_aside("gone")
        assert seen(machine("two"), "a") == "weights"


class TestCheckpoints:
    def test_another_machine_goes_on_from_the_last_one(self, machine: Machine) -> None:
        one = machine("one")
        one.workplace("a")
        for epoch in range(3):
            checkpoint(one, "a", epoch, f"after {epoch}")
            assert one.keep("a") is None
            until(lambda epoch=epoch: f".work/a/epoch-{epoch}/{sealed.SEAL}" in objects())
        until(lambda: len(objects(".work/")) == 2)  # the older ones go
        two = machine("two")
        assert two.epochs_done("a") == 3
        work = two.workplace("a")
        assert [path.name for path in work.glob("epoch-*")] == ["epoch-2"]
        assert list(sealed.damaged_files(work / "epoch-2")) == []
        assert (work / "epoch-2" / "weights").read_text() == "after 2"
        assert not two.has("a")
        checkpoint(two, "a", 3)
        two.keep("a")
        until(lambda: {name.split("/")[2] for name in objects(".work/")} == {"epoch-3"})
        finish(two, "a")
        until(lambda: objects(".work/") == [])

    def test_ours_stays_where_it_is_as_new(self, machine: Machine) -> None:
        one, two = machine("one"), machine("two")
        one.workplace("a")
        checkpoint(one, "a", 1, "of one")
        one.keep("a")
        until(lambda: f".work/a/epoch-1/{sealed.SEAL}" in objects())
        checkpoint(two, "a", 1, "of two")
        assert (two.workplace("a") / "epoch-1" / "weights").read_text() == "of two"

    def test_a_damaged_one_does_not_count(self, machine: Machine) -> None:
        one = machine("one")
        checkpoint(one, "a", 4)
        one.keep("a")
        until(lambda: f".work/a/epoch-4/{sealed.SEAL}" in objects())
        name = next(name for name in objects(".work/") if name.endswith("/weights"))
        ShakyFileSystem().pipe_file(f"/bucket/stages/{name}", b"weighty")
        two = machine("two")
        assert list(two.workplace("a").glob("epoch-*")) == []
        checkpoint(two, "a", 4, "anew")
        two.keep("a")
        until(lambda: f".work/a/epoch-4/{sealed.SEAL}" in objects())
        assert (machine("three").workplace("a") / "epoch-4" / "weights").read_text() == "anew"

    def test_an_interrupted_copy_is_none(self, machine: Machine) -> None:
        one = machine("one")
        (one.remote.put(checkpoint(one, "a", 0), ".work/a/epoch-0"))
        ShakyFileSystem.torn = True
        Operations(1, kill)
        with pytest.raises(Killed):
            one.remote.put(checkpoint(one, "a", 1), ".work/a/epoch-1")
        Operations()
        work = machine("two").workplace("a")
        assert [path.name for path in work.glob("epoch-*")] == ["epoch-0"]

    def test_training_goes_on_where_they_cannot_be_sent_and_that_is_told_once(self, machine: Machine) -> None:
        def refuse(operation: str, path: str) -> None:
            if operation == "write":
                raise OSError("the network is down")

        one, told = machine("one"), []
        one.workplace("a")
        ShakyFileSystem.before = staticmethod(refuse)
        for epoch in range(4):
            checkpoint(one, "a", epoch)
            told.append(one.keep("a"))
            until(lambda: not one.checkpoints._waiting)
            time.sleep(0.05)
        (sentence,) = filter(None, told)
        assert sentence.startswith("a checkpoint cannot be copied, and training goes on: shaky://bucket")
        assert "the network is down" in sentence
        Operations()
        checkpoint(one, "a", 4)
        assert one.keep("a") is None
        until(lambda: f".work/a/epoch-4/{sealed.SEAL}" in objects())

    def test_a_store_in_a_folder_has_nothing_to_do(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        store.make_writable()
        checkpoint(store, "a", 0)
        assert store.keep("a") is None

    def test_those_of_finished_stages_are_swept(self, machine: Machine) -> None:
        one = machine("one")
        one.remote.put(checkpoint(one, "a", 1), ".work/a/epoch-1")
        one.remote.put(checkpoint(one, "b", 1), ".work/b/epoch-1")
        finish(machine("two"), "a")
        later = machine("one")
        later.sweep()
        until(lambda: {name.split("/")[1] for name in objects(".work/")} == {"b"})
        assert not (later.root / ".work" / "a").exists()


class TestTrouble:
    def failing(self, error: Exception, times: int) -> list[int]:
        left = [times]

        def fail(operation: str, path: str) -> None:
            left[0] -= 1
            if left[0] >= 0:
                raise error

        ShakyFileSystem.before = staticmethod(fail)
        return left

    def test_what_passes_is_tried_again(self, machine: Machine) -> None:
        one = machine("one")
        compute(one, "a")
        self.failing(ConnectionResetError("reset by peer"), 3)
        assert one.publish("a")
        assert seen(machine("two"), "a") == "weights"

    def test_what_stays_is_told_and_costs_nothing(self, machine: Machine) -> None:
        one = machine("one")
        compute(one, "a")
        self.failing(ConnectionResetError("reset by peer"), 4)
        with pytest.raises(AblateError, match=rf"{URL}: cannot be reached \(reset by peer\); check"):
            one.publish("a")
        assert machine("one").publish("a")
        assert seen(machine("two"), "a") == "weights"

    @pytest.mark.parametrize(
        "error", [PermissionError("Access Denied"), RuntimeError("Unable to locate credentials")]
    )
    def test_what_is_not_allowed_is_not_tried_again(self, machine: Machine, error: Exception) -> None:
        one = machine("one")
        compute(one, "a")
        left = self.failing(error, 100)
        with pytest.raises(
            AblateError, match=rf"{URL}: the stage store cannot be used .* credentials that may"
        ):
            one.publish("a")
        assert left == [99]

    def test_an_address_that_never_answered_is_tried_once(self, tmp_path: Path) -> None:
        left = self.failing(ConnectionRefusedError("refused"), 100)
        with pytest.raises(AblateError, match=r"cannot be reached \(refused\)"):
            store_at(URL).make_writable()
        assert left == [99]

    @pytest.mark.parametrize(
        ("url", "sentence"),
        [
            ("nothing://stages", r"nothing://stages: cannot be reached \(Protocol not known: nothing\)"),
            ("file:///proc/ablate", r"file:///proc/ablate: (there is no such place|cannot be )"),
            (
                "s3://no-such-bucket/stages",
                r"s3://no-such-bucket/stages: s3 needs another package; install it",
            ),
            ("https://127.0.0.1:9/stages", r"https://127.0.0.1:9/stages: (the stage store )?cannot be "),
        ],
    )
    def test_a_place_that_cannot_be_used_is_named(self, url: str, sentence: str) -> None:
        if url.startswith("s3") and importlib.util.find_spec("s3fs"):
            pytest.skip("s3fs is installed")
        with pytest.raises(AblateError, match=sentence) as caught:
            store_at(url).make_writable()
        assert "\n" not in str(caught.value)

    def test_a_bucket_that_is_not_there_is_not_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        monkeypatch.setattr(ShakyFileSystem, "root_marker", "")
        monkeypatch.setattr(ShakyFileSystem, "makedirs", lambda self, path, exist_ok=False: made.append(path))
        self.failing(FileNotFoundError("no such bucket"), 100)
        with pytest.raises(AblateError, match=rf"{URL}: there is no such place \(no such bucket\); make its"):
            store_at(URL).make_writable()
        assert made == []

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(AblateError, match=rf"copies of what is at {URL}; set ABLATE_CACHE"):
            store_at(URL).make_writable()


class TestUpkeep:
    def study(self, store: Store, folder: Path, *keys: str) -> Path:
        folder.mkdir(parents=True)
        stages = {key: {"label": f"planned {key}", "settings": settings()} for key in keys}
        (folder / "plan.json").write_text(json.dumps({"stages": stages}))
        store.refer(folder)
        return folder

    def test_what_is_no_store_is_refused(self) -> None:
        with pytest.raises(AblateError, match=rf"{URL}: is no stage store; `ablate run` makes one"):
            open_store(URL)

    def test_contents(self, machine: Machine, tmp_path: Path) -> None:
        one = machine("one")
        finish(one, "a", finished=time.time() - 86400)
        one.remote.put(checkpoint(one, "b", 2), ".work/b/epoch-2")
        folder = self.study(one, tmp_path / "runs" / "mine", "a", "b")
        finish(one, "c")
        shutil.rmtree(folder)  # of another machine, this one cannot see whether it is there
        machine("two")
        a, b, c = contents(open_store(URL)).stages
        assert (a.label, a.kind, a.status, a.epochs) == ("label of a", "fit", "ok", 8)
        assert a.age == pytest.approx(86400, abs=100)
        assert a.bytes == sum(path.stat().st_size for path in one.folder("a").rglob("*") if path.is_file())
        assert [Path(user).name for user in a.studies] == ["mine"]
        assert (b.label, b.status, b.epoch, b.studies) == ("planned b", "unfinished", 3, a.studies)
        assert (c.status, c.kind, c.studies) == ("ok", "fit", ())
        assert 0 <= b.age < 100

    def test_prune(self, machine: Machine, tmp_path: Path) -> None:
        one = machine("one")
        for key in ("a", "b", "c"):
            finish(one, key, finished=time.time() - 86400 * (key == "b"))
        self.study(one, tmp_path / "runs" / "mine", "a")
        self.study(one, tmp_path / "runs" / "other", "b")
        before = objects()
        assert [
            stage.key for stage in prune(machine("two"), Criteria(unreferenced=True), dry_run=True).stages
        ] == ["c"]
        assert objects() == before
        prune(machine("two"), Criteria(unreferenced=True))
        assert machine("three").keys() == ["a", "b"]
        assert objects("c/") == []
        done = prune(machine("two"), Criteria(study="mine"))
        assert [stage.key for stage in done.stages] == ["a"]
        prune(machine("two"), Criteria(older_than=3600))
        assert machine("three").keys() == []
        assert [study.plan.parent.name for study in contents(machine("two")).studies] == ["other"]

    def test_verify(self, machine: Machine) -> None:
        one = machine("one")
        finish(one, "a")
        finish(one, "b")
        TestDamage().damage("b")
        sound, damaged = verify(machine("two"))
        assert (sound.damaged, sound.folder) == ((), f"{URL}/a")
        assert (damaged.damaged, damaged.folder, damaged.set_aside) == (("weights",), f"{URL}/b", True)
        assert machine("three").keys() == ["a"]

    def test_the_commands(self, machine: Machine, tmp_path: Path) -> None:
        finish(machine("one"), "a")
        self.study(machine("one"), tmp_path / "runs" / "mine", "a")
        machine("two")
        for words, shown in (
            (["list"], "label of a"),
            (["size"], "finished"),
            (["verify"], "1 stage read, all as written."),
            (["prune", "--study", "mine"], "1 stage removed, "),
        ):
            done = CliRunner().invoke(commands, [*words, "--store", URL])
            assert (done.exit_code, shown in done.output) == (0, True), done.output
        assert "free now" not in done.output  # as nobody knows
        assert objects("a/") == []


RECIPE: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 2, "lr": 3e-3}],
    "study": {"baseline": ["normalize"], "vary": ["tta"], "seeds": 1, "smallest_effect": 0.01},
}


def test_a_study_shares_its_stages_with_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines, one URL: what the first computes, the second only copies, with the same results."""
    url = f"file://{tmp_path}/bucket/stages"
    monkeypatch.setenv("ABLATE_STORE", url)
    studies = []
    for name in ("one", "two"):
        monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / name / "cache"))
        studies.append(Recipe.from_dict(RECIPE).run(tmp_path / name / "runs", threads=1))
    one, two = studies
    assert list((one.folder / "logs").glob("*.log"))
    assert not list((two.folder / "logs").glob("*.log"))  # nothing was computed
    for name in ("predictions.parquet", "effects.csv", "history.csv", "trials.csv"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert json.loads((two.folder / "plan.json").read_text())["store"] == url
    until(
        lambda: not [path for path in (tmp_path / "bucket" / "stages" / ".work").rglob("*") if path.is_file()]
    )

    status = Status(Study.open(two.folder))
    assert (status.state, status.to_dict()["store"], status.store_exists) == ("finished", url, True)
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "three"))
    scores, targets = Study.open(two.folder).learner("baseline", seed=0).get_preds()
    accuracy = float((scores.argmax(1) == targets).float().mean())
    trials = two.trials.set_index("variant")
    assert accuracy == pytest.approx(trials.accuracy["baseline"], abs=1e-6)


@pytest.mark.slow
def test_another_machine_goes_on_where_a_killed_one_was(tmp_path: Path) -> None:
    """A machine is killed amid a phase, with all its disk; another goes on from the checkpoint at the URL."""
    recipe = RECIPE | {"phases": [{"name": "one", "epochs": 16, "lr": 1e-3}]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    remote, quiet = tmp_path / "bucket" / "stages", tmp_path / "quiet" / "store"

    def start(name: str, store: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ablate.cli", "run", "recipe.yaml", "--threads", "1", "--out", name]
        environment = os.environ | {"ABLATE_STORE": store, "ABLATE_CACHE": str(tmp_path / name / "cache")}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    def epochs(work: Path) -> list[int]:
        return [int(path.name.removeprefix("epoch-")) for path in work.glob(".work/*/epoch-*")]

    one = start("one", f"file://{remote}")
    until(lambda: max(epochs(remote), default=0) >= 4, seconds=120)
    one.kill()
    one.wait()
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    two, begun = start("two", f"file://{remote}"), []
    while two.poll() is None:
        begun = begun or [epoch for mirror in tmp_path.glob("two/cache/stores/*") for epoch in epochs(mirror)]
        time.sleep(0.01)
    assert two.returncode == 0
    assert begun[0] >= 3
    assert start("quiet", str(quiet)).wait() == 0
    results = [tmp_path / name / "tiny" / "predictions.parquet" for name in ("two", "quiet")]
    assert results[0].read_bytes() == results[1].read_bytes()
