"""sigmoid_output: one output for two classes."""

from __future__ import annotations

from typing import Any, ClassVar

from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique


class SigmoidOutput(Technique):
    """Give the network one logit z instead of one for each of two classes, so that σ(z) is the second one's.

    All else sees the two logits [0, z]; so cross-entropy becomes the binary one, and focal loss that of
    detection. It starts with the same probabilities as two logits would. It holds for all phases.
    """

    name: ClassVar[str] = "sigmoid_output"
    paper: ClassVar[str] = "Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.2"
    order: ClassVar[int] = 20

    def claims(self) -> list[str]:
        return [*super().claims(), "replace the output layer", "make the outputs sigmoids"]

    def model(self, model: Any, context: Context) -> Any:
        from ablate.training.output import SigmoidOutput as Layer
        from ablate.training.output import replace_output

        if context.n_classes != 2:
            raise AblateError(
                f"sigmoid_output: is for two classes, but there are {context.n_classes}; turn it off."
            )
        return replace_output(model, Layer)
