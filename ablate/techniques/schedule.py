"""schedule: warm up to the peak rate, stay there, decay along a cosine."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, floor, pi
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ablate.recipe.schema import Phase
from ablate.techniques.base import Context, InPhases

_OF_DECAY = ("sustain", "final", "final_share", "offset")


def share_of_peak(
    position: float,
    length: float,
    *,
    start: float = 0.0,
    final: float = 0.0,
    warmup: float = 0.0,
    power: float = 2.5,
    sustain: float = 0.0,
    offset: float = 0.0,
) -> float:
    """The rate at a position, as a share of the peak rate.

    Warm-up: `start + (1 + start) · (position / warmup) ** power`, never above 1. Then 1 for `sustain`; then
    `final + (1 − final) · (1 + cos(π · progress)) / 2`, where progress is
    `(position − warmup − sustain + offset) / length`.

    With whole epochs as positions and `length = epochs − warmup − sustain − 1 + offset` these are the
    functions of the cassava (offset 0) and the landmark notebook (offset 1); with steps in epochs, without
    warm-up and with `length = epochs`, Keras's CosineDecay, whose alpha is `final`. A decay of no length
    stays at 1.

    Args:
        position: In epochs, from 0.
        length: Of the decay, in epochs.
        start: The rate at position 0.
        final: The rate at the end.
        warmup: In epochs.
        power: Of the warm-up's curve; 1 is a line.
        sustain: Epochs at the peak.
        offset: How far the decay is on when it begins, in epochs.
    """
    if position < warmup:
        return min(start + (1 + start) * (position / warmup) ** power, 1.0)
    since = position - warmup - sustain
    if since < 0 or length <= 0:
        return 1.0
    progress = min((since + offset) / length, 1.0)
    return final + (1 - final) * (1 + cos(pi * progress)) / 2


class WarmUpDecay(InPhases):
    """The learning rate rises to the phase's rate, stays there and falls along a cosine: no one-cycle.

    `start` and `final` are rates, next to the phase's highest rate (`lr`), which is that of the head;
    `start_share` and `final_share` are shares of it. All layers' rates move by the same share. Momentum stays
    as it is. Per epoch, an epoch trains at one rate, so that the last one trains at `final`; per step, the
    rate moves with every step. A decay of a single epoch begins and ends at the peak, unless it has an
    `offset`.
    """

    name: ClassVar[str] = "schedule"
    paper: ClassVar[str] = "Loshchilov & Hutter 2017, arXiv 1608.03983; Goyal et al. 2017, arXiv 1706.02677"
    quick: ClassVar[dict[str, Any]] = {"warmup": 0, "sustain": 0}

    start: float | None = Field(None, ge=0, description="The rate at which the warm-up begins.")
    start_share: float | None = Field(
        None, ge=0, le=1, description="The same as a share of the phase's rate; default: 0.01."
    )
    final: float | None = Field(None, ge=0, description="The rate at which the decay ends.")
    final_share: float | None = Field(
        None, ge=0, le=1, description="The same as a share of the phase's rate; default: 0.01."
    )
    warmup: float = Field(0, ge=0, description="Epochs of warm-up.")
    power: float = Field(2.5, gt=0, description="Of the warm-up's curve.")
    sustain: float = Field(0, ge=0, description="Epochs at the phase's rate before the decay.")
    decay: Literal["cosine", "none"] = Field("cosine", description="What follows.")
    offset: float = Field(
        0, ge=0, description="Per epoch: how many epochs of the decay are over when it begins."
    )
    per: Literal["epoch", "step"] = Field("epoch", description="How often the rate moves.")

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        for name in ("start", "final"):
            if getattr(self, name) is not None and getattr(self, f"{name}_share") is not None:
                raise ValueError(f"give {name} or {name}_share, not both")
        idle = [name for name in _OF_DECAY if name in self.model_fields_set and getattr(self, name)]
        if self.decay == "none" and idle:
            raise ValueError(f"decay: none leaves {idle[0]} without effect; drop one of them")
        if self.per == "step" and self.offset:
            raise ValueError("offset is for per: epoch; per step, the decay begins at the peak")
        return self

    def complaint(self, phase: Phase) -> str | None:
        before, rate = self.warmup + self.sustain, _peak(phase)
        if before > phase.epochs or (before == phase.epochs and self.decay != "none"):
            return (
                f"warmup and sustain take {before:g} of {phase.epochs} epochs and leave none to "
                "decay in; shorten them, or train longer."
            )
        for name in ("start", "final"):
            given = getattr(self, name)
            if given is not None and rate is None:
                return f"{name} is a rate, but lr: find is not known yet; write {name}_share."
            if given is not None and rate is not None and given > rate:
                return f"{name} {given:g} is above the phase's rate, {rate:g}; lower it."
        return None

    def schedule(self, context: Context) -> Callable[[float], float]:
        phase, stepwise = context.phase, self.per == "step"
        before = self.warmup + self.sustain
        length = phase.epochs - before - (0 if stepwise else 1 - self.offset)
        final = 1.0 if self.decay == "none" else self._share("final", phase)
        start = self._share("start", phase)

        def share(position: float) -> float:
            return share_of_peak(
                position if stepwise else floor(position),
                length,
                start=start,
                final=final,
                warmup=self.warmup,
                power=self.power,
                sustain=self.sustain,
                offset=self.offset,
            )

        return share

    def _share(self, name: str, phase: Phase) -> float:
        given, share, peak = getattr(self, name), getattr(self, f"{name}_share"), _peak(phase)
        if given is not None and peak is not None:
            return given / peak
        return 0.01 if share is None else share


def _peak(phase: Phase) -> float | None:
    """A phase's highest rate; None where that is still to be found."""
    if phase.lr == "find":
        return None
    return phase.lr[1] if isinstance(phase.lr, list) else phase.lr
