"""The page: what it holds, what it leaves out, and that names are only text in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folders import write_study, write_thumbnails

from ablate.analysis.by_class import changed_items
from ablate.analysis.html import contents, html, marked
from ablate.analysis.saved import StudyFiles
from ablate.analysis.wording import signed

Tables = tuple[pd.DataFrame, pd.DataFrame]
CLASSES = ["cat", "dog", "<script>alert(1)</script>"]


class Page(HTMLParser):
    """The text, ids and attributes of a page; a failure where tags do not close in order."""

    EMPTY = ("meta", "link", "img", "br", "wbr", "hr")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for attributes in self.attributes("section")]


@pytest.fixture
def folder(tmp_path: Path, study: Tables) -> Path:
    return write_study(tmp_path, *study, CLASSES)


def page_of(folder: Path) -> Page:
    return Page(html(StudyFiles.read(folder)))


def edit_csv(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def edit_plan(folder: Path, **changes: Any) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (folder / "plan.json").write_text(json.dumps(plan | changes), encoding="utf-8")


def test_the_answer_and_its_figure_come_first_then_everything_else(folder: Path):
    page = page_of(folder)
    assert page.text.index("On accuracy, with 4 seeds and 60 validation images: mixup (+") < 60
    assert page.sections == [
        *(
            "effects",
            "variants",
            "classes",
            "images",
            "calibration",
            "cost",
            "power",
            "pairs",
            "plan",
            "repeat",
        )
    ]
    first = page.attributes("svg")[0]["aria-label"]
    effects = pd.read_csv(folder / "effects.csv")
    row = effects[effects["metric"] == "accuracy"].iloc[0]
    assert first is not None
    assert f"baseline+mixup − baseline: {signed(row['effect'], 'accuracy')}, interval [" in first
    assert "helps" in first


def test_every_figure_tells_its_numbers_and_has_ids_of_its_own(folder: Path):
    page = page_of(folder)
    svgs = page.attributes("svg")
    assert len(svgs) == 4
    for each in svgs:
        assert each["role"] == "img"
        assert re.search(r"\d", each["aria-label"] or "")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    text = html(StudyFiles.read(folder))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_nothing_is_fetched(folder: Path):
    page = page_of(folder)
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    text = html(StudyFiles.read(folder))
    assert "@import" not in text
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "https://" not in text


def test_names_are_text_and_nothing_else(tmp_path: Path, tables: Callable[..., Tables]):
    evil = "baseline+<script>alert(1)</script>$x$ **b**"
    trials, predictions = tables({"baseline": 1.0, evil: 1.5, "baseline+&amp;": 1.2})
    write_study(tmp_path, trials, predictions, CLASSES, name="<img src=x onerror=alert(1)>")
    (tmp_path / "recipe.yaml").write_text("name: </pre><script>alert(1)</script>\n", encoding="utf-8")
    write_thumbnails(tmp_path, changed_items(StudyFiles.read(tmp_path)))
    page = page_of(tmp_path)
    assert not page.attributes("script")
    assert len(page.attributes("img")) == len(changed_items(StudyFiles.read(tmp_path)))
    assert "<img src=x onerror=alert(1)>: which changes help?" in page.text
    assert evil in page.text
    assert "baseline+&amp;" in page.text
    assert "name: </pre><script>" in page.text


def test_markdown_in_sentences_is_bold_and_code_and_all_else_is_text():
    assert marked("**a<b** and `c&d`") == "<strong>a&lt;b</strong> and <code>c&amp;d</code>"


def test_effects_say_what_would_decide_them_and_what_is_special(folder: Path):
    def undecided(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["metric"] == "accuracy", "verdict"] = "undecided"
        return table

    def details(table: pd.DataFrame) -> pd.DataFrame:
        rows = table.index[table["metric"] == "accuracy"]
        table["note"] = table["note"].astype(object)
        table[["more_seeds", "images_needed", "look"]] = np.nan
        table.loc[rows[0], ["more_seeds", "note", "look"]] = [1, "Seed 3 is left out.", 5]
        table.loc[rows[1], ["images_needed", "confidence"]] = [12345, 0.986]
        return table

    edit_csv(folder, "effects.csv", undecided)
    edit_csv(folder, "details.csv", details)
    contrasts = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["contrasts"]
    contrasts[0] |= {"unequal_epochs": True, "aliases": ["tta × cutmix", "ema"]}
    contrasts[1] |= {"primary": False}
    edit_plan(folder, contrasts=contrasts)
    edit_csv(folder, "effects.csv", lambda t: t.assign(primary=t["primary"] & (t["factor"] == "mixup")))
    text = page_of(folder).text
    assert "About 1 more seed would decide it" in text
    assert "More seeds will never decide it on these images; about 12,345 images would" in text
    assert "Its variants trained for different numbers of epochs" in text
    assert "This design cannot tell it from tta × cutmix, ema" in text
    assert "Decided at 5 seeds" in text
    assert "Seed 3 is left out" in text
    assert "Interval of 98.6%" in text
    assert "undecided exploratory" in text


def test_power_is_split_into_seeds_and_images(folder: Path):
    power = contents(StudyFiles.read(folder))["power"]
    details = pd.read_csv(folder / "details.csv").query("metric == 'accuracy'").iloc[0]
    seeds = details["seed_se"] ** 2 / details["se"] ** 2
    assert power.rows[0][0] == "mixup"
    assert power.rows[0][1] == f"{100 * details['detectable_effect']:.2f}"
    assert power.rows[0][-1] == f"{100 * seeds:.0f} % / {100 * (1 - seeds):.0f} %"


def test_costs_compare_train_time_with_what_it_brings(folder: Path):
    cost = contents(StudyFiles.read(folder))["cost"]
    assert [row[:4] for row in cost.rows] == [
        ["1. mixup", "60 s", "1.5 min", "+50 %"],
        ["2. tta", "60 s", "1.5 min", "+50 %"],
    ]


def test_pairs_of_models_are_called_no_test_of_the_technique(folder: Path):
    page = page_of(folder)
    assert "not whether the technique helps" in page.text
    rows = contents(StudyFiles.read(folder))["mcnemar"].rows
    pairs = pd.read_csv(folder / "pairs.csv")
    assert len(rows) == len(pairs) == 8
    assert rows[0][2:4] == [str(pairs["only_first"][0]), str(pairs["only_second"][0])]


def test_recall_changes_are_against_the_baseline(folder: Path, study: Tables):
    table = contents(StudyFiles.read(folder))["recalls"]
    rows = study[1][study[1]["target"] == 0]
    hits = (rows["target"] == rows["pred"]).groupby(rows["variant"]).mean()
    change = 100 * (hits["baseline+mixup"] - hits["baseline"])
    assert table.header == ["class", "images", "baseline, %", "+mixup", "+tta"]
    assert table.rows[0][0] == "cat"
    assert table.rows[0][3] == f"{change:+.1f}".replace("-", "−")


def test_images_show_thumbnails_where_they_were_kept(folder: Path):
    items = changed_items(StudyFiles.read(folder))
    assert not page_of(folder).attributes("img")
    write_thumbnails(folder, items[:-1])
    page = page_of(folder)
    shown = page.attributes("img")
    assert len(shown) == len(items) - 1
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,") and each["alt"] for each in shown)
    (folder / "thumbnails" / "0.jpg").unlink()
    assert len(page_of(folder).attributes("img")) == len(items) - 2


def test_everything_to_repeat_it(folder: Path):
    text = page_of(folder).text
    assert "Some CPU, 8 cores, 16 GiB of memory, 2 × H1, Linux-6" in text
    assert "torch 2.15, fastai 2.8.12" in text
    assert "12 (3 variants × 4 seeds × 1 fold)" in text
    assert "16 trained instead of 24" in text
    assert "Seeds0, 1, 2, 3" in text.replace("Seeds ", "Seeds")
    (folder / "machine.json").unlink()
    assert re.search(r"Hardware\s*unknown", page_of(folder).text)


def test_a_test_score_has_a_section(folder: Path, study: Tables):
    winner = study[1][study[1]["variant"] == "baseline+mixup"]
    test = winner.assign(split="test", pred=winner["target"])
    pd.concat([study[1], test]).to_parquet(folder / "predictions.parquet")
    page = page_of(folder)
    assert "test" in page.sections
    assert "100.00 ± 0.00 points on the test split" in page.text


@pytest.mark.parametrize(
    ("gone", "section"),
    [("details.csv", "power"), ("pairs.csv", "pairs"), ("history.csv", None), ("recipe.yaml", None)],
)
def test_a_study_of_before_has_no_section_for_what_it_lacks(folder: Path, gone: str, section: str | None):
    (folder / gone).unlink()
    page = page_of(folder)
    assert section not in page.sections
    assert len(page.attributes("svg")) == (3 if gone == "history.csv" else 4)
    assert ("recipe.yaml" in page.text) == (gone != "recipe.yaml")


def test_a_plan_of_before_is_enough(folder: Path):
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    old = {key: plan[key] for key in ("name", "metric", "smallest_effect")}
    (folder / "plan.json").write_text(json.dumps(old), encoding="utf-8")
    page = page_of(folder)
    assert page.sections[0] == "effects"
    assert "cost" not in page.sections


def test_one_seed_is_told(tmp_path: Path, tables: Callable[..., Tables]):
    write_study(tmp_path, *tables({"baseline": 1.0, "baseline+a": 1.5}, seeds=1), CLASSES)
    text = page_of(tmp_path).text
    assert "There is one seed." in text
    assert "One seed cannot tell the effect from the luck of the seed" in text
    assert "nan" not in text


def test_folds_and_missing_trials(tmp_path: Path, tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "baseline+a": 1.5}, seeds=3, folds=2)
    trials.loc[0, "status"] = "diverged"
    write_study(tmp_path, trials, predictions, CLASSES)
    page = page_of(tmp_path)
    assert "1 of 12 trials have no result (1 diverged): baseline (seed 0)." in page.text
    assert "2 folds" in page.text


def test_constant_predictions_are_shown_as_they_are(tmp_path: Path, study: Tables):
    trials, predictions = study
    write_study(tmp_path, trials, predictions.assign(pred=0, p_0=1.0, p_1=0.0, p_2=0.0), CLASSES)
    page = page_of(tmp_path)
    assert "images" not in page.sections
    assert "undecided" in page.text or "negligible" in page.text
    assert "nan" not in page.text


def test_without_contrasts_there_is_no_effect_to_show(tmp_path: Path, tables: Callable[..., Tables]):
    write_study(tmp_path, *tables({"baseline": 1.0}), CLASSES)
    page = page_of(tmp_path)
    assert "This study declared no comparison" in page.text
    assert not {"effects", "cost", "power", "pairs", "images"} & set(page.sections)
    assert {"variants", "calibration", "plan", "repeat"} <= set(page.sections)


def test_nothing_finished_is_no_failure(folder: Path):
    edit_csv(folder, "trials.csv", lambda table: table.assign(status="diverged"))
    page = page_of(folder)
    assert "12 of 12 trials have no result" in page.text
    assert "classes" not in page.sections


def test_many_classes_show_those_that_matter_most(tmp_path: Path, tables: Callable[..., Tables]):
    tables_ = tables({"baseline": 1.0, "baseline+a": 3.0}, seeds=2, items=400, classes=50)
    write_study(tmp_path, *tables_, [f"class {k}" for k in range(50)])
    found = contents(StudyFiles.read(tmp_path))
    assert found["confusions"] == []
    assert len(found["pairs"].rows) == len(found["recalls"].rows) == 20
    assert "Of 50 classes, the 20 that change most." in page_of(tmp_path).text


def test_many_variants_leave_some_out_of_the_wide_tables(tmp_path: Path, tables: Callable[..., Tables]):
    strengths = {"baseline": 1.0} | {f"baseline+v{i}": 1.0 + i / 5 for i in range(15)}
    write_study(tmp_path, *tables(strengths, seeds=2), CLASSES)
    found = contents(StudyFiles.read(tmp_path))
    assert len(found["confusions"]) == 12
    assert found["confusions"][0][0] == "baseline"
    assert "+v14" in found["recalls"].header
    assert "4 more are left out" in page_of(tmp_path).text


def test_a_metric_that_trials_do_not_have_is_no_failure(folder: Path):
    edit_csv(
        folder, "effects.csv", lambda table: table.assign(metric=table["metric"].replace("accuracy", "f1"))
    )
    edit_plan(folder, metric="f1")
    assert "Effects on F1" in (page_of(folder).attributes("svg")[0]["aria-label"] or "")
