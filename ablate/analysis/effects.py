"""The table of effects: every contrast on every metric, with intervals and a verdict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablate.analysis import names
from ablate.analysis.contrasts import Contrast, against_baseline
from ablate.analysis.crossed import Interval, t_interval
from ablate.analysis.decide import Decision, decide
from ablate.analysis.mcnemar import COLUMNS as PAIRS
from ablate.analysis.mcnemar import fixed_models
from ablate.analysis.measure import CROSSED, LINEAR, Measured, measure
from ablate.analysis.metrics import Metric, find_metric
from ablate.analysis.needed import Variances, detectable_by, needed
from ablate.analysis.pairing import PairedPredictions
from ablate.analysis.predicted import has_probabilities, require_columns
from ablate.analysis.verdicts import SIGNIFICANCE, verdict
from ablate.errors import AblateError

_ESTIMATES = (
    "effect",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "verdict",
    "seed_ci_low",
    "seed_ci_high",
)
COLUMNS = ["factor", "level", "contrast", "metric", "n_seeds", *_ESTIMATES, "primary"]
DETAILS = [
    *("contrast", "metric", "n_items", "n_cases", "interval", "confidence", "se", "df", "seed_se", "item_se"),
    *("detectable_effect", "more_seeds", "images_needed", "look", "note"),
]


@dataclass(frozen=True)
class Analysis:
    """What a study's tables say.

    Attributes:
        effects: A row per contrast and metric, with the columns of `effects.csv`.
        details: The same rows: `interval` (what it is made of: `seeds and images`, `linear model`, `folds` or
            `none`) and its `confidence`; `n_items` and `n_cases` (groups, where items have them); the
            standard error `se`, Satterthwaite's degrees of freedom of it, and the parts of it that seeds and
            items give (se² = seed_se² + item_se²); `detectable_effect`, at 80% power with this study's
            variances; for the study's undecided effects `more_seeds` that would decide them or else the
            `images_needed`; the `look` that decided, in seeds; a `note` for the reader.
        pairs: McNemar's test for each pair of models; see `mcnemar.fixed_models`.
    """

    effects: pd.DataFrame
    details: pd.DataFrame
    pairs: pd.DataFrame


def effects(trials: pd.DataFrame, predictions: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """A row per contrast and metric, with the columns of `effects.csv` in their order.

    Works on tables from anywhere; see `analyse` for the columns that they need, the options and the errors.
    """
    return analyse(trials, predictions, **options).effects


def analyse(
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    contrasts: Sequence[Contrast] | None = None,
    baseline: str = "baseline",
    metrics: Sequence[str] | None = None,
    metric: str = "accuracy",
    smallest_effect: float = 0.005,
    confidence: float = 0.95,
    looks: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    n_folds: int | None = None,
) -> Analysis:
    """The effects of a study, and what stands behind them.

    `trials` needs `variant, seed`; `predictions` needs `variant, seed, item, target, pred` and, for log loss
    and others, `p_0 … p_{K-1}`; `fold`, `status`, `split` and `group` are used where they are. Only trials
    count that have finished (`status` is `ok`), and of these the seeds and folds that all variants of a
    contrast have; where a contrast of more than two variants lacks some, a linear model bridges them.

    `effect` is the mean over seeds of the difference in the metric, in the metric's unit (accuracy: a share,
    0.01 is a point), folds pooled or averaged as `Metric.pooled` says. `ci_*` and `p_value` are about new
    images and new seeds: crossed random effects of seeds and items, or of seeds and groups (`crossed`).
    `seed_ci_*` is about new seeds on these images: the paired t interval. One seed with several folds has the
    corrected interval of Nadeau and Bengio; one seed alone an effect and no interval.

    Args:
        trials: A row per trial.
        predictions: A row per trial and item.
        contrasts: What is compared; default, each variant with the baseline.
        baseline: The variant to compare with, where no contrasts are given.
        metrics: What to measure beside the study's metric; these are exploratory. Default: accuracy, balanced
            accuracy, and log loss where there are probabilities.
        metric: The study's metric: `p_adjusted` is Holm's over the primary contrasts on it.
        smallest_effect: In the unit of `metric`, used for all metrics in that unit.
        confidence: Of all intervals, unless there are looks.
        looks: The numbers of seeds at which the study was looked at. A contrast is decided at the first look
            that can, of those for which none of its trials is pending or failed; its further seeds are not
            used. The intervals' confidence is that of the look.
        classes: The names of the class codes, for metrics such as `recall:melanoma`.
        n_folds: Of the cross-validation, where only some folds were run.

    Raises:
        AblateError: An unknown metric, class or baseline, missing columns, NaN predictions of a finished
            trial, or items, targets or groups that do not match between trials.
    """
    require_columns(trials, ["variant", "seed"], "trials")
    if not 0 < confidence < 1 or not smallest_effect >= 0:
        raise AblateError(
            f"confidence {confidence} must lie between 0 and 1, and smallest_effect {smallest_effect} not be "
            "negative."
        )
    if metrics is None:
        metrics = names.DEFAULT_METRICS if has_probabilities(predictions) else names.DEFAULT_METRICS[:2]
    chosen = [find_metric(name, classes) for name in dict.fromkeys([*metrics, metric])]
    own = next(each for each in chosen if each.name == metric)
    if contrasts is None:
        contrasts = against_baseline(list(trials["variant"]), baseline)
    if not contrasts:
        return Analysis(_effects([]), pd.DataFrame(columns=DETAILS), pd.DataFrame(columns=PAIRS))
    paired = PairedPredictions(trials, predictions)
    table = _Table(paired, contrasts, own, smallest_effect, n_folds)
    decisions = decide(
        contrasts,
        list(dict.fromkeys(trials["seed"])),
        interval=table.interval,
        negligible=lambda found: table.verdict(found, math.nan) == "negligible",
        reached=paired.settled,
        confidence=confidence,
        looks=looks,
    )
    rows, details = [], []
    for contrast, decision in zip(contrasts, decisions, strict=True):
        for each in chosen:
            row = table.effect(contrast, each, decision)
            rows.append(row)
            details.append(table.detail(contrast, each, decision, row["verdict"]))
    return Analysis(_effects(rows), pd.DataFrame(details, columns=DETAILS), fixed_models(paired, contrasts))


def _effects(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"primary": bool, "n_seeds": int, "verdict": str})


class _Table:
    """The contrasts of a study, measured."""

    def __init__(
        self,
        paired: PairedPredictions,
        contrasts: Sequence[Contrast],
        metric: Metric,
        smallest_effect: float,
        n_folds: int | None,
    ) -> None:
        self.paired, self.contrasts, self.metric = paired, contrasts, metric
        self.smallest_effect, self.n_folds = smallest_effect, n_folds
        self.model = [contrast for contrast in contrasts if contrast.primary]
        self._measured: dict[tuple[Contrast, str, int], Measured] = {}

    def measured(self, contrast: Contrast, metric: Metric, seeds: list[Hashable]) -> Measured:
        key = (contrast, metric.name, len(seeds))
        if key not in self._measured:
            self._measured[key] = measure(
                self.paired, contrast, metric, seeds=seeds, model=self.model, n_folds=self.n_folds
            )
        return self._measured[key]

    def interval(self, contrast: Contrast, seeds: list[Hashable], confidence: float) -> Interval:
        return t_interval(self.measured(contrast, self.metric, seeds).estimate, confidence)

    def verdict(
        self, interval: Interval, p_value: float, metric: Metric | None = None, alpha: float = SIGNIFICANCE
    ) -> str:
        name = (metric or self.metric).name
        smallest = self.smallest_effect if names.unit(name) == names.unit(self.metric.name) else 0.0
        better = names.higher_is_better(name)
        return verdict(interval.low, interval.high, p_value, smallest, better, alpha)

    def effect(self, contrast: Contrast, metric: Metric, decision: Decision) -> dict[str, Any]:
        """A row of the effects."""
        found = self.measured(contrast, metric, decision.seeds)
        interval, by_seed = (
            t_interval(each, decision.confidence) for each in (found.estimate, found.by_seed)
        )
        primary = self.is_primary(contrast, metric)
        p_adjusted = decision.p_adjusted if primary else math.nan
        if primary:
            reached = "undecided" if decision.early else self.verdict(interval, p_adjusted)
        else:
            reached = self.verdict(interval, interval.p_value, metric, 1 - decision.confidence)
        return {
            "factor": contrast.factor,
            "level": contrast.level,
            "contrast": contrast.name,
            "metric": metric.name,
            "n_seeds": found.n_seeds,
            "effect": found.estimate.mean,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "p_value": interval.p_value,
            "p_adjusted": p_adjusted,
            "verdict": reached,
            "seed_ci_low": by_seed.low,
            "seed_ci_high": by_seed.high,
            "primary": primary,
        }

    def detail(self, contrast: Contrast, metric: Metric, decision: Decision, reached: str) -> dict[str, Any]:
        """What stands behind a row of the effects whose verdict is given."""
        found = self.measured(contrast, metric, decision.seeds)
        estimate, known = found.estimate, not math.isnan(found.estimate.se)
        detail = {
            "contrast": contrast.name,
            "metric": metric.name,
            "n_items": found.n_items,
            "n_cases": found.n_cases,
            "interval": found.interval,
            "confidence": decision.confidence if known else math.nan,
            "se": estimate.se,
            "df": estimate.df,
            "seed_se": math.sqrt(estimate.seed_part),
            "item_se": math.sqrt(estimate.item_part) if known else math.nan,
            "detectable_effect": detectable_by(estimate, alpha=1 - decision.confidence),
            "note": " ".join(found.notes),
        }
        if not self.is_primary(contrast, metric):
            return detail
        detail["look"] = decision.look
        if reached == "undecided" and found.interval in (CROSSED, LINEAR):
            variances = Variances.of(estimate, found.n_seeds, found.n_cases)
            what = needed(variances, self.smallest_effect, decision.confidence, decision.alpha)
            # where cases are groups, images in as many more groups of this size
            images = None if what.cases is None else round(what.cases * found.n_items / found.n_cases)
            detail |= {"more_seeds": what.more_seeds, "images_needed": images}
        return detail

    def is_primary(self, contrast: Contrast, metric: Metric) -> bool:
        return contrast.primary and metric.name == self.metric.name
