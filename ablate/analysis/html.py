"""The report as one HTML file that needs no other: figures as SVG, images and styles within."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ablate.analysis import by_class, evidence, plots, sections
from ablate.analysis.drawing import inline_svg
from ablate.analysis.names import heading, higher_is_better, shown_in, title
from ablate.analysis.saved import StudyFiles
from ablate.analysis.sections import MOST_VARIANTS
from ablate.analysis.wording import answer, interval, level, signed

MOST_CURVES = 6


def html(study: StudyFiles) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("ablate.analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(markdown=marked, shade=shade, breakable=breakable)
    return environment.get_template("report.html.j2").render(contents(study))


def contents(study: StudyFiles) -> dict[str, Any]:
    """Everything that the template shows; None or empty where the study has nothing of the kind."""
    metric, margin = study.metric, study.plan["smallest_effect"]
    metrics = list(dict.fromkeys([metric, *study.effects["metric"]]))
    found = study.effects[study.effects["metric"] == metric]
    cost = evidence.cost_rows(study)
    return {
        "name": study.plan["name"],
        "quick": bool(study.plan.get("quick")),
        "answer": answer(study.effects, metric, margin, study.validation_items(), study.details),
        "interval_name": study.interval_name,
        "confidence_name": study.confidence_name,
        "command": study.command,
        "unfinished": sections.unfinished(study),
        "metric": title(metric),
        "unit": shown_in(metric)[1],
        "margin": signed(margin, metric).removeprefix("+"),
        "forest": None if found.empty else forest(study),
        "effects": [effects_on(study, each) for each in metrics if not study.effects.empty],
        "unequal": sections.unequal_epochs(study),
        "aliases": sections.aliases(study),
        "one_seed": bool(len(found)) and int(found["n_seeds"].max()) == 1,
        "scores": sections.scores(study),
        "curves": curves(study),
        "validated": study.validation_items() > 0,
        "confusions": by_class.confusions(study),
        "reports": by_class.class_reports(study),
        "pairs": by_class.confused_pairs(study),
        "many_classes": study.outcomes is not None and study.outcomes.classes > by_class.MOST_CLASSES,
        "classes": study.outcomes.classes if study.outcomes else 0,
        "recalls": by_class.recall_changes(study),
        "baseline": study.baseline,
        "left_out": max(study.finished["variant"].nunique() - MOST_VARIANTS, 0),
        "images": by_class.changed_images(study),
        "calibration": calibration(study),
        "cost": evidence.costs(study, cost) if len(cost) else None,
        "cost_figure": cost_figure(study, cost),
        "power": evidence.power(study),
        "mcnemar": evidence.mcnemar(study),
        "plan": evidence.plan_rows(study),
        "test": sections.test_score(study),
        "machines": evidence.machine_lines(study),
        "device": study.plan.get("device"),
        "threads": study.plan.get("threads"),
        "seeds": ", ".join(map(str, sorted(study.trials["seed"].unique()))),
        "versions": {"ablate": study.plan.get("ablate"), **study.plan.get("versions", {})},
        "recipe": study.recipe,
    }


def effects_on(study: StudyFiles, metric: str) -> dict[str, Any]:
    """The table of effects on one metric."""
    return {
        "title": title(metric),
        "unit": shown_in(metric)[1],
        "better": "higher" if higher_is_better(metric) else "lower",
        "rows": sections.effect_rows(study, metric),
    }


def forest(study: StudyFiles) -> Markup:
    """The first figure, told in words by its numbers."""
    metric = study.metric
    rows = plots.primary_rows(study.effects, metric).to_dict("records")
    told = [
        f"{row['contrast']}: {signed(row['effect'], metric)}, interval "
        f"{interval(row['ci_low'], row['ci_high'], metric)}, {row['verdict']}"
        for row in rows
    ]
    text = f"Effects on {title(metric)} in {shown_in(metric)[1] or 'its own unit'}. {'; '.join(told)}."
    return inline_svg(plots.forest(study.effects, metric, study.plan["smallest_effect"]), "effects", text)


def curves(study: StudyFiles) -> Markup | None:
    """Learning curves of all variants; None without a history."""
    history = study.history
    shown = None if history is None else plots.curve_in(history, study.metric, "accuracy")
    if history is None or shown is None:
        return None
    ends = [
        f"{', '.join(variants)} ends at {level(float(mean.iloc[-1]), shown)}"
        for variants, mean, _ in plots.curves_of(history, shown)
    ]
    text = f"{heading(shown)} by epoch, mean over seeds, {shown_in(shown)[1]}: {'; '.join(ends)}."
    return inline_svg(plots.curves(history, shown), "curves", text)


def calibration(study: StudyFiles) -> dict[str, Any] | None:
    """A reliability diagram and each variant's expected calibration error; None without probabilities."""
    outcomes = study.outcomes
    if outcomes is None or outcomes.confidence is None or np.isnan(outcomes.confidence).all():
        return None
    errors = dict(zip(outcomes.variants, outcomes.calibration_errors(), strict=True))
    metric = "expected_calibration_error"
    reference = errors.get(study.baseline, float(np.nanmedian(list(errors.values()))))
    shown = [name for name in sections.shown_variants(study) if not np.isnan(errors[name])]
    drawn = sorted(shown, key=lambda name: (name != study.baseline, -abs(errors[name] - reference)))[
        :MOST_CURVES
    ]
    tables = {name: outcomes.reliability(name) for name in shown if name in drawn}
    text = "; ".join(f"{name} {level(errors[name], metric)}" for name in tables)
    rows = []
    for name in shown:
        known = (outcomes.variant == outcomes.variants.index(name)) & np.isfinite(outcomes.confidence)
        confidence, hit = outcomes.confidence[known].mean(), outcomes.hit[known].mean()
        rows.append([name, level(errors[name], metric), f"{100 * confidence:.2f}", f"{100 * hit:.2f}"])
    header = ["variant", "calibration error, points", "mean confidence, %", "accuracy, %"]
    figure = plots.reliability(tables, outcomes.variants)
    return {
        "figure": inline_svg(
            figure, "calibration", f"Reliability diagram. Calibration error, points: {text}."
        ),
        "table": sections.Table(header, rows),
        "drawn": len(tables) < len(shown),
    }


def cost_figure(study: StudyFiles, rows: Any) -> Markup | None:
    """Effect over extra train time, for two techniques or more."""
    if len(rows) < 2:
        return None
    told = [
        f"{row['number']}, {row['label']}: {round(100 * row['extra']):+d} % train time, "
        f"{signed(row['effect'], study.metric)}"
        for row in rows.to_dict("records")
    ]
    text = f"Effect on {title(study.metric)} over extra train time. {'; '.join(told)}."
    return inline_svg(plots.costs(rows, study.metric), "costs", text)


def marked(text: str) -> Markup:
    """The little Markdown that sentences use, **bold** and `code`, as HTML; all else is text."""
    safe = str(escape(text))
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", safe))


def breakable(text: str) -> Markup:
    """A name with places where a line may break."""
    return Markup(re.sub(r"(?<=\w)([+=_/.])(?=\w)", r"\1<wbr>", str(escape(text))))


def shade(value: float) -> str:
    """The ground of a cell: bluish where something is more or right, reddish where less or wrong."""
    if abs(value) < 0.005:
        return ""
    return f"background: rgb(var(--{'more' if value > 0 else 'less'}) / {min(abs(value), 1) * 0.55:.2f})"
