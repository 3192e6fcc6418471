"""What the report says about classes and single images: confusions, scores, changed predictions."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ablate.analysis.saved import StudyFiles
from ablate.analysis.sections import Table, short, shown_variants

MOST_CLASSES = 20
"""Above that, only the classes and pairs that matter most are shown."""
CHANGED_IMAGES = 18
MOST_VOTES = 4


def class_name(study: StudyFiles, label: int) -> str:
    """A class's name; its number where the plan does not tell it."""
    return study.classes[label] if label < len(study.classes) else str(label)


def confusions(study: StudyFiles) -> list[tuple[str, Table]]:
    """A confusion matrix per variant, in percent of each true class; empty where there are many classes."""
    outcomes = study.outcomes
    if outcomes is None or outcomes.classes > MOST_CLASSES:
        return []
    names = [class_name(study, label) for label in range(outcomes.classes)]
    found = []
    for variant in shown_variants(study):
        shares = outcomes.confusion(variant)
        rows = [[name, *map(_percent, line)] for name, line in zip(names, shares, strict=True)]
        shades = np.nan_to_num(shares)
        np.fill_diagonal(shades, -np.diag(shades))  # what is right is shaded in another colour
        found.append((variant, Table(["true \\ predicted", *names], rows, (-shades).tolist())))
    return found


def class_reports(study: StudyFiles) -> dict[str, Table]:
    """Precision, recall and F1 by class, per variant, in percent; empty where there are many classes."""
    outcomes = study.outcomes
    if outcomes is None or outcomes.classes > MOST_CLASSES:
        return {}
    images = [f"{count:,}" for count in outcomes.class_counts]
    return {
        variant: Table(
            ["class", "images", "precision", "recall", "F1"],
            [
                [class_name(study, label), images[label], *map(_percent, line)]
                for label, line in enumerate(outcomes.class_report(variant))
            ],
        )
        for variant in shown_variants(study)
    }


def confused_pairs(study: StudyFiles, top: int = 20) -> Table | None:
    """The pairs of classes that are confused most often; None where nothing is confused."""
    outcomes = study.outcomes
    if outcomes is None or outcomes.hit.all():
        return None
    variants = shown_variants(study)
    table = outcomes.mistakes()
    table = table.loc[table[variants].max(axis=1).sort_values(ascending=False, kind="stable").index[:top]]
    names = [
        f"{class_name(study, target)} → {class_name(study, pred)}"
        for target, pred in zip(table["target"], table["pred"], strict=True)
    ]
    counts = table[variants].to_numpy()
    rows = [[name, *(f"{count:.1f}" for count in line)] for name, line in zip(names, counts, strict=True)]
    return Table(
        ["true → predicted", *(short(study, name) for name in variants)],
        rows,
        (-counts / counts.max()).tolist(),
    )


def recall_changes(study: StudyFiles) -> Table | None:
    """Each class's recall in the baseline, and by how many points each variant changes it.

    Where there are many classes, those that change most.
    """
    outcomes = study.outcomes
    if outcomes is None or study.baseline not in outcomes.variants:
        return None
    shown = [name for name in shown_variants(study) if name != study.baseline]
    if not shown:
        return None
    recalls = outcomes.recalls()
    base = recalls[outcomes.variants.index(study.baseline)]
    change = recalls[[outcomes.variants.index(name) for name in shown]] - base
    size = np.abs(np.nan_to_num(change)).max(axis=0)
    classes = np.argsort(-size, kind="stable")[:MOST_CLASSES] if outcomes.classes > MOST_CLASSES else None
    chosen = range(outcomes.classes) if classes is None else classes.tolist()
    counts, most = outcomes.class_counts, max(float(size.max()), 0.01)
    rows = [
        [
            class_name(study, k),
            f"{counts[k]:,}",
            _percent(base[k]),
            *(_points(value) for value in change[:, k]),
        ]
        for k in chosen
    ]
    shades = [[0.0, 0.0, *(np.nan_to_num(change[:, k]) / most).tolist()] for k in chosen]
    header = ["class", "images", f"{study.baseline}, %", *(short(study, name) for name in shown)]
    return Table(header, rows, shades)


def changed_items(study: StudyFiles) -> list[str]:
    """The ids of the images on which variants differ most."""
    outcomes = study.outcomes
    if outcomes is None:
        return []
    return [outcomes.items[item] for item in outcomes.most_changed(study.baseline, CHANGED_IMAGES)]


def changed_images(study: StudyFiles) -> list[dict[str, Any]]:
    """The images on which variants differ most, with what each variant predicts.

    Each has `name`, `target`, `image` (a data URI; empty where no thumbnail was kept), `predictions`, and
    `more`, the number of variants that have no place. Variants that predict alike stand together:
    `variants`, what most of their trials predict, how many of the `trials` are `right`. The baseline comes
    first, then what differs most from it.
    """
    outcomes = study.outcomes
    if outcomes is None:
        return []
    items = outcomes.most_changed(study.baseline, CHANGED_IMAGES)
    votes = outcomes.votes(items)
    found = []
    for item in items:
        target = outcomes.target_of(item)
        alike: dict[tuple[str, int, int], list[str]] = {}
        for variant in outcomes.variants:
            if variant in votes[item]:
                seen = _vote(study, target, votes[item][variant])
                alike.setdefault(seen, []).append(variant)
        groups = _from_baseline(study, alike)
        found.append(
            {
                "name": outcomes.items[item],
                "target": class_name(study, target),
                "image": _thumbnail(study, outcomes.items[item]),
                "predictions": [
                    {"variants": names, "words": words, "right": right, "trials": trials}
                    for (words, right, trials), names in groups[:MOST_VOTES]
                ],
                "more": sum(len(names) for _, names in groups[MOST_VOTES:]),
            }
        )
    return found


def _vote(study: StudyFiles, target: int, votes: list[tuple[int, int]]) -> tuple[str, int, int]:
    """What most trials of a variant predict, the number of trials that are right, and of all."""
    (label, count), trials = votes[0], sum(count for _, count in votes)
    words = class_name(study, label) + (f" ({count} of {trials})" if count < trials else "")
    return words, sum(count for label, count in votes if label == target), trials


def _from_baseline(
    study: StudyFiles, alike: dict[tuple[str, int, int], list[str]]
) -> list[tuple[tuple[str, int, int], list[str]]]:
    """Groups of variants, shortly named: the baseline's, then by how far they are from it."""
    own = next((seen for seen, names in alike.items() if study.baseline in names), ("", 0, 1))

    def distance(seen: tuple[str, int, int]) -> tuple[bool, float]:
        return seen != own, -abs(seen[1] / seen[2] - own[1] / own[2])

    ordered = sorted(alike, key=distance)
    return [(seen, [short(study, name) for name in alike[seen]]) for seen in ordered]


def _thumbnail(study: StudyFiles, item: str) -> str:
    path = study.thumbnails.get(item)
    if path is None or not path.is_file():
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f}" if share else "0"


def _points(change: float) -> str:
    return "–" if math.isnan(change) else f"{round(100 * change, 1) + 0.0:+.1f}".replace("-", "−")
