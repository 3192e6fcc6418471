"""What a person sees while a study runs: bars and a growing table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from ablate.analysis.names import title
from ablate.durations import duration
from ablate.study.clock import Clock
from ablate.study.display_notebook import MOST_BARS, NotebookDisplay, in_notebook
from ablate.study.graph import Plan, Stage
from ablate.study.show_effects import print_effects
from ablate.study.so_far import SoFar


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

    def stage(self, stage: Stage) -> None:
        """A stage starts; others may be running."""
        ...

    def report(self, stage: Stage, message: dict[str, Any]) -> None:
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
    """The display for this notebook or stdout."""
    if in_notebook():
        return NotebookDisplay()
    console = Console(markup=False, emoji=False, highlight=False)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


class PlainDisplay:
    """A line per event, for logs and pipes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.began: dict[str, float] = {}
        self.shown = time.monotonic()

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

    def stage(self, stage: Stage) -> None:
        self.clock.stage(stage)
        self.began[stage.key] = time.monotonic()
        if not self.clock.total:
            self.say(stage.label)

    def report(self, stage: Stage, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.clock.epoch(stage, message["epoch"]["epoch"])
            if time.monotonic() - self.shown > 10:
                self.shown = time.monotonic()
                self.say(f"  {stage.label}: {epoch_line(message['epoch'], stage.epochs)}")

    def stage_done(self, stage: Stage) -> None:
        ran = self.clock.stage_done(stage)
        took = duration(time.monotonic() - self.began.pop(stage.key)) if ran else "not run here"
        left = duration(self.clock.remaining())
        self.say(f"[{self.clock.number}/{self.clock.total}] {stage.label}: {took}, left {left}")

    def row(self, scores: dict[str, Any]) -> None:
        if scores:
            self.say(f"  {', '.join(scores['variants'])}: {title(scores['metric'])} {scores['score']:.4f}")

    def finished(self, study: Any) -> None:
        print_effects(Console(), study)


class LiveDisplay:
    """A bar for the study, one for each running stage, the results so far, and the time left."""

    def __init__(self, console: Console):
        self.console, self.clock = console, Clock()
        self.scores = SoFar()
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
        self.stage_bars: dict[str, TaskID] = {}
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end_stages()
        self.progress.update(self.study_bar, visible=self.clock.number < self.clock.total)
        self.live.stop()

    def _render(self) -> Group:
        parts = (
            self.scores.table() if self.scores else None,
            self.progress,
            self.epoch if self.epoch else None,
        )
        return Group(*(part for part in parts if part is not None))

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
        self._end_stages()
        self.console.print(opening(plan, keys), soft_wrap=True)
        self.progress.reset(self.study_bar, description="study", total=len(keys), visible=True)

    def stage(self, stage: Stage) -> None:
        self.clock.stage(stage)
        self._end_stage(stage.key)
        self.progress.update(self.study_bar, visible=self.clock.total > 0)
        room = len(self.stage_bars) < MOST_BARS
        self.stage_bars[stage.key] = self.progress.add_task(stage.label, total=None, left="", visible=room)

    def report(self, stage: Stage, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.clock.epoch(stage, message["epoch"]["epoch"])
            several = f"{stage.label}: " if len(self.stage_bars) > 1 else ""
            self.epoch.plain = several + epoch_line(message["epoch"], stage.epochs)
            self._tell_left()
        elif stage.key in self.stage_bars:
            bar = self.stage_bars[stage.key]
            self.progress.update(bar, completed=message["done"], total=message["total"])

    def stage_done(self, stage: Stage) -> None:
        self.clock.stage_done(stage)
        self._end_stage(stage.key)
        self.progress.update(self.study_bar, completed=self.clock.number, total=self.clock.total)
        self._tell_left()

    def _tell_left(self) -> None:
        self.progress.update(self.study_bar, left=f"left {duration(self.clock.remaining())}")

    def _end_stage(self, key: str) -> None:
        """Take a stage's bar away: one that is used again would start with the last stage's total."""
        if key in self.stage_bars:
            self.progress.remove_task(self.stage_bars.pop(key))
            self.epoch.plain = ""

    def _end_stages(self) -> None:
        for key in [*self.stage_bars]:
            self._end_stage(key)

    def row(self, scores: dict[str, Any]) -> None:
        self.scores.add(scores)

    def finished(self, study: Any) -> None:
        self.progress.update(self.study_bar, visible=False)
        self.scores = SoFar()
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
