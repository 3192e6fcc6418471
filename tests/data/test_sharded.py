from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_writers import picture, records, samples, write_tar, write_tfrecord

from ablate.data import shard_index, sharded
from ablate.data.check import check_data
from ablate.data.inspect import fingerprint, inspect, recall
from ablate.data.items import Items, load_items
from ablate.data.shards import Member
from ablate.data.splits import make_folds
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data
from ablate.recipe.schema import RecipeFields

KINDS = ("webdataset", "tfrecord")
GROUPED = {"random": 0.25, "group": "patient"}
ANIMALS = ("cat", "dog", "fox")


def data(**fields: Any) -> Data:
    return Data.model_validate({"split": {"random": 0.25}, **fields})


def write(kind: str, path: Path, begin: int, end: int) -> Path:
    if kind == "webdataset":
        return write_tar(path.with_suffix(".tar"), samples(begin, end))
    return write_tfrecord(path.with_suffix(".tfrec"), records(begin, end))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(kind: str, tmp_path: Path) -> Path:
    """Forty images in train-0 to train-2 and valid-0, ten in each."""
    for i, name in enumerate(("train-0", "train-1", "train-2", "valid-0")):
        write(kind, tmp_path / "shards" / name, 10 * i, 10 * i + 10)
    return tmp_path / "shards"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that have been read through."""
    names: list[str] = []

    def counting(rows: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: Any, name: str, fields: Any) -> Any:
            names.append(Path(name).name)
            return rows(file, name, fields)

        return counted

    monkeypatch.setattr(shard_index, "_ROWS", {k: counting(rows) for k, rows in shard_index._ROWS.items()})
    return names


def problem(**fields: Any) -> str:
    with pytest.raises(AblateError) as caught:
        load_items(data(**fields))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def told(items: Items) -> list[tuple[Any, ...]]:
    return [
        (i.number, i.id, i.image.read(), i.target, i.group)
        for i in items.items
        if isinstance(i.image, Member)
    ]


def test_items_are_what_was_written(kind: str, root: Path):
    items = load_items(data(root=str(root), source=kind, shards="*-?.t*", split=GROUPED))
    assert items.classes == (list(ANIMALS) if kind == "webdataset" else ["0", "1", "2"])
    expected = [(i, f"photos/{i:04d}", picture(i), i % 3, f"p{i // 2}") for i in range(40)]
    assert told(items) == expected
    np.testing.assert_array_equal(items.targets, np.arange(40) % 3)
    assert items.groups is not None
    assert items.groups.tolist() == [f"p{i // 2}" for i in range(40)]
    assert items.shards is not None
    np.testing.assert_array_equal(items.shards, np.arange(40) // 10)
    assert items.held_out is items.tested is None
    assert [item.id for item in items.items[-3:]] == [
        item.id for item in [items.items[i] for i in (37, 38, 39)]
    ]
    assert len(items.items) == 40
    with pytest.raises(IndexError):
        items.items[40]


def test_columns_that_are_not_asked_for_are_not_needed(kind: str, root: Path):
    items = load_items(data(root=str(root), source=kind, shards="*"))
    assert items.groups is None
    assert [item.group for item in items.items] == [""] * 40


@pytest.mark.parametrize("split", [{"random": 0.25}, {"random": 0.25, "group": "patient"}, {"folds": 4}])
def test_splits_are_those_of_a_table(kind: str, root: Path, split: dict[str, Any], tmp_path: Path):
    lines = [f"photos/{i:04d},{ANIMALS[i % 3]},p{i // 2}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,patient", *lines]))
    table, shards = (
        data(root=str(tmp_path), table="t.csv", split=split),
        data(root=str(root), source=kind, shards="*", split=split),
    )
    for a, b in zip(
        make_folds(load_items(table), table), make_folds(load_items(shards), shards), strict=True
    ):
        for side in ("train", "valid", "test"):
            np.testing.assert_array_equal(getattr(a, side), getattr(b, side))


def test_a_split_by_a_column_or_by_shards(kind: str, root: Path):
    by_column = load_items(data(root=str(root), source=kind, shards="*", split={"column": "held"}))
    assert by_column.held_out is not None
    np.testing.assert_array_equal(by_column.held_out, np.arange(40) % 4 == 0)
    by_shards = data(
        root=str(root),
        source=kind,
        shards=["train-{0..2}.*", "valid-*"],
        split={"shards": "valid-*"},
        test={"shards": "train-2.*"},
    )
    fold = make_folds(load_items(by_shards), by_shards)[0]
    assert (fold.train.tolist(), fold.valid.tolist()) == ([*range(20)], [*range(30, 40)])
    assert fold.test.tolist() == [*range(20, 30)]
    message = problem(root=str(root), source=kind, shards="*", split={"shards": "valid-7*"})
    assert message.startswith("data.split.shards: none of the 4 shards matches valid-7*, such as ")


def test_shards_are_read_through_once(kind: str, root: Path, opened: list[str]):
    fields = {"root": str(root), "source": kind, "shards": "*"}
    calls: list[tuple[int, int]] = []
    first = load_items(data(**fields), lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(opened) == 4
    again = load_items(data(**fields), lambda *_: pytest.fail("nothing is new"))
    assert len(opened) == 4
    assert told(again) == told(first)
    load_items(data(**fields | {"shards": "train-*"}))
    assert len(opened) == 4
    load_items(data(**fields | {"split": {"random": 0.25, "group": "patient"}}))
    assert len(opened) == 8


def test_a_shard_that_changes_is_read_again_alone(kind: str, root: Path, opened: list[str]):
    fields = {"root": str(root), "source": kind, "shards": "*"}
    before = load_items(data(**fields))
    opened.clear()
    changed = write(kind, root / "train-1", 100, 107)
    now = load_items(data(**fields))
    assert opened == [changed.name]
    assert [item.id for item in now.items] == [
        f"photos/{i:04d}" for i in [*range(10), *range(100, 107), *range(20, 40)]
    ]
    stale = before.items[12].image
    assert isinstance(stale, Member)
    with pytest.raises(AblateError, match=r"train-1.*has changed since it was looked for; run the same"):
        stale.read()
    changed.unlink()
    with pytest.raises(AblateError, match=r"train-1.*cannot be read \(No such file"):
        stale.read()


def test_what_is_remembered_may_be_damaged(kind: str, root: Path, opened: list[str]):
    fields = {"root": str(root), "source": kind, "shards": "*"}
    expected = told(load_items(data(**fields)))
    folder = Path(os.environ["ABLATE_CACHE"]) / "indexed"
    for path, content in zip(sorted(folder.iterdir()), (b"", b"ARROW1", b"x" * 999), strict=False):
        path.write_bytes(content)
    opened.clear()
    assert told(load_items(data(**fields))) == expected
    assert len(opened) == 3


def test_images_in_shards_are_looked_at_like_others(kind: str, root: Path, opened: list[str]):
    fields = {"root": str(root), "source": kind, "shards": "*"}
    items = load_items(data(**fields)).items
    assert recall(items) == [None] * 40
    seen = inspect(items)
    assert not any(look.error for look in seen)
    assert {(look.width, look.height) for look in seen} == {(32, 24)}
    assert len({look.hash for look in seen}) == 40
    assert recall(load_items(data(**fields)).items) == seen
    write(kind, root / "train-1", 10, 20)
    os.utime(next(root.glob("train-1*")), ns=(1, 1))
    known = recall(load_items(data(**fields)).items)
    assert [look is None for look in known] == [10 <= i < 20 for i in range(40)]


def test_bad_images_and_leaks_are_found_in_shards(tmp_path: Path):
    whole = samples(0, 24)
    whole[3]["jpg"] = whole[3]["jpg"][:300]
    whole[23] |= {"jpg": whole[2]["jpg"]}
    write_tar(tmp_path / "train.tar", whole[:12])
    write_tar(tmp_path / "valid.tar", whole[12:])
    fields = {"root": str(tmp_path), "shards": "*.tar", "split": {"shards": "valid.tar"}}
    recipe = RecipeFields.model_validate(
        {"name": "x", "data": fields, "phases": [{"name": "p", "epochs": 1}]}
    )
    report = check_data(recipe)
    assert [id_ for id_, _ in report.bad] == ["photos/0003"]
    assert report.leaks == [(0, "train", "valid", ("photos/0002",), ("photos/0023",))]


def test_items_can_be_sent_to_other_processes(kind: str, root: Path):
    items = load_items(data(root=str(root), source=kind, shards="*"))
    sent = pickle.loads(pickle.dumps([items.items[i] for i in (3, 33)]))
    assert [item.image.read() for item in sent] == [picture(3), picture(33)]


def test_the_source_is_no_part_of_what_data_are(tmp_path: Path):
    """The same images, ids and labels in files and in a tar are the same data, so that results are shared."""
    root = tmp_path / "files"
    lines = ["image,label"]
    for sample in samples(0, 12):
        path = root / f"{sample['__key__']}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample["jpg"])
        lines.append(f"{sample['__key__']},{sample['json']['label']}")
    (root / "t.csv").write_text("\n".join(lines))
    write_tar(tmp_path / "a.tar", samples(0, 12))

    def identity(**fields: Any) -> str | None:
        items = load_items(data(**fields))
        return fingerprint(items.items, items.classes, inspect(items.items))

    files = identity(root=str(root), table="t.csv", image={"suffix": ".jpg"})
    assert files == identity(shards=str(tmp_path / "a.tar"))
    assert files is not None


def test_ids_must_differ(kind: str, root: Path):
    twice = write(kind, root / "train-9", 5, 6)
    message = problem(root=str(root), source=kind, shards=["train-0*", "train-9*"])
    assert message.startswith(f"{twice}: the image 'photos/0005' stands in {root}/train-0")
    tar = write_tar(root / "one.tar", [*samples(0, 2), *samples(0, 1)])
    assert f"{tar}: the image 'photos/0000' stands twice in this shard" in problem(shards=str(tar))


def test_shards_that_are_not_there(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch):
    missing = "train-{0..5}.tar" if kind == "webdataset" else "train-{0..5}.tfrec"
    suffix = missing.rpartition(".")[2]
    assert problem(root=str(root), shards=missing) == (
        f"data.shards: no shard matches {root}/train-3.{suffix}; correct the path or the pattern."
    )
    assert "no shard matches" in problem(root=str(root), source=kind, shards="test-*")
    assert "braces that do not close" in problem(root=str(root), source=kind, shards="train-{0..2.tar")
    monkeypatch.chdir(root)
    assert len(load_items(data(source=kind, shards="train-*")).items) == 30
    assert len(load_items(data(source=kind, shards=f"{root}/train-*")).items) == 30


def test_a_column_that_is_not_boolean(kind: str, root: Path):
    assert "for 'patient', which is neither true nor false" in problem(
        root=str(root), source=kind, shards="*", split={"column": "patient"}
    )
    message = problem(root=str(root), source=kind, shards="*", split={"random": 0.5, "group": "lesion"})
    assert "photos/0000 has no 'lesion'" in message or "record 0: has no feature 'lesion'" in message


def test_one_class_or_no_image(tmp_path: Path):
    write_tar(tmp_path / "a.tar", samples(0, 1))
    assert problem(shards=str(tmp_path / "a.tar")) == (
        "data.shards: all 1 images have the class 'cat'; a classifier needs two."
    )
    write_tar(tmp_path / "b.tar", [{"__key__": "a", "txt": "nothing"}])
    assert "there are no images" in problem(shards=str(tmp_path / "b.tar"))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_tar(tmp_path / "a.tar", samples(0, 3))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "file"))
    expected = "cannot be written (Not a directory); free the place or use another ABLATE_CACHE."
    assert expected in problem(shards=str(tmp_path / "a.tar"))


def test_planning_stays_light(kind: str, root: Path):
    """Nothing heavy is imported to load what is remembered of shards; Arrow imports pandas to write it."""
    heavy = ["torch", "pandas", "fastai", "webdataset", "tfrecord", "tensorflow"]
    code = (
        "import sys; from ablate.data.items import load_items; from ablate.recipe.data_schema import Data\n"
        f"load_items(Data(root={str(root)!r}, source={kind!r}, shards='*'))\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    for expected in ("['pandas']", "[]"):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected


def test_a_million_items_are_columns(monkeypatch: pytest.MonkeyPatch, root: Path, kind: str):
    """Nothing of the items themselves is made when they are loaded."""
    monkeypatch.setattr(sharded, "Item", lambda *_: pytest.fail("an item was made"))
    items = load_items(
        data(root=str(root), source=kind, shards="*", split={"random": 0.25, "group": "patient"})
    )
    make_folds(items, data(root=str(root), source=kind, shards="*"))
