"""The order of training, and studies on shards: the same as on files, all at once or a few at a time."""

from __future__ import annotations

import dataclasses
import http.server
import io
import json
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tfrecord import TFRecordWriter

from ablate.data import cache, copies, place
from ablate.data.streaming import fetching, stream_order
from ablate.recipe.recipe import Recipe
from ablate.streams import Streams
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare, presizes_of
from ablate.techniques.balanced_sampling import BalancedSampling, balanced_draw
from ablate.techniques.base import Context, Technique
from ablate.training import order
from ablate.training.data import dataloaders
from ablate.training.parts import Parts

LABELS = ("cat", "dog", "fox")
SHARDS = 6


def samples(photos: Path) -> list[tuple[str, bytes, str, bool]]:
    """Name, file, class and side of each of the 24 photos."""
    return [
        (f"{label}-{i}", next((photos / label).glob(f"{i}.*")).read_bytes(), label, i > 5)
        for i in range(8)
        for label in LABELS
    ]


def write_tars(photos: Path, folder: Path, shards: int = SHARDS) -> None:
    folder.mkdir()
    each = 24 // shards
    for number in range(shards):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for name, image, label, held in samples(photos)[number * each : (number + 1) * each]:
                told = json.dumps({"label": label, "is_val": held}).encode()
                for suffix, content in (("jpg", image), ("json", told)):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_table(photos: Path, folder: Path) -> None:
    folder.mkdir()
    lines = ["image,label,is_val"]
    for name, image, label, held in samples(photos):
        (folder / f"{name}.jpg").write_bytes(image)
        lines.append(f"{name},{label},{held}")
    (folder / "table.csv").write_text("\n".join(lines))


def write_records(photos: Path, folder: Path) -> None:
    folder.mkdir()
    for number in range(SHARDS):
        writer = TFRecordWriter(str(folder / f"{number}.tfrec"))
        for name, image, label, held in samples(photos)[4 * number : 4 * number + 4]:
            record = {"image": (image, "byte"), "image_name": (name.encode(), "byte")}
            writer.write(record | {"label": (label.encode(), "byte"), "is_val": (int(held), "int")})
        writer.close()


@pytest.fixture
def tars(photos: Path, tmp_path: Path) -> Path:
    write_tars(photos, tmp_path / "tars")
    return tmp_path / "tars"


def data(root: Path | str, stream: int | None = None, **fields: Any) -> dict[str, Any]:
    streamed = {"stream": {"shards": stream}} if stream else {}
    given = {"root": str(root), "shards": f"{{0..{SHARDS - 1}}}.tar", "split": {"column": "is_val"}}
    return given | streamed | fields


@pytest.fixture
def streamed(recipe: Callable[..., Recipe], tars: Path) -> Callable[..., Parts]:
    """Makes the parts of a phase over tars, two at a time."""

    def make(*on: Technique, workers: int = 0) -> Parts:
        made = recipe(data=data(tars, 2)).parts("body")
        own = {technique.name: technique for technique in on}
        return dataclasses.replace(made, on={**made.on, **own}, workers=workers, device="cpu")

    return make


class Backwards(Technique):
    """Its own order in the first epoch alone."""

    name: ClassVar[str] = "backwards"

    def sampler(self, context: Context, epoch: int) -> np.ndarray | None:
        return np.arange(18)[::-1] if epoch == 0 else None


def test_a_stream_is_trained_on_in_its_order(streamed: Callable[..., Parts]):
    parts = streamed()
    train = dataloaders(parts).train
    shards, targets = np.arange(18) // 4, parts.items.targets[parts.fold.train]
    for epoch in range(3):
        expected = stream_order(Streams(0, "body"), epoch, shards, 2)
        assert train.get_idxs().tolist() == expected.tolist()
        assert torch.cat([y for _, y in train]).tolist() == targets[expected].tolist()
    assert train.epoch == 3


def test_workers_change_nothing_in_a_stream(streamed: Callable[..., Parts]):
    loaders = [dataloaders(streamed(workers=workers)).train for workers in (0, 1, 2)]
    for _ in range(2):
        one, *others = [list(loader) for loader in loaders]
        assert len(one) == 3
        for other in others:
            assert all(
                torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
            )


def test_a_techniques_own_order_comes_before_the_streams(streamed: Callable[..., Parts]):
    own, plain = (dataloaders(streamed(*on)).train for on in ([Backwards()], []))
    assert own.get_idxs().tolist() == list(range(17, -1, -1))
    assert plain.get_idxs().tolist() != own.get_idxs().tolist()
    own.epoch = plain.epoch = 1
    assert own.get_idxs().tolist() == plain.get_idxs().tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_balanced_sampling_draws_from_all_shards_of_a_stream(streamed: Callable[..., Parts], workers: int):
    parts = streamed(BalancedSampling(), workers=workers)
    train = dataloaders(parts).train
    targets = parts.items.targets[parts.fold.train]
    for epoch in range(2):
        expected = balanced_draw(targets, Streams(0, "body").generator("sample", epoch))
        assert len(set(expected.tolist())) < 18
        assert torch.cat([y for _, y in train]).tolist() == targets[expected].tolist()


def test_the_order_is_worked_out_once_an_epoch(
    streamed: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
):
    epochs: list[int] = []

    def counted(streams: Streams, epoch: int, *layout: Any) -> np.ndarray:
        epochs.append(epoch)
        return stream_order(streams, epoch, *layout)

    monkeypatch.setattr(order, "stream_order", counted)
    train = dataloaders(streamed()).train
    assert [len(train) for _ in range(3)] == [3] * 3
    list(train)
    assert len(train) == 3
    assert epochs == [0, 1]


