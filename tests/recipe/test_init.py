"""ablate.recipe.init: a recipe that loads and plans, from a folder or a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ablate.cli import main
from ablate.errors import AblateError
from ablate.recipe.init import write_recipe
from ablate.recipe.recipe import Recipe
from ablate.study.planning import plan_study


def test_a_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    said = write_recipe(photos, out, force=False)
    assert said == (
        f"{out}: a recipe for 24 images in 3 classes (cat 8, dog 8, fox 8), 19 to train on and 5 "
        f"to validate on. "
        f"Next: ablate plan {out}"
    )
    recipe = Recipe.load(out)
    numbers, plan = plan_study(recipe, device="cpu", threads=1)
    assert (recipe.data.kind, recipe.data.root, recipe.name) == ("folders", str(photos), "photos")
    assert (numbers["trials"], numbers["variants"]) == (25, 5)
    assert [contrast.factor for contrast in plan.contrasts] == [
        "mixup",
        "label_smoothing",
        "tta",
        "progressive_resizing",
    ]
    assert recipe.size == 64  # the photos are small
    assert recipe.batch_size < 19


def test_a_table(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    said = write_recipe(photos / "table.csv", out, force=False)
    assert "18 to train on and 6 to validate on, image: {column: image}, label: {column: label}." in said
    recipe = Recipe.load(out)
    assert (recipe.data.root, recipe.data.table) == (str(photos), "table.csv")
    assert (recipe.data.split.column, recipe.data.split.group) == ("is_val", "patient")
    numbers, _ = plan_study(recipe, device="cpu", threads=1)
    assert numbers["valid_images"] == 6


def test_a_table_by_group_at_random(photos: Path, tmp_path: Path) -> None:
    table = photos / "table.csv"
    rows = [",".join(line.split(",")[i] for i in (0, 1, 3)) for line in table.read_text().splitlines()]
    table.write_text("\n".join(rows) + "\n")
    write_recipe(table, tmp_path / "r.yaml", force=False)
    split = Recipe.load(tmp_path / "r.yaml").data.split
    assert (split.column, split.random, split.group) == (None, 0.2, "patient")


def test_names_that_need_quotes(photos: Path, tmp_path: Path) -> None:
    root = photos.rename(tmp_path / "my: photos # é [1]")
    table = root / "table.csv"
    table.write_text(table.read_text().replace("image,label", "1e3,the label: x", 1))
    write_recipe(table, tmp_path / "r.yaml", force=False)
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert (recipe.data.root, recipe.data.image.column) == (str(root), "1e3")
    assert (recipe.data.label.column, recipe.name) == ("the label: x", "table")
    write_recipe(root, tmp_path / "r.yaml", force=True)
    assert Recipe.load(tmp_path / "r.yaml").name == "my-photos-1"


def test_nothing_is_replaced_without_force(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    out.write_text("mine")
    with pytest.raises(
        AblateError, match=r"r.yaml: is there already; --force replaces it, --out names another"
    ):
        write_recipe(photos, out, force=False)
    assert out.read_text() == "mine"
    write_recipe(photos, out, force=True)
    assert Recipe.load(out).name == "photos"


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(AblateError, match=r"nix: there is no such folder or table\.$"):
        write_recipe(tmp_path / "nix", tmp_path / "r.yaml", force=False)


def test_folders_that_are_no_classes(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        AblateError, match="has no folder with images, and needs one for each class, such as cat/1"
    ):
        write_recipe(tmp_path / "empty", tmp_path / "r.yaml", force=False)
    with pytest.raises(AblateError, match="has one folder with images, photos, and needs one for each class"):
        write_recipe(tmp_path, tmp_path / "r.yaml", force=False)
    (tmp_path / "flat" / "train").mkdir(parents=True)
    (photos / "cat").rename(tmp_path / "flat" / "train" / "cat")
    (photos / "dog").rename(tmp_path / "flat" / "valid")
    with pytest.raises(AblateError, match="the folders train, valid are named by split, not by class"):
        write_recipe(tmp_path / "flat", tmp_path / "r.yaml", force=False)
    (photos / "fox").rename(photos / "images")
    with pytest.raises(AblateError, match=r"for the table there: `ablate init \S+table.csv`"):
        write_recipe(photos, tmp_path / "r.yaml", force=False)
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize("out", ["nix/r.yaml", "photos", "photos/table.csv/r.yaml"])
def test_places_that_cannot_be_written(photos: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(AblateError, match=r"cannot be written \(.+\)\.$"):
        write_recipe(photos, tmp_path / out, force=True)
    assert not list(tmp_path.rglob("*.yaml*"))
    assert (photos / "cat").is_dir()


def test_a_folder_that_is_read_only(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(AblateError, match=r"r.yaml: cannot be written \(Permission denied\)\.$"):
        write_recipe(photos, tmp_path / "r.yaml", force=False)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".cache")) == [
        "photos"
    ]


def test_a_table_that_cannot_be_used_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    table = photos / "table.csv"
    table.write_text(table.read_text() + "cat/0.jpg,dog,False,dog-9\n")
    with pytest.raises(AblateError, match=r"the image 'cat/0.jpg' stands on line 2 too"):
        write_recipe(table, tmp_path / "r.yaml", force=False)
    assert not (tmp_path / "r.yaml").exists()


def test_the_command(photos: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(photos), "--out", str(tmp_path / "r.yaml")])
    assert (result.exit_code, result.stderr) == (0, "")
    result = CliRunner().invoke(main, ["init", str(photos), "--out", str(tmp_path / "r.yaml")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is there already" in result.stderr
