"""What `ablate status` prints."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ablate.durations import about
from ablate.study.show import make_console
from ablate.study.status import Status, Unfinished

MOST_ROWS = 20
_STATES = {
    "finished": "finished",
    "running": "running",
    "failed": "ended, but not all of it well",
    "interrupted": "interrupted: no process is computing a stage of it",
}


def print_status(status: Status, console: Console | None = None) -> None:
    """Print what stands of a study.

    Args:
        status: What stands.
        console: Where to print; default stdout.
    """
    console = make_console() if console is None else console
    for part in status_parts(status):
        console.print(part, soft_wrap=isinstance(part, str))


def status_parts(status: Status) -> list[Table | str]:
    """What stands of a study, in tables and sentences."""
    shown = status.unfinished[:MOST_ROWS]
    parts: list[Table | str] = [_summary(status)]
    if shown:
        parts.append(_unfinished(shown, len(status.unfinished) - len(shown)))
    parts += [f"log of {one.label}: {one.log}" for one in shown if one.log]
    if not status.store_exists:
        parts.append(
            f"Its stage store {status.store.place} is not there: every stage counts as still to be run."
        )
    return [*parts, status.next]


def _summary(status: Status) -> Table:
    table = Table(title=status.name, title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    stages, epochs = status.stages, status.epochs
    states = ", ".join(f"{number} {state}" for state, number in status.trials.items() if number)
    left_out = f", {stages['left_out']} left out" if stages["left_out"] else ""
    table.add_row("state", _STATES[status.state])
    table.add_row("trials", f"{sum(status.trials.values())}: {states}")
    table.add_row("stages", f"{stages['done']} of {stages['total']} finished{left_out}")
    table.add_row("epochs", f"{epochs['done']} of {epochs['total']} trained")
    if status.seconds_left:
        table.add_row("time", f"about {about(status.seconds_left)} left")
    table.add_row("folder", str(status.folder))
    return table


def _unfinished(shown: list[Unfinished], more: int) -> Table:
    table = Table(title="not finished", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("stage", overflow="fold")
    table.add_column("state", overflow="fold")
    for one in shown:
        table.add_row(one.label, _state(one), style="red" if one.state == "failed" else None)
    if more:
        table.add_row(f"… and {more} more", "")
    return table


def _state(one: Unfinished) -> str:
    after = f" after epoch {one.epochs_done} of {one.epochs}" if one.epochs_done else ""
    match one.state:
        case "running":
            return f"running, epoch {one.epochs_done + 1} of {one.epochs}" if one.epochs else "running"
        case "pending":
            return f"waits for {' and '.join(one.waits_for)}" if one.waits_for else "can run"
        case "left_out":
            return f"left out: {one.reason}"
        case _:
            return f"{one.state}{after}" + (f": {one.reason}" if one.reason else "")
