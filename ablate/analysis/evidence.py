"""What stands behind the answer, as text: power, costs, single pairs of models, the plan, the machines."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ablate.analysis.names import shown_in, title
from ablate.analysis.saved import StudyFiles
from ablate.analysis.sections import Table, details_of, known, p_value
from ablate.analysis.wording import level, short_labels, signed
from ablate.durations import about

_COUNTED = ("variants", "seeds", "folds")


def power(study: StudyFiles) -> Table | None:
    """What the study could have seen, and what its uncertainty is made of."""
    details, metric = details_of(study, study.metric), study.metric
    rows = []
    for label, row in zip(
        short_labels(study.effects, metric),
        study.effects[study.effects["metric"] == metric].to_dict("records"),
        strict=True,
    ):
        detail = details.get(row["contrast"], {})
        if not known(detail.get("se")):
            continue
        parts = [level(detail[name], metric) for name in ("se", "seed_se", "item_se")]
        shares = _shares(detail["seed_se"] ** 2, detail["item_se"] ** 2)
        rows.append([label, level(detail["detectable_effect"], metric), *parts, shares])
    if not rows:
        return None
    unit = shown_in(metric)[1]
    header = [f"comparison, in {unit}" if unit else "comparison", "detectable effect", "standard error"]
    return Table([*header, "from seeds", "from images", "variance from seeds / images"], rows)


def _shares(seeds: float, images: float) -> str:
    total = seeds + images
    return f"{100 * seeds / total:.0f} % / {100 * images / total:.0f} %" if total > 0 else "–"


def mcnemar(study: StudyFiles) -> Table | None:
    """McNemar's exact test of each pair of trained models."""
    if study.pairs is None or study.pairs.empty:
        return None
    folds = study.pairs["fold"].nunique() > 1
    header = [
        "comparison",
        "seed",
        *(["fold"] if folds else []),
        "only the first right",
        "only the second right",
    ]
    rows = [
        [
            row["contrast"],
            str(row["seed"]),
            *([str(row["fold"])] if folds else []),
            f"{row['only_first']:,.0f}",
            f"{row['only_second']:,.0f}",
            p_value(row["p_value"]),
        ]
        for row in study.pairs.to_dict("records")
    ]
    return Table([*header, "p"], rows)


def cost_rows(study: StudyFiles) -> pd.DataFrame:
    """Per primary contrast: `number, label, seconds, reference, extra`, and its effect, interval and verdict.

    `seconds` and `reference` are the mean train times of the two sides, `extra` is their ratio − 1.
    """
    columns = ["number", "label", "seconds", "reference", "extra", "effect", "ci_low", "ci_high", "verdict"]
    if "train_seconds" not in study.finished:
        return pd.DataFrame(columns=columns)
    seconds = study.finished.groupby("variant")["train_seconds"].mean().to_dict()
    weights = {each["name"]: each["weights"] for each in study.plan.get("contrasts", [])}
    rows = study.effects[study.effects["primary"] & (study.effects["metric"] == study.metric)]
    found: list[dict[Any, Any]] = []
    records: list[dict[Any, Any]] = rows.to_dict("records")
    for label, row in zip(short_labels(rows, study.metric), records, strict=True):
        weight = weights.get(row["contrast"], {})
        sides = [_side(weight, seconds, sign) for sign in (1, -1)]
        if all(math.isfinite(side) and side > 0 for side in sides):
            times = dict(zip(("seconds", "reference"), sides, strict=True))
            found.append(
                {**row, "number": len(found) + 1, "label": label, "extra": sides[0] / sides[1] - 1, **times}
            )
    return pd.DataFrame(found, columns=columns)


def costs(study: StudyFiles, rows: pd.DataFrame) -> Table:
    """The rows of `cost_rows` as text."""
    metric, unit = study.metric, shown_in(study.metric)[1]
    cells = [
        [
            f"{row['number']}. {row['label']}",
            about(row["reference"]),
            about(row["seconds"]),
            f"{round(100 * row['extra']):+d} %".replace("-", "−"),
            signed(row["effect"], metric),
            row["verdict"],
        ]
        for row in rows.to_dict("records")
    ]
    header = [
        "technique",
        "train time without",
        "with",
        "extra",
        f"effect, {unit}" if unit else "effect",
        "verdict",
    ]
    return Table(header, cells)


def _side(weights: dict[str, float], values: dict[Any, float], sign: int) -> float:
    """The weighted mean of one side of a contrast; NaN where a variant has no value."""
    side = {name: sign * weight for name, weight in weights.items() if sign * weight > 0}
    total = sum(side.values())
    return sum(w * values.get(name, math.nan) for name, w in side.items()) / total if total else math.nan


def plan_rows(study: StudyFiles) -> list[tuple[str, str]]:
    """The plan in a few lines."""
    summary, plan = study.plan.get("summary", {}), study.plan
    rows: list[tuple[str, str]] = []

    def add(name: str, text: str, *needed: str) -> None:
        if all(summary.get(key) is not None for key in needed):
            rows.append((name, text.format(**summary)))

    add("Design", "{design}", "design")
    counts = [
        f"{summary[key]} {key[: -1 if summary[key] == 1 else None]}" for key in _COUNTED if key in summary
    ]
    if counts:
        total = summary.get("trials", len(study.trials))
        # variants that got seeds until they were decided have different numbers of them
        product = math.prod(summary[key] for key in _COUNTED if key in summary)
        rows.append(("Trials", f"{total} ({(' × ' if product == total else ', ').join(counts)})"))
    add("Stages", "{stages}", "stages")
    add(
        "Epochs",
        "{unique_epochs} trained instead of {requested_epochs}, since trials share stages "
        "(merge rate {merge_rate:.2f})",
        *("unique_epochs", "requested_epochs", "merge_rate"),
    )
    add(
        "Images",
        "{train_images:,} to train on, {valid_images:,} for validation",
        "train_images",
        "valid_images",
    )
    if summary.get("skipped_images"):
        add("Images left out", "{skipped_images:,} that cannot be used (skipped.csv)", "skipped_images")
    if summary.get("leaking_images"):
        add(
            "Extra images left out",
            "{leaking_images:,} that look like validation or test images or share a group (skipped.csv)",
            "leaking_images",
        )
    factor, unit, digits = shown_in(study.metric)
    rows.append(("Metric", title(study.metric)))
    rows.append(
        ("Smallest effect that matters", f"{plan['smallest_effect'] * factor:.{digits}f} {unit}".strip())
    )
    if looks := plan.get("looks"):
        rows.append(("Looks planned at", f"{', '.join(map(str, looks))} seeds"))
    return rows


def machine_lines(study: StudyFiles) -> list[str]:
    """The machines that the study ran on, a line each."""
    lines = []
    for machine in study.machines:
        gpus = machine.get("gpus") or []
        memory = machine.get("memory")
        parts = [
            machine.get("cpu"),
            f"{machine['cores']} cores" if machine.get("cores") else None,
            f"{memory / 2**30:.0f} GiB of memory" if memory else None,
            *(f"{gpus.count(gpu)} × {gpu}" for gpu in dict.fromkeys(gpus)),
            machine.get("platform"),
        ]
        lines.append(", ".join(part for part in parts if part) or "unknown")
    return lines or ["unknown"]
