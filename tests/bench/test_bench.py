"""`ablate bench`: real measures of small phases, and what makes them slow is named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fasttransform import Transform
from PIL import Image
from torch import nn

from ablate import techniques
from ablate.bench.subject import TRAIN, make_subject
from ablate.cli import main
from ablate.recipe.recipe import Recipe
from ablate.techniques.base import Context, Technique

NAP = 0.05
"""Seconds; long beside what the tiny network takes for an image on a busy machine."""
DIGITS = Path(__file__).parents[2] / "recipes" / "digits.yaml"


class Sleep(Transform):
    """Takes its time for each image."""

    def encodes(self, image: Image.Image) -> Image.Image:
        time.sleep(2 * NAP)
        return image


class SleepyItems(Technique):
    name: ClassVar[str] = "sleepy_items"

    def item_transforms(self, context: Context) -> list[Any]:
        return [Sleep()]


class SleepyNetwork(Technique):
    name: ClassVar[str] = "sleepy_network"

    def model(self, model: Any, context: Context) -> Any:
        return nn.Sequential(*model, _Slow())


class _Slow(nn.Module):
    def forward(self, x: Any) -> Any:
        time.sleep(NAP * len(x))
        return x


class SleepyBatches(Technique):
    name: ClassVar[str] = "sleepy_batches"

    def batch_transforms(self, context: Context) -> list[Any]:
        return [_SlowBatch()]


class _SlowBatch(Transform):
    order = 101

    def encodes(self, images: Any) -> Any:
        time.sleep(NAP * 6)
        return images


SLEEPY = {technique.name: technique for technique in (SleepyItems, SleepyNetwork, SleepyBatches)}


@pytest.fixture
def sleepy(monkeypatch: pytest.MonkeyPatch) -> None:
    known = techniques.registry() | SLEEPY
    monkeypatch.setattr(techniques, "registry", lambda: known)


@pytest.fixture
def recipe(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the recipe of a small phase on the photos."""

    def write(**overrides: Any) -> Path:
        values = {
            "name": "slow",
            "data": {"root": str(photos)},
            "model": {"arch": "test_resnet", "pretrained": False},
            "size": 16,
            "presize": 24,
            "batch_size": 6,
            "phases": [{"name": "head", "epochs": 1, "freeze": True}, {"name": "body", "epochs": 1}],
            "study": {"baseline": ["normalize", "augment"], "vary": ["mixup"]},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(values | overrides))
        return path

    return write


def bench(*words: str | Path, seconds: float = 2) -> Result:
    words = ("bench", "--device", "cpu", "--threads", "1", "--seconds", str(seconds), *words)
    return CliRunner().invoke(main, [str(word) for word in words])


def measured(*words: str | Path, seconds: float = 2) -> dict[str, Any]:
    done = bench(*words, "--json", seconds=seconds)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_digits_as_a_table() -> None:
    done = bench(DIGITS, "--phase", "small")
    assert done.exit_code == 0, done.output
    assert "digits, phase small: cpu, 1 torch threads, 0 loader threads" in done.stdout
    assert "images of 8 × 8" in done.stdout
    for row in ("decode", "augment", "loader", "training step", "training as a whole", "is the bottleneck"):
        assert row in done.stdout
    assert "measuring the loader" in done.stderr


def test_photos_as_json(recipe: Callable[..., Path]) -> None:
    found = measured(recipe(), "--workers", "2", "--on", "mixup")
    rates = found["images_per_second"]
    assert set(rates) == {
        *("decode", "presize", "cache", "augment", "loader", "loader_decoding", "loader_kept"),
        *("transforms", "step", "validation", "whole"),
    }
    assert min(rates.values()) > 0
    assert found["techniques"] == ["normalize", "augment", "mixup"]
    assert found["phase"] == "body"
    assert found["workers"] == 2
    assert found["image_size"] == [48, 36]
    assert 24 * 24 * 3 < found["cached_bytes_per_image"] < 40 * 40 * 3
    assert sum(found["loader_time"].values()) == pytest.approx(1)


