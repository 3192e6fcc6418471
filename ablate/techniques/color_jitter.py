"""color_jitter: random brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ablate.techniques.base import Context, InPhases

Span = Annotated[list[float], Field(min_length=2, max_length=2)]
Change = Annotated[float, Field(ge=0)] | Span
_NAMES = ("brightness", "contrast", "saturation", "hue")


class ColorJitter(InPhases):
    """Change brightness, contrast, saturation and hue by random amounts, in random order.

    An option is a range `[low, high]`, or a number: 0.4 stands for `[0.6, 1.4]`, and in hue for
    `[-0.4, 0.4]`; 0 turns it off. With `like: tensorflow`, the formulas are those of tf.image, which Keras'
    layers have too: brightness is added, 0.1 stands for `[-0.1, 0.1]`, contrast is about each channel's own
    mean, saturation is that of HSV, and the order is hue, saturation, contrast, brightness.
    """

    name: ClassVar[str] = "color_jitter"
    paper: ClassVar[str] = "Howard 2013, arXiv 1312.5402; torchvision's ColorJitter"
    order: ClassVar[int] = 12

    brightness: Change = Field(0.4, description="Factors; with tensorflow, what is added, of 1.")
    contrast: Change = Field(0.4, description="Factors.")
    saturation: Change = Field(0.4, description="Factors.")
    hue: Change = Field(0.0, description="Shares of the circle of hues, at most half either way.")
    like: Literal["torchvision", "tensorflow"] = Field("torchvision", description="Whose formulas.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        spans = {name: self._span(name) for name in _NAMES}
        for name, span in spans.items():
            low, high = self._limits(name)
            if span and not low <= span[0] <= span[1] <= high:
                raise ValueError(f"{name} must go from low to high between {low:g} and {high:g}")
        if not any(spans.values()):
            raise ValueError("brightness, contrast, saturation and hue are all off; leave color_jitter out")
        return self

    def item_transforms(self, context: Context | None = None) -> list[Any]:
        from ablate.data import jitter

        brightness, contrast, saturation, hue = map(self._span, _NAMES)
        return [jitter.ColorJitter(brightness, contrast, saturation, hue, self.like)]

    def _neutral(self, name: str) -> float:
        """The amount that changes nothing."""
        return 0.0 if name == "hue" or (name == "brightness" and self.like == "tensorflow") else 1.0

    def _limits(self, name: str) -> tuple[float, float]:
        if name == "hue":
            return -0.5, 0.5
        return (0.0, 100.0) if self._neutral(name) else (-1.0, 1.0)

    def _span(self, name: str) -> tuple[float, float] | None:
        """From which to which amount; None where nothing changes."""
        change, neutral = getattr(self, name), self._neutral(name)
        if not isinstance(change, list):
            change = [max(neutral - change, self._limits(name)[0]), neutral + change]
        return None if change == [neutral, neutral] else (change[0], change[1])
