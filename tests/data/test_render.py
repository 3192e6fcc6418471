from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.core import PILImage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from ablate.data.draws import CENTRE, Dihedral, Draw, Drawer, Flip, Lighting, Perspective, Rotate, Zoom
from ablate.data.images import decode
from ablate.data.render import Render, presized, warped
from ablate.streams import Streams

TURN = Rotate(30, 1).matrices(np.array([[0.0, 0.9]]))[0]


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


@pytest.mark.parametrize("draw", [CENTRE, Draw(matrix=np.eye(3)), Draw(table=np.arange(256, dtype=np.uint8))])
def test_a_draw_that_changes_nothing_gives_the_same_pixels(draw: Draw):
    pixels = noise(24, 24)
    shown = warped(pixels, draw, 24)
    np.testing.assert_array_equal(shown, pixels)
    assert shown.dtype == np.uint8
    assert shown.flags.c_contiguous


@pytest.mark.parametrize("matrix", [None, np.eye(3)], ids=["cut", "warp"])
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


def test_flips_and_symmetries_are_exact():
    pixels = noise(16, 16)
    flip = Flip(1.0).matrices(np.zeros((1, 1)))[0]
    np.testing.assert_array_equal(warped(pixels, Draw(matrix=flip), 16), pixels[:, ::-1])
    eight = Dihedral(1.0).matrices(np.stack([np.zeros(8), (np.arange(8) + 0.5) / 8], axis=1))
    shown = [warped(pixels, Draw(matrix=matrix), 16) for matrix in eight]
    turned = [np.rot90(pixels, k) for k in range(4)]
    symmetries = {image.tobytes() for image in turned} | {image[:, ::-1].tobytes() for image in turned}
    assert {image.tobytes() for image in shown} == symmetries


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
@pytest.mark.parametrize("matrix", [None, np.eye(3)], ids=["cut", "warp"])
def test_shrinking_takes_the_mean_of_every_pixel(matrix: np.ndarray | None, by: int):
    pixels = noise(64, 64)
    np.testing.assert_allclose(warped(pixels, Draw(matrix=matrix), 64 // by), means(pixels, by), atol=1)


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
    shown = warped(pixels, Draw((0.5, 0.5), np.eye(3)), size)[15, :, 0]
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


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60))
def test_presizing_keeps_the_shape_and_is_pillows(width: int, height: int, shorter: int):
    image = Image.fromarray(noise(height, width))
    shown = presized(image, shorter)
    assert min(shown.size) == shorter
    scale = shorter / min(width, height)
    assert abs(max(shown.size) - max(width, height) * scale) <= 0.5
    assert (shown.width >= shown.height) == (width >= height) or abs(width - height) * scale <= 0.5
    expected = image.resize(shown.size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))
    if min(width, height) == shorter:
        assert shown is image


def test_the_transform_presizes_and_warps_by_the_draw_on_the_image():
    pixels = noise(40, 60)
    render = Render(size=16, presize=20)
    image = PILImage.create(pixels)
    plain = render(image)
    assert isinstance(plain, PILImage)
    small = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(np.asarray(plain), warped(small, CENTRE, 16))
    image.draw = Draw((1.0, 0.0), TURN)
    np.testing.assert_array_equal(np.asarray(render(image)), warped(small, image.draw, 16))
    assert not np.array_equal(np.asarray(render(image)), np.asarray(plain))


def test_real_photos_shrink_by_exact_area(cassava: Path):
    path = sorted((cassava / "train_images").iterdir())[0]
    photo = np.asarray(presized(decode(path), 256))
    left, top = round((photo.shape[1] - 256) / 2), round((photo.shape[0] - 256) / 2)
    square = photo[top : top + 256, left : left + 256]
    expected = means(square.repeat(3, axis=0).repeat(3, axis=1), 8)  # 256 × 3 = 96 × 8
    np.testing.assert_allclose(warped(photo, CENTRE, 96), expected, atol=1)
