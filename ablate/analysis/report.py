"""The report of a study, made from the files in its folder alone, so again at any time."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from ablate.analysis import plots
from ablate.analysis.contrasts import Contrast
from ablate.analysis.metrics import metric_values
from ablate.analysis.names import METRIC_NAMES, shown_in
from ablate.analysis.saved import StudyFiles
from ablate.analysis.wording import answer, effects_rows, level
from ablate.files import replace_file

__all__ = ["effects_rows", "write_report"]

WHAT_INTERVALS_MEAN = (
    "An interval says where the difference lies, with 95% confidence, for **new images and new seeds** drawn "
    "like these ones. It is conditional on the training split: training on other images might give another "
    "difference. The thin line in the figure is about new seeds on these very images. `helps` and `hurts` "
    "hold for all primary comparisons of the study together (Holm); everything else is exploratory. "
    "`undecided` does not mean that there is no effect."
)


def write_report(folder: Path) -> None:
    """Writes `report.md`, `plots/effects.svg` and `plots/curves.svg` into a study's folder.

    Each file is replaced whole or not at all. Raises AblateError when a file of the study is missing or
    broken.
    """
    study = StudyFiles.read(folder)
    (folder / "plots").mkdir(exist_ok=True)
    figure = plots.forest(study.effects, study.metric, study.plan["smallest_effect"])
    write_whole(folder / "plots" / "effects.svg", svg(figure))
    if study.history is not None:
        write_whole(folder / "plots" / "curves.svg", svg(plots.curves(study.history)))
    write_whole(folder / "report.md", markdown(study))


def markdown(study: StudyFiles) -> str:
    """The report as Markdown: the answer first, then what it rests on."""
    sections = [
        f"# {study.plan['name']}: which changes help?",
        "**This is a `--quick` smoke run on a fraction of the data and epochs. It is no result.**"
        if study.plan.get("quick")
        else "",
        answer(study.effects, study.metric, study.plan["smallest_effect"], study.validation_items()),
        _unfinished(study),
        "![Effects with their intervals](plots/effects.svg)",
        _effects_section(study),
        _unequal_epochs(study),
        _variants_section(study),
        _test_score(study),
        "" if study.history is None else "![Learning curves](plots/curves.svg)",
        f"## What the intervals mean\n\n{WHAT_INTERVALS_MEAN}",
        _repeat_section(study),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _unfinished(study: StudyFiles) -> str:
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


def _effects_section(study: StudyFiles) -> str:
    others = [name for name in dict.fromkeys(study.effects["metric"]) if name != study.metric]
    parts = [f"## Effects\n\n{_effects_table(study, study.metric)}"]
    parts += [
        f"<details><summary>On {name.replace('_', ' ')} (exploratory)</summary>\n\n"
        f"{_effects_table(study, name)}\n\n</details>"
        for name in others
    ]
    return "\n\n".join(parts)


def _effects_table(study: StudyFiles, metric: str) -> str:
    _, unit, _ = shown_in(metric)
    header = ("comparison", f"difference in {metric.replace('_', ' ')}, {unit}", "95% interval", "verdict")
    better = "higher" if METRIC_NAMES.get(metric, True) else "lower"
    table = _table(header, effects_rows(study.effects, metric))
    return f"{table}\n\nFor {metric.replace('_', ' ')}, {better} is better."


def _unequal_epochs(study: StudyFiles) -> str:
    contrasts = [Contrast.from_dict(each) for each in study.plan.get("contrasts", [])]
    names = [f"`{contrast.name}`" for contrast in contrasts if contrast.unequal_epochs]
    if not names:
        return ""
    return (
        f"**Different numbers of epochs:** {', '.join(names)}. "
        "Longer training alone may explain the difference."
    )


def _variants_section(study: StudyFiles) -> str:
    metrics = [name for name in METRIC_NAMES if name in study.trials]
    if not metrics:
        return ""
    header = ("variant", "seeds", *(f"{name.replace('_', ' ')}, {shown_in(name)[1]}" for name in metrics))
    rows = []
    for variant, trials in study.finished.groupby("variant", sort=False):
        scores = [_mean_and_sd(trials, name) for name in metrics]
        rows.append((str(variant), str(trials["seed"].nunique()), *scores))
    return f"## Variants\n\nMean ± standard deviation over seeds.\n\n{_table(header, rows)}"


def _mean_and_sd(trials: pd.DataFrame, metric: str) -> str:
    by_seed = trials.groupby("seed")[metric].mean()
    mean = level(float(by_seed.mean()), metric)
    return mean if len(by_seed) < 2 else f"{mean} ± {level(float(by_seed.std()), metric)}"


def _test_score(study: StudyFiles) -> str:
    metric = study.metric
    if metric not in study.finished or study.finished[metric].isna().all():
        return ""
    by_seed = study.finished.groupby(["variant", "seed"], sort=False)[metric].mean()
    means = by_seed.groupby("variant", sort=False).mean()
    winner = str(means.idxmax() if METRIC_NAMES.get(metric, True) else means.idxmin())
    predictions = study.test_predictions(winner)
    if predictions.empty:
        return ""
    scores = metric_values(predictions, [metric], split="test")
    _, unit, _ = shown_in(metric)
    images, seeds = predictions["item"].nunique(), scores["seed"].nunique()
    return (
        f"## Test score\n\nThe variant with the best validation {metric.replace('_', ' ')}, `{winner}`, "
        f"reaches **{_mean_and_sd(scores, metric)} {unit}** on the test split ({images:,} images, "
        f"{seeds} seed{'' if seeds == 1 else 's'}), which had no part in choosing it."
    )


def _repeat_section(study: StudyFiles) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in study.plan.get("versions", {}).items())
    seeds = ", ".join(map(str, sorted(study.trials["seed"].unique())))
    lines = [
        "## How to repeat it",
        f"- Seeds: {seeds}\n- Baseline: `{study.plan.get('baseline', 'baseline')}`\n"
        f"- Versions: {versions or 'unknown'}",
    ]
    if study.recipe is not None:
        lines.append(
            f"Save this recipe as `recipe.yaml` and run `ablate run recipe.yaml{_quick_flag(study)}`."
        )
        lines.append(
            f"<details><summary>recipe.yaml</summary>\n\n```yaml\n{study.recipe.rstrip()}\n```\n\n</details>"
        )
    return "\n\n".join(lines)


def _quick_flag(study: StudyFiles) -> str:
    return " --quick" if study.plan.get("quick") else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def svg(figure: Figure) -> str:
    """A figure as SVG text: the same bytes each time, with its words kept as text."""
    out = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ablate", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a finished one; see `ablate.files.replace_file`."""
    replace_file(path, lambda to: to.write_text(text, encoding="utf-8"))