def test_validation_and_prediction_keep_the_items_order(streamed: Callable[..., Parts]):
    parts = streamed()
    dls = dataloaders(parts)
    expected = parts.items.targets[parts.fold.valid].tolist()
    for loader in (dls.valid, dls.test_dl(parts.side("valid"), with_labels=True)):
        assert torch.cat([y for _, y in loader]).tolist() == expected


def identities(made: Recipe) -> tuple[Any, list[str]]:
    found = prepare(made).identities
    return found[0], sorted(make_plan(made, found).stages)


def test_a_stream_decides_results_and_nothing_else_of_shards_does(
    recipe: Callable[..., Recipe], photos: Path, tars: Path, tmp_path: Path
):
    write_tars(photos, tmp_path / "fewer", 3)
    write_table(photos, tmp_path / "files")
    fewer = data(tmp_path / "fewer", shards="{0..2}.tar")
    table = data(tmp_path / "files", table="table.csv", image={"suffix": ".jpg"})
    table.pop("shards")
    plain, keys = identities(recipe(data=data(tars)))
    assert (plain, keys) == identities(recipe(data=fewer)) == identities(recipe(data=table))
    two, two_keys = identities(recipe(data=data(tars, 2)))
    assert (two.train != plain.train, two.valid) == (True, plain.valid)
    other, other_keys = identities(recipe(data=fewer | {"stream": {"shards": 2}}))
    assert (other.train != two.train, other.valid) == (True, plain.valid)
    three, three_keys = identities(recipe(data=data(tars, 3)))
    assert three == two
    assert not (set(keys) & set(two_keys)) | (set(two_keys) & (set(other_keys) | set(three_keys)))
    stages = make_plan(recipe(data=data(tars, 2)), [two]).stages.values()
    assert {stage.settings["stream"] for stage in stages} == {2}
    assert not any(
        "stream" in s.settings for s in make_plan(recipe(data=data(tars)), [plain]).stages.values()
    )


def test_a_stream_is_not_cached_unless_asked_for(recipe: Callable[..., Recipe], tars: Path):
    assert presizes_of(recipe(data=data(tars, 2))) == []
    assert prepare(recipe(data=data(tars, 2)), presizes=[]).presized == {}
    asked = recipe(data=data(tars, 2, cache={"format": "raw"}))
    assert [presize.shorter for presize in presizes_of(asked)] == [40]
    assert [presize.shorter for presize in presizes_of(recipe(data=data(tars)))] == [40]


def test_photos_in_tars_train_as_they_do_from_files(
    runner: Callable[..., Any], photos: Path, tars: Path, tmp_path: Path
):
    write_table(photos, tmp_path / "files")
    table = data(tmp_path / "files", table="table.csv", image={"suffix": ".jpg"})
    table.pop("shards")
    expected = runner("files", data=table).predictions()
    assert runner("tars", workers=2, data=data(tars)).predictions().equals(expected)
    streamed = runner("stream", data=data(tars, 2)).predictions()
    assert streamed["item"].tolist() == expected["item"].tolist()
    assert streamed["target"].tolist() == expected["target"].tolist()
    assert not np.array_equal(streamed["p_0"], expected["p_0"])


def test_a_stream_that_is_killed_goes_on_exactly(runner: Callable[..., Any], tars: Path):
    phases = [{"name": "body", "epochs": 3, "lr": [1e-4, 1e-3]}]
    given = {"data": data(tars, 2), "phases": phases}
    expected = runner("undisturbed", **given).predictions()
    made = runner("disturbed", workers=1, **given)
    stage = made.fit()

    def die_after_the_second_epoch(message: dict[str, Any]) -> None:
        if message.get("epoch", {}).get("epoch") == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        made.run(stage, die_after_the_second_epoch)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    trained: list[int] = []
    made.run(stage, lambda message: trained.append(message["epoch"]["epoch"]) if "epoch" in message else None)
    assert trained in ([1, 2], [2])
    assert made.predictions().equals(expected)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path / "records"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def test_records_of_a_server_train_like_those_of_a_folder(
    runner: Callable[..., Any], photos: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
):
    write_records(photos, tmp_path / "records")
    names = f"{{0..{SHARDS - 1}}}.tfrec"
    expected = runner("folder", data=data(tmp_path / "records", 2, shards=names)).predictions()
    far = runner("server", workers=2, data=data(server, 2, shards=names))
    for path in copies.folder().glob("*.tfrec"):  # they have been read to see what is in them
        path.unlink()
    fetched: list[tuple[int, int]] = []

    def counted(positions: np.ndarray, shard_of_item: np.ndarray, shards: Any, ahead: int) -> Iterator[int]:
        fetched.append((len(positions), ahead))
        return fetching(positions, shard_of_item, shards, ahead)

    monkeypatch.setattr(order, "fetching", counted)
    assert far.predictions().equals(expected)
    # an epoch of each phase, of two the last, with their validation, and the prediction
    assert fetched == [(18, 2), (6, 2)] * 3 + [(6, 2)]
    assert len(list(copies.folder().glob("*.tfrec"))) == SHARDS


def test_the_cache_of_images_in_tars_is_estimated_by_their_first_bytes(
    recipe: Callable[..., Recipe], tars: Path, monkeypatch: pytest.MonkeyPatch
):
    made = recipe(data=data(tars))
    presizes = presizes_of(made)
    estimated = prepare(made, look=False, presizes=presizes).cache_bytes
    monkeypatch.setattr(cache, "HEADERS", 5)
    assert prepare(made, presizes=presizes).cache_bytes == estimated
    packs = place.folder(presizes[0].name).glob("*.pack")
    assert sum(path.stat().st_size for path in packs) == estimated
