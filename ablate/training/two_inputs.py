"""A network that sees the columns of a table beside the image."""

from __future__ import annotations

from itertools import chain

import torch
from fastai.layers import Flatten, apply_init
from torch import Tensor, nn


class TwoInputs(nn.Sequential):
    """A body and a `TabularHead`, where fastai looks for the two parts of an image network."""

    def forward(self, images: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        """Images of shape (n, 3, h, w), features of the table of shape (n, n_tabular)."""
        if type(table) is not Tensor:
            table = table.as_subclass(Tensor)  # fastai's types of tensors do not mix
        return self[1](self[0](images), table)


class TabularHead(nn.Sequential):
    """Pooling, the table's own layers, and then the head's layers over the features of both, side by side."""

    def forward(self, maps: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        """What the body gives, and features of the table of shape (n, n_tabular)."""
        pool, own, *layers = self
        both = torch.cat([pool(maps), own(table)], dim=1)
        for layer in layers:
            both = layer(both)
        return both


def two_inputs(model: nn.Sequential, n_tabular: int, width: int) -> TwoInputs:
    """An image network with a second input: a linear layer, batch norm and ReLU over the table's features.

    Their output joins the pooled features of the image, and the layers up to the first linear one become as
    much wider. All that there was keeps its weights, so the networks with and without a table start alike.

    Args:
        model: A body and a head, as fastai makes it.
        n_tabular: How many features the table has.
        width: Of their layer.
    """
    body, head = model[0], list(model[1].children())
    pooled = 1 + max((i for i, layer in enumerate(head) if isinstance(layer, Flatten)), default=-1)
    own = nn.Sequential(nn.Linear(n_tabular, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
    apply_init(own, nn.init.kaiming_normal_)
    linear = next(i for i, layer in enumerate(head) if isinstance(layer, nn.Linear))
    wider = [_wider(layer, width) for layer in head[pooled : linear + 1]]
    return TwoInputs(body, TabularHead(nn.Sequential(*head[:pooled]), own, *wider, *head[linear + 1 :]))


def _wider(layer: nn.Module, more: int) -> nn.Module:
    """A layer for more input features, which come last; what there was keeps its weights."""
    if isinstance(layer, nn.Linear):
        made: nn.Module = nn.Linear(layer.in_features + more, layer.out_features, layer.bias is not None)
        apply_init(made, nn.init.kaiming_normal_)
    elif isinstance(layer, nn.BatchNorm1d):
        made = nn.BatchNorm1d(layer.num_features + more, layer.eps, layer.momentum)
    else:
        return layer
    with torch.no_grad():
        of_both = zip(chain(layer.parameters(), layer.buffers()), chain(made.parameters(), made.buffers()))
        for before, after in of_both:
            if before.ndim:
                after[..., : before.shape[-1]].copy_(before)
    return made
