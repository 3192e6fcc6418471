"""What `ablate store` prints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Table

from ablate.durations import about
from ablate.study.show import make_console
from ablate.study.stored import Aside, Contents, StoredStage, count, shares
from ablate.study.upkeep import Checked, Pruning

SHORT = 10
"""The characters of a key that are shown."""
_PATIENCE = 2.0
"""Seconds after which a bar shows how far the reading is."""


def rows(found: Contents) -> list[dict[str, Any]]:
    """The stages of a store as values for JSON."""
    return [asdict(stage) for stage in found.stages]


def print_stages(found: Contents, console: Console | None = None) -> None:
    """Print a line per stage, study by study."""
    console = make_console() if console is None else console
    table = Table(box=SIMPLE_HEAD)
    for heading in ("stage", "what", "kind", "status"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "stage")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("used by", overflow="fold")
    for stage in sorted(found.stages, key=lambda one: (one.studies, one.label, one.key)):
        users = ", ".join(Path(folder).name for folder in stage.studies)
        cells = (stage.key[:SHORT], stage.label, stage.kind, _status(stage))
        table.add_row(*cells, decimal(stage.bytes), about(stage.age), users)
    if found.stages:
        console.print(table)
    else:
        console.print("The store is empty.")
    _print_unreadable(found, console)


def _status(stage: StoredStage) -> str:
    if stage.status != "unfinished":
        return stage.status
    whole = "" if stage.epochs is None else f" of {stage.epochs}"
    parts = ["running" if stage.running else "unfinished"]
    return ", ".join(parts + ([] if stage.epoch is None else [f"epoch {stage.epoch}{whole}"]))


def print_size(found: Contents, console: Console | None = None) -> None:
    """Print how much room what takes."""
    console = make_console() if console is None else console
    by_status: dict[str, list[StoredStage]] = {"finished": [], "unfinished": [], "damaged": []}
    for stage in found.stages:
        by_status[stage.status if stage.status in by_status else "finished"].append(stage)
    totals: dict[str, Sequence[StoredStage] | Sequence[Aside]] = {**by_status, "set aside": found.aside}
    table = Table(box=SIMPLE_HEAD)
    table.add_column("stages")
    table.add_column("number", justify="right")
    table.add_column("size", justify="right")
    for name, members in totals.items():
        if members or name in ("finished", "unfinished"):
            table.add_row(name, *_cells(*count(members)))
    table.add_section()
    every = [count(members) for members in totals.values()]
    table.add_row("all", *_cells(sum(number for number, _ in every), sum(size for _, size in every)))
    console.print(table)
    console.print(_users_table(found))
    _print_unreadable(found, console)


def _users_table(found: Contents) -> Table:
    table = Table("study", box=SIMPLE_HEAD)
    for heading in ("own stages", "size", "shared stages", "size"):
        table.add_column(heading, justify="right")
    for share in shares(found):
        table.add_row(share.folder, *_cells(*share.own), *_cells(*share.shared))
    unused = [stage for stage in found.stages if not stage.studies]
    table.add_row("used by none", *_cells(*count(unused)), "", "")
    return table


def _cells(number: int, size: int) -> tuple[str, str]:
    return str(number), decimal(size)


def _print_unreadable(found: Contents, console: Console) -> None:
    for path in found.unreadable:
        console.print(f"{path}: cannot be read; what its study uses looks unused here.", soft_wrap=True)


def print_checked(checked: Iterable[Checked], total: int, console: Console | None = None) -> bool:
    """Print what is damaged, as it is found.

    Args:
        checked: As `ablate.study.upkeep.verify` gives it.
        total: How many there will be.
        console: Where to print; default stdout.

    Returns:
        Whether all is sound.
    """
    console = make_console() if console is None else console
    number = damaged = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar, began = progress.add_task("reading", total=total, visible=False), time.monotonic()
        for number, one in enumerate(checked, 1):
            progress.update(bar, completed=number, visible=time.monotonic() - began > _PATIENCE)
            if one.damaged:
                damaged += 1
                console.print(_damage(one), soft_wrap=True)
    stages = _stages(number)
    console.print(f"{damaged} of {stages} damaged." if damaged else f"{stages} read, all as written.")
    return not damaged


def _damage(one: Checked) -> str:
    what = f"{one.folder} ({one.label})" if one.label else f"{one.folder}"
    files = ", ".join(one.damaged)
    if not one.set_aside:
        return f"{what}: damaged: {files}; the store cannot be written, so it stays where it is."
    return f"{what}: damaged: {files}; it is set aside, and `ablate run` computes it again."


def print_pruning(done: Pruning, root: Path | None, dry_run: bool, console: Console | None = None) -> None:
    """Print what was removed, or would be, and what is free."""
    console = make_console() if console is None else console
    for stage in done.stages:
        text = f"{stage.key[:SHORT]}  {stage.label}  {_status(stage)}  {decimal(stage.bytes)}"
        console.print(text, soft_wrap=True)
    for one in done.aside:
        console.print(f"{one.path.name[:SHORT]}  set aside  {decimal(one.bytes)}", soft_wrap=True)
    if done.kept:
        console.print(f"{_stages(done.kept)} stay: a run is using them.", soft_wrap=True)
    if done.forgotten:
        verb = "would no longer count" if dry_run else "no longer counts"
        console.print(f"{done.forgotten}: {verb} as a user of this store.", soft_wrap=True)
    number = len(done.stages) + len(done.aside)
    verb = "would be removed" if dry_run else "removed"
    free = "" if root is None else f"; {decimal(shutil.disk_usage(root).free)} are free now"
    stay = f" ({decimal(done.linked)} of it stay, as weights in studies' folders)" if done.linked else ""
    console.print(f"{_stages(number)} {verb}, {decimal(done.bytes)}{stay}{free}.")


def _stages(number: int) -> str:
    return f"{number} stage" + ("" if number == 1 else "s")
