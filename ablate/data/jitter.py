"""Brightness, contrast, saturation and hue, as torchvision and as TensorFlow define them.

The functions take and give images as float32 of shape (h, w, 3), red, green and blue in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import cv2
import numpy as np

Span = tuple[float, float]


def blend(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """`share` of one image and the rest of the other, clipped; a share above 1 goes away from the other."""
    mixed = cv2.addWeighted(image, share, other, 1 - share, 0)
    return np.clip(mixed, 0, 1, out=mixed)


def scale_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply all values by a factor, as `torchvision.transforms.functional.adjust_brightness`."""
    return np.clip(cv2.addWeighted(image, factor, image, 0, 0), 0, 1)


def stretch_about_grey(image: np.ndarray, factor: float) -> np.ndarray:
    """Stretch values about the mean of the image's luma, as torchvision's `adjust_contrast`."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return np.clip(cv2.addWeighted(image, factor, image, 0, mean * (1 - factor)), 0, 1)


def stretch_from_grey(image: np.ndarray, factor: float) -> np.ndarray:
    """Stretch each pixel's colour about its luma, as torchvision's `adjust_saturation`."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return blend(image, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), factor)


def turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn hues by a share of the circle, as `adjust_hue` of torchvision and of tf.image."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hues = hsv[..., 0]
    hues += 360 * (turn % 1)
    hues[hues >= 360] -= 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def add_brightness(image: np.ndarray, delta: float) -> np.ndarray:
    """Add to all values, as `tf.image.adjust_brightness`, unclipped."""
    return cv2.addWeighted(image, 1, image, 0, delta)


def stretch_channels(image: np.ndarray, factor: float) -> np.ndarray:
    """Stretch each channel about its own mean, as `tf.image.adjust_contrast`, unclipped."""
    means = np.array(cv2.mean(image)[:3], np.float32)
    return image * np.float32(factor) + means * np.float32(1 - factor)


def scale_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the saturation of HSV, at most 1, as `tf.image.adjust_saturation`."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    np.minimum(hsv[..., 1] * np.float32(factor), 1, out=hsv[..., 1])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


STEPS: dict[str, dict[str, Callable[[np.ndarray, float], np.ndarray]]] = {
    "torchvision": {
        "brightness": scale_brightness,
        "contrast": stretch_about_grey,
        "saturation": stretch_from_grey,
        "hue": turn_hue,
    },
    "tensorflow": {
        "hue": turn_hue,
        "saturation": scale_saturation,
        "contrast": stretch_channels,
        "brightness": add_brightness,
    },
}
"""What each of the four does; torchvision's take turns in random order, TensorFlow's have this one."""
_ORDERS = list(permutations(STEPS["torchvision"]))
_DRAWN = list(STEPS["torchvision"])


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, each drawn evenly from its span; without one, none.

    Args:
        brightness: Factors, as torchvision has it, or what is added to values in [0, 1], as TensorFlow.
        contrast: Factors.
        saturation: Factors.
        hue: Shares of the circle.
        like: Whose definitions.
    """

    brightness: Span | None = None
    contrast: Span | None = None
    saturation: Span | None = None
    hue: Span | None = None
    like: Literal["torchvision", "tensorflow"] = "torchvision"
    name: str = "color_jitter"
    draws: int = 5

    def paint(self, pixels: np.ndarray, uniforms: Sequence[float]) -> np.ndarray:
        """New pixels, uint8 of shape (h, w, 3); the first uniform is for the order, if it is random."""
        steps = STEPS[self.like]
        order = _ORDERS[int(uniforms[0] * len(_ORDERS))] if self.like == "torchvision" else steps
        image = pixels.astype(np.float32) * np.float32(1 / 255)
        for name in order:
            if span := getattr(self, name):
                low, high = span
                image = steps[name](image, low + (high - low) * uniforms[1 + _DRAWN.index(name)])
        return cv2.addWeighted(image, 255, image, 0, 0, dtype=cv2.CV_8U)
