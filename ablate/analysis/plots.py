"""Figures for people: effects, learning curves, confusions, calibration, what each technique costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.analysis.drawing import FONT, INK, legend_below, literal, new_figure, styles
from ablate.analysis.names import shown_in, title, unit
from ablate.analysis.wording import short_labels, signed

VERDICT_COLORS = {"helps": "#009E73", "hurts": "#D55E00", "negligible": "#808080", "undecided": "#3D9BD8"}


def primary_rows(effects: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The effects on one metric of the primary contrasts; of all where none is primary."""
    rows = effects[effects["metric"] == metric]
    primary = set(effects.loc[effects["primary"], "contrast"])
    return rows[rows["contrast"].isin(primary)] if primary else rows


def forest(effects: pd.DataFrame, metric: str, smallest_effect: float) -> Figure:
    """A row per primary contrast: effect and interval by verdict, and a thin whisker for new seeds alone.

    The grey band is ± smallest_effect, in the unit of `metric`. Where no contrast is primary, all are drawn;
    an effect that is unknown leaves its row empty, one without an interval is a dot.
    """
    rows = primary_rows(effects, metric)
    factor, shown_unit, _ = shown_in(metric)
    figure, axes = new_figure(0.75 + 0.46 * max(len(rows), 1))
    axes.axvspan(-smallest_effect * factor, smallest_effect * factor, color=INK, alpha=0.1, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    for y, (label, row) in enumerate(zip(short_labels(rows, metric), rows.to_dict("records"), strict=True)):
        color = VERDICT_COLORS[row["verdict"]]
        seed_ends = [row["seed_ci_low"] * factor, row["seed_ci_high"] * factor]
        ends = [row["ci_low"] * factor, row["ci_high"] * factor]
        axes.plot(ends, [y, y], color=color, lw=6, alpha=0.75, solid_capstyle="butt", zorder=3)
        axes.plot(seed_ends, [y, y], color=INK, lw=1, zorder=4)
        axes.plot([row["effect"] * factor], [y], "o", color=color, mec=INK, ms=7, zorder=5)
        words: dict[str, Any] = {
            "color": INK,
            "fontsize": FONT,
            "va": "center",
            "transform": axes.get_yaxis_transform(),
        }
        axes.text(0, y - 0.42, literal(label, 36), ha="left", fontweight="bold", **words)
        axes.text(1, y - 0.42, f"{signed(row['effect'], metric)}  {row['verdict']}", ha="right", **words)
    axes.set_yticks([])
    axes.set_ylim(max(len(rows), 1) - 0.6, -0.75)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(literal(f"difference in {title(metric)}" + (f", {shown_unit}" if shown_unit else ""), 55))
    return figure


def curves(history: pd.DataFrame, metric: str = "accuracy") -> Figure:
    """A metric by epoch, counted through all phases: each variant's mean ± its spread.

    `history` has a row per variant, seed, fold, phase and epoch, in the order of training within a trial; the
    spread is one standard deviation over seeds and folds. Where it has no such metric, see `curve_in`.
    """
    metric = curve_in(history, metric) or metric
    figure, axes = new_figure(2.9)
    factor, shown_unit, _ = shown_in(metric)
    style = styles([str(name) for name in history["variant"].unique()])
    for variants, mean, spread in curves_of(history, metric):
        color, line = style[variants[0]]
        marker = "o" if len(mean) == 1 else ""
        mean, spread = mean * factor, spread * factor
        axes.plot(
            mean.index, mean, line, color=color, marker=marker, label=literal(", ".join(variants), 60), lw=1.6
        )
        axes.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.13, lw=0)
    axes.set_xlabel("epoch, all phases")
    axes.set_ylabel(literal(title(metric) + (f", {shown_unit}" if unit(metric) else "")))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure


def curve_in(history: pd.DataFrame, *wanted: str) -> str | None:
    """What there is to draw of a history: the first of what is wanted, else a loss; None without any."""
    names = (*wanted, "valid_loss", "train_loss")
    return next((name for name in names if name in history and history[name].notna().any()), None)


