"""layer_decay: lower rates for lower layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field

from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique


def layer_rates(rate: float, groups: int, decay: float) -> list[float]:
    """`rate · decay ** depth` for each group of parameters, first layers first.

    Args:
        rate: Of the last two groups: the head, and what of the body stands beside it.
        groups: How many there are.
        decay: By how much a group's rate is lower than that of the group above it.
    """
    return [rate * decay ** max(groups - 2 - group, 0) for group in range(groups)]


def layer_groups(model: Any) -> list[list[Any]]:
    """The parameters of a network, layer by layer as timm groups them for its `layer_decay`.

    The groups are timm's layers; then what of the body timm groups with its classifier, often nothing; then
    the head.

    Args:
        model: A `Sequential` of fastai's `TimmBody` and a head.

    Raises:
        AblateError: timm does not know the layers of this architecture.
    """
    from timm.models._manipulate import group_with_matcher

    body = model[0].model
    classifier = body.pretrained_cfg.get("classifier") or "head"
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    parameters = dict(body.named_parameters())
    if not hasattr(body, "group_matcher"):
        raise AblateError(
            f"layer_decay: timm does not know the layers of {type(body).__name__}; turn layer_decay off, or "
            "take another model.arch."
        )
    # the classifier is not there, and all that it stands for is its place
    named = [*((name, None) for name in parameters), (f"{classifier}.weight", None)]
    layer = group_with_matcher(named, body.group_matcher(coarse=False), reverse=True)
    top = layer[f"{classifier}.weight"]
    groups: list[list[Any]] = [[] for _ in range(top + 1)]
    for name, parameter in parameters.items():
        groups[min(layer[name], top)].append(parameter)
    return [*groups, list(model[1].parameters())]


class LayerDecay(Technique):
    """Each layer's peak rate is that of the layer above it times `decay`; the head's is the phase's rate.

    Layers are timm's, as its `--layer-decay` groups parameters. This takes the place of a spread by the
    phase, `lr: [lowest, highest]` or `lr_spread`: the head's rate counts. Freezing means all but the head, as
    ever.
    """

    name: ClassVar[str] = "layer_decay"
    paper: ClassVar[str] = "Clark et al. 2020, arXiv 2003.10555; Bao et al. 2022, arXiv 2106.08254"

    decay: float = Field(0.75, gt=0, le=1, description="The factor from layer to layer, downwards.")

    def splitter(self, splitter: Any, context: Context) -> Callable[[Any], list[list[Any]]]:
        return layer_groups

    def rates(self, rates: list[float], context: Context) -> list[float]:
        return layer_rates(rates[-1], len(rates), self.decay)
