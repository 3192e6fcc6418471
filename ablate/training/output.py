"""The last layer of a network's head: where it is, what can take its place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import AblateError


def output_layer(model: nn.Module) -> nn.Module:
    """The layer that gives the logits; its input are the embeddings.

    Args:
        model: A body and a head in sequence, as fastai makes them.

    Raises:
        AblateError: The network is made otherwise.
    """
    return _holder(model)[-1]


def replace_output(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Put another layer in the place of the one that gives the logits, and give the network back.

    Args:
        model: As for `output_layer`.
        make: Makes the new layer from the old one.

    Raises:
        AblateError: The network is made otherwise, or does not end in a linear layer.
    """
    holder = _holder(model)
    if not isinstance(holder[-1], nn.Linear):
        raise AblateError(
            f"model: its last layer is a {type(holder[-1]).__name__}, but a linear one is to be replaced."
        )
    holder[-1] = make(holder[-1])
    return model


class SigmoidOutput(nn.Module):
    """A linear layer with the one logit z of two classes, given as the two logits [0, z].

    Their softmax is [1 − σ(z), σ(z)], and their cross-entropy the binary one of z.

    Args:
        two: The layer with two logits that it replaces. It starts with z = z_1 − z_0, where both layers give
            the same probabilities.
    """

    def __init__(self, two: nn.Linear):
        super().__init__()
        self.logit = nn.Linear(two.in_features, 1, bias=two.bias is not None)
        with torch.no_grad():
            self.logit.weight.copy_(two.weight[1:] - two.weight[:1])
            if two.bias is not None:
                self.logit.bias.copy_(two.bias[1:] - two.bias[:1])

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, features) to (n, 2)."""
        return functional.pad(self.logit(x), (1, 0))


class CosineLayer(nn.Module):
    """Logits s·cos θ, θ the angle between an image's features and a class's weights (Deng et al. 2019).

    Both are normalised; in float32 under autocast too, where s would make small errors large.

    Args:
        features: How many features there are.
        classes: How many classes there are.
        s: The scale.
    """

    def __init__(self, features: int, classes: int, s: float = 30.0):
        super().__init__()
        self.s = s
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, features) to (n, classes)."""
        with torch.autocast(x.device.type, enabled=False):
            x = functional.normalize(x.to(self.weight.dtype))
            return self.s * functional.linear(x, functional.normalize(self.weight))


def _holder(model: nn.Module) -> nn.Sequential:
    """The innermost sequence, whose last layer is the network's."""
    while isinstance(model, nn.Sequential) and len(model) and isinstance(model[-1], nn.Sequential):
        model = model[-1]
    if not isinstance(model, nn.Sequential) or not len(model):
        raise AblateError(
            f"model: a {type(model).__name__} has no output layer that could be found; "
            "it must be a sequence of body and head, as vision_learner makes it."
        )
    return model
