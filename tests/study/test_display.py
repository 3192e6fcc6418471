"""What a person sees: durations, the estimate of what is left, lines and the live table."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ablate.recipe.recipe import Recipe
from ablate.study.display import LiveDisplay, PlainDisplay, epoch_line, opening
from ablate.study.graph import FoldData, Plan, Stage
from ablate.study.plan import make_plan
from ablate.study.show_effects import print_effects
from ablate.study.study import Study

ROW = {"phase": "one", "epoch": 0, "train_loss": 1.0, "valid_loss": 0.5, "accuracy": 0.75, "seconds": 2.0}


@pytest.fixture
def plan(tiny: dict[str, Any]) -> Plan:
    return make_plan(Recipe.from_dict(tiny), [FoldData(0, "t", "v")])


def test_the_opening_tells_what_sharing_saves(plan: Plan):
    keys = plan.needed(trial.predict for trial in plan.trials)
    assert opening(plan, keys) == (
        f"8 trials in {len(keys)} stages, 10 epochs to train (of 16: the rest is shared)"
    )


def test_the_opening_tells_that_work_goes_on(plan: Plan):
    keys = plan.needed(trial.predict for trial in plan.trials)
    left = [key for key in keys if plan.stages[key].kind == "predict"]
    assert opening(plan, left) == (
        f"going on: {len(keys) - len(left)} of {len(keys)} stages are finished already; "
        f"{len(left)} are left, 0 epochs to train"
    )
    assert opening(plan, []).startswith(f"all {len(keys)} stages are finished already")


def test_progress_tells_what_is_looked_at(capsys):
    live = LiveDisplay(Console(file=io.StringIO(), force_terminal=True))
    for what, shown in ({}, "new images"), ({"what": "new shards"}, "new shards"):
        PlainDisplay().looked(4, 4, **what)
        assert capsys.readouterr().out == f"looked at 4 of 4 {shown}\n"
        live.looked(2, 4, **what)
        (bar,) = live.progress.tasks
        assert (bar.description, bar.completed, bar.total) == (f"looking at {shown}", 2, 4)


def test_plain_lines_count_the_stages(plan: Plan, capsys):
    shown = PlainDisplay()
    keys = plan.needed(trial.predict for trial in plan.trials)[:2]
    with shown:
        shown.begin(plan, keys)
        first = plan.stages[keys[0]]
        shown.stage(first)
        shown.report(first, {"done": 1, "total": 2})
        shown.report(first, {"epoch": ROW})
        shown.stage_done(first)
        shown.stage_done(plan.stages[keys[1]])
        shown.row({"variants": ["baseline", "baseline+x"], "metric": "accuracy", "score": 0.5})
        shown.problem("broke")
    out, err = capsys.readouterr()
    assert "[1/2] baseline · one · seed 0: 0 s" in out
    assert f"[2/2] {plan.stages[keys[1]].label}: not run here, left 0 s" in out
    assert "baseline, baseline+x: accuracy 0.5000" in out
    assert err == "broke\n"


def test_the_live_display_has_both_bars_and_the_growing_table(plan: Plan):
    text = io.StringIO()
    shown = LiveDisplay(Console(file=text, force_terminal=True, width=120, height=40))
    keys = plan.needed(trial.predict for trial in plan.trials)
    with shown:
        shown.begin(plan, keys)
        first = plan.stages[keys[0]]
        shown.stage(first)
        shown.report(first, {"done": 3, "total": 11})
        shown.report(first, {"epoch": ROW})
        shown.row({"variants": ["baseline"], "metric": "accuracy", "score": 0.5})
        shown.row({"variants": ["baseline"], "metric": "accuracy", "score": 0.7})
        shown.live.refresh()
    seen = text.getvalue()
    for part in ("baseline · one · seed 0", "3/11", epoch_line(ROW, 1), "60.00", f"0/{len(keys)}"):
        assert part in seen


@pytest.fixture
def live() -> LiveDisplay:
    return LiveDisplay(Console(file=io.StringIO(), force_terminal=True, width=80, height=40))


def screen(shown: LiveDisplay) -> str:
    """What stands on the screen now."""
    with shown.console.capture() as captured:
        shown.console.print(shown._render())
    return " ".join(re.sub(r"\x1b\[[\d;?]*\w", "", captured.get()).split())


def six_epochs(stage: Stage) -> Stage:
    settings = stage.settings | {"phase": stage.settings["phase"] | {"epochs": 6}}
    return replace(stage, settings=settings)


def test_stages_side_by_side_have_a_bar_each(plan: Plan, live: LiveDisplay):
    first, second = (replace(stage, label=stage.key) for stage in [*plan.stages.values()][:2])
    live.begin(plan, list(plan.stages))
    live.stage(first)
    live.stage(second)
    live.report(first, {"done": 3, "total": 11})
    live.report(second, {"done": 5, "total": 7})
    live.report(second, {"epoch": ROW})
    assert "3/11" in screen(live)
    assert "5/7" in screen(live)
    assert f"{second.label}: epoch 1 of" in screen(live)
    live.stage_done(first)
    assert "3/11" not in screen(live)
    assert "5/7" in screen(live)


def test_only_some_of_many_running_stages_have_a_bar(plan: Plan, live: LiveDisplay):
    live.begin(plan, list(plan.stages))
    for number in range(40):
        live.stage(replace(next(iter(plan.stages.values())), key=str(number), label=f"the {number}."))
    assert sum(f"the {number}." in screen(live) for number in range(40)) == 8


def test_the_live_bar_of_a_stage_begins_anew(plan: Plan, live: LiveDisplay):
    keys = plan.needed(trial.predict for trial in plan.trials)
    live.say("looking at the data")
    preflight = Stage("preflight", "preflight", "preflight", {}, 0, 0)
    live.stage(preflight)
    assert "looking" not in screen(live)
    live.report(preflight, {"done": 4, "total": 4})
    assert "4/4" in screen(live)
    live.begin(plan, keys)
    assert "preflight" not in screen(live)
    stage = six_epochs(plan.stages[keys[0]])
    live.stage(stage)
    assert "0/?" in screen(live)
    live.report(stage, {"done": 23, "total": 66})  # an earlier run has done two epochs
    assert "23/66" in screen(live)
    live.report(stage, {"epoch": ROW | {"epoch": 2}})
    assert "epoch 3 of 6: train_loss" in screen(live)


def test_the_live_counter_adds_up(plan: Plan, live: LiveDisplay):
    keys = plan.needed(trial.predict for trial in plan.trials)
    stages = [plan.stages[key] for key in keys]
    live.begin(plan, keys)
    live.stage(stages[0])
    live.report(stages[0], {"epoch": ROW})
    for stage in stages:  # a run runs the first, the rest has been done by another one or was skipped
        live.stage_done(stage)
    assert f"{len(keys)}/{len(keys)}" in screen(live)
    assert "left 0 s" in screen(live)
    live.stage_done(replace(stages[0], key="a test"))
    assert f"{len(keys) + 1}/{len(keys) + 1}" in screen(live)


def test_a_long_label_leaves_room_for_the_numbers(plan: Plan, live: LiveDisplay):
    live.begin(plan, list(plan.stages))
    label = "baseline+progressive_resizing+label_smoothing+[mixup] · finetune · seed 0"
    stage = replace(plan.stages[next(iter(plan.stages))], label=label)
    live.stage(stage)
    live.report(stage, {"done": 1234, "total": 5678})
    assert "1234/5678" in screen(live)
    assert "[mixup]" in screen(live)


def test_the_last_live_screen_tells_where_it_stopped(plan: Plan, live: LiveDisplay):
    keys = list(plan.stages)
    with live:
        live.begin(plan, keys)
        live.stage(plan.stages[keys[0]])
        live.note("stopping [after] this epoch")
    assert screen(live).startswith("study")
    assert f"0/{len(keys)}" in screen(live)
    assert "baseline" not in screen(live)


def test_the_table_of_effects_fits_a_narrow_terminal(finished: Study):
    text = io.StringIO()
    print_effects(Console(file=text, width=80), finished)
    lines = text.getvalue().splitlines()
    assert max(len(line) for line in lines if "report:" not in line) <= 80
    assert any("phases.one.lr=1e-06" in line for line in lines)
    assert sum(any(v in line for v in ("helps", "hurts", "negligible", "undecided")) for line in lines) == 3
