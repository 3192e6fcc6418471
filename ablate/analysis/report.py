"""The report of a study, made from the files in its folder alone, so again at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablate.analysis import plots, sections
from ablate.analysis.by_class import MOST_CLASSES, class_name
from ablate.analysis.drawing import svg
from ablate.analysis.html import html
from ablate.analysis.names import higher_is_better, shown_in, title
from ablate.analysis.saved import StudyFiles
from ablate.analysis.winner import best_or_only
from ablate.analysis.wording import answer
from ablate.files import replace_file


def write_report(folder: Path) -> None:
    """Writes `report.html`, `report.md` and the figures in `plots/` into a study's folder.

    Each file is replaced whole or not at all. Raises AblateError when a file of the study is missing or
    broken.
    """
    study = StudyFiles.read(folder)
    (folder / "plots").mkdir(exist_ok=True)
    figure = plots.forest(study.effects, study.metric, study.plan["smallest_effect"])
    write_whole(folder / "plots" / "effects.svg", svg(figure))
    if study.history is not None:
        write_whole(folder / "plots" / "curves.svg", svg(plots.curves(study.history)))
    best = best_or_only(study.trials, study.metric)
    if best is not None and study.outcomes is not None and study.outcomes.classes <= MOST_CLASSES:
        names = [class_name(study, label) for label in range(study.outcomes.classes)]
        figure = plots.confusion(study.outcomes.confusion(best), names, best)
        write_whole(folder / "plots" / "confusion.svg", svg(figure))
    write_whole(folder / "report.html", html(study))
    write_whole(folder / "report.md", markdown(study))


def markdown(study: StudyFiles) -> str:
    """The report in short, for a pull request: the answer, the table, what the intervals mean."""
    link = "Everything else, and how to repeat it: [report.html](report.html)."
    *paragraphs, intervals = findings(study)
    last = " ".join(part for part in (intervals, link) if part)
    title = f"# {study.plan['name']}: which changes help?"
    return "\n\n".join([title, *filter(None, paragraphs), last]) + "\n"


def findings(study: StudyFiles) -> list[str]:
    """The report in short, as paragraphs of Markdown; those that there is nothing to say in are empty."""
    return [
        "**This is a `--quick` smoke run on a fraction of the data and epochs. It is no result.**"
        if study.plan.get("quick")
        else "",
        answer(
            study.effects,
            study.metric,
            study.plan["smallest_effect"],
            study.validation_items(),
            study.details,
        ),
        sections.unfinished(study),
        _effects(study),
        _unequal_epochs(study),
        sections.test_score(study),
        _intervals(study),
    ]


def _effects(study: StudyFiles) -> str:
    metric = study.metric
    rows = sections.effect_rows(study, metric)
    if not rows:
        return ""
    _, unit, _ = shown_in(metric)
    better = "higher" if higher_is_better(metric) else "lower"
    what = f"difference in {title(metric)}" + (f", {unit}" if unit else "") + f" ({better} is better)"
    return _table(
        ("comparison", what, study.interval_name, "verdict"),
        [(row["label"], row["effect"], row["interval"], _verdict(row)) for row in rows],
    )


def _verdict(row: dict) -> str:
    exploratory = " (exploratory)" if row["exploratory"] else ""
    return ". ".join([row["verdict"] + exploratory, *row["remarks"]])


def _intervals(study: StudyFiles) -> str:
    if study.effects.empty:
        return ""
    return (
        f"An interval is about new images and new seeds, with {study.confidence_name}, given this training "
        "split; `undecided` does not mean that there is no effect."
    )


def _unequal_epochs(study: StudyFiles) -> str:
    names = [f"`{name}`" for name in sections.unequal_epochs(study)]
    if not names:
        return ""
    return (
        f"**Different numbers of epochs:** {', '.join(names)}. "
        "Longer training alone may explain the difference."
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---", *["---:"] * (len(header) - 2), "---"), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a finished one; see `ablate.files.replace_file`."""
    replace_file(path, lambda to: to.write_text(text, encoding="utf-8"))
