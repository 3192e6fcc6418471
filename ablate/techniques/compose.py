"""The rules of composition, all of them: what happens where several techniques act on the same thing.

1. Techniques act in a fixed order, whatever the order in the recipe: by `order`, then by name.
2. Of the mixing techniques that are on (mixup, cutmix), one is chosen for each batch, evenly.
3. Mixing weighs the loss of both labels; label smoothing replaces the loss below it, so the two combine
   exactly.
4. Geometries multiply into one matrix, colours into one table (`ablate.data.draws`); one technique may crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ablate.recipe.schema import Phase
from ablate.techniques.base import Context, Predictor, Technique


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


def loss(techniques: Iterable[Technique], base: Any, context: Context) -> Any:
    """The loss of a phase, each technique around that of the one before."""
    for technique in ordered(techniques):
        base = technique.loss(base, context)
    return base


def predictor(techniques: Iterable[Technique], base: Predictor, context: Context) -> Predictor:
    """How a variant predicts, each technique around the one before."""
    for technique in ordered(techniques):
        base = technique.predict(base, context)
    return base
