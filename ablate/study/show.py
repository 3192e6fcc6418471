"""What `ablate plan`, `check` and `techniques` print: tables for people, from facts found elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table

from ablate import techniques
from ablate.data import place
from ablate.durations import about
from ablate.study.graph import Plan, Trial

if TYPE_CHECKING:
    from ablate.data.check import CheckReport
    from ablate.techniques.base import Technique

PIPE_WIDTH = 120
MOST_ROWS = 60
"""A table on a terminal is cut after so many rows; the files of a study have them all."""


def make_console() -> Console:
    """A console that prints names as they are: `[a]` in a file name is not markup, nor `:x:` an emoji.

    A pipe has no width of its own, and 80 columns would fold the names of variants.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def print_plan(numbers: dict[str, Any], plan: Plan, console: Console | None = None) -> None:
    """Print what a study would run.

    Args:
        numbers: As `ablate.study.summary.plan_numbers` gives them.
        plan: The plan itself.
        console: Where to print; default stdout.
    """
    console = make_console() if console is None else console
    for part in plan_parts(numbers, plan):
        console.print(part, soft_wrap=isinstance(part, str))


def plan_parts(numbers: dict[str, Any], plan: Plan) -> list[Table | str]:
    """What there is to tell of a plan, in tables and a sentence; see `print_plan`."""
    parts: list[Table | str] = [_numbers_table(numbers, plan), _variants_table(plan)]
    if plan.contrasts:
        parts.append(_contrasts_table(plan))
    if not plan.data_known:
        parts.append(
            "Not all images have been looked at yet, so stages that are already stored cannot be told; "
            "`ablate check` or `ablate run` looks at them."
        )
    return parts


