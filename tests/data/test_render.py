from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastai.vision.core import PILImage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from torch.nn import functional

from ablate.data.colours import Lighting
from ablate.data.crops import RandomResizedCrop
from ablate.data.draws import CENTRE, Draw, Drawer
from ablate.data.geometry import Dihedral, Flip, Perspective, Rotate, Shear, Shift, Zoom
from ablate.data.painters import Paint
from ablate.data.render import Render, warped
from ablate.streams import Streams

TURN = Rotate(30, 1).matrices(np.array([[0.0, 0.9]]))[0]
NEARLY_EYE = np.eye(3) + np.array([[0, 0, 1e-7], [0, 0, 0], [0, 0, 0]])  # is warped, to the same place
EVERYTHING: list[Any] = [
    RandomResizedCrop(),
    Perspective(),
    Dihedral(),
    Rotate(),
    Shear(),
    Zoom(),
    Shift(),
    Lighting(),
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0, sigma: float = 3) -> np.ndarray:
    """A soft image over the whole range; its interpolation does not hang on a coordinate's last bit."""
    soft = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width, 3)), (sigma, sigma, 0))
    return np.rint((soft - soft.min()) / np.ptp(soft) * 255).astype(np.uint8)


def grid(matrix: np.ndarray, size: int) -> torch.Tensor:
    """The input coordinates in [-1, 1] of every output pixel, shape (1, size, size, 2)."""
    plain = functional.affine_grid(
        torch.eye(3, dtype=torch.float64)[None, :2], [1, 3, size, size], align_corners=False
    )
    points = torch.cat([plain, torch.ones(1, size, size, 1)], dim=-1) @ torch.from_numpy(matrix).T
    return points[..., :2] / points[..., 2:]


