"""All draws of an item, and that they depend on its number alone."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from ablate.data.affine import RandomAffine
from ablate.data.colours import Colour, Lighting
from ablate.data.crops import SQUARE, Crop, RandomCrop, RandomResizedCrop, Square
from ablate.data.draws import CENTRE, Draw, Drawer, is_drawn
from ablate.data.geometry import Dihedral, Flip, Geometry, Perspective, Rotate, Shear, Shift, Zoom
from ablate.data.jitter import ColorJitter
from ablate.data.operations import RandAugment, TrivialAugment
from ablate.data.painters import Painter
from ablate.errors import AblateError
from ablate.streams import Streams

GEOMETRIES = [Perspective(), Flip(), Dihedral(), Rotate(), Shear(), Zoom(), Shift()]
PAINTERS = [ColorJitter((0.5, 1.5)), RandAugment(), TrivialAugment()]


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        *((g, Geometry) for g in (*GEOMETRIES, RandomAffine())),
        (Lighting(), Colour),
        *((crop, Crop) for crop in (SQUARE, RandomCrop(), RandomResizedCrop())),
        *((painter, Painter) for painter in PAINTERS),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_the_kinds_of_transforms_are_told_apart(transform: Any, kind: type):
    assert [one for one in (Crop, Geometry, Colour, Painter) if isinstance(transform, one)] == [kind]
    assert is_drawn(transform)


def same(a: Draw, b: Draw) -> bool:
    drawn = a.place == b.place and np.array_equal(a.matrix, b.matrix) and np.array_equal(a.table, b.table)
    return drawn and a.paints == b.paints


def test_an_items_draw_depends_on_its_number_alone():
    drawer = Drawer(Streams(0, "head"), [*GEOMETRIES, Lighting(), *PAINTERS])
    draws = drawer.draw(0, np.arange(20))
    backwards = drawer.draw(0, np.arange(20)[::-1].copy())
    assert all(same(a, b) for a, b in zip(draws, backwards[::-1], strict=True))
    assert same(drawer.draw(0, np.array([7]))[0], draws[7])
    assert not any(same(a, b) for a, b in zip(draws, drawer.draw(1, np.arange(20)), strict=True))
    other = Drawer(Streams(0, "finetune"), drawer.transforms).draw(0, np.arange(20))
    assert not any(same(a, b) for a, b in zip(draws, other, strict=True))


def test_a_further_transform_leaves_the_draws_of_the_others():
    numbers, streams = np.arange(20), Streams(0, "head")
    plain = Drawer(streams, [Flip(), Lighting()]).draw(3, numbers)
    more = Drawer(streams, [Flip(), Rotate(p=1), Lighting()]).draw(3, numbers)
    (rotations,) = [streams.uniforms("augment.rotate", 3, numbers, 2)]
    turns = Rotate(p=1).matrices(rotations)
    for i, (a, b) in enumerate(zip(plain, more, strict=True)):
        assert a.place == b.place
        assert a.matrix is not None
        np.testing.assert_array_equal(a.table, b.table)
        np.testing.assert_allclose(b.matrix, a.matrix @ turns[i], atol=1e-15)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.permutations([*GEOMETRIES, Lighting(), RandomResizedCrop()]), st.data())
def test_switching_one_transform_off_leaves_the_draws_of_the_others(
    number: int, on: list[Any], data: st.DataObject
):
    off = data.draw(st.sampled_from(on))
    rest = [transform for transform in on if transform is not off]
    streams, numbers = Streams(0), np.array([number])
    (full,), (less,) = (Drawer(streams, transforms).draw(1, numbers) for transforms in (on, rest))
    if not isinstance(off, RandomResizedCrop):
        assert full.place == less.place
    else:
        assert full.place[:2] == less.place
        assert full.crop is off
        assert less.crop is SQUARE
    if not isinstance(off, Lighting):
        np.testing.assert_array_equal(full.table, less.table)
    if isinstance(off, Lighting | RandomResizedCrop):
        np.testing.assert_array_equal(full.matrix, less.matrix)
    else:
        one = {t.name: t.matrices(streams.uniforms(f"augment.{t.name}", 1, numbers, t.draws))[0]
               for t in on if isinstance(t, Geometry)}  # fmt: skip
        for draw, transforms in ((full, on), (less, rest)):
            product = reduce(np.matmul, [one[t.name] for t in transforms if t.name in one])
            np.testing.assert_allclose(draw.matrix, product, atol=1e-12)


def test_painters_draw_from_streams_of_their_own():
    numbers, streams = np.arange(20), Streams(0, "head")
    plain, some, more = (
        Drawer(streams, transforms).draw(3, numbers)
        for transforms in (
            [Flip(), Lighting()],
            [Flip(), PAINTERS[1], Lighting()],
            [*PAINTERS, Flip(), Lighting()],
        )
    )
    drawn = streams.uniforms("augment.rand_augment", 3, numbers, PAINTERS[1].draws).tolist()
    for i, (a, b, c) in enumerate(zip(plain, some, more, strict=True)):
        assert a.paints == ()
        assert b.paints == ((PAINTERS[1], drawn[i]),)
        assert [paint.painter for paint in c.paints] == PAINTERS
        assert c.paints[1] == b.paints[0]
        assert all(len(paint.uniforms) == paint.painter.draws for paint in c.paints)
        for other in (b, c):
            assert same(a, replace(other, paints=()))


def test_at_most_one_crop():
    crop = Square("middle")
    for transforms in ([crop, RandomResizedCrop()], [RandomResizedCrop(), Flip(), crop]):
        with pytest.raises(AblateError, match="both choose the crop; turn one of them off"):
            Drawer(Streams(0), transforms)
    assert Drawer(Streams(0), [crop]).draw(0, np.arange(2))[1].crop is crop


def test_the_box_of_a_draw_is_its_crops():
    assert CENTRE.box(60, 40) == (10, 0, 40, 40)
    assert Draw((0.0, 1.0)).box(40, 61) == (0, 21, 40, 40)
    crop = RandomResizedCrop((0.25, 0.25), (1, 1))
    draw = Drawer(Streams(0), [Flip(), crop]).draw(0, np.arange(3))[2]
    assert draw.box(40, 40) == crop.box(draw.place, 40, 40)
    assert draw.box(40, 40)[2:] == (20, 20)


def test_places_are_uniform_in_the_free_room():
    draws = Drawer(Streams(0)).draw(0, np.arange(5000))
    corners = np.array([draw.place for draw in draws])
    np.testing.assert_array_equal(corners, Streams(0).uniforms("crop", 0, np.arange(5000), 2))
    assert kstest(corners.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.05
    assert draws[0].matrix is None
    assert draws[0].table is None


def test_tables_are_applied_one_after_the_other():
    class Invert:
        name, draws = "invert", 1

        def tables(self, uniforms: np.ndarray) -> np.ndarray:
            return np.tile(np.arange(255, -1, -1, dtype=np.uint8), (len(uniforms), 1))

    numbers, streams = np.arange(10), Streams(0)
    light = [draw.table for draw in Drawer(streams, [Lighting(p=1)]).draw(0, numbers)]
    first_inverted = [draw.table for draw in Drawer(streams, [Invert(), Lighting(p=1)]).draw(0, numbers)]
    then_inverted = [draw.table for draw in Drawer(streams, [Lighting(p=1), Invert()]).draw(0, numbers)]
    for table, before, after in zip(light, first_inverted, then_inverted, strict=True):
        assert table is not None
        np.testing.assert_array_equal(before, table[::-1])
        np.testing.assert_array_equal(after, 255 - table)
