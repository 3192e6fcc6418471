"""What `ablate doctor` prints."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ablate.devices.doctor import Diagnosis

_PIPE_WIDTH = 120


def waiting(text: str) -> AbstractContextManager[Any]:
    """Show on stderr what is being waited for, where that is a terminal."""
    return Console(stderr=True, markup=False, emoji=False).status(text)


def print_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print a line per finding, then what to do, then what `--device auto` takes."""
    console = _console() if console is None else console
    table = Table(box=SIMPLE_HEAD)
    for heading in ("what", "", "found"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "found")
    group = diagnosis.findings[0].group
    for finding in diagnosis.findings:
        if finding.group != group:
            table.add_section()
            group = finding.group
        table.add_row(finding.name, finding.level, finding.text)
    console.print(table)
    for finding in diagnosis.findings:
        if finding.mend:
            console.print(f"{finding.name}: {finding.mend}.", soft_wrap=True)
    console.print(f"--device auto takes {diagnosis.auto}.")
    if diagnosis.problems:
        console.print(f"{diagnosis.problems} problem" + ("s." if diagnosis.problems > 1 else "."))


def _console() -> Console:
    """As `ablate.study.show.make_console`, whose module needs packages that may be missing here."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)
