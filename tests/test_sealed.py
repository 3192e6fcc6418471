"""ablate.sealed: a folder is whole or it is not, whatever happened to its files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import sealed
from ablate.errors import AblateError, Damaged

FILES = {"weights": b"\x00\x01\xff" * 50, "empty": b"", "deep/er/history.csv": b"epoch,loss\n0,1.5\n"}


def fill(folder: Path) -> Path:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder of three files."""
    folder = fill(tmp_path / "stage")
    sealed.seal(folder, status="ok", seconds=1.5)
    return folder


def verdict(folder: Path) -> tuple[bool, list[str]]:
    """What both ways to look at a folder say: whether it is whole, and which files are not."""
    return sealed.is_whole(folder), sorted(sealed.damaged_files(folder))


def test_a_sealed_folder_is_whole_and_gives_its_files_and_notes(folder: Path):
    assert verdict(folder) == (True, [])
    assert {name: sealed.read(folder, name) for name in FILES} == FILES
    content = sealed.read_seal(folder)
    assert content is not None
    assert (content["status"], content["seconds"], content["schema"]) == ("ok", 1.5, sealed.SCHEMA)
    assert set(content["files"]) == set(FILES)


def test_the_seal_can_be_read_by_any_json_reader(folder: Path):
    content = json.loads((folder / "DONE.json").read_text())
    assert content["files"]["weights"] == sealed.checksum(FILES["weights"])
    assert sorted(path.name for path in folder.iterdir()) == ["DONE.json", "deep", "empty", "weights"]


def test_a_folder_may_be_moved_and_copied(folder: Path, tmp_path: Path):
    moved, copied = tmp_path / "moved", tmp_path / "copied"
    folder.rename(moved)
    assert verdict(moved) == (True, [])
    shutil.copytree(moved, copied, copy_function=shutil.copyfile)  # without its times
    assert verdict(copied) == (True, [])


@pytest.mark.parametrize("name", [name for name in FILES if name != "empty"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "removed", "longer", "a folder now"])
def test_damage_is_seen(folder: Path, name: str, damage: str):
    file, data = folder / name, FILES[name]
    if damage == "truncated":
        file.write_bytes(data[:-1])
    elif damage == "flipped":
        file.write_bytes(data[:7] + bytes([data[7] ^ 16]) + data[8:])
    elif damage == "longer":
        file.write_bytes(data + b"\n")
    else:
        file.unlink()
        if damage == "a folder now":
            file.mkdir()
    assert verdict(folder) == (False, [name])
    with pytest.raises(Damaged, match=r"stage: is damaged; `ablate run` sets it aside") as caught:
        sealed.read(folder, name)
    assert caught.value.folder == folder
    others = set(FILES) - {name}
    assert {other: sealed.read(folder, other) for other in others} == {
        other: FILES[other] for other in others
    }


def test_a_flip_that_kept_size_and_time_is_seen_by_those_who_read(folder: Path):
    """As on a bad disk; `is_whole` alone takes such a file for granted, and says so."""
    file = folder / "weights"
    before = file.stat()
    file.write_bytes(b"\x01" + FILES["weights"][1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(sealed.damaged_files(folder)) == ["weights"]
    with pytest.raises(Damaged):
        sealed.read(folder, "weights")


def test_another_time_alone_is_no_damage(folder: Path):
    os.utime(folder / "weights", (1, 1))
    assert verdict(folder) == (True, [])


def test_files_that_came_later_are_no_damage_and_are_not_read(folder: Path):
    (folder / "later").write_text("by somebody")
    assert verdict(folder) == (True, [])
    with pytest.raises(Damaged):
        sealed.read(folder, "later")


def test_a_folder_without_a_seal_is_not_whole(tmp_path: Path):
    folder = fill(tmp_path / "half")
    assert sealed.read_seal(folder) is None
    assert verdict(folder) == (False, ["DONE.json"])
    with pytest.raises(Damaged):
        sealed.read(folder, "weights")
    assert verdict(tmp_path / "nowhere") == (False, ["DONE.json"])


def test_a_seal_of_a_newer_ablate_is_refused(folder: Path):
    content = json.loads((folder / "DONE.json").read_text())
    (folder / "DONE.json").write_text(json.dumps(content | {"schema": sealed.SCHEMA + 1}))
    for look in (sealed.is_whole, sealed.read_seal, lambda at: list(sealed.damaged_files(at))):
        with pytest.raises(AblateError, match=r"written by a newer ablate; upgrade ablate") as caught:
            look(folder)
        assert not isinstance(caught.value, Damaged)  # nothing to set aside


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_half_a_seal_is_none(folder: Path, share: float):
    data = (folder / "DONE.json").read_bytes()
    (folder / "DONE.json").write_bytes(data[: int(share * len(data))])
    assert sealed.read_seal(folder) is None
    assert verdict(folder) == (False, ["DONE.json"])


@pytest.mark.parametrize(
    "content", ["[]", "3", "null", "{}", '{"schema": 1}', '{"schema": "1", "files": {}}']
)
def test_json_that_is_no_seal_is_none(folder: Path, content: str):
    (folder / "DONE.json").write_text(content)
    assert sealed.read_seal(folder) is None
    assert verdict(folder) == (False, ["DONE.json"])


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flip_of_one_bit_in_a_seal_passes(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
):
    folder = fill(tmp_path_factory.mktemp("flipped"))
    sealed.seal(folder, status="ok", seconds=1.5)
    data = bytearray((folder / "DONE.json").read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    (folder / "DONE.json").write_bytes(bytes(data))
    if data.count(b'"schema": 1'):
        assert verdict(folder) == (False, ["DONE.json"])
    else:  # the schema's own digit may now be that of a newer ablate
        with contextlib.suppress(AblateError):
            assert verdict(folder) == (False, ["DONE.json"])


@pytest.mark.parametrize("broken", ["sync", "write_text", "rename"])
@pytest.mark.parametrize("survivor", ["nothing", "part of the seal"])
def test_what_a_seal_was_interrupted_in_can_be_sealed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, survivor: str
):
    folder = fill(tmp_path / "again")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sealed if broken == "sync" else Path, broken, full)
        with pytest.raises(OSError, match="No space left"):
            sealed.seal(folder, status="ok")
    if survivor != "nothing":
        (folder / ".DONE.json").write_text('{"schema": 1, "fil')
    assert verdict(folder) == (False, ["DONE.json"])
    sealed.seal(folder, status="ok")
    assert verdict(folder) == (True, [])
    content = sealed.read_seal(folder)
    assert content is not None
    assert set(content["files"]) == set(FILES)


def test_the_seal_is_on_the_disk_after_what_it_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Power loss: no order of writes in which the seal is there and a file is not."""
    folder = fill(tmp_path / "order")
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((str(path.relative_to(tmp_path)), (folder / "DONE.json").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    sealed.seal(folder)
    files = [f"order/{name}" for name in FILES]
    assert sorted(synced[: len(files)]) == sorted((name, False) for name in files)
    assert synced[len(files) :] == [("order/.DONE.json", False), ("order", True)]


@given(st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=30), min_size=1), st.data())
def test_any_change_of_any_file_is_damage(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
):
    folder = tmp_path_factory.mktemp("any")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    sealed.seal(folder)
    name = data.draw(st.sampled_from(sorted(files)))
    changed = data.draw(st.binary(max_size=30).filter(lambda other: other != files[name]))
    (folder / name).write_bytes(changed)
    os.utime(folder / name, ns=(1, 1))
    assert verdict(folder) == (False, [name])
