"""recipes/landmark.yaml is the notebook that it follows: its numbers, and its training on all images."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from ablate.recipe.recipe import Recipe
from ablate.techniques.schedule import share_of_peak

RECIPES = Path(__file__).parents[2] / "recipes"
ALL = {
    "name": "landmark-all",
    "study.vary": [],
    "study.seeds": 1,
    "data.split": {"none": True},
    "keep": "best",
    "keep_by": "train_loss",
}


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LANDMARK_DATA", "ABLATE_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / name))


def notebooks_rate(epoch: int) -> float:
    """The notebook's `lrfn`, for its 15 epochs."""
    start, peak, final, ramp, sustain = 1e-5, 2e-4, 2e-5, 3, 2
    decay = 15 - ramp - sustain - 1
    if epoch < ramp:
        return start + (peak + start) * (epoch / ramp) ** 2.5
    if epoch < ramp + sustain:
        return peak
    factor = (math.cos((epoch - ramp - sustain + 1) / (decay + 1) * math.pi) + 1) / 2
    return final + (peak - final) * factor


def test_the_rates_are_those_of_the_notebook() -> None:
    recipe = Recipe.load(RECIPES / "landmark.yaml")
    (phase,) = recipe.phases
    options = recipe.techniques["schedule"]
    assert phase.lr == 2e-4
    shares = {name: options[name] / phase.lr for name in ("start", "final")}
    before = {name: options[name] for name in ("warmup", "sustain", "offset")}
    length = phase.epochs - options["warmup"] - options["sustain"] - 1 + options["offset"]
    for epoch in range(phase.epochs):
        rate = phase.lr * share_of_peak(epoch, length, **shares, **before)
        assert rate == pytest.approx(notebooks_rate(epoch), rel=1e-12)


def test_the_settings_are_those_of_the_notebook() -> None:
    recipe = Recipe.load(RECIPES / "landmark.yaml")
    assert (recipe.batch_size, recipe.size, recipe.precision, recipe.weight_decay) == (
        1024,
        384,
        "bfloat16",
        0,
    )
    assert recipe.techniques["arcface"] == {"s": 30, "m": 0.5}
    assert recipe.study.metrics == ["top_10_accuracy", "top_100_accuracy", "top_1000_accuracy"]
    assert recipe.data.kind == "tfrecord"


@pytest.mark.parametrize("name", ["landmark", "landmark-cpu"])
def test_it_can_train_on_all_images_and_keep_the_lowest_training_loss(name: str) -> None:
    recipe = Recipe.load(RECIPES / f"{name}.yaml", ALL)
    assert recipe.data.split.none
    assert (recipe.keep, recipe.keep_by, recipe.study.vary) == ("best", "train_loss", [])


def test_its_comment_says_how() -> None:
    text = (RECIPES / "landmark.yaml").read_text(encoding="utf-8")
    words = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    told = {name: yaml.safe_load(value.strip("'")) for name, value in _settings(words)}
    assert told == ALL


def _settings(words: str) -> list[tuple[str, str]]:
    """What stands behind each --set."""
    found = []
    for part in words.replace("\\", "").split("--set ")[1:]:
        setting = part.strip().removeprefix("'").split("'")[0] if part.startswith("'") else part.split()[0]
        name, value = setting.split("=", 1)
        found.append((name, value))
    return found
