"""What a notebook shows while a study runs: one output that is written anew, with bars and scores so far."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from markupsafe import Markup

from ablate.durations import duration
from ablate.notebook_html import Part, to_html
from ablate.study.clock import Clock
from ablate.study.graph import Plan, Stage
from ablate.study.so_far import SoFar
from ablate.study.study import Study

MOST_BARS = 8
"""How many stages that run side by side have a bar each."""
_PAUSE = 0.2
"""Seconds in which no step of a bar is shown after another: a browser has better things to do."""


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, of Jupyter, VS Code or Colab."""
    from fastcore import imports

    return bool(imports.in_notebook())


@dataclass
class _Bar:
    """So many of so many are done; without a number of all, nobody knows how many."""

    label: str
    done: int = 0
    total: int | None = None
    note: str = ""

    def __html__(self) -> str:
        bar, count = Markup('<progress aria-label="{}"></progress>').format(self.label), ""
        if self.total is not None:
            bar = Markup('<progress aria-label="{}" value="{}" max="{}"></progress>').format(
                self.label, self.done, max(self.total, 1)
            )
            count = f"{self.done}/{self.total}"
        told = Markup('<span class="muted">{}</span>').format(" · ".join(filter(None, (count, self.note))))
        return Markup("<div>{} {} {}</div>").format(bar, self.label, told)


class NotebookDisplay:
    """Notes and problems stay, bars and scores go as soon as there are effects; see `display.Display`."""

    def __init__(self) -> None:
        self.clock, self.scores = Clock(), SoFar()
        self.study_bar: _Bar | None = None
        self.bars: dict[str, _Bar] = {}
        self.epoch = ""
        self.notes: list[Part] = []
        self.result: list[Part] = []
        self._shown = 0.0

    def __enter__(self) -> Self:
        from IPython.display import HTML, display

        self._handle = display(HTML(to_html()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.bars.clear()
        self.epoch = ""
        if self.clock.number >= self.clock.total:
            self.study_bar = None
        self._show()

    def say(self, text: str) -> None:
        self.study_bar = _Bar(text)
        self._show()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._show()

    def problem(self, text: str) -> None:
        self.notes.append(Markup('<p class="problem">{}</p>').format(text))
        self._show()

    def looked(self, done: int, total: int, what: str = "new images") -> None:
        self.study_bar = _Bar(f"looking at {what}", done, total)
        self._show_soon()

    def begin(self, plan: Plan, keys: list[str]) -> None:
        from ablate.study.display import opening

        self.clock.begin(plan, keys)
        self.bars.clear()
        self.study_bar = _Bar("study", 0, len(keys))
        self.note(opening(plan, keys))

    def stage(self, stage: Stage) -> None:
        self.clock.stage(stage)
        if not self.clock.total:
            self.study_bar = None
        self.bars[stage.key] = _Bar(stage.label)
        self._show_soon()

    def report(self, stage: Stage, message: dict[str, Any]) -> None:
        from ablate.study.display import epoch_line

        if "epoch" in message:
            self.clock.epoch(stage, message["epoch"]["epoch"])
            several = f"{stage.label}: " if len(self.bars) > 1 else ""
            self.epoch = several + epoch_line(message["epoch"], stage.epochs)
            self._count()
        elif stage.key in self.bars:
            bar = self.bars[stage.key]
            bar.done, bar.total = message["done"], message["total"]
        self._show_soon()

    def stage_done(self, stage: Stage) -> None:
        self.clock.stage_done(stage)
        if self.bars.pop(stage.key, None):
            self.epoch = ""
        self._count()
        self._show_soon()

    def row(self, scores: dict[str, Any]) -> None:
        self.scores.add(scores)
        self._show_soon()

    def finished(self, study: Study) -> None:
        from ablate.study.show_study import finished_parts

        self.study_bar = None
        self.result = finished_parts(study)
        self._show()

    def _count(self) -> None:
        left = f"left {duration(self.clock.remaining())}"
        self.study_bar = _Bar("study", self.clock.number, self.clock.total, left)

    def _parts(self) -> list[Part]:
        if self.result:
            return [*self.notes, *self.result]
        shown = [*([self.study_bar] if self.study_bar else []), *list(self.bars.values())[:MOST_BARS]]
        parts: list[Part] = [*self.notes, Markup("<div>{}</div>").format(Markup("").join(shown))]
        if self.epoch:
            parts.append(Markup('<p class="muted">{}</p>').format(self.epoch))
        return [*parts, self.scores.table()] if self.scores else parts

    def _show_soon(self) -> None:
        """Show what stands now, unless something was shown just before: what comes next shows it too."""
        if time.monotonic() - self._shown >= _PAUSE:
            self._show()

    def _show(self) -> None:
        from IPython.display import HTML

        self._shown = time.monotonic()
        self._handle.update(HTML(to_html(*self._parts())))
