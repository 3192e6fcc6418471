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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ablate.study.graph import Plan, Stage


class Display(Protocol):
    """What a running study tells a person."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def say(self, text: str) -> None:
        """One sentence."""
        ...

    def problem(self, text: str) -> None:
        """Something went wrong with one stage."""
        ...

    def looked(self, done: int, total: int) -> None:
        """So many of the new images have been decoded."""
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
        """A stage has ended, well or not."""
        ...

    def row(self, scores: dict[str, Any]) -> None:
        """One prediction has been scored, for all the variants that share it."""
        ...

    def finished(self, study: Any) -> None:
        """The outputs are written."""
        ...


def make_display() -> Display:
    """The display for this stdout."""
    console = Console()
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


class Clock:
    """Estimates what is left from the epochs that are done.

    An epoch's cost is taken as that of the epochs so far, in proportion to the pixels that it sees.
    """

    def __init__(self) -> None:
        self.left: dict[str, float] = {}
        self.done_work, self.done_seconds, self.began = 0.0, 0.0, time.monotonic()

    def begin(self, plan: Plan, keys: list[str]) -> None:
        self.left = {key: self._work(plan.stages[key]) for key in keys}
        self.began = time.monotonic()

    def stage_done(self, key: str) -> None:
        self.done_work += self.left.pop(key, 0.0)
        self.done_seconds = time.monotonic() - self.began

    def remaining(self) -> float | None:
        """Seconds; None before anything is known."""
        return self.done_seconds / self.done_work * sum(self.left.values()) if self.done_work else None

    @staticmethod
    def _work(stage: Stage) -> float:
        return stage.epochs * float(stage.settings["phase"]["size"]) ** 2


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`."""
    if seconds is None:
        return "…"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class PlainDisplay:
    """A line per event, for logs and pipes."""

    def __init__(self) -> None:
        self.clock, self.total, self.number = Clock(), 0, 0
        self.label, self.began, self.shown = "", 0.0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, flush=True)

    def problem(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def looked(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.shown > 5:
            self.shown = time.monotonic()
            self.say(f"looked at {done} of {total} new images")

    def begin(self, plan: Plan, keys: list[str]) -> None:
        self.clock.begin(plan, keys)
        self.total = len(keys)
        self.say(opening(plan, keys))

    def stage(self, label: str, epochs: int) -> None:
        self.label, self.began = label, time.monotonic()
        if not self.total:
            self.say(label)

    def report(self, message: dict[str, Any]) -> None:
        if "epoch" in message and time.monotonic() - self.shown > 10:
            self.shown = time.monotonic()
            self.say(f"  {self.label}: {epoch_line(message['epoch'])}")

    def stage_done(self, stage: Stage) -> None:
        self.number += 1
        self.clock.stage_done(stage.key)
        took, left = duration(time.monotonic() - self.began), duration(self.clock.remaining())
        self.say(f"[{self.number}/{self.total}] {stage.label}: {took}, left {left}")

    def row(self, scores: dict[str, Any]) -> None:
        if scores:
            self.say(f"  {', '.join(scores['variants'])}: accuracy {scores['accuracy']:.4f}")

    def finished(self, study: Any) -> None:
        print_effects(Console(), study)


class LiveDisplay:
    """One bar for the study, one for the stage, the results so far, and an estimate of what is left."""

    def __init__(self, console: Console):
        self.console, self.clock = console, Clock()
        self.scores: dict[str, list[float]] = defaultdict(list)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
        self.study_bar = self.progress.add_task("study", total=None, note="")
        self.stage_bar = self.progress.add_task("", total=None, note="", visible=False)
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.live.stop()

    def _render(self) -> Group:
        return Group(self._table(), self.progress) if self.scores else Group(self.progress)

    def _table(self) -> Table:
        table = Table("variant", "seeds", "accuracy", title="so far", title_justify="left", show_edge=False)
        for variant, values in self.scores.items():
            table.add_row(variant, str(len(values)), f"{100 * mean(values):.2f} %")
        return table

    def say(self, text: str) -> None:
        self.progress.update(self.study_bar, description=text)

    def problem(self, text: str) -> None:
        self.console.print(text, style="red", soft_wrap=True, highlight=False, markup=False)

    def looked(self, done: int, total: int) -> None:
        self.progress.update(self.study_bar, completed=done, total=total)

    def begin(self, plan: Plan, keys: list[str]) -> None:
        self.clock.begin(plan, keys)
        self.console.print(opening(plan, keys), highlight=False)
        self.progress.reset(self.study_bar, description="study", total=len(keys))

    def stage(self, label: str, epochs: int) -> None:
        self.progress.reset(self.stage_bar, description=label, total=None, visible=True, note="")

    def report(self, message: dict[str, Any]) -> None:
        if "epoch" in message:
            self.progress.update(self.stage_bar, note=epoch_line(message["epoch"]))
        else:
            self.progress.update(self.stage_bar, completed=message["done"], total=message["total"])

    def stage_done(self, stage: Stage) -> None:
        self.clock.stage_done(stage.key)
        self.progress.update(self.stage_bar, visible=False)
        self.progress.update(self.study_bar, advance=1, note=f"left {duration(self.clock.remaining())}")

    def row(self, scores: dict[str, Any]) -> None:
        for variant in scores.get("variants", ()):
            self.scores[variant].append(scores["accuracy"])

    def finished(self, study: Any) -> None:
        self.progress.update(self.study_bar, visible=False)
        self.scores.clear()
        self.live.stop()
        print_effects(self.console, study)


def opening(plan: Plan, keys: list[str]) -> str:
    """The first line of a run."""
    epochs = sum(plan.stages[key].epochs for key in keys)
    text = f"{len(plan.trials)} trials in {len(keys)} stages, {epochs} epochs to train"
    return text + (
        f" (of {plan.requested_epochs}: the rest is shared or done)" if epochs < plan.requested_epochs else ""
    )


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch for people."""
    numbers = [f"{name} {row[name]:.4f}" for name in ("train_loss", "valid_loss", "accuracy") if name in row]
    return f"epoch {row['epoch'] + 1}: {', '.join(numbers)}"


def print_effects(console: Console, study: Any) -> None:
    """The table of effects, and where the report is."""
    from ablate.analysis.names import shown_in
    from ablate.analysis.wording import effects_rows, short_labels

    trials, plan = study.trials, study.plan
    bad = trials[trials.status != "ok"]
    metric = plan["metric"]
    factor, unit, digits = shown_in(metric)
    if plan["contrasts"] and (study.folder / "effects.csv").is_file():
        effects = study.effects()
        table = Table(title=f"{plan['name']}: effects on {metric}")
        for heading in ("what", f"effect, {unit}", "95% interval", "verdict"):
            table.add_column(heading, overflow="fold")
        for label, (_, *cells) in zip(
            short_labels(effects, metric), effects_rows(effects, metric), strict=True
        ):
            table.add_row(label, *cells[:-1], "smoke run" if plan["quick"] else cells[-1])
        console.print(table)
    else:
        value = factor * trials[metric].mean()
        console.print(f"{plan['name']}: {metric} {value:.{digits}f} {unit}, the mean of {len(trials)} trials")
    if len(bad):
        console.print(
            f"{len(bad)} of {len(trials)} trials did not finish well: see {study.folder / 'trials.csv'}"
        )
    if plan["quick"]:
        text = "This was a smoke run on a few images: everything works, and its numbers mean nothing."
        console.print(text, soft_wrap=True)
    console.print(f"report: {study.folder / 'report.md'}", soft_wrap=True, highlight=False)
