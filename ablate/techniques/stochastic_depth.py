"""stochastic_depth: leave random residual blocks out in training."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique


class StochasticDepth(Technique):
    """Leave out a random part of the residual blocks for each image: timm's `drop_path_rate`.

    The rate grows from 0 in the first block to `rate` in the last. What remains is scaled so that its mean
    stays; prediction uses all blocks. Keras' EfficientNets call it `drop_connect_rate`.
    """

    name: ClassVar[str] = "stochastic_depth"
    paper: ClassVar[str] = "Huang et al. 2016, Deep Networks with Stochastic Depth, arXiv 1603.09382"

    rate: float = Field(0.1, gt=0, lt=1, description="How often the last block is left out.")

    def network(self, context: Context) -> dict[str, Any]:
        return {"drop_path_rate": self.rate}

    def model(self, model: Any, context: Context) -> Any:
        """Only a look: some architectures take the rate and do nothing with it."""
        from timm.layers import DropPath

        if not any(isinstance(module, DropPath) for module in model.modules()):
            raise AblateError(
                "stochastic_depth: this model.arch has no residual blocks that timm can leave out; take "
                "another architecture, or leave the technique out."
            )
        return model
