"""With which seeds each contrast is judged: all of them, or those of the look that decided it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import Interval
from ablate.analysis.looks import nominal_levels, sequential_p
from ablate.analysis.verdicts import SIGNIFICANCE, holm

Seeds = list[Hashable]


@dataclass(frozen=True)
class Decision:
    """How a contrast is judged on the study's metric.

    Attributes:
        seeds: Those that count.
        confidence: Of its intervals.
        p_adjusted: Holm's p-value; NaN for contrasts that are not primary, and before the first look.
        alpha: The level that its own p-value would have to be below to be significant now.
        look: The look that decided it, in seeds; NaN where none did.
        early: Whether it has not come to its first look, so that nothing may be said of it.
    """

    seeds: Seeds
    confidence: float
    p_adjusted: float = math.nan
    alpha: float = SIGNIFICANCE
    look: float = math.nan
    early: bool = False


def decide(
    contrasts: Sequence[Contrast],
    seeds: Seeds,
    *,
    interval: Callable[[Contrast, Seeds, float], Interval],
    negligible: Callable[[Interval], bool],
    reached: Callable[[Contrast, Seeds], bool],
    confidence: float,
    looks: Sequence[int] | None,
) -> list[Decision]:
    """Judges each contrast at the first look that decides it, else at the last that it has come to.

    Without looks there is one, at all seeds, that everything has come to. With them, Holm's procedure goes
    over sequential p-values (Maurer & Bretz, Stat Biopharm Res 2013): the smallest so far of each contrast,
    with the seeds of the look that gave it, since what is rejected at one look stays rejected.

    Args:
        contrasts: What is compared.
        seeds: All seeds, in order.
        interval: The interval of a contrast with some seeds at a confidence.
        negligible: Whether an interval is within the smallest effect.
        reached: Whether all that a contrast needs of some seeds has been trained.
        confidence: Of the intervals where there are no looks.
        looks: The numbers of seeds at which the study is looked at, fixed beforehand.
    """
    stops = [seeds[:n] for n in looks] if looks else [seeds]
    levels = nominal_levels(looks) if looks else (1 - confidence,)
    smallest, at = np.full(len(contrasts), np.nan), [0] * len(contrasts)
    last = [-1] * len(contrasts)
    decided: dict[int, int] = {}
    for k, (stop, level) in enumerate(zip(stops, levels, strict=True)):
        came = [
            i
            for i, contrast in enumerate(contrasts)
            if i not in decided and (not looks or (len(stop) == looks[k] and reached(contrast, stop)))
        ]
        for i in came:
            last[i] = k
            if not contrasts[i].primary:
                continue
            found = interval(contrasts[i], stop, 1 - level)
            p = sequential_p(found.p_value, looks, k) if looks else found.p_value
            if math.isnan(smallest[i]) or p < smallest[i]:
                smallest[i], at[i] = p, k
            if negligible(found):
                decided[i] = k
        adjusted = holm(smallest)
        decided |= {i: at[i] for i in np.flatnonzero(adjusted < SIGNIFICANCE).tolist() if i not in decided}
    adjusted = holm(smallest)
    left = max(int((~np.isnan(smallest)).sum()) - int((adjusted < SIGNIFICANCE).sum()), 1)
    return [
        Decision(
            stops[max(k, 0)],
            1 - levels[max(k, 0)],
            adjusted[i],
            (levels[max(k, 0)] if looks else SIGNIFICANCE) / left,
            float(len(stops[k])) if looks and i in decided else math.nan,
            early=k < 0,
        )
        for i, k in ((i, decided.get(i, last[i])) for i in range(len(contrasts)))
    ]
