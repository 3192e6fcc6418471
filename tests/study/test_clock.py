"""How far a run is, and the estimate of what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablate.recipe.recipe import Recipe
from ablate.study import clock
from ablate.study.clock import Clock
from ablate.study.graph import FoldData, Plan
from ablate.study.plan import make_plan

EPOCHS = 4


@pytest.fixture
def plan(tiny: dict[str, Any]) -> Plan:
    """Every phase has four epochs at one size, so each takes what the first took."""
    for phase in tiny["phases"]:
        phase["epochs"] = EPOCHS
    return make_plan(Recipe.from_dict(tiny), [FoldData(0, "t", "v")])


@pytest.fixture
def fits(plan: Plan) -> list[str]:
    return [key for key, stage in plan.stages.items() if stage.kind == "fit"]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The present, to be moved on."""
    present = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: present[0])
    return present


def run(timer: Clock, plan: Plan, key: str, now: list[float], first: int = 0, seconds: float = 10) -> None:
    """Run the epochs of a stage from some epoch on."""
    stage = plan.stages[key]
    timer.stage(stage)
    for epoch in range(first, stage.epochs):
        now[0] += seconds
        timer.epoch(stage, epoch)
    timer.stage_done(stage)


def test_what_is_left_goes_by_epochs_and_pixels(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    assert timer.remaining() is None
    run(timer, plan, fits[0], now)
    assert timer.remaining() == pytest.approx(10 * EPOCHS * (len(fits) - 1))
    assert (timer.number, timer.total) == (1, len(fits))


def test_a_first_epoch_tells_already(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    timer.stage(plan.stages[fits[0]])
    assert timer.remaining() is None
    now[0] += 10
    timer.epoch(plan.stages[fits[0]], 0)
    assert timer.remaining() == pytest.approx(10 * (EPOCHS * len(fits) - 1))


def test_epochs_of_an_earlier_run_do_not_count_as_fast_work(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    run(timer, plan, fits[0], now, first=EPOCHS - 1)
    assert timer.remaining() == pytest.approx(10 * EPOCHS * (len(fits) - 1))


def test_a_resumed_stage_has_only_its_rest_left(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    timer.stage(plan.stages[fits[0]])
    now[0] += 10
    timer.epoch(plan.stages[fits[0]], 2)
    assert timer.remaining() == pytest.approx(10 * (EPOCHS * (len(fits) - 1) + 1))


def test_a_stage_that_ended_early_counts_for_what_it_did(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    stage = plan.stages[fits[0]]
    timer.stage(stage)
    now[0] += 10
    timer.epoch(stage, 0)
    timer.stage_done(stage)  # it failed or diverged
    assert timer.remaining() == pytest.approx(10 * EPOCHS * (len(fits) - 1))


def test_stages_that_others_finish_take_no_time(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    run(timer, plan, fits[0], now)
    assert not timer.stage_done(plan.stages[fits[1]])
    assert timer.remaining() == pytest.approx(10 * EPOCHS * (len(fits) - 2))
    assert (timer.number, timer.total) == (2, len(fits))


def test_a_prediction_counts_as_a_whole(plan: Plan, now: list[float]):
    keys = [key for key, stage in plan.stages.items() if stage.kind == "predict"]
    timer = Clock()
    timer.begin(plan, keys)
    run(timer, plan, keys[0], now)
    now[0] += 100  # nobody looks at the time while nothing is reported
    assert timer.remaining() == pytest.approx(0)
    timer.stage(plan.stages[keys[1]])
    assert timer.stage_done(plan.stages[keys[1]])
    assert timer.remaining() == pytest.approx(100 / 2 * (len(keys) - 2))


def test_a_stage_that_nobody_foresaw_is_counted(plan: Plan, fits: list[str], now: list[float]):
    timer = Clock()
    timer.begin(plan, fits)
    timer.stage_done(replace(plan.stages[fits[0]], key="the winner's test"))
    assert (timer.number, timer.total) == (1, len(fits) + 1)


def test_stages_side_by_side_take_less_time(plan: Plan, fits: list[str], now: list[float]):
    """Two at once: each takes as long as ever, and two epochs are done in the time of one."""
    timer = Clock()
    timer.begin(plan, fits)
    first, second = (plan.stages[key] for key in fits[:2])
    timer.stage(first)
    timer.stage(second)
    for epoch in range(2):
        now[0] += 10
        timer.epoch(first, epoch)
        timer.epoch(second, epoch)
    assert timer.remaining() == pytest.approx(10 / 2 * (EPOCHS * len(fits) - 4))
    assert timer.stage_done(second)
    assert timer.stage_done(first)
    assert (timer.number, timer.total) == (2, len(fits))