def grid_sampled(pixels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    sampled = functional.grid_sample(batch, grid(matrix, size), "bilinear", "reflection", align_corners=False)
    return sampled[0].permute(1, 2, 0).numpy()


def inside(matrix: np.ndarray, size: int, side: int) -> np.ndarray:
    """Which output pixels are sampled from between the centres of the outermost input pixels."""
    return (grid(matrix, size)[0].abs() <= 1 - 1 / side).all(dim=-1).numpy()


@pytest.mark.parametrize(
    "draw",
    [
        CENTRE,
        Draw(matrix=np.eye(3)),
        Draw(matrix=NEARLY_EYE),
        Draw(table=np.arange(256, dtype=np.uint8)),
        Draw((0.3, 0.3, *[0.5] * 20), crop=RandomResizedCrop((1, 1), (1, 1))),
    ],
)
def test_a_draw_that_changes_nothing_gives_the_same_pixels(draw: Draw):
    pixels = noise(24, 24)
    shown = warped(pixels, draw, 24)
    np.testing.assert_array_equal(shown, pixels)
    assert shown.dtype == np.uint8
    assert shown.flags.c_contiguous


@pytest.mark.parametrize("matrix", [None, NEARLY_EYE], ids=["cut", "warp"])
@pytest.mark.parametrize(("corner", "left", "top"), [((0, 0), 0, 0), ((1, 1), 12, 0), ((0.5, 0.2), 6, 0)])
def test_the_corner_says_which_square_is_cut(
    corner: tuple[float, float], left: int, top: int, matrix: np.ndarray | None
):
    wide = noise(24, 36)
    np.testing.assert_array_equal(warped(wide, Draw(corner, matrix), 24), wide[:, left : left + 24])
    tall = wide.swapaxes(0, 1).copy()
    np.testing.assert_array_equal(
        warped(tall, Draw((corner[1], corner[0]), matrix), 24), tall[left : left + 24]
    )


EIGHT = Dihedral(1.0).matrices(np.stack([np.zeros(8), (np.arange(8) + 0.5) / 8], axis=1))


def test_flips_and_symmetries_are_exact():
    pixels = noise(16, 16)
    flip = Flip(1.0).matrices(np.zeros((1, 1)))[0]
    np.testing.assert_array_equal(warped(pixels, Draw(matrix=flip), 16), pixels[:, ::-1])
    shown = [warped(pixels, Draw(matrix=matrix), 16) for matrix in EIGHT]
    turned = [np.rot90(pixels, k) for k in range(4)]
    symmetries = {image.tobytes() for image in turned} | {image[:, ::-1].tobytes() for image in turned}
    assert {image.tobytes() for image in shown} == symmetries


class Mark:
    """Adds what it has drawn to every value, and notes what it was given."""

    name, draws = "mark", 1

    def __init__(self) -> None:
        self.given: list[np.ndarray] = []

    def paint(self, pixels: np.ndarray, uniforms: Any) -> np.ndarray:
        self.given.append(pixels.copy())
        return pixels + np.uint8(uniforms[0])


@pytest.mark.parametrize("matrix", [None, TURN], ids=["cut", "warp"])
def test_paints_come_last_one_after_the_other(matrix: np.ndarray | None):
    pixels, table, mark = noise(40, 60), np.arange(255, -1, -1, dtype=np.uint8), Mark()
    unpainted = warped(pixels, Draw((0.2, 0), matrix, table), 24)
    batch = np.zeros((3, 24, 24, 3), np.uint8)
    draw = Draw((0.2, 0), matrix, table, paints=(Paint(mark, [1.0]), Paint(mark, [10.0])))
    shown = warped(pixels, draw, 24, batch[1])
    assert np.shares_memory(shown, batch)
    np.testing.assert_array_equal(batch[1], unpainted + np.uint8(11))
    assert not batch[[0, 2]].any()
    np.testing.assert_array_equal(mark.given, [unpainted, unpainted + np.uint8(1)])


@pytest.mark.parametrize("size", [1, 16, 21])
@pytest.mark.parametrize("matrix", EIGHT)
def test_a_symmetry_is_read_off_the_coordinates(matrix: np.ndarray, size: int):
    """The matrix says which input pixel each output pixel shows; the cut is resized before."""
    pixels = noise(16, 24)
    plain = warped(pixels, CENTRE, size)
    at = np.rint((grid(matrix, size)[0].numpy() + 1) * size / 2 - 0.5).astype(int)
    np.testing.assert_array_equal(warped(pixels, Draw(matrix=matrix), size), plain[at[..., 1], at[..., 0]])
    nearly = matrix @ (np.eye(3) + np.random.default_rng(0).uniform(-1e-14, 1e-14, (3, 3)))
    np.testing.assert_array_equal(
        warped(pixels, Draw(matrix=nearly), size), warped(pixels, Draw(matrix=matrix), size)
    )


@settings(max_examples=60)
@given(st.integers(8, 90), st.integers(8, 90), st.integers(1, 100), st.integers(0, 10**6))
def test_a_cut_is_resized_as_by_pillow(width: int, height: int, size: int, number: int):
    pixels = noise(height, width, number)
    draw = Drawer(Streams(0), [RandomResizedCrop()]).draw(0, np.array([number]))[0]
    left, top, wide, high = draw.box(width, height)
    cut = Image.fromarray(pixels).crop((left, top, left + wide, top + high))
    expected = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    np.testing.assert_allclose(warped(pixels, draw, size), expected, atol=1)


def test_it_writes_into_a_slice_of_a_batch_and_nowhere_else():
    pixels = noise(40, 60)
    draws = Drawer(Streams(0), EVERYTHING).draw(0, np.arange(20))
    draws += [Draw(matrix=matrix) for matrix in EIGHT] + [CENTRE, Draw(table=draws[0].table)]
    for size in (17, 40):
        batch = np.zeros((3, size, size, 3), np.uint8)
        for draw in draws:
            batch[:] = 7
            shown = warped(pixels, draw, size, batch[1])
            assert np.shares_memory(shown, batch)
            np.testing.assert_array_equal(batch[1], warped(pixels, draw, size))
            assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize("size", [20, 40])
def test_pixels_that_cannot_be_written_are_only_read(size: int):
    pixels = noise(40, 60)
    kept = pixels.copy()
    pixels.flags.writeable = False
    draws = Drawer(Streams(0), EVERYTHING).draw(0, np.arange(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (CENTRE, *(Draw(matrix=matrix) for matrix in EIGHT), *draws):
            warped(pixels, draw, size)
    np.testing.assert_array_equal(pixels, kept)


def test_an_image_depends_neither_on_its_batch_nor_on_threads():
    images = [noise(40 + i, 60, i) for i in range(24)]
    drawer = Drawer(Streams(0), EVERYTHING)
    draws = drawer.draw(0, np.arange(24))
    together = np.empty((24, 20, 20, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: warped(images[i], draws[i], 20, together[i]), range(24)))
    for i, image in enumerate(images):
        alone = warped(image, drawer.draw(0, np.array([i]))[0], 20)
        np.testing.assert_array_equal(alone, together[i])


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(16, 16), (24, 24), (33, 20), (21, 32)]))
def test_a_warp_is_torchs_grid_sample(number: int, sizes: tuple[int, int]):
    side, size = sizes
    transforms = [Perspective(p=1), Flip(), Rotate(30, 1), Zoom(1, 1.5, 1)]
    matrix = Drawer(Streams(0), transforms).draw(0, np.array([number]))[0].matrix
    assert matrix is not None
    pixels = smooth(side, side, number)
    known = inside(matrix, size, side)
    assert known.mean() > 0.5
    difference = warped(pixels, Draw(matrix=matrix), size) - grid_sampled(pixels, matrix, size)
    assert np.abs(difference[known]).max() <= 2


