"""normalize: pixels with mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ablate.techniques.base import Context, Technique

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Normalize(Technique):
    """Subtract each channel's mean and divide by its standard deviation, in training and in prediction.

    A pretrained network expects the statistics that it was trained with, most often ImageNet's; `train`
    takes this training split's own, over all its images as they are in the files.
    """

    name: ClassVar[str] = "normalize"
    paper: ClassVar[str] = "LeCun et al. 1998, Efficient BackProp"

    stats: Literal["imagenet", "train"] = Field("imagenet", description="Whose mean and deviation.")

    def batch_transforms(self, context: Context) -> list[Any]:
        from fastai.data.transforms import Normalize as FastaiNormalize

        mean, std = IMAGENET if self.stats == "imagenet" else (context.pixel_mean, context.pixel_std)
        return [FastaiNormalize.from_stats(mean, std, cuda=False)]
