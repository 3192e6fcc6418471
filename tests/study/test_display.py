"""What a person sees: durations, the estimate of what is left, lines and the live table."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ablate.recipe.recipe import Recipe
from ablate.study import display
from ablate.study.display import (
    Clock,
    LiveDisplay,
    PlainDisplay,
    duration,
    epoch_line,
    opening,
    print_effects,
)
from ablate.study.graph import FoldData, Plan
from ablate.study.plan import make_plan
from ablate.study.study import Study

ROW = {"phase": "one", "epoch": 0, "train_loss": 1.0, "valid_loss": 0.5, "accuracy": 0.75, "seconds": 2.0}


@pytest.fixture
def plan(tiny: dict[str, Any]) -> Plan:
    return make_plan(Recipe.from_dict(tiny), [FoldData(0, "t", "v")])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "…"), (0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float | None, text: str):
    assert duration(seconds) == text


def test_what_is_left_goes_by_epochs_and_pixels(plan: Plan, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    clock = Clock()
    fits = [key for key, stage in plan.stages.items() if stage.kind == "fit"]
    clock.begin(plan, fits)
    assert clock.remaining() is None
    now[0] += 10
    clock.stage_done(fits[0])
    # every phase of the recipe is one epoch at one size, so each takes what the first took
    assert clock.remaining() == pytest.approx(10 * (len(fits) - 1))


def test_the_opening_tells_what_sharing_saves(plan: Plan):
    keys = plan.needed(trial.predict for trial in plan.trials)
    assert opening(plan, keys) == (
        f"8 trials in {len(keys)} stages, 10 epochs to train (of 16: the rest is shared or done)"
    )


def test_plain_lines_count_the_stages(plan: Plan, capsys):
    shown = PlainDisplay()
    keys = plan.needed(trial.predict for trial in plan.trials)[:2]
    with shown:
        shown.begin(plan, keys)
        shown.stage(plan.stages[keys[0]].label, 1)
        shown.report({"done": 1, "total": 2})
        shown.stage_done(plan.stages[keys[0]])
        shown.row({"variants": ["baseline", "baseline+x"], "accuracy": 0.5})
        shown.problem("broke")
    out, err = capsys.readouterr()
    assert "[1/2] baseline · one · seed 0: 0 s" in out
    assert "baseline, baseline+x: accuracy 0.5000" in out
    assert err == "broke\n"


def test_the_live_display_has_both_bars_and_the_growing_table(plan: Plan):
    text = io.StringIO()
    shown = LiveDisplay(Console(file=text, force_terminal=True, width=120, height=40))
    keys = plan.needed(trial.predict for trial in plan.trials)
    with shown:
        shown.begin(plan, keys)
        shown.stage("baseline · one · seed 0", 1)
        shown.report({"done": 3, "total": 11})
        shown.report({"epoch": ROW})
        shown.row({"variants": ["baseline"], "accuracy": 0.5})
        shown.row({"variants": ["baseline"], "accuracy": 0.7})
        shown.live.refresh()
    seen = text.getvalue()
    for part in ("baseline · one · seed 0", "3/11", epoch_line(ROW), "60.00 %", f"0/{len(keys)}"):
        assert part in seen


def test_the_table_of_effects_fits_a_narrow_terminal(finished: Study):
    text = io.StringIO()
    print_effects(Console(file=text, width=80), finished)
    lines = text.getvalue().splitlines()
    assert max(len(line) for line in lines if "report:" not in line) <= 80
    assert any("phases.one.lr=1e-06" in line for line in lines)
    assert sum(any(v in line for v in ("helps", "hurts", "negligible", "undecided")) for line in lines) == 3
