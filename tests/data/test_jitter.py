"""Our colour jitter against torchvision's adjust_* and, step by step, tf.image's definitions."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchvision.transforms import functional

from ablate.data import jitter
from ablate.data.jitter import ColorJitter

NAMES = ("brightness", "contrast", "saturation", "hue")
SPANS: dict[str, Any] = {
    "brightness": (0.5, 1.6),
    "contrast": (0.3, 1.8),
    "saturation": (0.0, 2.0),
    "hue": (-0.5, 0.5),
}


def photo(seed: int = 0) -> np.ndarray:
    """Soft colours over the whole range, some of them grey, black or white."""
    soft = gaussian_filter(np.random.default_rng(seed).normal(size=(40, 30, 3)), (2, 2, 0.3))
    image = np.rint(np.clip((soft - soft.min()) / np.ptp(soft) * 1.4 - 0.2, 0, 1) * 255).astype(np.uint8)
    image[:4] = image[:4, :, :1]
    image[4, :10], image[4, 10:20] = 0, 255
    return image


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def torchvisions(pixels: np.ndarray, order: list[str], amounts: dict[str, float]) -> np.ndarray:
    """torchvision's steps on floats, so that its roundings in between do not add up."""
    image = tensor(pixels).float() / 255
    for name in order:
        image = getattr(functional, f"adjust_{name}")(image, amounts[name])
    return 255 * image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("u", [0.0, 0.13, 0.5, 0.77, 0.999])
@pytest.mark.parametrize("name", NAMES)
def test_each_is_torchvisions_within_a_level(name: str, u: float):
    pixels, (low, high) = photo(), SPANS[name]
    painter = ColorJitter(**{name: SPANS[name]})
    uniforms = [0.3] * 5
    uniforms[1 + NAMES.index(name)] = u
    shown = painter.paint(pixels, uniforms)
    assert (shown.dtype, shown.shape) == (np.uint8, pixels.shape)
    amount = low + (high - low) * u
    np.testing.assert_allclose(shown, torchvisions(pixels, [name], {name: amount}), atol=0.52)
    on_bytes = getattr(functional, f"adjust_{name}")(tensor(pixels), amount).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(shown.astype(int), on_bytes, atol=2)


@pytest.mark.parametrize("number", range(24))
def test_all_four_in_each_order(number: int):
    pixels, uniforms = photo(number), np.random.default_rng(number).random(5)
    uniforms[0] = (number + 0.5) / 24
    amounts = {name: low + (high - low) * u for (name, (low, high)), u in zip(SPANS.items(), uniforms[1:])}
    order = list(list(permutations(NAMES))[number])
    shown = ColorJitter(**SPANS).paint(pixels, uniforms.tolist())
    np.testing.assert_allclose(shown, torchvisions(pixels, order, amounts), atol=0.6)
    backwards = torchvisions(pixels, order[::-1], amounts)
    assert np.abs(shown - backwards).max() > 2


def tf_hsv(change: Callable[[float, float, float], tuple[float, float, float]]) -> Callable[..., np.ndarray]:
    """A change of hue, saturation and value, pixel by pixel through the standard library."""

    def changed(image: np.ndarray) -> np.ndarray:
        pixels = [
            colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in image.reshape(-1, 3)
        ]
        return np.array(pixels).reshape(image.shape)

    return changed


def tensorflows(
    image: np.ndarray, hue: float, saturation: float, contrast: float, delta: float
) -> np.ndarray:
    """adjust_hue, adjust_saturation, adjust_contrast and adjust_brightness as tf.image documents them."""
    image = tf_hsv(lambda h, s, v: ((h + hue) % 1, s, v))(image)
    image = tf_hsv(lambda h, s, v: (h, min(s * saturation, 1), v))(image)
    means = image.mean((0, 1), keepdims=True)
    return (image - means) * contrast + means + delta


@pytest.mark.parametrize("number", range(6))
def test_the_melanoma_documents_jitter(number: int):
    painter = ColorJitter((-0.1, 0.1), (0.8, 1.2), (0.7, 1.3), (-0.01, 0.01), "tensorflow")
    pixels, uniforms = photo(number), np.random.default_rng(number).random(5).tolist()
    _, brightness, contrast, saturation, hue = uniforms
    expected = tensorflows(
        pixels / 255,
        -0.01 + 0.02 * hue,
        0.7 + 0.6 * saturation,
        0.8 + 0.4 * contrast,
        -0.1 + 0.2 * brightness,
    )
    np.testing.assert_allclose(painter.paint(pixels, uniforms), 255 * np.clip(expected, 0, 1), atol=0.52)
    np.testing.assert_array_equal(
        painter.paint(pixels, [0.99, *uniforms[1:]]), painter.paint(pixels, uniforms)
    )


def test_pure_functions_leave_what_they_are_given():
    image = (photo() / 255).astype(np.float32)
    before = image.copy()
    for steps in jitter.STEPS.values():
        for name, step in steps.items():
            changed = step(image, 0.3)
            np.testing.assert_array_equal(image, before)
            assert (changed.dtype, changed.shape) == (np.float32, image.shape)
            assert np.abs(changed - image).max() > 0.02, name
            neutral = 0.0 if name == "hue" or step is jitter.add_brightness else 1.0
            np.testing.assert_allclose(step(image, neutral), image, atol=1e-5)


def test_spans_without_draws_change_nothing():
    pixels = photo()
    np.testing.assert_array_equal(ColorJitter().paint(pixels, [0.5] * 5), pixels)
