"""What a person sees while a study runs: bars and a growing table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from statistics import mean
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from ablate.analysis.names import shown_in, title
from ablate.durations import duration
from ablate.study.clock import Clock
from ablate.study.graph import Plan, Stage


class Display(Protocol):
    """What a running study tells a person."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def say(self, text: str) -> None:
        """One sentence."""
        ...

    def note(self, text: str) -> None:
        """A sentence that stays."""
        ...

    def problem(self, text: str) -> None:
        """Something went wrong with one stage."""
        ...

    def looked(self, done: int, total: int, what: str = "new images") -> None:
        """So many of the new images have been decoded, or of the new shards read through."""
        ...

    def begin(self, plan: Plan, keys: list[str]) -> None:
        """These stages are going to run."""
        ...

    def stage(self, label: str, epochs: int) -> None:
        """A stage starts."""
        ...

    def report(self, message: dict[str, Any]) -> None:
        """A stage makes progress; see `ablate.training.fit.EpochLog`."""
        ...

    def stage_done(self, stage: Stage) -> None:
        """A stage has ended, well or not, or there is no need to run it any more."""
        ...

    def row(self, scores: dict[str, Any]) -> None:
        """One prediction has been scored, for all the variants that share it."""
        ...

    def finished(self, study: Any) -> None:
        """The outputs are written."""
        ...


def make_display() -> Display:
    """The display for this stdout."""
    console = Console(markup=False, emoji=False, highlight=False)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


