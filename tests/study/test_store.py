"""The store: a stage exists whole or not at all, and one process at a time computes it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_stores import begin, computed_elsewhere, finish, flip, make_store

from ablate import sealed
from ablate.errors import AblateError
from ablate.study.store import OUT, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def sealed_but_not_published(store: Store, key: str, text: str = "weights") -> None:
    """What a process leaves that is killed between the two."""
    out = store.workplace(key) / OUT
    (out / "weights").write_text(text)
    sealed.seal(out, label=key, status="ok", seconds=1.0)


def test_what_is_published_is_there_with_what_it_says_of_itself(store):
    assert not store.has("a")
    assert store.status("a") is None
    finish(store, "a")
    assert store.has("a")
    assert (store.folder("a") / "weights").read_text() == "weights"
    assert store.status("a") == store.result("a")["status"] == "ok"
    assert store.result("a")["seconds"] == 1.0
    assert store.keys() == ["a"]
    assert not (store.root / ".work" / "a").exists()


def test_another_process_sees_it(store):
    finish(store, "a", status="diverged")
    assert Store(store.root).status("a") == "diverged"


def test_reading_makes_no_folders(tmp_path: Path):
    store = Store(tmp_path / "none")
    assert not store.has("a")
    assert not store.is_damaged("a")
    assert not store.is_locked("a")
    assert store.keys() == []
    assert not store.root.exists()


def test_an_unfinished_stage_does_not_exist(store):
    begin(store, "a", epochs=2)
    assert not store.has("a")
    assert not store.is_damaged("a")
    assert store.keys() == []


def test_a_workplace_starts_empty_but_for_checkpoints(store):
    begin(store, "a", epochs=2)
    (store.root / ".work" / "a" / OUT / "half").write_text("written")
    work = store.workplace("a")
    assert list((work / OUT).iterdir()) == []
    assert [path.name for path in work.glob("epoch-*")] == ["epoch-1"]


def test_what_is_not_sealed_is_not_published(store):
    begin(store, "a", epochs=2)
    (store.root / ".work" / "a" / OUT / "weights").write_text("half")
    assert not store.publish("a")
    assert not store.has("a")
    assert (store.root / ".work" / "a" / "epoch-1").is_dir()


def test_a_kill_between_seal_and_publication_costs_nothing(store):
    sealed_but_not_published(store, "a")
    later = Store(store.root)
    assert not later.has("a")
    assert later.publish("a")
    assert (later.folder("a") / "weights").read_text() == "weights"


def test_what_was_damaged_before_publication_is_not_published(store):
    sealed_but_not_published(store, "a")
    (store.root / ".work" / "a" / OUT / "weights").write_text("wei")
    assert not Store(store.root).publish("a")


def test_the_first_writer_wins(store):
    finish(store, "a", text="first")
    sealed_but_not_published(store, "a", text="second")
    assert Store(store.root).publish("a")
    assert (store.folder("a") / "weights").read_text() == "first"
    assert not (store.root / ".work" / "a").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "remove the seal", "half a seal"])
def test_a_damaged_stage_does_not_count_and_is_set_aside(store, damage: str):
    finish(store, "a")
    file, seal = store.folder("a") / "weights", store.folder("a") / sealed.SEAL
    match damage:
        case "flip":
            file.write_text("weighty")
        case "truncate":
            os.truncate(file, 3)
        case "remove":
            file.unlink()
        case "remove the seal":
            seal.unlink()
        case "half a seal":
            os.truncate(seal, seal.stat().st_size // 2)
    fresh = Store(store.root)
    assert not fresh.has("a")
    assert fresh.is_damaged("a")
    assert fresh.set_aside("a")
    assert not fresh.is_damaged("a")
    assert [path.name.split(".")[0] for path in (store.root / ".damaged").iterdir()] == ["a"]
    finish(fresh, "a")
    assert Store(store.root).has("a")


def test_a_flipped_byte_whose_time_was_put_back_is_found_by_reading(store):
    finish(store, "a")
    flip(store.folder("a") / "weights")
    assert store.has("a")
    assert store.set_aside("a")
    assert not store.has("a")


def test_only_what_is_damaged_is_set_aside(store):
    """Another process may have set it aside, and computed it again, before."""
    finish(store, "a")
    assert not store.set_aside("a")
    assert store.has("a")
    assert not store.set_aside("gone")


def test_a_store_of_a_newer_ablate_is_refused(store):
    finish(store, "a")
    done = store.folder("a") / sealed.SEAL
    done.write_text(json.dumps(json.loads(done.read_text()) | {"schema": 99}))
    with pytest.raises(AblateError, match=r"written by a newer ablate; upgrade ablate, or set ABLATE_STORE"):
        Store(store.root).has("a")


@pytest.mark.parametrize("place", ["file/store", "/proc/ablate"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(AblateError, match=rf"{place}: the stage store cannot be written .*ABLATE_STORE"):
        Store(tmp_path / place).make_writable()


def test_a_kill_while_a_place_is_tried_leaves_nothing_for_long(store, monkeypatch):
    def killed(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.make_writable()
    assert list((store.root / ".work").iterdir())
    make_store(store.root)
    assert not list((store.root / ".work").iterdir())


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_full_disk_publishes_nothing_and_loses_nothing(store, monkeypatch, call: str):
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sealed_but_not_published(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(AblateError, match=r"cannot be stored \(No space left on device\)"):
            store.publish("a")
    assert Store(store.root).publish("a")
    assert (store.folder("a") / "weights").read_text() == "weights"


def test_one_process_at_a_time_computes_a_stage(store):
    assert not store.is_locked("a")
    with computed_elsewhere(store, "a"):
        assert store.is_locked("a")
        with store.lock("a") as ours, store.lock("b") as other:
            assert (ours, other) == (False, True)
    assert not store.is_locked("a")
    with store.lock("a") as ours:
        assert ours


def test_a_lock_of_a_killed_process_is_no_obstacle(store):
    code = (
        "import os, signal, sys; from pathlib import Path; from ablate.study.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('a') as ours:\n"
        "    os.kill(os.getpid(), signal.SIGKILL if ours else signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert done.returncode == -9
    assert (store.root / ".locks" / "a").is_file()
    assert not store.is_locked("a")
    with store.lock("a") as ours:
        assert ours


def test_a_lock_leaves_a_file_only_while_its_stage_is_unfinished(store):
    with store.lock("a"):
        pass
    assert (store.root / ".locks" / "a").is_file()
    with store.lock("a"):
        finish(store, "a")
    assert not (store.root / ".locks" / "a").exists()


def test_an_error_releases_the_lock(store):
    with pytest.raises(RuntimeError), store.lock("a"):
        raise RuntimeError
    assert not store.is_locked("a")


def test_what_a_kill_has_left_of_finished_stages_is_swept(store):
    finish(store, "a")
    begin(store, "a", epochs=2)
    begin(store, "b", epochs=2)
    store.sweep()
    left = {str(path.relative_to(store.root)) for path in store.root.glob(".[wl]*/*")}
    assert left == {".work/b", ".locks/b"}
    assert store.has("a")


def test_studies_that_use_it_are_remembered_once(store, tmp_path: Path):
    for _ in range(2):
        store.refer(tmp_path / "one")
    store.refer(tmp_path / "two")
    folders = [json.loads(path.read_text())["folder"] for path in (store.root / ".studies").iterdir()]
    assert sorted(folders) == [str(tmp_path / "one"), str(tmp_path / "two")]