def test_without_a_cache_nothing_is_kept(recipe: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    found = measured(recipe(data={"root": str(photos), "cache": "off"}))
    assert found["images_per_second"]["cache"] is None
    assert found["cached_bytes_per_image"] is None
    assert list(found["loader_time"])[:2] == ["decode", "presize"]
    assert not (tmp_path / ".cache" / "presized").exists()


def test_it_leaves_nothing_but_the_cache(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = recipe()
    before = set(tmp_path.rglob("*"))
    measured(path)
    new = {one.relative_to(tmp_path).parts[0] for one in set(tmp_path.rglob("*")) - before}
    assert new == {".cache"}


@pytest.mark.usefixtures("sleepy")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_slow_item_transform_is_named(recipe: Callable[..., Path], workers: int) -> None:
    found = measured(recipe(), "--on", "sleepy_items", "--workers", str(workers))
    assert found["bottleneck"] == "augmentation"
    assert "The loader is the bottleneck" in found["sentences"][0]
    assert "The item transforms of sleepy_items are not ablate's own" in found["sentences"][1]
    assert found["images_per_second"]["augment"] is None
    assert found["images_per_second"]["loader_kept"] < max(workers, 1) / NAP


@pytest.mark.usefixtures("sleepy")
def test_a_slow_network_is_named(recipe: Callable[..., Path]) -> None:
    found = measured(recipe(), "--on", "sleepy_network")
    assert found["bottleneck"] == "network"
    assert found["images_per_second"]["step"] < 1 / NAP


@pytest.mark.usefixtures("sleepy")
@pytest.mark.slow
def test_a_slow_batch_transform_is_named(recipe: Callable[..., Path]) -> None:
    found = measured(recipe(), "--on", "sleepy_batches")
    assert found["bottleneck"] == "batch transforms"
    assert found["images_per_second"]["transforms"] < 1 / NAP


@pytest.mark.slow
def test_slow_decoding_is_named(
    recipe: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate.data import images

    read = images.read_bytes

    def slowly(path: Any) -> bytes:
        time.sleep(NAP / 2)
        return read(path)

    monkeypatch.setattr(images, "read_bytes", slowly)
    without = measured(recipe(data={"root": str(photos), "cache": "off"}), "--workers", "1")
    assert without["bottleneck"] == "decode"
    assert "data.cache: auto" in " ".join(without["sentences"])
    cached = measured(recipe(), "--workers", "1")
    assert cached["bottleneck"] != "decode"
    assert cached["images_per_second"]["loader_decoding"] < 2 / NAP < cached["images_per_second"]["loader"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--phase", "bdy"], "phase: there is no 'bdy'; did you mean body?"),
        (["--on", "mixp"], "on: 'mixp' is no technique; did you mean mixup?"),
        (["--device", "tpu"], "--device tpu: there is no such device"),
        (["--set", "batch_size=100"], "batch_size: 100 is more than the"),
        (["--set", "model.arch=resnet1"], "timm has no architecture 'resnet1'"),
    ],
)
def test_a_users_mistake_is_one_sentence(recipe: Callable[..., Path], words: list[str], told: str) -> None:
    done = bench(recipe(), *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_image(recipe: Callable[..., Path], photos: Path) -> None:
    (photos / "cat" / "1.png").write_bytes(b"no image")
    done = bench(recipe())
    assert done.exit_code == 2
    assert "cat/1.png: is not an image" in done.stderr
    assert measured(recipe(data={"root": str(photos), "on_bad_image": "skip"}))["bottleneck"]


def test_no_room_for_the_whole_studys_cache(
    recipe: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.bench.subject.SPARE", 1 << 60)
    subject = make_subject(Recipe.load(recipe()), device="cpu")
    assert not subject.is_cached
    assert not subject.has_room
    done = bench(recipe(data={"root": str(photos), "cache": {"format": "raw"}}))
    assert done.exit_code == 2
    assert "data.cache: the presized images of the study need about" in done.stderr


def test_a_sample_stands_for_many_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "many" / name).mkdir(parents=True)
        for i in range(300):
            Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(
                tmp_path / "many" / name / f"{i}.png"
            )
    values = {
        "name": "many",
        "data": {"root": str(tmp_path / "many")},
        "size": 8,
        "batch_size": 1,
        "phases": [{"name": "one", "epochs": 1}],
    }
    subject = make_subject(Recipe.from_dict(values), device="cpu")
    assert len({item.id for item in subject.sample}) == TRAIN
    assert {item.target for item in subject.sample} == {0, 1}
    assert len(subject.parts.fold.train) == TRAIN
    more = make_subject(Recipe.from_dict(values, {"batch_size": 16}), device="cpu")
    assert len(more.parts.fold.train) == 480
    assert {item.id for item in more.parts.side("train")} == {item.id for item in more.sample}
