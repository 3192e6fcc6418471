"""Effects in words and numbers for people, the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablate.analysis.names import shown_in, title

VERDICTS = {
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "negligible": ("makes no difference that matters", "make no difference that matters"),
    "undecided": ("is undecided", "are undecided"),
}
"""How a verdict is said of one factor and of several."""


def signed(value: float, metric: str) -> str:
    """A difference in the unit that people read, with its sign: accuracy's 0.0132 is `+1.32`."""
    if math.isnan(value):
        return "–"
    factor, _, digits = shown_in(metric)
    # adding 0.0 turns a negative zero into a zero
    return f"{round(value * factor, digits) + 0.0:+.{digits}f}".replace("-", "−")


def level(value: float, metric: str) -> str:
    """A metric's value in the unit that people read: `88.10` for 0.881 of accuracy; `–` for NaN."""
    factor, _, digits = shown_in(metric)
    return "–" if math.isnan(value) else f"{value * factor:.{digits}f}"


def interval(low: float, high: float, metric: str) -> str:
    """An interval in the unit that people read: `[+0.40, +2.20]`; `–` where it is unknown."""
    return "–" if math.isnan(low) else f"[{signed(low, metric)}, {signed(high, metric)}]"


def effects_rows(effects: pd.DataFrame, metric: str) -> list[tuple[str, str, str, str]]:
    """The effects on one metric as text: contrast, effect, interval, verdict (or that it is exploratory)."""
    exploratory = set(effects["contrast"]) - set(effects.loc[effects["primary"], "contrast"])
    return [
        (
            row["contrast"],
            signed(row["effect"], metric),
            interval(row["ci_low"], row["ci_high"], metric),
            row["verdict"] + (" (exploratory)" if row["contrast"] in exploratory else ""),
        )
        for row in effects[effects["metric"] == metric].to_dict("records")
    ]


def next_step(row: Mapping[Any, Any], detail: Mapping[Any, Any]) -> str:
    """What would decide a comparison that is open; empty where none is, or nothing is known."""
    if math.isnan(row["effect"]):
        return "" if row["n_seeds"] else "No pair of trials finished"
    if row["verdict"] != "undecided":
        return ""
    if known(detail.get("more_seeds")):
        more = int(detail["more_seeds"])
        return f"About {more:,} more seed{'' if more == 1 else 's'} would decide it"
    if known(detail.get("images_needed")):
        images = f"about {detail['images_needed']:,.0f} images would"
        return f"More seeds will never decide it on these images; {images}"
    told = isinstance(detail.get("note"), str)
    alone = math.isnan(row["ci_low"]) and row["n_seeds"] == 1
    return "One seed gives no interval" if alone and not told else ""


def answer(
    effects: pd.DataFrame,
    metric: str,
    smallest_effect: float,
    n_items: int,
    details: pd.DataFrame | None = None,
) -> str:
    """One paragraph that says which factors help, hurt, make no difference or are undecided.

    Only primary contrasts are answers. A study without any says so. With the `details` of the effects it also
    says what would decide what is undecided.
    """
    if details is not None:
        effects = effects.join(details[["confidence", "more_seeds", "images_needed", "note"]])
    rows = effects[effects["primary"] & (effects["metric"] == metric)].to_dict("records")
    if not rows and not n_items:
        return "There is no validation set, and nothing is compared."
    if not rows:
        return "This study declared no comparison, so it has no answer."
    labels = _labels(rows)
    _, unit, _ = shown_in(metric)
    margin = signed(smallest_effect, metric).removeprefix("+")
    sentences = []
    for verdict in ("helps", "hurts", "negligible", "undecided"):
        found = [(label, row) for label, row in zip(labels, rows, strict=True) if row["verdict"] == verdict]
        if not found:
            continue
        parts = [f"**{label}** ({_measured(row, metric, unit)})" for label, row in found]
        sentence = f"{_listed(parts)} {VERDICTS[verdict][len(found) > 1]}"
        if verdict == "negligible":
            sentence += f" (less than {margin} {unit} either way)"
        if verdict == "undecided":
            sentence += f": this study cannot tell {'its' if len(found) == 1 else 'their'} effect from chance"
            sentence += _what_would_decide(found)
        sentences.append(sentence + ".")
    return f"On {title(metric)}, with {_seeds(rows)} and {n_items:,} validation images: " + " ".join(
        sentences
    )


def short_labels(effects: pd.DataFrame, metric: str) -> list[str]:
    """What each row of `effects_rows` varies, short: `mixup`, `model.arch=resnet34`."""
    return _labels(effects[effects["metric"] == metric].to_dict("records"))


def _labels(rows: list[dict]) -> list[str]:
    short = [row["factor"] if row["level"] == "on" else f"{row['factor']}={row['level']}" for row in rows]
    return [
        label if short.count(label) == 1 else row["contrast"] for label, row in zip(short, rows, strict=True)
    ]


def _measured(row: dict, metric: str, unit: str) -> str:
    if math.isnan(row["effect"]):
        return "not defined on these images" if row["n_seeds"] else "no pair of trials finished"
    text = f"{signed(row['effect'], metric)} {unit}"
    if math.isnan(row["ci_low"]):
        return f"{text}, and {'one seed gives ' if row['n_seeds'] == 1 else ''}no interval"
    confidence = row.get("confidence", 0.95)
    interval = f"{signed(row['ci_low'], metric)} to {signed(row['ci_high'], metric)}"
    return f"{text}, {100 * confidence:.3g}% interval {interval}"


def _what_would_decide(found: list[tuple[str, dict]]) -> str:
    """The next step of all that is undecided, one for all or one for each."""
    told = [
        (label, row)
        for label, row in found
        if known(row.get("more_seeds")) or known(row.get("images_needed"))
    ]
    steps = [(label, next_step(row, row)) for label, row in told]
    if not steps:
        return ""
    if len(found) == 1:
        return f". {steps[0][1]}"
    return ". " + "; ".join(f"{label}: {step[0].lower()}{step[1:]}" for label, step in steps)


def _seeds(rows: list[dict]) -> str:
    low, high = min(row["n_seeds"] for row in rows), max(row["n_seeds"] for row in rows)
    return f"{high} seed{'' if high == 1 else 's'}" if low == high else f"{low} to {high} seeds"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def known(value: Any) -> bool:
    """Whether a cell of a table holds something."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))