def mirrored(pixels: np.ndarray, draw: Draw, size: int, step: int = 1) -> np.ndarray:
    """scipy's bilinear sampling of the whole image, its mirror images all around, shrunk by `step` before."""
    left, top, wide, high = draw.box(pixels.shape[1], pixels.shape[0])
    assert draw.matrix is not None
    at = (grid(draw.matrix, size)[0].numpy() + 1) / 2
    x, y = at[..., 0] * wide + left, at[..., 1] * high + top  # from the image's edge, not a pixel's centre
    small = means(np.pad(pixels, [(0, -pixels.shape[i] % step) for i in (0, 1)] + [(0, 0)], "edge"), step)
    places = [y / step - 0.5, x / step - 0.5]
    return np.stack([map_coordinates(small[..., c], places, order=1, mode="mirror") for c in range(3)], -1)


def steps(draw: Draw, size: int, width: int, height: int) -> float:
    """How many input pixels an output pixel at the centre spans, from finite differences."""
    _, _, wide, high = draw.box(width, height)
    assert draw.matrix is not None
    points = np.array([[0, 0, 1], [1e-6, 0, 1], [0, 1e-6, 1]]) @ draw.matrix.T
    here, right, down = points[:, :2] / points[:, 2:] * [wide / size, high / size] / 1e-6
    return float(np.sqrt(abs(np.linalg.det(np.stack([right - here, down - here])))))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(20, 90),
    st.integers(20, 90),
    st.sampled_from([8, 13, 24, 40]),
    st.booleans(),
)
def test_a_draw_sees_the_image_and_its_mirror(number: int, width: int, height: int, size: int, crop: bool):
    geometry = [Perspective(p=1), Dihedral(), Rotate(40), Shear(20), Zoom(0.6, 1.4, 1), Shift(0.6)]
    transforms: list[Any] = [RandomResizedCrop(), *geometry] if crop else geometry
    draw = Drawer(Streams(0), transforms).draw(0, np.array([number]))[0]
    pixels = smooth(height, width, number % 5)
    scale = steps(draw, size, width, height)
    step = 1
    while scale / step >= 1.8:
        step *= 2
    if abs(np.log2(scale / 1.8) % 1) < 1e-3:
        return  # on the edge between two steps
    difference = warped(pixels, draw, size) - mirrored(pixels, draw, size, step)
    assert np.abs(difference).max() <= 2.5


def test_what_lies_beyond_the_square_is_the_image_and_then_its_mirror():
    pixels = noise(16, 24)
    shift = np.array([[1, 0, 2 * 4 / 16], [0, 1, 0], [0, 0, 1.0]])
    np.testing.assert_array_equal(warped(pixels, Draw((0, 0), shift), 16), pixels[:, 4:20])
    mirrored = np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(warped(pixels, Draw((1, 0), shift), 16), mirrored[4:20, 16:32])
    up = np.array([[1, 0, 0], [0, 1, -2 * 4 / 16], [0, 0, 1.0]])
    np.testing.assert_array_equal(warped(pixels, Draw((0, 0), up), 16), mirrored[0:16, 4:20])


