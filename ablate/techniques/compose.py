"""The rules of composition, all of them: what happens where several techniques act on the same thing.

1. Techniques act in a fixed order, whatever the order in the recipe: by `order`, then by name.
2. Of the mixing techniques that are on (mixup, cutmix), one is chosen for each batch, evenly.
3. Mixing weighs the loss of both labels; label smoothing replaces the loss below it, so the two combine
   exactly.
4. Geometries multiply into one matrix, colours into one table (`ablate.data.draws`); one technique may crop.
5. One technique may put another loss in the place of cross-entropy.
6. One technique may say how the rates move through a phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ablate.errors import AblateError
from ablate.recipe.schema import Phase
from ablate.techniques.base import Context, Predictor, Schedule, Technique


def ordered(techniques: Iterable[Technique]) -> list[Technique]:
    """Rule 1."""
    return sorted(techniques, key=lambda technique: (technique.order, technique.name))


def edit_phases(techniques: Iterable[Technique], phases: Sequence[Phase]) -> list[Phase]:
    """The phases of a variant: the recipe's, as its techniques change them."""
    edited = list(phases)
    for technique in ordered(techniques):
        edited = technique.edit_phases(edited)
    return edited


def callbacks(techniques: Iterable[Technique], context: Context) -> list[Any]:
    """The callbacks of a phase, with all mixing techniques in one of them (rule 2)."""
    from ablate.training.mixing import MixBatches

    own = [callback for technique in ordered(techniques) for callback in technique.callbacks(context)]
    mixing = [callback for callback in own if isinstance(callback, MixBatches)]
    if not mixing:
        return own
    mixers = [mixer for callback in mixing for mixer in callback.mixers]
    return [*(c for c in own if not isinstance(c, MixBatches)), MixBatches(mixers, context.streams)]


def network(techniques: Iterable[Technique], context: Context) -> dict[str, Any]:
    """What all techniques say of how the network is made."""
    options: dict[str, Any] = {}
    for technique in ordered(techniques):
        options |= technique.network(context)
    return options


def splitter(techniques: Iterable[Technique], base: Any, context: Context) -> Any:
    """How the network's parameters are grouped."""
    for technique in ordered(techniques):
        base = technique.splitter(base, context)
    return base


def metrics(techniques: Iterable[Technique], context: Context) -> list[Any]:
    """The metrics of all techniques, each name once."""
    found = [metric for technique in ordered(techniques) for metric in technique.metrics(context)]
    return list({metric.name: metric for metric in found}.values())


def rates(techniques: Iterable[Technique], base: list[float], context: Context) -> list[float]:
    """The peak rate of each parameter group."""
    for technique in ordered(techniques):
        base = technique.rates(base, context)
    return base


def schedule(techniques: Iterable[Technique], context: Context) -> Schedule | None:
    """The one schedule of a phase, if any (rule 6)."""
    found = {t.name: own for t in ordered(techniques) if (own := t.schedule(context)) is not None}
    if len(found) > 1:
        raise AblateError(f"{' and '.join(found)} both set the rates; turn one of them off.")
    return next(iter(found.values()), None)


def loss(techniques: Iterable[Technique], base: Any, context: Context) -> Any:
    """The loss of a phase, each technique around that of the one before (rule 5)."""
    techniques = ordered(techniques)
    replacing = [technique.name for technique in techniques if technique.replaces_loss]
    if len(replacing) > 1:
        raise AblateError(f"{' and '.join(replacing)} both replace the loss; turn one of them off.")
    for technique in techniques:
        base = technique.loss(base, context)
    return base


def predictor(techniques: Iterable[Technique], base: Predictor, context: Context) -> Predictor:
    """How a variant predicts, each technique around the one before."""
    for technique in ordered(techniques):
        base = technique.predict(base, context)
    return base
