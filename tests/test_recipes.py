"""The recipes that ship: each plans, and each of those for small machines runs on real photos, in small."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from data.shard_writers import Record, picture, write_tfrecord

from ablate.cli import main

FOLDER = Path(__file__).parents[1] / "recipes"
ALL = sorted(path.stem for path in FOLDER.glob("*.yaml"))
FOR_SMALL_MACHINES = [name for name in ALL if name.endswith("-cpu")]
SMALLER = {
    "model.arch": "test_efficientnet",
    "model.weights": "null",
    "model.pretrained": "false",
    "size": "32",
    "presize": "40",
    "study.seeds": "1",
}


RESIZED = "techniques.progressive_resizing={head: {size: 24, presize: 32}, finetune: {size: 32, presize: 40}}"


def ablate(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def record(image: bytes, label: int) -> Record:
    return {"image": (image, "byte"), "label": (label, "int")}


@pytest.fixture
def real_data(cassava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that the recipes ask for: shards of cassava photos, and below them of many classes."""
    with (cassava / "train_val_split.csv").open() as file:
        rows = list(csv.DictReader(file))[:90]
    for i in range(3):
        records = [
            record((cassava / "train_images" / row["image_id"]).read_bytes(), int(row["label"]))
            for row in rows[i::3]
        ]
        write_tfrecord(tmp_path / "landmarks" / f"{i}.tfrecords", records)
    many = [record(picture(0), label) for label in range(1100) for _ in range(2)]
    write_tfrecord(tmp_path / "landmarks" / "train" / "0.tfrecords", many)
    (tmp_path / "mobilenetv2_100.safetensors").write_text("a plan only hashes it")
    for name, folder in {
        "CASSAVA_DATA": cassava,
        "HAM10000_DATA": cassava.parent / "ham10000",
        "LANDMARK_DATA": tmp_path / "landmarks",
        "ABLATE_WEIGHTS": tmp_path,
    }.items():
        monkeypatch.setenv(name, str(folder))


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_plans(name: str, real_data: None):
    done = ablate("plan", FOLDER / f"{name}.yaml")
    assert done.exit_code == 0, done.output
    assert "comparisons" in done.output


def factors(recipe: dict[str, Any]) -> list[str]:
    return [one if isinstance(one, str) else next(iter(one)) for one in recipe["study"]["vary"]]


@pytest.mark.parametrize("name", FOR_SMALL_MACHINES)
def test_an_overlay_changes_size_network_and_length_alone(name: str):
    """What a recipe is about stays: its data, its techniques and its questions."""
    from ruamel.yaml import YAML

    overlay = YAML(typ="safe").load(FOLDER / f"{name}.yaml")
    assert overlay["extends"] == f"{name.removesuffix('-cpu')}.yaml"
    whole = YAML(typ="safe").load(FOLDER / overlay["extends"])
    if "vary" in overlay.get("study", {}):  # rates have other levels, under the same names
        assert factors(overlay) == factors(whole)
    assert "design" not in overlay.get("study", {})
    assert "baseline" not in overlay.get("study", {})


@pytest.mark.parametrize("name", FOR_SMALL_MACHINES)
def test_a_recipe_runs_on_real_photos_with_all_outputs(name: str, real_data: None, tmp_path: Path):
    changes = [word for field, value in SMALLER.items() for word in ("--set", f"{field}={value}")]
    if name == "cassava-cpu":
        changes += ["--set", RESIZED]
    done = ablate("run", FOLDER / f"{name}.yaml", "--quick", "--out", tmp_path / "runs", *changes)
    assert done.exit_code == 0, done.output
    study = tmp_path / "runs" / f"{name}-quick"
    trials, effects = pd.read_csv(study / "trials.csv"), pd.read_csv(study / "effects.csv")
    assert set(trials["status"]) == {"ok"}
    predictions = pd.read_parquet(study / "predictions.parquet")
    assert len(predictions.groupby(["variant", "seed", "fold"])) == len(trials)
    probabilities = predictions[[column for column in predictions if column.startswith("p_")]]
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert effects["primary"].sum() == effects["contrast"].nunique()
    report = (study / "report.html").read_text()
    for part in ("Confusion matrices", "scores by class", "Learning curves"):
        assert part in report
    assert list((study / "plots").glob("*.svg"))
