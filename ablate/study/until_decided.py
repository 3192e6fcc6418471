"""`--until-decided`: seeds are added where the verdict is open, at looks fixed beforehand.

Which trials a look takes follows from the recipe, the looks and what the stored stages predicted, and from
nothing else: there is no state to lose, and the same command finds its way back to where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablate.analysis.looks import looks_up_to
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan

if TYPE_CHECKING:
    import pandas as pd

    from ablate.study.running import Run

DEFAULT_MAX_SEEDS = 12
Looks = tuple[int, ...]


def choose_looks(until_decided: bool, max_seeds: int | None, quick: bool) -> Looks | None:
    """The looks of a run; None where it runs the seeds of the recipe.

    Raises:
        AblateError: The options do not go together, or `max_seeds` is too small.
    """
    if not until_decided:
        if max_seeds is not None:
            raise AblateError("max_seeds: is for until_decided alone; give both, or set study.seeds.")
        return None
    if quick:
        raise AblateError("until_decided: a quick run decides nothing; leave out one of the two.")
    return looks_up_to(DEFAULT_MAX_SEEDS if max_seeds is None else max_seeds)


def with_seeds(recipe: Recipe, count: int) -> Recipe:
    """The recipe with its first `count` seeds; a list that is too short goes on after its largest."""
    seeds = recipe.study.seed_list
    further = range(max(seeds) + 1, max(seeds) + 1 + max(count - len(seeds), 0))
    return recipe.override({"study.seeds": [*seeds, *further][:count]})


def require_question(plan: Plan) -> None:
    """Refuse a study that has no primary contrast, in which nothing could ever be decided.

    Raises:
        AblateError: It is one.
    """
    if not any(contrast.primary for contrast in plan.contrasts):
        raise AblateError(
            "until_decided: this study compares nothing that could be decided; run it without, or give it "
            "variants to compare (study.vary)."
        )


def first_trials(whole: Plan, looks: Looks) -> dict[str, int]:
    """How many seeds each variant gets at the first look."""
    return {trial.variant: looks[0] for trial in whole.trials}


def more_trials(asked: Mapping[str, int], plan: Plan, open_: Sequence[str], seeds: int) -> dict[str, int]:
    """How many seeds each variant gets at the next look: more, if it counts in a contrast that is open.

    Args:
        asked: How many each has got.
        plan: The plan that the contrasts are of.
        open_: The names of the contrasts that are open.
        seeds: How many the next look takes.
    """
    going_on = {name for contrast in plan.contrasts if contrast.name in open_ for name in contrast.variants}
    return {variant: seeds if variant in going_on else count for variant, count in asked.items()}


def part(whole: Plan, asked: Mapping[str, int]) -> Plan:
    """The part of a plan with the first seeds of each variant, so many as are asked for."""
    number = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for trial in whole.trials))}
    trials = [trial for trial in whole.trials if number[trial.seed] < asked[trial.variant]]
    ends = [key for trial in trials for key in (trial.predict, trial.test) if key is not None]
    needed = set(whole.needed(ends))
    stages = {key: stage for key, stage in whole.stages.items() if key in needed}
    return replace(whole, trials=trials, stages=stages)


@dataclass(frozen=True)
class Findings:
    """What a look has found of the primary contrasts, by the reason to go on or not.

    Args:
        open: The names of the contrasts that further seeds can decide.
        words: For people: what is said of a contrast, and the short labels that it is said of.
    """

    open: tuple[str, ...]
    words: Mapping[str, Sequence[str]]

    def told(self, looks: Looks, number: int) -> str:
        """One line on look `number`, counted from 0: `look 1 of 4 (3 seeds): mixup helps; tta goes on`."""
        last = number == len(looks) - 1
        parts = [_sentence(kind, labels, last) for kind, labels in self.words.items()]
        return f"look {number + 1} of {len(looks)} ({looks[number]} seeds): {'; '.join(parts)}"


def look_at(run: Run, looks: Looks) -> Findings:
    """Analyse what is stored of a look's trials, those of the run's present plan.

    Raises:
        Damaged: A stage is not any more what was written.
    """
    from ablate.analysis.effects import analyse
    from ablate.study import tables

    plan, study, classes = run.plan, run.recipe.study, run.prepared.items.classes
    predictions = tables.predictions_table(plan, run.store)
    if not len(predictions):
        names = [contrast.name for contrast in plan.contrasts if contrast.primary]
        return Findings((), {"unknown": names})
    trials = tables.trials_table(plan, run.store, run.failed, predictions, [study.metric], classes)
    found = analyse(
        trials,
        predictions,
        contrasts=plan.contrasts,
        metrics=[],
        metric=study.metric,
        smallest_effect=study.smallest_effect,
        looks=looks,
        classes=classes,
        n_folds=run.recipe.data.split.folds,
    )
    broken = set(trials.variant[trials.status == "failed"])
    return findings(plan, found.effects, found.details, broken, study.metric)


def findings(
    plan: Plan, effects: pd.DataFrame, details: pd.DataFrame, broken: set[str], metric: str
) -> Findings:
    """Which contrasts go on, and what to say of each.

    Args:
        plan: The plan that the contrasts are of.
        effects: As in `effects.csv`.
        details: As in `details.csv`, the same rows.
        broken: Variants of which a trial failed. Their contrasts wait for the next run, which tries it again:
            what fails once may fail with every further seed.
        metric: The study's metric, whose contrasts are primary.
    """
    from ablate.analysis.wording import short_labels

    chosen = effects["primary"] & (effects["metric"] == metric)
    contrasts = {contrast.name: contrast for contrast in plan.contrasts}
    kinds: dict[str, str] = {}
    images = details.loc[chosen, "images_needed"].notna()
    for row, needs_images in zip(effects[chosen].to_dict("records"), images, strict=True):
        name = str(row["contrast"])
        kinds[name] = _kind(row, needs_images, bool(broken & set(contrasts[name].variants)))
    words: dict[str, list[str]] = {kind: [] for kind in _SAID if kind in kinds.values()}
    for kind, label in zip(kinds.values(), short_labels(effects[chosen], metric), strict=True):
        words[kind].append(label)
    return Findings(tuple(name for name, kind in kinds.items() if kind == "open"), words)


_SAID = {
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "negligible": ("makes no difference that matters", "make no difference that matters"),
    "images": ("is left open by these images, not by seeds", "are left open by these images, not by seeds"),
    "failed": ("waits for a trial that failed", "wait for trials that failed"),
    "unknown": ("has no pair of trials to compare", "have no pair of trials to compare"),
    "undefined": ("has no interval on these images", "have no interval on these images"),
    "open": ("goes on", "go on"),
}
"""What is said of one contrast and of several."""


def _kind(row: Mapping[Any, Any], needs_images: bool, broken: bool) -> str:
    if row["verdict"] != "undecided":
        return str(row["verdict"])
    if broken:
        return "failed"
    if not row["n_seeds"]:  # all of one side have diverged, and further seeds would
        return "unknown"
    if row["n_seeds"] > 1 and math.isnan(
        row["ci_low"]
    ):  # as with a class that no image has, or a single group
        return "undefined"
    return "images" if needs_images else "open"


def _sentence(kind: str, labels: Sequence[str], last: bool) -> str:
    *first, end = labels
    said = ("is undecided", "are undecided") if kind == "open" and last else _SAID[kind]
    return f"{', '.join(first)} and {end} {said[1]}" if first else f"{end} {said[0]}"
