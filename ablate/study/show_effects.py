"""What `ablate show` prints of a study that has been run, and what ends a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ablate.analysis.names import shown_in, title

if TYPE_CHECKING:
    from ablate.study.study import Study


def print_effects(console: Console, study: Study) -> None:
    """Print the table of effects, and where the report is."""
    for part in effects_parts(study):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False, markup=False)
    if (study.folder / "report.html").is_file():
        text = f"report: {study.folder / 'report.html'} (in short: report.md)"
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def effects_parts(study: Study) -> list[Table | str]:
    """The effects on the study's metric, or the metric itself where nothing is compared, and what is open.

    Raises:
        AblateError: No trial has ended yet.
    """
    trials, plan = study.trials, study.plan
    good, bad = trials[trials.status == "ok"], trials[trials.status != "ok"]
    metric = plan["metric"]
    factor, unit, digits = shown_in(metric)
    parts: list[Table | str] = []
    if plan["contrasts"] and (study.folder / "effects.csv").is_file():
        parts += _compared(study, plan)
    elif len(good) and good[metric].isna().all():
        parts.append(f"{plan['name']}: {len(good)} trials, without a validation set to score them on")
    elif len(good):
        value = factor * good[metric].mean()
        text = f"{title(metric)} {value:.{digits}f} {unit}, the mean of {len(good)} trials"
        parts.append(f"{plan['name']}: {text}")
    if len(bad):
        parts.append(
            f"{len(bad)} of {len(trials)} trials did not finish well: see `ablate status {study.folder}`"
        )
    if plan["quick"]:
        parts.append("This was a smoke run on a few images: everything works, and its numbers mean nothing.")
    return parts


def _compared(study: Study, plan: dict[str, Any]) -> list[Table | str]:
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
    # a study from before has no details, and a smoke run decides nothing
    if plan["quick"] or not (study.folder / "details.csv").is_file():
        return [table]
    own = effects["metric"] == metric
    records = (each[own].to_dict("records") for each in (effects, study.details()))
    steps = zip(labels, map(next_step, *records), strict=True)
    return [table, *(f"{label}: {step[0].lower()}{step[1:]}" for label, step in steps if step)]
