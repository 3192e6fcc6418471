"""What a notebook shows while a study runs: one output, written anew."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from IPython import display

from ablate.recipe.recipe import Recipe
from ablate.study.display_notebook import MOST_BARS, NotebookDisplay, in_notebook
from ablate.study.graph import FoldData, Plan, Stage
from ablate.study.plan import make_plan
from ablate.study.study import Study

ROW = {"phase": "one", "epoch": 0, "train_loss": 1.0, "valid_loss": 0.5, "accuracy": 0.75, "seconds": 2.0}


class Cell:
    """An output of a notebook: how often it was begun, and all that it has shown."""

    def __init__(self) -> None:
        self.begun, self.shown = 0, list[str]()

    def display(self, html: display.HTML, *, display_id: bool) -> Cell:
        assert display_id
        self.begun += 1
        self.update(html)
        return self

    def update(self, html: display.HTML) -> None:
        self.shown.append(html.data)

    @property
    def text(self) -> str:
        """What stands there now, without tags."""
        words = list[str]()

        class Words(HTMLParser):
            handle_data = staticmethod(words.append)

        Words().feed(self.shown[-1].partition("</style>")[2])
        return " ".join(" ".join(words).split())


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    monkeypatch.setattr(display, "display", made.display)
    return made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.study.display_notebook._PAUSE", 0.0)


@pytest.fixture
def plan(tiny: dict[str, Any]) -> Plan:
    return make_plan(Recipe.from_dict(tiny), [FoldData(0, "t", "v")])


@pytest.fixture
def running(cell: Cell, plan: Plan) -> Iterator[tuple[NotebookDisplay, list[Stage]]]:
    """A display that has begun with a study, and its stages."""
    keys = plan.needed(trial.predict for trial in plan.trials)
    with NotebookDisplay() as shown:
        shown.begin(plan, keys)
        yield shown, [plan.stages[key] for key in keys]


def test_tests_are_no_notebook():
    assert not in_notebook()


def test_it_is_one_output_from_the_first_look_to_the_last_stage(cell: Cell, plan: Plan):
    stages = [plan.stages[key] for key in plan.needed(trial.predict for trial in plan.trials)]
    with NotebookDisplay() as shown:
        shown.say("looking at the data")
        assert cell.text == "looking at the data"
        shown.looked(3, 12)
        assert cell.text == "looking at new images 3/12"
        shown.begin(plan, [stage.key for stage in stages])
        shown.stage(stages[0])
        shown.report(stages[0], {"done": 3, "total": 11})
        assert f"study 0/{len(stages)}" in cell.text
        assert f"{stages[0].label} 3/11" in cell.text
        assert 'value="3" max="11"' in cell.shown[-1]
        shown.report(stages[0], {"epoch": ROW})
        assert "epoch 1 of 1: train_loss 1.0000, valid_loss 0.5000, accuracy 0.7500" in cell.text
        for stage in stages:
            shown.stage_done(stage)
        assert f"study {len(stages)}/{len(stages)} · left 0 s" in cell.text
        assert stages[0].label not in cell.text
    assert cell.begun == 1
    assert "<progress" not in cell.shown[-1]


def test_the_scores_so_far_are_means(running: tuple[NotebookDisplay, list[Stage]], cell: Cell):
    shown, _ = running
    for score in (0.5, 0.7):
        shown.row({"variants": ["baseline", "baseline+x"], "metric": "accuracy", "score": score})
    shown.row({})
    assert "so far variant seeds accuracy, points baseline 2 60.00 baseline+x 2 60.00" in cell.text


def test_stages_side_by_side_have_a_bar_each(running: tuple[NotebookDisplay, list[Stage]], cell: Cell):
    shown, stages = running
    for stage in stages[: MOST_BARS + 2]:
        shown.stage(stage)
    assert cell.shown[-1].count("<progress") == 1 + MOST_BARS
    shown.report(stages[1], {"epoch": ROW})
    assert f"{stages[1].label}: epoch 1 of 1" in cell.text
    shown.stage_done(stages[0])
    assert stages[0].label not in cell.text
    assert stages[MOST_BARS].label in cell.text


def test_notes_and_problems_stay_and_are_text(running: tuple[NotebookDisplay, list[Stage]], cell: Cell):
    shown, stages = running
    shown.note("a note on <b>x</b>")
    shown.problem("broke <script>")
    for stage in stages:
        shown.stage_done(stage)
    assert "a note on <b>x</b>" in cell.text
    assert '<p class="problem">broke &lt;script&gt;</p>' in cell.shown[-1]
    assert "<b>" not in cell.shown[-1]
    assert "<script" not in cell.shown[-1]


def test_what_stopped_tells_where(cell: Cell, plan: Plan):
    keys = list(plan.stages)
    shown = NotebookDisplay()
    with shown:
        shown.begin(plan, keys)
        shown.stage(plan.stages[keys[0]])
        shown.note("stopping after this epoch")
    assert cell.text.endswith(f"stopping after this epoch study 0/{len(keys)}")


def test_steps_between_two_looks_are_not_sent(
    running: tuple[NotebookDisplay, list[Stage]], cell: Cell, monkeypatch: pytest.MonkeyPatch
):
    shown, stages = running
    shown.stage(stages[0])
    monkeypatch.setattr("ablate.study.display_notebook._PAUSE", 1e6)
    before = len(cell.shown)
    for done in range(1000):
        shown.report(stages[0], {"done": done, "total": 1000})
    assert len(cell.shown) == before
    shown.note("now")
    assert "999/1000" in cell.text


def test_at_the_end_there_are_effects_and_a_link(
    cell: Cell, finished: Study, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(finished.folder.parent.parent)
    with NotebookDisplay() as shown:
        shown.note("a note")
        shown.finished(finished)
    assert cell.text.startswith("a note tiny: effects on accuracy what effect, points 95% interval verdict")
    assert '<a href="runs/tiny/report.html" target="_blank">runs/tiny/report.html</a>' in cell.shown[-1]
