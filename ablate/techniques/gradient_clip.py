"""gradient_clip: bound the norm of the gradient."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


class GradientClip(InPhases):
    """Scale the gradient of all weights together down where its norm is above a bound (fastai's callback).

    The gradient is that of the whole batch, however it is split, and without the loss scale of float16.
    """

    name: ClassVar[str] = "gradient_clip"
    paper: ClassVar[str] = "Pascanu et al. 2013, arXiv 1211.5063"

    max_norm: float = Field(1.0, gt=0, description="The largest norm that stays as it is.")

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from fastai.callback.training import GradientClip as FastaiGradientClip

        return [FastaiGradientClip(self.max_norm)]
