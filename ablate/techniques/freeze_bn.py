"""freeze_bn: leave the batch norms of the body as they are."""

from __future__ import annotations

from typing import Any, ClassVar

from ablate.techniques.base import Context, InPhases


class FreezeBatchNorm(InPhases):
    """Keep the batch norms of a pretrained body as they came: statistics, weights and biases.

    They normalize by their running averages, in training too, as Keras's layers do that are not trainable.
    Without it, they are trained even where the rest of the body is frozen, as in fastai. Those of the head
    start without statistics and are trained as ever.
    """

    name: ClassVar[str] = "freeze_bn"
    paper: ClassVar[str] = "Ioffe & Szegedy 2015, arXiv 1502.03167; Keras's trainable = False"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.batch_norms import FreezeBatchNorms

        return [FreezeBatchNorms()]
