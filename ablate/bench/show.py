"""What `ablate bench` prints: a table of rates, then the bottleneck; or all numbers as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from ablate.bench.subject import Subject
from ablate.bench.verdict import Rates, Verdict, loader_parts
from ablate.study.planning import available_cores
from ablate.study.show import make_console

UNSTEADY = 1.15
"""By how much the whole can come out faster than one of its parts by chance."""


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done; a line for each where that is no terminal."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    with console.status("reading the recipe's data") as status:
        yield lambda text: status.update(text)


def numbers(subject: Subject, rates: Rates, found: Verdict) -> dict[str, Any]:
    """Everything as values for JSON."""
    parts = subject.parts
    return {
        "recipe": subject.recipe.name,
        "phase": parts.phase.name,
        "techniques": [technique.name for technique in parts.active],
        "device": parts.device,
        "threads": subject.threads,
        "workers": parts.workers,
        "load_before": subject.load,
        "batch_size": parts.phase.batch_size,
        "size": parts.phase.size,
        "presize": subject.presize.shorter,
        "image_size": list(subject.size),
        "cached_bytes_per_image": subject.kept_bytes,
        "images_per_second": asdict(rates),
        "loader_time": loader_parts(rates),
        "bottleneck": found.bottleneck,
        "sentences": found.sentences,
    }


def print_bench(subject: Subject, rates: Rates, found: Verdict, console: Console | None = None) -> None:
    """Print the table and the verdict."""
    console = make_console() if console is None else console
    for line in _title(subject):
        console.print(line)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("what", overflow="fold")
    for heading in ("images/s", "busy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for what, rate, takes_part in _rows(subject, rates):
        busy = f"{min(rates.whole / rate, 1):.0%}" if takes_part else ""
        table.add_row(what, f"{rate:,.0f}" if rate >= 9.5 else f"{rate:.2g}", busy)
    console.print(table)
    console.print("busy: the share of training's time in which that part is at work; they work side by side.")
    if subject.load > 0.5 * available_cores():
        console.print(
            f"Something else was at work on this machine: its load was {subject.load:.1f} on "
            f"{available_cores()} cores before the first measure. On a quiet one the numbers are higher."
        )
    if rates.whole > UNSTEADY * rates.step:
        console.print(
            "Training came out faster than its own step, so the machine was not steady: measure again, "
            "alone on the machine or with more --seconds."
        )
    console.print()
    for sentence in found.sentences:
        console.print(sentence)


def _title(subject: Subject) -> list[str]:
    parts, phase = subject.parts, subject.parts.phase
    kind = "processes" if subject.foreign else "threads"
    return [
        f"{subject.recipe.name}, phase {phase.name}: {parts.device}, {subject.threads} torch threads, "
        f"{parts.workers} loader {kind}",
        f"images of {' × '.join(map(str, subject.size))}, presized to {subject.presize.shorter}, squares of "
        f"{phase.size}, batches of {phase.batch_size}",
    ]


def _rows(subject: Subject, rates: Rates) -> list[tuple[str, float, bool]]:
    """What, its rate, and whether it takes part in training."""
    cached = rates.cache is not None
    aside = ", once for the cache" if cached else ""
    rows = [
        (f"decode{aside}", rates.decode, not cached),
        (f"decode and presize{aside}", rates.presize, not cached),
    ]
    if rates.cache is not None:
        rows.append(
            (f"read from the cache, {decimal(round(subject.kept_bytes or 0))} each", rates.cache, True)
        )
    other = (
        ("loader, if it had to decode", rates.loader_decoding)
        if cached
        else ("loader, if presized images were kept", rates.loader_kept)
    )
    more = f" ({', '.join(subject.foreign)} in processes)" if subject.foreign else ""
    rows += [
        (f"augment{more}", rates.augment or rates.loader_kept, True),
        ("loader", rates.loader, True),
        *([] if subject.in_memory else [(*other, False)]),
        ("batch transforms", rates.transforms, True),
        ("training step, data on the device", rates.step, True),
        ("validation step, data on the device", rates.validation, False),
        ("training as a whole", rates.whole, False),
    ]
    return rows
