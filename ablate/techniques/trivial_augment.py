"""trivial_augment: one random operation on each image, at a random strength."""

from __future__ import annotations

from typing import Any, ClassVar

from ablate.techniques.base import Context, InPhases


class TrivialAugment(InPhases):
    """Apply one operation, drawn from fourteen, at a strength that is drawn from 31: nothing to tune.

    The paper's wide space, as torchvision's TrivialAugmentWide: shears to 0.99, rotation to 135°, shifts to
    32 pixels, factors from 0.01 to 1.99.
    """

    name: ClassVar[str] = "trivial_augment"
    paper: ClassVar[str] = "Müller & Hutter 2021, TrivialAugment, arXiv 2103.10158"
    order: ClassVar[int] = 13

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        from ablate.data.operations import TrivialAugment as Painter

        return [Painter()]