def _numbers_table(numbers: dict[str, Any], plan: Plan) -> Table:
    table = Table(title="plan", title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    trials = (
        f"{numbers['trials']} = {_count(numbers['variants'], 'variant')} × {_count(numbers['seeds'], 'seed')}"
    )
    table.add_row("trials", trials + (f" × {numbers['folds']} folds" if numbers["folds"] > 1 else ""))
    table.add_row("design", numbers["design"])
    if "looks" in numbers:
        table.add_row("until decided", _looks(numbers))
    kinds = Counter(plan.stages[key].kind for key in plan.needed(trial.predict for trial in plan.trials))
    words = {"fit": "to train", "lr_find": "to find learning rates", "predict": "to predict"}
    parts = ", ".join(f"{kinds[kind]} {word}" for kind, word in words.items() if kinds[kind])
    table.add_row("stages", f"{numbers['stages']}: {parts}")
    table.add_row("epochs asked for", str(numbers["requested_epochs"]))
    saved = numbers["requested_epochs"] - numbers["unique_epochs"]
    shared = (
        f" ({saved} are shared: merge rate {numbers['merge_rate']:.2f})" if saved else " (nothing is shared)"
    )
    table.add_row("epochs to train", f"{numbers['unique_epochs']}{shared}")
    table.add_row(
        "images", f"{numbers['train_images']} to train on, {numbers['valid_images']} to validate on"
    )
    if "cache_bytes" in numbers:
        table.add_row("image cache", _cache(numbers["cache_bytes"]))
    if numbers["valid_images"]:
        table.add_row("detectable effect", _detectable(numbers))
        error, seed_sd = (100 * numbers["expected"][name] for name in ("error", "seed_sd"))
        table.add_row("", f"if {error:g}% are wrong and seeds differ by {seed_sd:g} points (study.expected)")
    if "stored_stages" in numbers:
        for name, text in _left(numbers, plan.data_known).items():
            table.add_row(name, text)
    return table


def _cache(size: int | None) -> str:
    """What the presized images take of the disk."""
    if size is None:
        return "none"
    folder = place.root()
    return f"about {decimal(size)} in {folder}" if size else f"in {folder}, of unknown size"


def _looks(numbers: dict[str, Any]) -> str:
    """When a study that goes on until it is decided is looked at, and the least that it takes."""
    *first, last = numbers["looks"]
    if not first:
        return f"a single look, at {last} seeds"
    least = f"{numbers['least_trials']} trials and {_count(numbers['least_epochs'], 'epoch')}"
    return (
        f"a look at {', '.join(map(str, first))} and {last} seeds; these are the most, and {least} the least"
    )


def _left(numbers: dict[str, Any], data_known: bool) -> dict[str, str]:
    """What is stored already, and what the rest takes, as far as stages like it have been measured."""
    stored, seconds, size = (
        numbers[key] for key in ("stored_stages", "estimated_seconds", "estimated_bytes")
    )
    free, unknown = f"{decimal(numbers['free_bytes'])} free", "unknown until a stage has been measured"
    if stored == numbers["stages"]:
        return {"already stored": "all stages: nothing is left to compute", "disk": free}
    epochs = _count(numbers["epochs_left"], "epoch")
    without = numbers["unmeasured_stages"]
    but = f", and {_count(without, 'stage')} like none that was measured" if without else ""
    return {
        "already stored": _count(stored, "stage") if data_known else "cannot be told yet",
        "estimated time": unknown
        if seconds is None
        else f"about {about(seconds)} for the {epochs} left, from measured stages{but}",
        "disk": f"{unknown}, {free}"
        if size is None
        else f"about {decimal(size)} for what is left{but}, {free}",
    }


def _detectable(numbers: dict[str, Any]) -> str:
    """The smallest effect that such a study finds four times in five."""
    effect, seeds, images = numbers["detectable_effect"], numbers["seeds"], numbers["valid_images"]
    with_ = f"with {_count(seeds, 'seed')} and {_count(images, 'image')}"
    if effect is None:
        return f"none {with_}" + ("; differences need at least 2 seeds" if seeds < 2 else "")
    text = f"about {100 * effect:.2f} points of accuracy {with_}"
    wanted = numbers.get("smallest_effect")
    if wanted is not None and numbers.get("metric") == "accuracy":
        reach = "within reach" if effect <= wanted else "out of reach"
        text += f"; the recipe's smallest_effect of {100 * wanted:g} points is {reach}"
    return text


def _variants_table(plan: Plan) -> Table:
    """Every variant's phases, and what of its training the first variant has done already."""
    one_each: dict[str, Trial] = {}
    for trial in plan.trials:
        one_each.setdefault(trial.variant, trial)
    first = next(iter(one_each.values()))
    table = Table(title="variants", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("variant", "phases: epochs at size", f"shares with {first.variant}"):
        table.add_column(heading, overflow="fold")
    for trial in list(one_each.values())[:MOST_ROWS]:
        table.add_row(
            trial.variant, _phases(trial, plan), "" if trial is first else _shared(trial, first, plan)
        )
    if len(one_each) > MOST_ROWS:
        table.add_row(f"… and {len(one_each) - MOST_ROWS} more", "", "")
    return table


def _phases(trial: Trial, plan: Plan) -> str:
    phases = [plan.stages[key].settings["phase"] for key in trial.fits]
    return " → ".join(f"{phase['name']}: {phase['epochs']} at {phase['size']}" for phase in phases)


def _shared(trial: Trial, first: Trial, plan: Plan) -> str:
    shared = [plan.stages[key].settings["phase"]["name"] for key in trial.fits if key in first.fits]
    if trial.predict == first.predict:
        return "everything"
    if len(shared) == len(trial.fits):
        return "all training"
    return ", ".join(shared) or "nothing"


def _contrasts_table(plan: Plan) -> Table:
    table = Table(title="comparisons", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("factor", overflow="fold")
    table.add_column("level", overflow="fold")
    table.add_column("comparison", overflow="fold")
    table.add_column("note")
    aliased = any(contrast.aliases for contrast in plan.contrasts)
    if aliased:
        table.add_column("cannot be told from", overflow="fold")
    predicts = {trial.variant: trial.predict for trial in reversed(plan.trials)}
    for contrast in plan.contrasts[:MOST_ROWS]:
        notes = [] if contrast.primary else ["exploratory"]
        notes += ["unequal epochs"] if contrast.unequal_epochs else []
        notes += ["nothing differs"] if len({predicts[variant] for variant in contrast.weights}) == 1 else []
        aliases = [", ".join(contrast.aliases)] if aliased else []
        table.add_row(contrast.factor, contrast.level, contrast.name, ", ".join(notes), *aliases)
    if len(plan.contrasts) > MOST_ROWS:
        table.add_row(f"… and {len(plan.contrasts) - MOST_ROWS} more", "", "", "")
    return table


def print_check(report: CheckReport, console: Console | None = None) -> None:
    """Print what looking at every image has found.

    Args:
        report: As `ablate.data.check.check_data` gives it.
        console: Where to print; default stdout.
    """
    console = make_console() if console is None else console
    console.print(_counts_table(report.counts, report.classes))
    if report.n_items > len(report.bad):
        low_w, low_h, high_w, high_h = report.sizes
        console.print(
            f"sizes: {low_w} × {low_h} pixels"
            + (f" to {high_w} × {high_h}" if report.sizes[2:] != report.sizes[:2] else "")
        )
    _print_list(console, "cannot be used", [f"{id_}: {why}" for id_, why in report.bad])
    folds = len(report.counts)
    leaks = [
        (f"fold {fold}: " if folds > 1 else "") + f"{side_a}: {_ids(ids_a)} = {side_b}: {_ids(ids_b)}"
        for fold, side_a, side_b, ids_a, ids_b in report.leaks
    ]
    _print_list(console, "the same image on two sides of a split", leaks)
    twins = [
        (f"fold {fold}: " if folds > 1 else "") + f"{side_a}: {a} ~ {side_b}: {b} (distance {distance})"
        for fold, side_a, side_b, a, b, distance in report.twins or ()
    ]
    _print_list(console, "images that look the same on two sides of a split", twins)
    if report.twins is None:
        console.print("images that look the same on two sides were not looked for: there are too many images")
    _print_list(console, "categories that a training split does not have", report.unseen)
    _print_list(console, "extra images that are left out", [f"{id_}: {why}" for id_, why in report.left_out])
    _print_list(
        console, "the same image with different labels", [" = ".join(map(str, ids)) for ids in report.repeats]
    )
    console.print(_verdict(report), soft_wrap=True)


def _counts_table(counts: Sequence[dict[str, list[int]]], classes: Sequence[str]) -> Table:
    """Images by class and side; a column per fold and side."""
    sides = [(i, side) for i, fold in enumerate(counts) for side, numbers in fold.items() if any(numbers)]
    table = Table("class", title="images", title_justify="left", box=SIMPLE_HEAD)
    for i, side in sides:
        table.add_column(f"{side} {i}" if len(counts) > 1 else side, justify="right")
    for number, name in list(enumerate(classes))[:MOST_ROWS]:
        table.add_row(str(name), *(str(counts[i][side][number]) for i, side in sides))
    if len(classes) > MOST_ROWS:
        table.add_row(f"… and {len(classes) - MOST_ROWS} more")
    table.add_section()
    table.add_row("all", *(str(sum(counts[i][side])) for i, side in sides))
    return table


def _print_list(console: Console, heading: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"{heading} ({len(lines)}):")
        for line in lines[:MOST_ROWS]:
            console.print(f"  {line}", soft_wrap=True)
        if len(lines) > MOST_ROWS:
            console.print(f"  … and {len(lines) - MOST_ROWS} more")


def _ids(ids: Sequence[Any]) -> str:
    return ", ".join(map(str, ids))


def _verdict(report: CheckReport) -> str:
    images = _count(report.n_items, "image")
    if report.bad:
        start = f"{len(report.bad)} of {images} cannot be used; mend them or drop their rows."
    else:
        start = f"All {images} can be used"
    found = []
    if report.leaks:
        found.append(
            "some stand on two sides of a split, so scores would be too good; keep copies on one side with "
            "data.split.group, or drop them"
        )
    if report.twins:
        found.append("some look like ones on the other side; see whether they are copies")
    if report.repeats:
        found.append("some have two labels; decide which is right")
    if not found:
        return start if report.bad else f"{start}, and none stands on two sides of a split."
    also = "; ".join(found) + "."
    return f"{start} {also[0].upper()}{also[1:]}" if report.bad else f"{start}, but {also}"


def print_techniques(console: Console | None = None) -> None:
    """Print every technique: what it does, its options with defaults, its paper."""
    console = make_console() if console is None else console
    for name, technique in techniques.registry().items():
        console.print(name, style="bold")
        console.print(Padding((technique.__doc__ or "").strip().splitlines()[0], (0, 0, 0, 2)))
        if technique.model_fields:
            console.print(Padding(_options_table(technique), (0, 0, 0, 4)))
        if technique.paper:
            console.print(Padding(technique.paper, (0, 0, 0, 2)), style="dim")
        console.print()


def _options_table(technique: type[Technique]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for option, field in technique.model_fields.items():
        default = field.get_default(call_default_factory=True)
        table.add_row(f"{option}: {_yaml(default)}", field.description or "")
    return table


def _yaml(value: Any) -> str:
    """A default as it would be written in a recipe."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
