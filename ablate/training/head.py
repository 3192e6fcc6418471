"""Heads: what lies between a network's feature map and its output, layer by layer as a recipe says."""

from __future__ import annotations

from fastai.layers import AdaptiveConcatPool2d, Flatten, apply_init
from fastai.vision.learner import TimmBody
from torch import nn

from ablate.errors import AblateError
from ablate.recipe.schema import Head


def make_head(head: Head, n_features: int, n_classes: int, has_map: bool = True) -> nn.Sequential:
    """A head with the initial weights that fastai gives its own.

    Dropout of the map, pooling, dropout; per hidden layer a linear one, ReLU, batch norm and dropout, as in
    Keras examples; a linear layer at the end. A dropout of 0 is no layer.

    Args:
        head: Pooling, widths and dropouts.
        n_features: The channels of the feature map, or the features that are pooled already.
        n_classes: The outputs.
        has_map: Whether the input is a feature map (n, n_features, h, w); else (n, n_features).
    """
    layers: list[nn.Module] = []
    if has_map:
        pool = AdaptiveConcatPool2d() if head.pool == "concat" else nn.AdaptiveAvgPool2d(1)
        layers += [*_dropout(head.map_dropout), pool, Flatten()]
        n_features *= 2 if head.pool == "concat" else 1
    first, *others = _dropouts(head)
    layers += _dropout(first)
    for width, dropout in zip(head.hidden, others, strict=True):
        hidden = [nn.Linear(n_features, width), nn.ReLU(inplace=True), nn.BatchNorm1d(width)]
        layers += [*hidden, *_dropout(dropout)]
        n_features = width
    made = nn.Sequential(*layers, nn.Linear(n_features, n_classes))
    apply_init(made, nn.init.kaiming_normal_)
    return made


def head_for(body: TimmBody, head: Head, n_classes: int) -> nn.Sequential:
    """The head on top of a timm network's body.

    Raises:
        AblateError: The body pools its features itself, and the head says how to treat the map.
    """
    if not body.needs_pool:
        for field in ("map_dropout", "pool"):
            if getattr(head, field) != Head.model_fields[field].default:
                raise AblateError(
                    f"model.head.{field}: the architecture has no feature map, it pools its features itself; "
                    f"drop {field}, or take another model.arch."
                )
    return make_head(head, int(body.model.num_features), n_classes, body.needs_pool)


def _dropouts(head: Head) -> list[float]:
    """After pooling, then after each hidden layer."""
    if isinstance(head.dropout, list):
        return head.dropout
    return [*(0.0 for _ in head.hidden), head.dropout]


def _dropout(p: float) -> list[nn.Module]:
    return [nn.Dropout(p)] if p else []
