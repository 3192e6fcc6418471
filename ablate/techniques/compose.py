"""The rules of composition, all of them: what happens where several techniques act on the same thing.

1. Techniques act in a fixed order, whatever the order in the recipe: by `order`, then by name.
2. Of the mixing techniques that are on (mixup, cutmix, gridmask, unmixed), one is chosen for each batch, by
   their weights; random erasing comes before.
3. The loss is that of focal_loss, bce_loss or arcface, else cross-entropy; class_weights go around it, then
   label_smoothing, and mixing weighs what both labels cost. All of these are linear in the target's
   distribution (`ablate.training.losses`), so they combine exactly, whichever are on. A smoothed label has
   the weights of all classes, each by its share, as in torch. arcface has a smoothing of its own, and refuses
   the other.
4. Geometries multiply into one matrix, colours into one table (`ablate.data.draws`), and painters come last;
   one technique may crop.
5. What a technique claims, such as the loss, the output layer or the schedule, no other of the same phase
   may claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ablate.recipe.schema import Phase
from ablate.techniques.base import Context, Predictor, Schedule, Technique


def ordered(techniques: Iterable[Technique]) -> list[Technique]:
    """Rule 1."""
    return sorted(techniques, key=lambda technique: (technique.order, technique.name))


def conflict(techniques: Iterable[Technique]) -> str | None:
    """What two techniques that are active together cannot both do, as a sentence (rule 5)."""
    first: dict[str, str] = {}
    for technique in ordered(techniques):
        for claim in technique.claims():
            if claim in first:
                return f"{first[claim]} and {technique.name} both {claim}; turn one of them off."
            first[claim] = technique.name
    return None


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
    """The schedule of a phase, if a technique has one (rule 5)."""
    found = (technique.schedule(context) for technique in ordered(techniques))
    return next((own for own in found if own is not None), None)


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
