from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.data import likeness
from ablate.data.cache import look_and_keep
from ablate.data.inspect import inspect, recall
from ablate.data.items import Item
from ablate.data.likeness import Hashing, recall_likenesses
from ablate.data.near_duplicates import perceptual_hashes
from ablate.data.presize import Presize


@pytest.fixture
def items(photos: Path) -> list[Item]:
    return [Item(i, path.name, path, 0) for i, path in enumerate(sorted(photos.glob("*/*.png")))]


def looked(items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
    hashing = Hashing()
    looks = inspect(items, visit=hashing)
    hashing.finish()
    return recall_likenesses(looks)


def test_every_image_has_its_hashes(items: list[Item]):
    hashes, known = looked(items)
    assert known.all()
    for item, of_item in zip(items, hashes, strict=True):
        assert isinstance(item.image, Path)
        np.testing.assert_array_equal(of_item, perceptual_hashes(np.asarray(Image.open(item.image))))


def test_hashes_are_remembered_by_content(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hashes, _ = looked(items)
    monkeypatch.setattr(likeness, "perceptual_hashes", None)  # not to be asked for again
    np.testing.assert_array_equal(looked(items)[0], hashes)
    moved = []
    for item in items:
        assert isinstance(item.image, Path)
        path = tmp_path / f"moved-{item.number}.png"
        path.write_bytes(item.image.read_bytes())
        moved.append(Item(item.number, item.id, path, 0))
    np.testing.assert_array_equal(recall_likenesses(inspect(moved))[0], hashes)


def test_images_that_were_looked_at_before_there_were_hashes_are_decoded_again(items: list[Item]):
    inspect(items)
    assert not recall_likenesses(recall(items))[1].any()
    assert looked(items)[1].all()


def test_unknown_and_bad_images_have_none(items: list[Item]):
    assert not recall_likenesses(recall(items))[1].any()
    assert isinstance(items[0].image, Path)
    items[0].image.write_bytes(b"")
    _, known = looked(items)
    assert known.tolist() == [False] + [True] * (len(items) - 1)


def test_hashes_and_presized_images_come_of_one_decode(items: list[Item], monkeypatch: pytest.MonkeyPatch):
    hashing, counted = Hashing(), []
    monkeypatch.setattr(
        likeness, "perceptual_hashes", lambda pixels: counted.append(1) or perceptual_hashes(pixels)
    )
    told: list[tuple[int, int]] = []
    looks, presized = look_and_keep(
        items, [Presize(24)], visit=hashing, progress=lambda done, total: told.append((done, total))
    )
    hashing.finish()
    assert len(counted) == len(items) == told[-1][1]
    assert recall_likenesses(looks)[1].all()
    assert all(presized[24][item.number] is not None for item in items)
    again = Hashing()
    assert look_and_keep(items, [Presize(24)], visit=again)[0] == looks
    assert len(counted) == len(items)


def test_a_database_of_before_is_read_and_kept(items: list[Item], tmp_path: Path):
    inspect(items)
    with sqlite3.connect(tmp_path / ".cache" / "images.sqlite") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        before = database.execute("SELECT * FROM seen3 ORDER BY path").fetchall()
    assert tables == ["seen3"]  # as it was before there were hashes
    looked(items)
    with sqlite3.connect(tmp_path / ".cache" / "images.sqlite") as database:
        assert database.execute("SELECT * FROM seen3 ORDER BY path").fetchall() == before
