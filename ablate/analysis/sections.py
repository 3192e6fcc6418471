"""What the sections of the report say, as rows of text; how they look is the template's business."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ablate.analysis.names import is_metric, shown_in, title
from ablate.analysis.saved import StudyFiles
from ablate.analysis.winner import best_or_only
from ablate.analysis.wording import interval, known, level, next_step, short_labels, signed

MOST_VARIANTS = 12
"""So many variants stand beside each other in one table."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        header: The columns' names.
        rows: Cells, the first of which names the row.
        shades: For each row and cell but the first, how strong its ground is, -1 to 1; empty without.
        caption: What it shows, in one sentence.
    """

    header: list[str]
    rows: list[list[str]]
    shades: list[list[float]] = field(default_factory=list)
    caption: str = ""


def unfinished(study: StudyFiles) -> str:
    """Which trials have no result; empty where all have."""
    if "status" not in study.trials:
        return ""
    missing = study.trials[study.trials["status"] != "ok"]
    if missing.empty:
        return ""
    counts = ", ".join(f"{count} {status}" for status, count in missing["status"].value_counts().items())
    which = ", ".join(f"{row['variant']} (seed {row['seed']})" for row in missing.head(10).to_dict("records"))
    return (
        f"{len(missing)} of {len(study.trials)} trials have no result ({counts}): {which}"
        f"{' …' if len(missing) > 10 else ''}. "
        "Each comparison uses the seeds that finished in all its variants."
    )


def unequal_epochs(study: StudyFiles) -> list[str]:
    """The contrasts whose variants trained for different numbers of epochs."""
    return [each["name"] for each in study.plan.get("contrasts", []) if each.get("unequal_epochs")]


def aliases(study: StudyFiles) -> dict[str, list[str]]:
    """By contrast, the effects that the design cannot tell from it."""
    contrasts = study.plan.get("contrasts", [])
    return {each["name"]: list(each["aliases"]) for each in contrasts if each.get("aliases")}


def effect_rows(study: StudyFiles, metric: str) -> list[dict[str, Any]]:
    """A row per contrast for one metric, each cell as text, with the verdict and what would decide it."""
    rows = study.effects[study.effects["metric"] == metric]
    details = details_of(study, metric)
    primary = set(study.effects.loc[study.effects["primary"], "contrast"])
    unequal, alias = unequal_epochs(study), aliases(study)
    found = []
    for label, row in zip(short_labels(study.effects, metric), rows.to_dict("records"), strict=True):
        name, detail = row["contrast"], details.get(row["contrast"], {})
        remarks = [next_step(row, detail)]
        if name in unequal:
            remarks.append("Its variants trained for different numbers of epochs")
        if name in alias:
            remarks.append(f"This design cannot tell it from {', '.join(alias[name])}")
        remarks += [_confidence(detail)]
        remarks += [f"Decided at {detail['look']:.0f} seeds"] if known(detail.get("look")) else []
        remarks += [detail["note"].rstrip(".")] if isinstance(detail.get("note"), str) else []
        found.append(
            {
                "label": label,
                "contrast": name,
                "plain": name in (label, f"{study.baseline}+{label} − {study.baseline}"),
                "effect": signed(row["effect"], metric),
                "interval": interval(row["ci_low"], row["ci_high"], metric),
                "seed_interval": interval(row["seed_ci_low"], row["seed_ci_high"], metric),
                "verdict": row["verdict"],
                "exploratory": name not in primary,
                "remarks": [remark for remark in remarks if remark],
                "seeds": str(row["n_seeds"]),
                "p": p_value(row["p_value"]),
                "p_adjusted": p_value(row["p_adjusted"]),
            }
        )
    return found


def _confidence(detail: dict[Any, Any]) -> str:
    """The interval's confidence, where looks made it another than 95%."""
    confidence = detail.get("confidence", 0.95)
    usual = not known(confidence) or abs(confidence - 0.95) < 1e-6
    return "" if usual else f"Interval of {100 * confidence:.1f}%"


def details_of(study: StudyFiles, metric: str) -> dict[str, dict[Any, Any]]:
    """The rows of `details.csv` on one metric, by contrast; empty without that file."""
    if study.details is None:
        return {}
    rows = study.details[study.details["metric"] == metric].to_dict("records")
    return {row["contrast"]: row for row in rows}


def p_value(value: float) -> str:
    """A p-value for people."""
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def scores(study: StudyFiles) -> Table | None:
    """Each variant's mean of every metric, ± its standard deviation over seeds."""
    metrics = [
        name for name in map(str, study.trials) if is_metric(name) and study.trials[name].notna().any()
    ]
    if not metrics or study.finished.empty:
        return None
    header = ["variant", "seeds", *(f"{title(name)}, {shown_in(name)[1]}" for name in metrics)]
    rows = [
        [str(variant), str(trials["seed"].nunique()), *(mean_and_sd(trials, name) for name in metrics)]
        for variant, trials in study.finished.groupby("variant", sort=False)
    ]
    by_fold = ", of the mean over folds, on the out-of-fold predictions"
    what = by_fold if study.plan.get("split_folds") else ", on the validation images"
    return Table(header, rows, caption=f"Mean ± standard deviation over seeds{what}.")


def mean_and_sd(trials: pd.DataFrame, metric: str) -> str:
    """The mean of a metric over seeds, ± its standard deviation where there are several."""
    by_seed = trials.groupby("seed")[metric].mean()
    mean = level(float(by_seed.mean()), metric)
    return mean if len(by_seed) < 2 else f"{mean} ± {level(float(by_seed.std()), metric)}"


def test_score(study: StudyFiles) -> str:
    """The winner's score on the test split, in one sentence of Markdown; empty where there is none."""
    from ablate.analysis.metrics import metric_values

    best = best_or_only(study.trials, study.metric)
    predictions = study.test_predictions(best) if best is not None else pd.DataFrame()
    if predictions.empty:
        return ""
    table = metric_values(predictions, [study.metric], "test", study.classes or None)
    images, seeds = predictions["item"].nunique(), table["seed"].nunique()
    chosen = study.trials["variant"].nunique() > 1
    who = f"The variant with the best validation {title(study.metric)}, `{best}`," if chosen else f"`{best}`"
    return (
        f"{who} reaches **{mean_and_sd(table, study.metric)} {shown_in(study.metric)[1]}** on the test split "
        f"({images:,} images, {seeds} seed{'' if seeds == 1 else 's'})"
        + (", which had no part in choosing it." if chosen else ".")
    )


def short(study: StudyFiles, variant: str) -> str:
    """A variant's name where there is little room: `+mixup` for `baseline+mixup`."""
    return variant.removeprefix(study.baseline) or variant


def shown_variants(study: StudyFiles) -> list[str]:
    """The variants that fit into one table: the baseline, then those whose metric is farthest from its."""
    outcomes, metric = study.outcomes, study.metric
    if outcomes is None:
        return []
    if len(outcomes.variants) <= MOST_VARIANTS:
        return outcomes.variants
    reference = study.baseline if study.baseline in outcomes.variants else outcomes.variants[0]
    hits = np.bincount(outcomes.variant, weights=outcomes.hit) / np.bincount(outcomes.variant)
    means = pd.Series(hits, index=outcomes.variants)
    if metric in study.finished:
        means = study.finished.groupby("variant", sort=False)[metric].mean().reindex(outcomes.variants)
    far = (means - means[reference]).abs().drop(reference).sort_values(ascending=False, kind="stable")
    chosen = {reference, *far.index[: MOST_VARIANTS - 1]}
    return [name for name in outcomes.variants if name in chosen]
