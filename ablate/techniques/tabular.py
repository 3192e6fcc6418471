"""tabular: show the network the columns of `data.tabular` beside the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique

if TYPE_CHECKING:
    from torch import nn


class Tabular(Technique):
    """Show the network columns of the table, those of `data.tabular`, beside the image.

    They go through a linear layer with batch norm and ReLU, whose output joins the pooled features of the
    image; the layers after that see both.
    """

    name: ClassVar[str] = "tabular"
    paper: ClassVar[str] = "Gessert et al. 2020, arXiv 1910.03910"
    order: ClassVar[int] = 10  # before what changes other layers of the head
    reads_table: ClassVar[bool] = True

    width: int = Field(50, ge=1, description="Of the layer for them.")

    def model(self, model: nn.Sequential, context: Context) -> nn.Sequential:
        from ablate.training.two_inputs import two_inputs

        if not context.n_tabular:
            raise AblateError("tabular: the recipe has no data.tabular; name the columns there.")
        return two_inputs(model, context.n_tabular, self.width)