def means(pixels: np.ndarray, by: int) -> np.ndarray:
    height, width = pixels.shape[0] // by, pixels.shape[1] // by
    return pixels.reshape(height, by, width, by, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("by", [2, 4])
def test_shrinking_takes_the_mean_of_every_pixel(by: int):
    pixels = noise(64, 64)
    np.testing.assert_allclose(warped(pixels, Draw(matrix=NEARLY_EYE), 64 // by), means(pixels, by), atol=1)


def test_a_small_part_of_an_image_is_not_shrunk_before_it_is_warped():
    """Whether a crop or a zoom enlarges it: a quarter of the image at as many pixels is not blurred."""
    pixels = noise(64, 64)
    crop = Draw((0, 0, *[0.5] * 20), NEARLY_EYE, crop=RandomResizedCrop((0.25, 0.25), (1, 1)))
    zoom = Draw(matrix=np.array([[0.5, 0, -0.5 + 1e-7], [0, 0.5, -0.5], [0, 0, 1]]))
    for draw in (crop, zoom):
        np.testing.assert_array_equal(warped(pixels, draw, 32), pixels[:32, :32])


def test_a_warp_that_shrinks_is_a_mean_and_then_a_warp():
    pixels = smooth(64, 64, sigma=6)
    known = inside(TURN, 32, 32)
    difference = warped(pixels, Draw(matrix=TURN), 32) - grid_sampled(means(pixels, 2), TURN, 32)
    assert np.abs(difference[known]).max() <= 2
    difference = warped(pixels, Draw(matrix=TURN), 25) - grid_sampled(means(pixels, 2), TURN, 25)
    assert np.abs(difference[inside(TURN, 25, 32)]).max() <= 2


@pytest.mark.parametrize("size", [16, 20, 28, 31])
@pytest.mark.parametrize("matrix", [None, TURN], ids=["cut", "warp"])
def test_shrinking_does_not_alias(matrix: np.ndarray | None, size: int):
    checks = np.repeat(((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    shown = warped(checks, Draw(matrix=matrix), size)
    every_other = checks[::2, ::2][:size, :size]
    assert every_other.std() == 0  # what skipping pixels would show: black
    assert np.abs(shown.astype(int) - 127.5).mean() < 20


@pytest.mark.parametrize(("height", "width"), [(65, 97), (131, 64), (67, 67)])
def test_odd_sizes_shift_nothing(height: int, width: int):
    """A ramp along x keeps its value at every place when it is shrunk by halving."""
    ramp = np.repeat(np.tile(np.linspace(20, 230, width), (height, 1))[..., None], 3, axis=2)
    pixels = np.rint(ramp).astype(np.uint8)
    size, side = 30, min(height, width)
    shown = warped(pixels, Draw((0.5, 0.5), NEARLY_EYE), size)[15, :, 0]
    centres = round(0.5 * (width - side)) + (np.arange(size) + 0.5) * side / size - 0.5
    np.testing.assert_allclose(shown, 20 + centres * 210 / (width - 1), atol=1.6)


def test_enlarging_is_bilinear():
    pixels = noise(8, 8)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = functional.interpolate(batch, size=20, mode="bilinear", align_corners=False)[0].permute(
        1, 2, 0
    )
    np.testing.assert_allclose(warped(pixels, CENTRE, 20), expected.numpy(), atol=1)


def test_the_table_is_applied_after_the_warp():
    pixels = noise(16, 16)
    table = Lighting(0.4, 1).tables(np.array([[0, 0.9, 0, 0.8]]))[0]
    for matrix in (None, TURN):
        plain = warped(pixels, Draw(matrix=matrix), 16)
        np.testing.assert_array_equal(warped(pixels, Draw(matrix=matrix, table=table), 16), table[plain])


def test_the_transform_presizes_and_warps_by_the_draw_on_the_image():
    pixels = noise(40, 60)
    render = Render(size=16, presize=20)
    image = PILImage.create(pixels)
    plain = render(image)
    assert isinstance(plain, PILImage)
    small = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(np.asarray(plain).astype(int), warped(small, CENTRE, 16), atol=2)
    np.testing.assert_array_equal(render.pixels(image, CENTRE), np.asarray(plain))
    image.draw = Draw((1.0, 0.0), TURN)
    turned = np.asarray(render(image)).astype(int)
    np.testing.assert_allclose(turned, warped(small, image.draw, 16), atol=2)
    assert np.abs(turned - np.asarray(plain)).mean() > 10


def test_warped_photos_are_close_to_pillows(cassava: Path):
    """30 dB at every scale: never shrinking first gives 24 dB at a quarter, doing so too early 27 at 224."""
    path = sorted((cassava / "train_images").iterdir())[0]
    with Image.open(path) as opened:
        photo = opened.convert("RGB").crop((0, 0, 240, 240))
    for size in (60, 90, 120, 134, 150, 224, 240, 300):
        expected = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR)).astype(float)
        error = ((warped(np.asarray(photo), Draw(matrix=NEARLY_EYE), size) - expected) ** 2).mean()
        assert error < 255**2 / 10**3
