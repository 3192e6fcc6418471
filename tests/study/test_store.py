"""The store: a stage exists when DONE.json does, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ablate.errors import AblateError
from ablate.study.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, key: str, text: str = "weights") -> None:
    work = store.workplace(key)
    (work / "weights").write_text(text)
    (work / "result.json").write_text('{"status": "ok", "seconds": 1}')
    store.publish(key, work, {"kind": "fit"})


def test_what_is_published_is_there_with_its_settings(store):
    assert not store.has("a")
    publish(store, "a")
    assert store.has("a")
    assert (store.folder("a") / "weights").read_text() == "weights"
    assert json.loads((store.folder("a") / "settings.json").read_text()) == {"kind": "fit"}
    assert store.result("a")["status"] == "ok"


def test_another_process_sees_it(store):
    publish(store, "a")
    assert Store(store.root).has("a")


def test_an_unfinished_stage_does_not_exist(store):
    (store.workplace("a") / "weights").write_text("half")
    assert not store.has("a")
    (store.root / "b").mkdir()
    (store.root / "b" / "weights").write_text("no DONE.json")
    assert not store.has("b")


def test_the_first_writer_wins(store):
    first, second = store.workplace("a"), Store(store.root).root / ".work" / "a.other"
    second.mkdir()
    (first / "weights").write_text("first")
    (second / "weights").write_text("second")
    store.publish("a", first, {})
    store.publish("a", second, {})
    assert (store.folder("a") / "weights").read_text() == "first"
    assert not second.exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_stage_is_set_aside(store, damage: str):
    publish(store, "a")
    file = store.folder("a") / "weights"
    if damage == "flip":
        file.write_text("weighty")
    elif damage == "truncate":
        file.write_text("wei")
    else:
        file.unlink()
    fresh = Store(store.root)
    assert not fresh.has("a")
    assert not fresh.folder("a").exists()
    publish(fresh, "a")
    assert fresh.has("a")


def test_a_store_of_a_newer_ablate_is_refused(store):
    publish(store, "a")
    done = store.folder("a") / "DONE.json"
    done.write_text(json.dumps(json.loads(done.read_text()) | {"schema": 99}))
    with pytest.raises(AblateError, match="written by a newer ablate"):
        Store(store.root).has("a")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AblateError, match=r"the stage store cannot be written .*ABLATE_STORE"):
        Store(tmp_path / "file" / "store")


def test_a_full_disk_publishes_nothing(store, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    work = store.workplace("a")
    (work / "weights").write_text("weights")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AblateError, match="cannot be stored \\(No space left on device\\)"):
        store.publish("a", work, {})
    assert not store.has("a")
