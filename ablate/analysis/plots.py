"""Figures for people: a forest plot of effects, and learning curves; no pyplot, so no global state."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.analysis.names import METRIC_UNITS, shown_in

# Okabe & Ito's colours, told apart by colour-blind readers too
VERDICT_COLORS = {"helps": "#009E73", "hurts": "#D55E00", "negligible": "#666666", "undecided": "#56B4E9"}
CYCLE = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800"]
LINES = ["-", "--", ":", "-."]


def forest(effects: pd.DataFrame, metric: str, smallest_effect: float) -> Figure:
    """A row per primary contrast: effect and interval by verdict, and a thin whisker for new seeds alone.

    The grey band is ± smallest_effect, in the unit of `metric`. Where no contrast is primary, all are drawn;
    an effect that is unknown leaves its row empty, one without an interval is a dot.
    """
    rows = effects[effects["metric"] == metric]
    primary = set(effects.loc[effects["primary"], "contrast"])
    rows = rows[rows["contrast"].isin(primary)] if primary else rows
    factor, unit, _ = shown_in(metric)
    figure = Figure(figsize=(8, 1.4 + 0.45 * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-smallest_effect * factor, smallest_effect * factor, color="#DDDDDD", lw=0, zorder=0)
    axes.axvline(0, color="#444444", lw=1, zorder=1)
    for y, row in enumerate(rows.to_dict("records")):
        color = VERDICT_COLORS[row["verdict"]]
        seed_ends = [row["seed_ci_low"] * factor, row["seed_ci_high"] * factor]
        ends = [row["ci_low"] * factor, row["ci_high"] * factor]
        axes.plot(ends, [y, y], color=color, lw=5, alpha=0.75, zorder=3)
        axes.plot(seed_ends, [y, y], color="#222222", lw=1, zorder=4)
        axes.plot([row["effect"] * factor], [y], "o", color=color, mec="#222222", ms=7, zorder=5)
    labels = [
        f"{contrast}\n{verdict}" for contrast, verdict in zip(rows["contrast"], rows["verdict"], strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    name = metric.replace("_", " ")
    axes.set_xlabel(
        f"difference in {name} ({unit}); bar: new images and seeds, line: new seeds on these images"
    )
    axes.xaxis.label.set_fontsize(8)
    _quiet(axes)
    return figure


def curves(history: pd.DataFrame, metric: str = "accuracy") -> Figure:
    """The validation metric by epoch, counted through all phases: each variant's mean ± its spread.

    `history` has a row per variant, seed, fold, phase and epoch, in the order of training within a trial; the
    spread is one standard deviation over seeds and folds. Where it has no such metric, `valid_loss` is drawn.
    """
    metric = metric if metric in history and history[metric].notna().any() else "valid_loss"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    factor, unit, _ = shown_in(metric)
    trial = [column for column in ("variant", "seed", "fold") if column in history]
    history = history.assign(passed=history.groupby(trial, sort=False).cumcount() + 1).dropna(subset=[metric])
    styles = cycle((color, line) for line in LINES for color in CYCLE)
    for (variant, rows), (color, line) in zip(history.groupby("variant", sort=False), styles, strict=False):
        by_epoch = rows.groupby("passed")[metric].agg(["mean", "std"]).fillna({"std": 0.0}) * factor
        mean, spread = by_epoch["mean"], by_epoch["std"]
        marker = "o" if len(mean) == 1 else ""
        axes.plot(mean.index, mean, line, color=color, marker=marker, label=str(variant), lw=1.5)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.12, lw=0)
    axes.set_xlabel("epoch, all phases")
    axes.set_ylabel(metric.replace("_", " ") + (f" ({unit})" if metric in METRIC_UNITS else ""))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_lines():
        axes.legend(fontsize=8, frameon=False)
    _quiet(axes)
    return figure


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#EEEEEE", zorder=-1)
    axes.set_axisbelow(True)
