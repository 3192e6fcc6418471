from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.data import inspect as module
from ablate.data.images import decode
from ablate.data.inspect import file_hash, fingerprint, inspect, look, recall, statistics
from ablate.data.items import Item, load_items
from ablate.data.looks import Looks, Seen
from ablate.data.remembered import cache_folder
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

Count = Callable[[], int]


@pytest.fixture
def items(photos: Path) -> list[Item]:
    return load_items(Data.model_validate({"root": str(photos)})).items


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many files have been read since it was last asked."""
    paths: list[Path] = []
    read = module.read_bytes

    def counted(path: Path) -> bytes:
        paths.append(path)
        return read(path)

    def count() -> int:
        number = len(paths)
        paths.clear()
        return number

    monkeypatch.setattr(module, "read_bytes", counted)
    return count


def pathed(item: Item) -> Path:
    assert isinstance(item.image, Path)
    return item.image


def identity(items: list[Item], classes: tuple[str, ...] = ("cat", "dog", "fox")) -> str | None:
    return fingerprint(items, classes, inspect(items))


def test_what_is_seen_of_an_image(items: list[Item]):
    for item, seen in zip(items, inspect(items), strict=True):
        content = pathed(item).read_bytes()
        pixels = np.asarray(decode(content)) / 255
        assert seen.hash == blake2b(content, digest_size=16).hexdigest()
        assert (seen.height, seen.width) == pixels.shape[:2]
        assert seen.error == ""
        np.testing.assert_allclose(seen.mean, pixels.mean(axis=(0, 1)), atol=1e-12)
        np.testing.assert_allclose(seen.square, (pixels**2).mean(axis=(0, 1)), atol=1e-12)


def test_a_second_look_reads_no_file_and_sees_the_same(items: list[Item], reads: Count):
    assert recall(items) == [None] * 24
    first = inspect(items)
    assert reads() == 24
    assert inspect(items) == first
    assert recall(items) == first
    assert reads() == 0
    assert (cache_folder() / "images.sqlite").is_file()


def test_progress_tells_of_new_images_alone(items: list[Item]):
    told: list[tuple[int, int]] = []
    inspect(items[:10])
    inspect(items, lambda done, total: told.append((done, total)))
    assert told == [(i, 14) for i in range(1, 15)]
    told.clear()
    inspect(items, lambda done, total: told.append((done, total)))
    assert told == []


def test_a_file_that_changed_is_looked_at_again(items: list[Item], reads: Count):
    before = inspect(items)
    path = pathed(items[3])
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert recall(items)[3] is None
    reads()
    assert inspect(items) == before
    assert reads() == 1
    Image.new("RGB", (5, 7)).save(path)
    after = inspect(items)
    assert reads() == 1
    assert (after[3].width, after[3].height) == (5, 7)
    assert after[3].hash != before[3].hash
    assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1


def test_a_file_that_changes_during_the_look_is_looked_at_again(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
):
    def meddled(path: Path) -> bytes:
        content = path.read_bytes()
        Image.new("RGB", (9, 9)).save(path)
        return content

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_bytes", meddled)
        inspect(items[:1])
    assert inspect(items[:1])[0].width == 9


def test_bad_images_are_told_and_looked_at_again(items: list[Item], reads: Count):
    good = pathed(items[0]).read_bytes()
    pathed(items[0]).write_bytes(good[:300])
    pathed(items[1]).write_bytes(b"")
    pathed(items[2]).unlink()
    for _ in range(2):
        seen = inspect(items)
        assert seen[0].error.startswith("cat/0.jpg: is damaged")
        assert seen[1].error.startswith("cat/1.png: the file is empty")
        assert seen[2].error.startswith(f"{items[2].image}: there is no such file")
        assert [bool(look_.error) for look_ in seen].count(True) == 3
    assert reads() == 24 + 3
    pathed(items[0]).write_bytes(good)
    assert inspect(items)[0].error == ""


def test_pixels_in_memory_need_no_file(tmp_path: Path):
    items = load_items(Data.model_validate({})).items[:50]
    seen = inspect(items)
    assert recall(items) == seen
    assert {(look_.width, look_.height) for look_ in seen} == {(8, 8)}
    assert len({look_.hash for look_ in seen}) == 50
    assert not cache_folder().exists()
    flat = np.zeros((2, 8), dtype=np.uint8)
    assert look(flat, "a")[0].hash != look(flat.reshape(4, 4), "a")[0].hash


def test_the_cache_is_shared_by_projects_that_use_the_same_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Image.new("RGB", (4, 4), colour).save("a.bmp")  # the same size …
        os.utime("a.bmp", (0, 0))  # … and the same time
        (seen,) = inspect([Item(0, "a", Path("a.bmp"), 0)])
        assert seen.mean == ((1.0, 0.0, 0.0) if colour == "red" else (0.0, 0.0, 1.0))


def test_more_images_than_one_query_takes(tmp_path: Path, reads: Count):
    Image.new("RGB", (2, 2)).save(tmp_path / "0.bmp")
    for i in range(1, 1100):
        os.link(tmp_path / "0.bmp", tmp_path / f"{i}.bmp")
    items = [Item(i, str(i), tmp_path / f"{i}.bmp", 0) for i in range(1100)]
    assert len(inspect(items)) == 1100
    reads()
    assert None not in recall(items)
    assert reads() == 0


def test_a_cache_that_cannot_be_written_is_named(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AblateError, match=r"file/cache: cannot be written .* set ABLATE_CACHE"):
        inspect(items)
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "broken"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "images.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(AblateError, match="set ABLATE_CACHE"):
        recall(items)


def test_a_cache_that_stops_being_writable_is_named(items: list[Item], monkeypatch: pytest.MonkeyPatch):
    inspect(items[:1])
    connect = sqlite3.connect

    def read_only(path: Path, timeout: float) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", timeout=timeout, uri=True)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert recall(items[:1]) != [None]
    with pytest.raises(AblateError, match=r"readonly database.*set ABLATE_CACHE"):
        inspect(items)


def test_the_cache_is_under_the_users_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ABLATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder().name == "ablate"
    assert tmp_path in cache_folder().parents


def test_a_fingerprint_changes_with_what_matters(items: list[Item]):
    before = identity(items)
    assert before is not None
    assert identity(items) == before
    changes = [
        identity(items[1:]),
        identity([items[1], items[0], *items[2:]]),
        identity([replace(items[0], target=1), *items[1:]]),
        identity([replace(items[0], id="other"), *items[1:]]),
        identity([replace(items[0], group="patient"), *items[1:]]),
        identity([replace(items[0], number=99), *items[1:]]),
        identity(items, ("cat", "dog", "wolf")),
    ]
    Image.new("RGB", (48, 36)).save(pathed(items[5]))
    changes.append(identity(items))
    assert None not in changes
    assert len({before, *changes}) == len(changes) + 1


def test_a_fingerprint_does_not_change_with_the_folder(photos: Path):
    def of(root: Path) -> str | None:
        return identity(load_items(Data.model_validate({"root": str(root)})).items)

    before = of(photos)
    assert before == of(photos.rename(photos.parent / "moved"))


def test_a_fingerprint_is_unknown_while_an_image_is(items: list[Item]):
    inspect(items[1:])
    assert fingerprint(items, ["cat"], recall(items)) is None
    assert fingerprint(items[1:], ["cat"], recall(items[1:])) is not None


def test_statistics_are_those_of_all_pixels_with_equal_weight_for_each_image(items: list[Item]):
    pixels = [np.asarray(decode(pathed(item))).reshape(-1, 3) / 255 for item in items]
    assert len({len(one) for one in pixels}) > 1
    weights = np.concatenate([np.full(len(one), 1 / len(one)) for one in pixels])
    expected_mean = np.average(np.concatenate(pixels), axis=0, weights=weights)
    deviations = (np.concatenate(pixels) - expected_mean) ** 2
    expected_std = np.sqrt(np.average(deviations, axis=0, weights=weights))
    mean, std = statistics(inspect(items))
    np.testing.assert_allclose(mean, expected_mean, atol=1e-12)
    np.testing.assert_allclose(std, expected_std, atol=1e-12)


def test_statistics_of_one_flat_image_can_be_divided_by():
    _, std = statistics(Looks.of([Seen("00" * 16, 1, 1, (0.3, 0.3, 0.3), (0.09, 0.09, 0.09))]))
    assert min(std) > 0


def test_the_hash_of_a_file_is_remembered(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(5_000_000))
    os.utime(path, ns=(1, 1))
    first = file_hash(path)
    assert first == blake2b(path.read_bytes(), digest_size=16).hexdigest()
    path.write_bytes(os.urandom(5_000_000))
    os.utime(path, ns=(1, 1))
    assert file_hash(path) == first  # it was not read
    os.utime(path, ns=(2, 2))
    assert file_hash(path) != first
    with pytest.raises(AblateError, match=r"gone: cannot be read \(No such file"):
        file_hash(tmp_path / "gone")
