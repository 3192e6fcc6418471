"""What notebooks show of recipes, plans and studies, and of the user's mistakes."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from rich.console import Console
from rich.table import Table

from ablate.errors import AblateError, RecipeError
from ablate.notebook_html import to_html
from ablate.recipe.recipe import Recipe
from ablate.study.show import print_plan
from ablate.study.study import Study

REFERENCE = re.compile(r"(?:src|url\(|@import|<script|<link|<img)")
"""What would load something from elsewhere."""


class Cells(HTMLParser):
    """The tables of a piece of HTML as rows of texts, by caption; complains of tags that are not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "table":
            self.rows: list[list[str]] = []
            self.tables[f"table {len(self.tables)}"] = self.rows
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "caption" in self.open:
            self.tables[data] = self.tables.pop(list(self.tables)[-1])
        elif self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def shown(value: Any) -> Cells:
    html = value._repr_html_()
    assert not REFERENCE.search(html)
    return Cells(html)


def test_all_that_is_shown_is_text():
    table = Table("<b>", title="<script>")
    table.add_row("a & b")
    html = to_html(table, "1 < 2")
    cells = Cells(html)
    assert cells.tables == {"<script>": [["<b>"], ["a & b"]]}
    assert cells.text.endswith("1 < 2")
    assert "<script>" not in html


def test_a_recipe_is_shown_with_what_is_on_and_what_is_varied(tiny: dict[str, Any]):
    seen = shown(Recipe.from_dict(tiny)).tables
    assert ["model.arch", "test_vit"] in seen["tiny"]
    assert ["size", "16"] in seen["tiny"]
    assert seen["phases"] == [
        ["phase", "trains", "epochs", "size", "batch size", "rate"],
        ["one", "all", "1", "16", "128", "0.003"],
        ["two", "all", "1", "16", "128", "0.001"],
    ]
    assert seen["techniques"] == [
        ["technique", "in the baseline", "varied", "options"],
        ["normalize", "on", "no", ""],
        ["mixup", "off", "off, on", "phases: [two]"],
        ["tta", "off", "off, on", ""],
    ]
    assert ["varies phases.one.lr", "0.003, 1e-06"] in seen["study"]
    assert ["seeds", "2"] in seen["study"]


def test_a_recipe_with_a_list_of_variants_and_paths(tiny: dict[str, Any], tmp_path: Path):
    tiny["study"] |= {"vary": [], "design": [{"on": ["mixup"]}, {"off": ["normalize"]}]}
    tiny["model"] |= {"head": {"hidden": [8]}, "weights": str(tmp_path / "w.safetensors")}
    seen = shown(Recipe.from_dict(tiny)).tables
    assert ["model.weights", "…/w.safetensors"] in seen["tiny"]
    assert ["model.head", "pool: avg, map_dropout: 0, hidden: [8], dropout: 0"] in seen["tiny"]
    assert ["normalize", "on", "by variant", ""] in seen["techniques"]
    assert ["design", "a list of variants"] in seen["study"]


def test_a_plan_is_shown_as_the_command_shows_it(tiny: dict[str, Any], tmp_path: Path):
    planned = Recipe.from_dict(tiny).plan(tmp_path, threads=1)
    assert planned.numbers["trials"] == len(planned.plan.trials) == 8
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    print_plan(planned.numbers, planned.plan, console)
    printed = console.export_text()
    assert repr(planned) == printed.rstrip()
    html = shown(planned)
    assert list(html.tables) == ["plan", "variants", "comparisons"]
    words = "".join(printed.split())
    for cell in (cell for rows in html.tables.values() for row in rows for cell in row):
        assert "".join(cell.split()) in words
    assert not (tmp_path / "tiny").exists()


def test_recipes_and_plans_are_shown_without_anything_heavy(tiny: dict[str, Any], tmp_path: Path):
    code = (
        f"import sys; from ablate import Recipe; recipe = Recipe.from_dict({tiny!r}); recipe._repr_html_(); "
        f"planned = recipe.plan({str(tmp_path)!r}); planned._repr_html_(); repr(planned); "
        "print({'torch', 'fastai', 'pandas', 'wandb', 'ray', 'IPython'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_a_finished_study_is_its_effects_and_its_report(finished: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(finished.folder.parent)
    seen = shown(finished)
    (rows,) = seen.tables.values()
    assert list(seen.tables) == ["tiny: effects on accuracy"]
    effects = finished.effects().query("metric == 'accuracy'")
    assert [row[-1] for row in rows[1:]] == effects["verdict"].tolist()
    assert seen.text.endswith("report: tiny/report.html")
    assert '<a href="tiny/report.html"' in finished._repr_html_()
    monkeypatch.chdir("/")
    monkeypatch.setattr(Path, "is_relative_to", lambda *_: False)
    assert f'<a href="{(finished.folder / "report.html").as_uri()}"' in finished._repr_html_()


def test_a_study_that_is_not_finished_tells_how_far_it_is(copy_of: Study):
    (copy_of.folder / ".finished").unlink()
    fit = copy_of.trial("baseline", 0, 0).fits[-1]
    shutil.rmtree(Path(copy_of.plan["store"]) / fit)
    seen = shown(copy_of)
    assert ["baseline · two · seed 0", "can run"] in seen.tables["not finished"]
    assert "`ablate run` goes on with it: 1 stage is left." in seen.text


def test_a_folder_without_a_study_is_told_in_a_sentence(tmp_path: Path):
    assert "cannot be read as a study's plan" in shown(Study(tmp_path)).text


def test_mistakes_are_a_sentence_in_ipython(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which IPython replaces
    shell = InteractiveShell.instance()
    try:
        shell.run_cell("import ablate; ablate.Recipe.from_dict({'name': 'x', 'phasse': []})")
        told = capsys.readouterr().out
    finally:
        InteractiveShell.clear_instance()
    assert "phases" in told
    assert "Traceback" not in told
    assert "site-packages" not in told
    assert RecipeError("one").__class__._render_traceback_(AblateError("one")) == ["AblateError: one"]


def test_a_trained_learner_is_rebuilt_without_pickle(finished: Study, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle was read")

    for name in ("load", "loads"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    learn = finished.learner("baseline", seed=0)
    with learn.no_bar():
        predicted = learn.get_preds()[0].argmax(1)
    stored = finished.predictions().query("variant == 'baseline' and seed == 0")
    assert predicted.tolist() == stored["pred"].tolist()
