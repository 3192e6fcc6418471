"""Images made small, beside Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ablate.data.images import BadImage, decode
from ablate.data.presize import Presize, resized

SIZES = st.integers(1, 90)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(width: int, height: int) -> np.ndarray:
    """Gradients and a few edges, as photos have them."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / width, y * 255 / height, 128 + 120 * np.sin(x / 9) * np.cos(y / 7)]
    image = np.stack(planes, axis=2)
    image[height // 3 : height // 2, width // 4 : width // 2] = (250, 10, 90)
    return image.astype(np.uint8)


def pillows(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def apart(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@given(SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_resizing_is_pillows_within_one_level(width: int, height: int, wide: int, high: int, noisy: bool):
    pixels = noise(width, height) if noisy else smooth(width, height)
    small = resized(pixels, wide, high)
    assert small.dtype == np.uint8
    assert small.flags.c_contiguous
    assert apart(small, pillows(pixels, wide, high)) <= 1


@pytest.mark.parametrize("shape", [(600, 450), (450, 600), (801, 333)])
@pytest.mark.parametrize("image", [noise, smooth])
def test_a_large_image_is_presized_as_pillow_would(shape: tuple[int, int], image: object):
    pixels = noise(*shape) if image is noise else smooth(*shape)
    small = Presize(120)(pixels)
    assert min(small.shape[:2]) == 120
    assert apart(small, pillows(pixels, small.shape[1], small.shape[0])) <= 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600))
def test_the_shorter_side_is_exact_and_the_shape_is_kept(width: int, height: int, shorter: int):
    presize = Presize(shorter)
    if max(width, height) * shorter / min(width, height) > 32000:
        return
    wide, high = presize.size(width, height)
    assert min(wide, high) == shorter
    assert (wide >= high) == (width >= height) or wide == high
    assert abs(max(wide, high) - max(width, height) * shorter / min(width, height)) <= 0.5 + 1e-9
    assert presize.size(height, width) == (high, wide)


@given(SIZES, SIZES)
def test_what_is_small_enough_already_stays_as_it_is(width: int, height: int):
    pixels = noise(width, height)
    np.testing.assert_array_equal(Presize(min(width, height))(pixels), pixels)


def test_memory_that_cannot_be_written_is_only_read():
    pixels = noise(40, 30)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(Presize(20)(pixels), Presize(20)(noise(40, 30)))


def test_what_cannot_be_warped_is_refused_beforehand():
    presize = Presize(100)
    assert presize.size(32767, 100) == (32767, 100)
    for width, height in ((32768, 100), (100, 32768), (400, 1)):
        with pytest.raises(BadImage, match=f"{width} × {height} pixels is too long and thin to train on at"):
            presize.size(width, height)
    with pytest.raises(BadImage, match="too long and thin"):
        presize(np.zeros((1, 400, 3), np.uint8))


@given(SIZES, SIZES, st.sampled_from([None, 70, 95, 100]), st.integers(1, 64))
def test_the_image_is_what_its_packed_bytes_give(width: int, height: int, quality: int | None, shorter: int):
    presize = Presize(shorter, quality)
    pixels = noise(width, height)
    small = presize.small(pixels)
    packed = presize.pack(small)
    assert (packed.dtype, packed.ndim) == (np.uint8, 1)
    loaded = presize.load(packed, *small.shape[:2])
    np.testing.assert_array_equal(presize(pixels), loaded)
    if quality is None:
        np.testing.assert_array_equal(loaded, small)
    else:
        np.testing.assert_array_equal(loaded, decode(packed.tobytes()))  # a JPEG file, loss and all


def test_a_jpeg_is_smaller_and_close():
    pixels = smooth(320, 240)
    fine, rough = Presize(120, 95), Presize(120, 30)
    small = fine.small(pixels)
    assert len(rough.pack(small)) < len(fine.pack(small)) < small.size / 3
    assert _psnr(fine(pixels), small) > _psnr(rough(pixels), small) > 20
    assert _psnr(fine(pixels), small) > 30


def test_pixels_that_do_not_lie_together_are_packed_too():
    turned = noise(30, 20).transpose(1, 0, 2)
    for quality in (None, 90):
        presize = Presize(20, quality)
        np.testing.assert_array_equal(presize(turned), presize(np.ascontiguousarray(turned)))


def test_every_form_has_a_name_of_its_own():
    forms = [Presize(size, quality) for size in (224, 460) for quality in (None, 90, 95)]
    assert len({form.name for form in forms}) == 6
    assert Presize(460).name == "460-raw"


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_real_photos_are_as_good_as_pillows(cassava: Path):
    for path in sorted((cassava / "train_images").iterdir())[:20]:
        pixels = decode(path)
        small = Presize(224)(pixels)
        expected = pillows(pixels, small.shape[1], small.shape[0])
        assert apart(small, expected) <= 1
        assert _psnr(small, expected) >= 40
