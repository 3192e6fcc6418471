"""`Planned`: what a study would run, to look at in a notebook."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from ablate.notebook_html import to_html
from ablate.study.graph import Plan
from ablate.study.show import PIPE_WIDTH, plan_parts, print_plan


@dataclass(frozen=True, repr=False)
class Planned:
    """A plan, in numbers and whole; shown as `ablate plan` shows it.

    Args:
        numbers: As `ablate plan --json` prints them; see `ablate.study.planning.plan_study`.
        plan: The trials, and the stages that they share.
    """

    numbers: dict[str, Any]
    plan: Plan

    def __repr__(self) -> str:
        text = io.StringIO()
        # a notebook asks for this text beside the HTML, and rich would show it there by itself
        console = Console(
            file=text, width=PIPE_WIDTH, force_jupyter=False, markup=False, emoji=False, highlight=False
        )
        print_plan(self.numbers, self.plan, console)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        return to_html(*plan_parts(self.numbers, self.plan))
