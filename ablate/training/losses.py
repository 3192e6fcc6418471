"""Losses of class labels that say what each class would cost, and what acts on those costs.

A network gives an image the logits z, and class c would cost ℓ_c(z). A label y costs ℓ_y; a target with the
probabilities q costs Σ q_c ℓ_c, so what softens or weighs targets acts on any of these losses exactly: label
smoothing is (1 − ε) ℓ_y + ε mean_c ℓ_c, class weights are w_c ℓ_c, and mixing weighs two of them.

All are modules that serve in anybody's Learner, as fastai's own losses do: `reduction`, `activation` and
`decodes` are there. They compute in float32 at least, whatever autocast says.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from fastai.callback.mixup import reduce_loss
from fastai.losses import CrossEntropyLossFlat
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import AblateError
from ablate.techniques.arcface import arc_margin
from ablate.techniques.focal_loss import focal

Reduction = Literal["mean", "sum", "none"]


class ClassLoss(nn.Module):
    """A loss of logits (n, K) and labels (n,), linear in the target's distribution.

    Subclasses say what the label costs and what a distribution over classes costs; both for each item.

    Args:
        reduction: Over the items: `mean`, `sum` or `none`.
    """

    y_int = True
    """Labels are integers; fastai's own mixing callbacks ask."""

    def __init__(self, reduction: Reduction = "mean"):
        super().__init__()
        self.reduction = reduction

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        """What the label costs: ℓ_y of shape (n,)."""
        raise NotImplementedError

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        """What a target costs that is the same for all items: Σ shares_c ℓ_c of shape (n,).

        Args:
            logits: Shape (n, K).
            shares: Shape (K,); need not sum to one.
        """
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        """What softmax turns into probabilities, shape (n, K); most often the logits."""
        return logits

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.as_subclass(Tensor), target.as_subclass(Tensor).long()
        with torch.autocast(logits.device.type, enabled=False):
            each = self.of(logits.to(torch.promote_types(logits.dtype, torch.float32)), target)
        return reduce_loss(each, self.reduction)

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities of shape (n, K), whose rows sum to one."""
        return self.scores(logits).softmax(-1)

    def decodes(self, probabilities: Tensor) -> Tensor:
        """The most probable class, shape (n,)."""
        return probabilities.argmax(-1)


class CrossEntropy(ClassLoss):
    """Cross-entropy, ℓ_c = −log p_c with p = softmax(z)."""

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, reduction="none")

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        return logits.logsumexp(1) * shares.sum() - logits @ shares.to(logits.dtype)


class FocalLoss(ClassLoss):
    """Focal loss (Lin et al. 2017), ℓ_c = −(1 − p_c)^γ log p_c with p = softmax(z).

    Args:
        gamma: γ, how much less easy images count; 0 is cross-entropy.
        reduction: As of all.
    """

    def __init__(self, gamma: float = 2.0, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.gamma = gamma

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal(-functional.cross_entropy(logits, target, reduction="none"), self.gamma)

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        return focal(logits.log_softmax(1), self.gamma) @ shares.to(logits.dtype)


class OneVsAll(ClassLoss):
    """Binary cross-entropy of every class against the rest, ℓ_c = Σ_k softplus(z_k) − z_c.

    The probabilities are the sigmoids, normalised so that they sum to one; that keeps their order.

    Args:
        sum_classes: Whether ℓ is that sum, or its mean over the K classes.
        reduction: As of all.
    """

    def __init__(self, sum_classes: bool = False, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.sum_classes = sum_classes

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        own = logits.gather(1, target[:, None])[:, 0]
        return (functional.softplus(logits).sum(1) - own) / self._terms(logits)

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        shares = shares.to(logits.dtype)
        cost = functional.softplus(logits).sum(1) * shares.sum() - logits @ shares
        return cost / self._terms(logits)

    def scores(self, logits: Tensor) -> Tensor:
        return functional.logsigmoid(logits)

    def _terms(self, logits: Tensor) -> int:
        return 1 if self.sum_classes else logits.shape[1]


class ArcFaceLoss(ClassLoss):
    """ArcFace (Deng et al. 2019): cross-entropy of s·cos, with a margin on the angle of the label's class.

    Args:
        s: The scale that the network's logits have: they are s·cos θ_c.
        m: The margin, in radians.
        easy_margin: See `ablate.techniques.arcface.arc_margin`.
        ls_eps: ε of the smoothed one-hot label q by which each class gets its margin, q φ + (1 − q) cos.
        reduction: As of all.
    """

    def __init__(
        self,
        s: float = 30.0,
        m: float = 0.5,
        easy_margin: bool = False,
        ls_eps: float = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        self.s, self.m, self.easy_margin, self.ls_eps = s, m, easy_margin, ls_eps

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        rest, label = self.ls_eps / logits.shape[1], target[:, None]
        own = self._with_margin(logits.gather(1, label), 1 - self.ls_eps + rest)
        others = self._with_margin(logits, rest) if rest else logits
        return functional.cross_entropy(others.scatter(1, label, own), target, reduction="none")

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        raise AblateError("label_smoothing: arcface has smoothing of its own; set its ls_eps instead.")

    def _with_margin(self, logits: Tensor, share: float) -> Tensor:
        """`share` parts of the logits with the margin, the rest without."""
        return logits.lerp(self.s * arc_margin(logits / self.s, self.m, self.easy_margin), share)


class Weighted(ClassLoss):
    """Another loss with a weight for each class, w_c ℓ_c.

    The mean is over the items and not over their weights, as in Keras; torch divides by the weights' sum.

    Args:
        loss: The other loss, whose reduction it takes over.
        weights: Shape (K,).
    """

    weights: Tensor

    def __init__(self, loss: ClassLoss, weights: Tensor):
        super().__init__(loss.reduction)
        self.loss = loss
        self.register_buffer("weights", weights.float())

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.weights.to(logits.device)[target] * self.loss.of(logits, target)

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        return self.loss.spread(logits, self.weights.to(logits.device) * shares)

    def scores(self, logits: Tensor) -> Tensor:
        return self.loss.scores(logits)


class Smoothed(ClassLoss):
    """Another loss with smoothed labels, (1 − ε) ℓ_y + ε mean_c ℓ_c.

    Args:
        loss: The other loss, whose reduction it takes over.
        eps: ε, the probability that is taken from the label and spread over all classes.
    """

    def __init__(self, loss: ClassLoss, eps: float = 0.1):
        super().__init__(loss.reduction)
        self.loss, self.eps = loss, eps

    def of(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.lerp(self.loss.of(logits, target), self._mean(logits), self.eps)

    def spread(self, logits: Tensor, shares: Tensor) -> Tensor:
        return torch.lerp(self.loss.spread(logits, shares), self._mean(logits) * shares.sum(), self.eps)

    def scores(self, logits: Tensor) -> Tensor:
        return self.loss.scores(logits)

    def _mean(self, logits: Tensor) -> Tensor:
        """The mean of what all classes cost, shape (n,)."""
        classes = logits.shape[1]
        return self.loss.spread(logits, logits.new_full((classes,), 1 / classes))


def class_loss(loss: Any, name: str) -> ClassLoss:
    """A loss as one that says what each class costs.

    Args:
        loss: One of these, or fastai's plain cross-entropy.
        name: The technique that asks.

    Raises:
        AblateError: It is another one.
    """
    if isinstance(loss, ClassLoss):
        return loss
    if is_plain(loss):
        return CrossEntropy(loss.reduction)
    raise AblateError(
        f"{name}: cannot act on {type(loss).__name__}; it takes fastai's CrossEntropyLossFlat without "
        "options, or a loss of ablate.training.losses."
    )


def is_plain(loss: Any) -> bool:
    """Whether a loss is fastai's cross-entropy and nothing more."""
    if type(loss) is not CrossEntropyLossFlat:
        return False
    options = loss.func.weight, loss.func.label_smoothing, loss.func.ignore_index, loss.axis
    return options == (None, 0.0, -100, -1)
