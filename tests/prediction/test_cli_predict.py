"""`ablate predict` and `ablate export` as people type them: files, notes, defaults and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small_studies import Alone

from ablate.cli import main

Ask = Callable[..., Result]


@pytest.fixture
def ask(small: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command in an empty folder: `ask("predict", "--images", …)` of the small study."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(command: str, *options: object, study: Path = small.folder) -> Result:
        own = ["--device", "cpu", "--threads", "1", "--workers", "0"] if command == "predict" else []
        return CliRunner().invoke(main, [command, str(study), *map(str, options), *own])

    return run


def test_predictions_of_a_folder(ask: Ask, small: Alone):
    result = ask("predict", "--images", small.images, "--variant", "baseline")
    assert result.exit_code == 0, result.output
    assert result.stdout == "predictions.csv\n"
    assert result.stderr == "baseline: 4 networks (2 seeds, 2 folds)\n"
    table = pd.read_csv("predictions.csv")
    assert list(table) == ["id", "label", "p_cat", "p_dog", "p_fox"]
    assert table["id"].tolist() == sorted(path.name for path in small.images.iterdir())
    assert np.allclose(table.filter(like="p_").sum(axis=1), 1, atol=1e-5)
    again = ask("predict", "--images", small.images, "--variant", "baseline", "--tta", "--best")
    assert again.exit_code == 2
    assert "--best and --variant exclude each other" in again.stderr
    assert ask("predict", "--images", small.images, "--variant", "baseline", "--tta").exit_code == 0
    assert not np.allclose(pd.read_csv("predictions.csv")["p_cat"], table["p_cat"], atol=1e-5)


def test_a_submission(ask: Ask, table: Alone):
    rows = pd.read_csv(table.tables / "train.csv", dtype=str, keep_default_na=False)
    rows.drop(columns=["diagnosis", "is_val"]).to_csv("test.csv", index=False)
    sample = pd.DataFrame({"image_name": rows["image_name"][::-1], "target": 0})
    sample.to_csv("sample_submission.csv", index=False)
    asked = ("--images", "test.csv", "--root", table.images, "--sample", "sample_submission.csv")
    result = ask("predict", *asked, study=table.folder)
    assert result.exit_code == 0, result.output
    assert result.stdout == "submission.csv\n"
    assert result.stderr.endswith("column target: the probability of class 'malignant'\n")
    found = pd.read_csv("submission.csv")
    assert list(found) == ["image_name", "target"]
    assert found["image_name"].tolist() == sample["image_name"].tolist()
    assert found["target"].between(0, 1).all()
    result = ask("predict", *asked, "--values", "label", "--out", "sample_submission.csv", study=table.folder)
    assert "is an input or a folder" in result.stderr
    result = ask("predict", *asked, "--values", "label", "--out", "labels.csv", study=table.folder)
    expected = np.where(found["target"] > 0.5, "malignant", "benign")
    assert pd.read_csv("labels.csv")["target"].tolist() == list(expected)
    sample.iloc[1:].to_csv("sample_submission.csv", index=False)
    result = ask("predict", *asked, study=table.folder)
    assert result.exit_code == 2
    assert "1 of 20 images are not in it (ISIC_19)" in result.stderr


def test_out_of_fold_needs_no_images(ask: Ask):
    result = ask("predict", "--out-of-fold", "--variant", "baseline")
    assert result.exit_code == 2  # --threads and the like say how to predict, and nothing is predicted
    assert "--threads does nothing beside --out-of-fold" in result.stderr


def test_out_of_fold(small: Alone, tmp_path: Path):
    out = tmp_path / "oof.parquet"
    result = CliRunner().invoke(main, ["predict", str(small.folder), "--out-of-fold", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    assert len(pd.read_parquet(out)) == 18


def test_embeddings_and_neighbours(ask: Ask, small: Alone):
    result = ask("predict", "--images", small.images, "--embeddings", "--variant", "baseline", "--seed", "1")
    assert (result.stdout, result.stderr) == (
        "embeddings.parquet\n",
        "baseline: the network of seed 1, fold 0\n",
    )
    vectors = pd.read_parquet("embeddings.parquet").set_index("item")
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    gallery = ("--gallery", small.tables / "train.csv", "--gallery-root", small.images)
    asked = ("--images", small.tables / "test.csv", "--root", small.images, "--variant", "baseline")
    result = ask("predict", *asked, "--neighbours", "3", *gallery)
    assert (result.exit_code, result.stdout) == (0, "neighbours.csv\n")
    found = pd.read_csv("neighbours.csv")
    assert list(found) == ["item", "rank", "neighbour", "similarity", "label", "vote"]
    assert len(found) == 27


def test_an_export_is_predicted_from_like_a_study(ask: Ask, small: Alone):
    result = ask("export", "--variant", "baseline", "--out", "exported")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "exported/recipe.yaml"
    ask("predict", "--images", small.images, "--variant", "baseline", "--out", "ours.csv")
    ask("predict", "--images", small.images, "--out", "theirs.csv", study=Path("exported"))
    assert Path("ours.csv").read_bytes() == Path("theirs.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--images: name a folder of images or a CSV table, or ask for --out-of-fold."),
        (["--images", "x", "--seed", "1"], "--seed needs --embeddings or --neighbours"),
        (["--images", "x", "--fold", "0"], "--fold needs --embeddings or --neighbours"),
        (["--images", "x", "--gallery", "y"], "--gallery needs --neighbours"),
        (["--images", "x", "--neighbours", "2", "--gallery-root", "y"], "--gallery-root needs --gallery"),
        (["--images", "x", "--embeddings", "--tta"], "--tta does nothing to embeddings"),
        (["--images", "x", "--neighbours", "2", "--sample", "y"], "--sample does nothing to embeddings"),
        (["--images", "x", "--embeddings", "--neighbours", "2"], "ask for one after the other"),
        (["--images", "x", "--values", "label"], "--values needs --sample"),
        (["--images", "x", "--out-of-fold"], "--images does nothing beside --out-of-fold"),
        (["--out-of-fold", "--tta"], "--tta does nothing beside --out-of-fold"),
        (["--images", "nowhere"], "--images nowhere: there is no such folder of images or CSV table."),
        (["--images", "x", "--out", "a.txt"], "--out a.txt: its name must end in .csv or .parquet."),
        (["--images", "x", "--sample", "y"], "--sample y: cannot be read as CSV"),
    ],
)
def test_what_cannot_be_meant_is_refused(ask: Ask, options: list[str], message: str):
    result = ask("predict", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(Path().iterdir())


def test_out_of_fold_of_an_export(tmp_path: Path):
    (tmp_path / "export.json").write_text("{}")
    result = CliRunner().invoke(main, ["predict", str(tmp_path), "--out-of-fold"])
    assert "is an export, without a study's tables; name the study." in result.stderr
