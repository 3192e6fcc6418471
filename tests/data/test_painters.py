"""Painters as a loader calls them: from several threads, into a batch, each image by its own draws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ablate.data.draws import Draw, Drawer
from ablate.data.geometry import Flip
from ablate.data.jitter import ColorJitter
from ablate.data.operations import RandAugment, TrivialAugment
from ablate.data.render import warped
from ablate.streams import Streams

PAINTERS = [
    ColorJitter((0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (-0.2, 0.2)),
    ColorJitter((-0.1, 0.1), (0.8, 1.2), (0.7, 1.3), (-0.1, 0.1), "tensorflow", "like_tensorflow"),
    RandAugment(p=1.0),
    TrivialAugment(),
]


def test_threads_side_by_side_give_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    draws = Drawer(Streams(0), [Flip(), *PAINTERS]).draw(0, np.arange(60))
    expected = [warped(pixels, draw, 40) for draw in draws]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            shown = list(pool.map(lambda draw: warped(pixels, draw, 40), draws))
            np.testing.assert_array_equal(shown, expected)
    assert len({image.tobytes() for image in expected}) == len(draws)


def test_each_paints_what_the_one_before_has_painted():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for draw in Drawer(Streams(0), PAINTERS).draw(0, np.arange(10)):
        expected = warped(pixels, Draw(draw.place), 40)
        for painter, uniforms in draw.paints:
            expected = painter.paint(expected, uniforms)
        np.testing.assert_array_equal(warped(pixels, draw, 40), expected)
