"""tta: predict several augmented copies of an image and combine them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ablate.data.crops import Tile
from ablate.data.geometry import Symmetry
from ablate.techniques.augment import Augment
from ablate.techniques.base import Context, Predictor, Technique, View

if TYPE_CHECKING:
    from torch import Tensor

CHOOSES_VIEWS = "choose the views of each image"
_FLIPS = {"max_rotate": 0.0, "max_zoom": 1.0, "max_lighting": 0.0, "max_warp": 0.0}
_DIHEDRAL = {"n": 8, "beta": 1 / 8}


def combine(plain: Tensor, copies: Tensor, beta: float, use_max: bool) -> Tensor:
    """Combine the plain view's probabilities with those of augmented copies.

    Args:
        plain: Shape (n, k).
        copies: Shape (m, n, k).
        beta: The plain view's weight against the copies' mean.
        use_max: Take the maximum over all views instead, scaled so that the rows still sum to 1: fastai
            leaves them larger, which flatters the log loss.

    Returns:
        Shape (n, k).
    """
    if use_max:
        highest = copies.amax(0).maximum(plain)
        return highest / highest.sum(-1, keepdim=True)
    return copies.mean(0).lerp(plain, beta)


def augmentation(transforms: str | None, on: Mapping[str, Technique]) -> Augment:
    """The augmentation that copies are made with.

    Args:
        transforms: `augment` or `flips`; None for that of augment where it is on, else flips.
        on: The techniques that are on; augment is as it is set there, or else has its defaults.
    """
    augment = on.get("augment")
    if transforms != "flips" and isinstance(augment, Augment):
        return augment
    return Augment() if transforms == "augment" else Augment.model_validate(_FLIPS)


class TTA(Technique):
    """Test-time augmentation: `n` random copies of each image beside the plain one. Costs no training.

    With `transforms: dihedral` nothing is random: the centre square is seen in each of its eight symmetries
    once, the plain view among them, and all eight weigh the same.
    """

    name: ClassVar[str] = "tta"
    paper: ClassVar[str] = "Krizhevsky et al. 2012; Howard & Gugger 2020, Learner.tta"
    order: ClassVar[int] = 90
    exclusive: ClassVar[str] = CHOOSES_VIEWS

    n: int = Field(4, ge=1, description="Augmented copies; of dihedral 8, the plain view among them.")
    beta: float = Field(0.25, ge=0, le=1, description="The weight of the plain view; of dihedral 1/8.")
    use_max: bool = Field(False, description="Maximum instead of mean.")
    transforms: Literal["augment", "flips", "dihedral"] | None = Field(
        None,
        description="Those of augment, flips and crops, or the eight symmetries; default: augment's where "
        "that is on, else flips and crops.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_dihedral(cls, options: Any) -> Any:
        """Its own `n` and `beta` for `transforms: dihedral`, where they are left out."""
        if isinstance(options, dict) and options.get("transforms") == "dihedral":
            return _DIHEDRAL | options
        return options

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.transforms == "dihedral":
            for name, value in _DIHEDRAL.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"{name} must be left out, or be {value}, with transforms: dihedral, whose eight "
                        "views, the plain one among them, weigh the same"
                    )
        return self

    def identity(self, on: Mapping[str, Technique]) -> dict[str, Any]:
        own = super().identity(on)
        if self.transforms == "dihedral":
            return own
        return own | {"transforms": augmentation(self.transforms, on).identity(on)}

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        views = self._views(context.on)

        def averaged(view: View) -> Tensor:
            import torch

            copies = [predictor(replace(view, transforms=own, copy=i)) for i, own in enumerate(views, 1)]
            return combine(predictor(view), torch.stack(copies), self.beta, self.use_max)

        return averaged

    def _views(self, on: Mapping[str, Technique]) -> list[tuple[Any, ...]]:
        """The transforms of every view beside the plain one."""
        if self.transforms == "dihedral":
            return [(Tile(), Symmetry(which)) for which in range(1, 8)]
        return [tuple(augmentation(self.transforms, on).item_transforms())] * self.n