class PlainDisplay:
    """A line per event, for logs and pipes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.label, self.epochs, self.began, self.shown = "", 0, 0.0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, flush=True)

    def note(self, text: str) -> None:
        self.say(text)

    def problem(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def looked(self, done: int, total: int, what: str = "new images") -> None:
        if done == total or time.monotonic() - self.shown > 5:
            self.shown = time.monotonic()
            self.say(f"looked at {done} of {total} {what}")

    def begin(self, plan: Plan, keys: list[str]) -> None:
        self.clock.begin(plan, keys)
        self.say(opening(plan, keys))

    def stage(self, label: str, epochs: int) -> None:
        self.clock.stage(label, epochs)
        self.label, self.epochs, self.began = label, epochs, time.monotonic()
        if not self.clock.total:
            self.say(label)

    def report(self, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.clock.epoch(message["epoch"]["epoch"])
            if time.monotonic() - self.shown > 10:
                self.shown = time.monotonic()
                self.say(f"  {self.label}: {epoch_line(message['epoch'], self.epochs)}")

    def stage_done(self, stage: Stage) -> None:
        ran = self.clock.stage_done(stage)
        took = duration(time.monotonic() - self.began) if ran else "not run here"
        left = duration(self.clock.remaining())
        self.say(f"[{self.clock.number}/{self.clock.total}] {stage.label}: {took}, left {left}")

    def row(self, scores: dict[str, Any]) -> None:
        if scores:
            self.say(f"  {', '.join(scores['variants'])}: {title(scores['metric'])} {scores['score']:.4f}")

    def finished(self, study: Any) -> None:
        print_effects(Console(), study)


class LiveDisplay:
    """One bar for the study, one for the stage, the results so far, and an estimate of what is left."""

    def __init__(self, console: Console):
        self.console, self.clock, self.epochs = console, Clock(), 0
        self.scores: dict[str, list[float]] = defaultdict(list)
        self.metric = "accuracy"
        self.epoch = Text(style="dim", no_wrap=True, overflow="ellipsis")
        fixed = Column(no_wrap=True)
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(overflow="fold"), markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(table_column=fixed),
            TimeElapsedColumn(table_column=fixed),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self.study_bar = self.progress.add_task("", total=None, left="", visible=False)
        self.stage_bar: TaskID | None = None
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end_stage()
        self.progress.update(self.study_bar, visible=self.clock.number < self.clock.total)
        self.live.stop()

    def _render(self) -> Group:
        parts = (self._table() if self.scores else None, self.progress, self.epoch if self.epoch else None)
        return Group(*(part for part in parts if part is not None))

    def _table(self) -> Table:
        factor, unit, digits = shown_in(self.metric)
        heading = f"{title(self.metric)}, {unit}"
        table = Table("variant", "seeds", heading, title="so far", title_justify="left", show_edge=False)
        for variant, values in self.scores.items():
            table.add_row(variant, str(len(values)), f"{factor * mean(values):.{digits}f}")
        return table

    def say(self, text: str) -> None:
        self.progress.update(self.study_bar, description=text, visible=True)

    def note(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def problem(self, text: str) -> None:
        self.console.print(text, style="red", soft_wrap=True)

    def looked(self, done: int, total: int, what: str = "new images") -> None:
        self.progress.update(self.study_bar, description=f"looking at {what}", completed=done, total=total)

    def begin(self, plan: Plan, keys: list[str]) -> None:
        self.clock.begin(plan, keys)
        self._end_stage()
        self.console.print(opening(plan, keys), soft_wrap=True)
        self.progress.reset(self.study_bar, description="study", total=len(keys), visible=True)

    def stage(self, label: str, epochs: int) -> None:
        self.clock.stage(label, epochs)
        self._end_stage()
        self.epochs = epochs
        self.progress.update(self.study_bar, visible=self.clock.total > 0)
        self.stage_bar = self.progress.add_task(label, total=None, left="")

    def report(self, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.clock.epoch(message["epoch"]["epoch"])
            self.epoch.plain = epoch_line(message["epoch"], self.epochs)
            self._tell_left()
        elif self.stage_bar is not None:
            self.progress.update(self.stage_bar, completed=message["done"], total=message["total"])

    def stage_done(self, stage: Stage) -> None:
        if self.clock.stage_done(stage):
            self._end_stage()
        self.progress.update(self.study_bar, completed=self.clock.number, total=self.clock.total)
        self._tell_left()

    def _tell_left(self) -> None:
        self.progress.update(self.study_bar, left=f"left {duration(self.clock.remaining())}")

    def _end_stage(self) -> None:
        """Take the stage's bar away: one that is used again would start with the last stage's total."""
        if self.stage_bar is not None:
            self.progress.remove_task(self.stage_bar)
        self.stage_bar, self.epoch.plain = None, ""

    def row(self, scores: dict[str, Any]) -> None:
        for variant in scores.get("variants", ()):
            self.metric = scores["metric"]
            self.scores[variant].append(scores["score"])

    def finished(self, study: Any) -> None:
        self.progress.update(self.study_bar, visible=False)
        self.scores.clear()
        self.live.stop()
        print_effects(self.console, study)


def opening(plan: Plan, keys: list[str]) -> str:
    """The first line of a run."""
    epochs = f"{sum(plan.stages[key].epochs for key in keys)} epochs to train"
    total = len(plan.needed(trial.predict for trial in plan.trials))
    if not keys:
        return f"all {total} stages are finished already; only the tables and the report are to be written"
    if done := total - len(keys):
        return f"going on: {done} of {total} stages are finished already; {len(keys)} are left, {epochs}"
    asked = f" (of {plan.requested_epochs}: the rest is shared)" if plan.merge_rate > 1 else ""
    return f"{len(plan.trials)} trials in {total} stages, {epochs}{asked}"


def epoch_line(row: dict[str, Any], epochs: int) -> str:
    """One epoch for people."""
    numbers = [f"{name} {row[name]:.4f}" for name in ("train_loss", "valid_loss", "accuracy") if name in row]
    return f"epoch {row['epoch'] + 1} of {epochs}: {', '.join(numbers)}"


def _print_effects_table(console: Console, study: Any, plan: dict[str, Any]) -> None:
    """The effects on the study's metric, and what would decide those that are open."""
    from ablate.analysis.wording import effects_rows, next_step, short_labels

    effects, metric = study.effects(), plan["metric"]
    table = Table(title=f"{plan['name']}: effects on {title(metric)}")
    interval = "interval" if plan.get("looks") else "95% interval"
    for heading in ("what", f"effect, {shown_in(metric)[1]}", interval, "verdict"):
        table.add_column(heading, overflow="fold")
    labels = short_labels(effects, metric)
    for label, (_, *cells) in zip(labels, effects_rows(effects, metric), strict=True):
        table.add_row(label, *cells[:-1], "smoke run" if plan["quick"] else cells[-1])
    console.print(table)
    # a study from before has no details, and a smoke run decides nothing
    if plan["quick"] or not (study.folder / "details.csv").is_file():
        return
    own = effects["metric"] == metric
    records = (each[own].to_dict("records") for each in (effects, study.details()))
    for label, step in zip(labels, map(next_step, *records), strict=True):
        if step:
            console.print(
                f"{label}: {step[0].lower()}{step[1:]}", soft_wrap=True, highlight=False, markup=False
            )


def print_effects(console: Console, study: Any) -> None:
    """The table of effects, and where the report is."""
    trials, plan = study.trials, study.plan
    good, bad = trials[trials.status == "ok"], trials[trials.status != "ok"]
    metric = plan["metric"]
    factor, unit, digits = shown_in(metric)
    if plan["contrasts"] and (study.folder / "effects.csv").is_file():
        _print_effects_table(console, study, plan)
    elif len(good) and good[metric].isna().all():
        console.print(f"{plan['name']}: {len(good)} trials, without a validation set to score them on")
    elif len(good):
        value = factor * good[metric].mean()
        text = f"{title(metric)} {value:.{digits}f} {unit}, the mean of {len(good)} trials"
        console.print(f"{plan['name']}: {text}")
    if len(bad):
        text = f"{len(bad)} of {len(trials)} trials did not finish well: see `ablate status {study.folder}`"
        console.print(text, soft_wrap=True, highlight=False)
    if plan["quick"]:
        text = "This was a smoke run on a few images: everything works, and its numbers mean nothing."
        console.print(text, soft_wrap=True)
    if (study.folder / "report.html").is_file():
        text = f"report: {study.folder / 'report.html'} (in short: report.md)"
        console.print(text, soft_wrap=True, highlight=False)