def curves_of(history: pd.DataFrame, metric: str) -> list[tuple[list[str], pd.Series, pd.Series]]:
    """Variants with their mean and standard deviation by epoch, counted through all phases from 1.

    Variants that were trained alike, and differ in how they predict, share one curve.
    """
    trial = [column for column in ("variant", "seed", "fold") if column in history]
    history = history.assign(passed=history.groupby(trial, sort=False).cumcount() + 1).dropna(subset=[metric])
    found: list[tuple[list[str], pd.Series, pd.Series]] = []
    for variant, rows in history.groupby("variant", sort=False):
        table = rows.groupby("passed")[metric].agg(["mean", "std"]).fillna({"std": 0.0})
        same = [each for each in found if each[1].equals(table["mean"]) and each[2].equals(table["std"])]
        if same:
            same[0][0].append(str(variant))
        else:
            found.append(([str(variant)], table["mean"], table["std"]))
    return found


def reliability(tables: Mapping[str, pd.DataFrame], variants: list[str]) -> Figure:
    """How often predictions are right by how sure they were, with a line per variant.

    `tables` are those of `Outcomes.reliability`; a dot is larger where more predictions lie in its bin.
    `variants` are all of the study, so that each keeps its colour.
    """
    figure, axes = new_figure(3.6)
    axes.plot([0, 100], [0, 100], color=INK, lw=1, alpha=0.5, zorder=1)
    line_of_truth = axes.get_lines()[0]
    style = styles(variants)
    for variant, table in tables.items():
        color, line = style[variant]
        x, y = 100 * table["confidence"], 100 * table["accuracy"]
        axes.plot(x, y, line, color=color, lw=1.6, label=literal(variant, 60))
        axes.scatter(x, y, s=3 + 60 * table["count"] / table["count"].sum(), color=color, zorder=3)
    axes.set(
        xlim=(0, 101), ylim=(0, 101), xlabel="confidence of the prediction, %", ylabel="of these right, %"
    )
    line_of_truth.set_label("perfectly calibrated")
    legend_below(figure, axes)
    return figure


def confusion(shares: np.ndarray, names: Sequence[str], variant: str) -> Figure:
    """A variant's confusion matrix as a heat map, with the numbers.

    Args:
        shares: Of the items of each class (row), the share that was given each class (column), (K, K).
        names: Of the K classes.
        variant: Whose it is.
    """
    figure, axes = new_figure(1.2 + 0.5 * len(names))
    axes.grid(False)
    places = np.arange(len(names) + 1) - 0.5
    axes.pcolormesh(places, places, shares, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else INK
        number = "–" if np.isnan(share) else f"{100 * share:.0f}"
        axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=FONT)
    labels = [literal(name, 24) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), labels)
    axes.set_xlabel("predicted, % of each true class")
    axes.set_ylabel("true")
    axes.set_title(literal(variant, 48), color=INK, fontsize=FONT)
    return figure


def costs(table: pd.DataFrame, metric: str) -> Figure:
    """What each technique brings, with its interval, over how much longer training takes.

    `table` has a row per contrast: `number` (written beside its dot), `extra` (a share of the train time),
    `effect`, `ci_low`, `ci_high`, `verdict`.
    """
    factor, shown_unit, _ = shown_in(metric)
    figure, axes = new_figure(2.9)
    axes.axhline(0, color=INK, lw=1, zorder=1)
    axes.axvline(0, color=INK, lw=1, alpha=0.4, zorder=1)
    for row in table.to_dict("records"):
        x, y = 100 * row["extra"], row["effect"] * factor
        color = VERDICT_COLORS[row["verdict"]]
        axes.plot([x, x], [row["ci_low"] * factor, row["ci_high"] * factor], color=color, lw=2.5, alpha=0.75)
        axes.plot([x], [y], "o", color=color, mec=INK, ms=6, zorder=3)
        number: dict[str, Any] = {
            "color": INK,
            "fontsize": FONT,
            "fontweight": "bold",
            "textcoords": "offset points",
        }
        axes.annotate(str(row["number"]), (x, y), (6, 5), **number)
    axes.plot([-5, 5], [0, 0], alpha=0)  # a width below which times differ by chance
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("extra train time, %")
    axes.set_ylabel(literal(f"difference in {title(metric)}" + (f", {shown_unit}" if shown_unit else ""), 44))
    return figure
