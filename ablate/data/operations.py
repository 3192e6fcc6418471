"""RandAugment and TrivialAugment: timm's operations on Pillow images, with arguments from given uniforms.

timm and torchvision draw from global generators while they work; here everything is drawn beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP, rand_augment_choices

from ablate.data.geometry import normals

_HIGHEST = 10.0
"""Magnitudes go from 0 to this."""
_SIGNED = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}
"""The largest argument of what goes either way: degrees, slopes, shares of the side."""
_ENHANCING = ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")

_BINS = 31
_WIDE = {"ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0}
_WIDE_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
_WIDE_SPACE = ("Identity", *_WIDE, *_WIDE_FACTORS, "Posterize", "Solarize", "AutoContrast", "Equalize")


class Operation(NamedTuple):
    """One of timm's operations, by name, and its argument, if it has one."""

    name: str
    arguments: tuple[Any, ...] = ()
    resample: Image.Resampling = Image.Resampling.BILINEAR


def apply(pixels: np.ndarray, operations: Iterable[Operation], fill: tuple[int, int, int]) -> np.ndarray:
    """Apply operations one after the other.

    Args:
        pixels: uint8 of shape (h, w, 3).
        operations: Of `timm.data.auto_augment.NAME_TO_OP`.
        fill: The colour of what comes from outside the image.

    Returns:
        uint8 of the same shape.
    """
    image = Image.fromarray(pixels)
    for name, arguments, resample in operations:
        image = NAME_TO_OP[name](image, *arguments, fillcolor=fill, resample=resample)
    return np.asarray(image)


def rand_argument(name: str, magnitude: float, sign: int) -> tuple[Any, ...]:
    """What timm's RandAugment gives an operation at some magnitude of 10, given the sign that it draws.

    Posterizing keeps at least one bit: timm's none is black, or an error, by Pillow's version.
    """
    share = magnitude / _HIGHEST
    if name in _SIGNED:
        return (sign * share * _SIGNED[name],)
    if name in _ENHANCING:
        return (max(0.1, 1 + sign * share * 0.9),)
    if (level := LEVEL_TO_ARG[name]) is None:
        return ()
    (argument,) = level(magnitude, {})
    return (max(argument, 1),) if name.startswith("Posterize") else (argument,)


def wide_argument(name: str, number: int, sign: int) -> tuple[Any, ...]:
    """What TrivialAugment, in its wide space, gives an operation at strength `number` of 0 to 30."""
    share = number / (_BINS - 1)
    if name in _WIDE:
        value = sign * share * _WIDE[name]
        return (int(value),) if name.startswith("Translate") else (value,)
    if name in _WIDE_FACTORS:
        return (1 + sign * share * 0.99,)
    if name == "Posterize":
        return (8 - round(share * 6),)
    return (255 - 8.5 * number,) if name == "Solarize" else ()


def _sign(uniform: float) -> int:
    return -1 if uniform > 0.5 else 1


@dataclass(frozen=True)
class RandAugment:
    """Some operations after each other, evenly drawn from fifteen, at one magnitude; as timm has it.

    Args:
        num_layers: How many.
        magnitude: How strong, of 10.
        mstd: The magnitude's standard deviation.
        increasing: Whether all operations become stronger with the magnitude.
        p: How often each of the operations is applied.
        fill: The colour of what comes from outside the image.
    """

    num_layers: int = 2
    magnitude: float = 9.0
    mstd: float = 0.5
    increasing: bool = True
    p: float = 0.5
    fill: tuple[int, int, int] = (128, 128, 128)
    name: str = "rand_augment"

    @property
    def draws(self) -> int:
        """Five a layer: which operation, whether, how strong, which way, which interpolation."""
        return 5 * self.num_layers

    def operations(self, uniforms: Sequence[float]) -> list[Operation]:
        """What is done to an image with some uniforms."""
        names = rand_augment_choices("", self.increasing)
        drawn: list[Operation] = []
        for which, whether, strength, way, filtered in np.reshape(uniforms, (-1, 5)).tolist():
            if whether >= self.p:
                continue
            name = names[int(which * len(names))]
            noisy = self.magnitude + self.mstd * float(normals(np.array(strength)))
            arguments = rand_argument(name, min(max(noisy, 0.0), _HIGHEST), _sign(way))
            smooth = Image.Resampling.BICUBIC if filtered > 0.5 else Image.Resampling.BILINEAR
            drawn.append(Operation(name, arguments, smooth))
        return drawn

    def paint(self, pixels: np.ndarray, uniforms: Sequence[float]) -> np.ndarray:
        """New pixels, uint8 of shape (h, w, 3)."""
        return apply(pixels, self.operations(uniforms), self.fill)


@dataclass(frozen=True)
class TrivialAugment:
    """One operation, evenly drawn from fourteen, at a strength drawn from 31: the paper's wide space."""

    fill: tuple[int, int, int] = (0, 0, 0)
    name: str = "trivial_augment"
    draws: int = 3

    def operations(self, uniforms: Sequence[float]) -> list[Operation]:
        """What is done to an image with three uniforms: which operation, how strong, which way."""
        which, strength, way = uniforms
        name = _WIDE_SPACE[int(which * len(_WIDE_SPACE))]
        if name == "Identity":
            return []
        arguments = wide_argument(name, int(strength * _BINS), _sign(way))
        return [Operation(name, arguments, Image.Resampling.NEAREST)]

    def paint(self, pixels: np.ndarray, uniforms: Sequence[float]) -> np.ndarray:
        """New pixels, uint8 of shape (h, w, 3)."""
        return apply(pixels, self.operations(uniforms), self.fill)
