"""The report, made from files alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from folders import write_study

from ablate.analysis.effects import effects
from ablate.analysis.report import write_report, write_whole
from ablate.analysis.wording import effects_rows, short_labels
from ablate.errors import AblateError

Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def folder(tmp_path: Path, study: Tables) -> Path:
    """A finished study: three variants, four seeds, a test split for the winner, two phases of history."""
    trials, predictions = study
    write_study(tmp_path, trials, predictions, ["cat", "dog", "emu"])
    winner = predictions[predictions["variant"] == "baseline+mixup"]
    test = winner.assign(split="test", pred=winner["target"])
    pd.concat([predictions, test]).to_parquet(tmp_path / "predictions.parquet")
    return tmp_path


def edit_plan(folder: Path, **changes: object) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (folder / "plan.json").write_text(json.dumps(plan | changes), encoding="utf-8")


def edit_csv(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def report_of(folder: Path) -> str:
    write_report(folder)
    return (folder / "report.md").read_text(encoding="utf-8")


def test_the_answer_comes_first_then_the_table_and_what_intervals_mean(folder: Path):
    text = report_of(folder)
    title, first, table, *_, last = text.split("\n\n")
    assert title == "# demo: which changes help?"
    assert first.startswith("On accuracy, with 4 seeds and 60 validation images: **mixup** (+")
    assert table.startswith("| comparison | difference in accuracy, points (higher is better) |")
    effects = pd.read_csv(folder / "effects.csv")
    for label, (_, effect, interval, _) in zip(
        short_labels(effects, "accuracy"), effects_rows(effects, "accuracy"), strict=True
    ):
        assert f"| {label} | {effect} | {interval} |" in table
    assert "given this training split" in last
    assert "[report.html](report.html)" in last
    assert "nan" not in text
    assert "--quick" not in text
    assert "numbers of epochs" not in text
    assert "no result (" not in text
    assert len(text.splitlines()) < 20
    assert "![" not in text


def test_all_files_are_written(folder: Path):
    write_report(folder)
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "effects.svg",
        "curves.svg",
        "confusion.svg",
    }
    assert "mixup" in (folder / "plots" / "effects.svg").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")


def test_the_same_files_give_the_same_report(folder: Path):
    names = ("report.html", "report.md", "plots/effects.svg", "plots/curves.svg", "plots/confusion.svg")
    write_report(folder)
    first = [(folder / name).read_bytes() for name in names]
    write_report(folder)
    assert [(folder / name).read_bytes() for name in names] == first
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_the_winner_is_scored_on_the_test_split(folder: Path):
    text = report_of(folder)
    assert "`baseline+mixup`, reaches **100.00 ± 0.00 points** on the test split (60 images, 4 seeds)" in text
    edit_csv(
        folder,
        "trials.csv",
        lambda table: table.assign(accuracy=table["variant"].eq("baseline").astype(float)),
    )
    assert "test split" not in report_of(folder)


def test_the_winner_of_a_loss_has_the_lowest(folder: Path):
    edit_plan(folder, metric="log_loss")
    assert "best validation log loss, `baseline+mixup`" in report_of(folder)


def test_a_quick_run_is_called_no_result(folder: Path):
    edit_plan(folder, quick=True)
    text = report_of(folder)
    assert text.split("\n\n")[1].startswith("**This is a `--quick` smoke run")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "ablate run recipe.yaml --quick" in page
    assert "smoke run" in page


def test_contrasts_of_unequal_training_are_flagged(folder: Path):
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    plan["contrasts"][1]["unequal_epochs"] = True
    edit_plan(folder, contrasts=plan["contrasts"])
    assert "**Different numbers of epochs:** `baseline+tta − baseline`." in report_of(folder)


def test_trials_without_a_result_are_counted_and_named(folder: Path):
    def lose(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[[0, 5], "status"] = ["failed", "diverged"]
        return table

    edit_csv(folder, "trials.csv", lose)
    text = report_of(folder)
    assert "2 of 12 trials have no result (" in text
    assert "1 failed" in text
    assert "1 diverged" in text
    assert "baseline (seed 0), baseline+mixup (seed 1)." in text
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<th scope="row">baseline</th><td>3</td>' in page


def test_one_seed_has_no_interval_anywhere(folder: Path, study: Tables):
    trials, predictions = (table[table["seed"] == 0] for table in study)
    effects(trials, predictions).to_csv(folder / "effects.csv", index=False)
    edit_csv(folder, "trials.csv", lambda table: table[table["seed"] == 0])
    text = report_of(folder)
    assert "with 1 seed and" in text
    assert "one seed gives no interval" in text
    assert "| – | undecided. One seed gives no interval |" in text
    assert "nan" not in text


def test_history_and_recipe_may_be_missing(folder: Path):
    (folder / "history.csv").unlink()
    (folder / "recipe.yaml").unlink()
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Learning curves" not in page
    assert "recipe.yaml" not in page
    assert not (folder / "plots" / "curves.svg").exists()


def test_a_level_called_none_stays_a_word(folder: Path):
    edit_csv(folder, "effects.csv", lambda table: table.assign(level="None"))
    assert "**mixup=None**" in report_of(folder)


def test_a_bar_in_a_name_does_not_break_the_table(folder: Path):
    edit_csv(folder, "effects.csv", lambda table: table.assign(factor=table["factor"].str.replace("x", "|")))
    assert "| mi\\|up |" in report_of(folder)


@pytest.mark.parametrize("name", ["plan.json", "trials.csv", "effects.csv", "predictions.parquet"])
def test_a_missing_file_is_named_with_the_next_step(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(AblateError, match=rf"no {name} in .*ablate run"):
        write_report(folder)
    assert not (folder / "report.md").exists()


@pytest.mark.parametrize("name", ["plan.json", "trials.csv"])
def test_a_broken_file_is_named(folder: Path, name: str):
    (folder / name).write_text("", encoding="utf-8")
    with pytest.raises(AblateError, match=name):
        write_report(folder)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "report.md"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert [each.name for each in tmp_path.iterdir()] == ["report.md"]
    assert path.read_text(encoding="utf-8") == "old"


def test_the_test_score_is_of_the_class_that_the_metric_names(folder: Path):
    edit_plan(folder, metric="recall:dog")
    edit_csv(
        folder,
        "trials.csv",
        lambda table: table.assign(**{"recall:dog": table["variant"].str.contains("mixup").astype(float)}),
    )
    edit_csv(folder, "effects.csv", lambda table: table.assign(metric="recall:dog"))
    predictions = pd.read_parquet(folder / "predictions.parquet").reset_index(drop=True)
    dogs = (predictions["split"] == "test") & (predictions["target"] == 1)
    predictions.loc[dogs & (predictions["item"] < "img_0_0030"), "pred"] = 0
    predictions.to_parquet(folder / "predictions.parquet")
    recall = 100 * (predictions.loc[dogs, "pred"] == 1).mean()
    assert 10 < recall < 90
    assert f"reaches **{recall:.2f}" in report_of(folder)


def test_looks_name_their_own_confidence_and_command(folder: Path):
    edit_plan(folder, looks=[3, 5], threads=2, device="cpu")
    text, page = report_of(folder), (folder / "report.html").read_text(encoding="utf-8")
    assert "with the confidence of its look" in text
    assert "95% interval" not in text.split("\n\n")[2]
    assert "ablate run recipe.yaml --until-decided --max-seeds 5 --threads 2" in page
