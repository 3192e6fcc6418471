"""Perceptual hashes beside the package `imagehash`, and the search for close pairs beside brute force."""

from __future__ import annotations

import io
import time
import tracemalloc
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ablate.data.near_duplicates import near_pairs, perceptual_hashes

Turn = Image.Transpose
TURNS = [
    [],
    [Turn.FLIP_LEFT_RIGHT],
    [Turn.FLIP_TOP_BOTTOM],
    [Turn.ROTATE_180],
    [Turn.TRANSPOSE],
    [Turn.TRANSPOSE, Turn.FLIP_LEFT_RIGHT],
    [Turn.TRANSPOSE, Turn.FLIP_TOP_BOTTOM],
    [Turn.TRANSPOSE, Turn.ROTATE_180],
]


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth picture, as photos are: noise of low frequency in every channel."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def reference(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def hashes_of(*images: Image.Image) -> np.ndarray:
    return np.array([perceptual_hashes(np.asarray(image)) for image in images])


def stored_anew(image: Image.Image, quality: int, size: tuple[int, int]) -> Image.Image:
    file = io.BytesIO()
    image.resize(size).save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("seed", range(8))
def test_hashes_are_those_of_imagehash_in_every_orientation(seed: int):
    image = picture(seed)
    ours = perceptual_hashes(np.asarray(image))
    assert ours.dtype == np.uint64
    assert int(ours[0]) == reference(image)
    for code, turns in zip(ours.tolist(), TURNS, strict=True):
        turned = image
        for turn in turns:
            turned = turned.transpose(turn)
        # greys are rounded when a picture is shrunk, not quite alike once it is turned
        assert (code ^ reference(turned)).bit_count() <= 2


def test_real_photos_have_the_hashes_of_imagehash(cassava: Path):
    for path in sorted((cassava / "train_images").iterdir())[:50]:
        image = Image.open(path).convert("RGB")
        assert int(perceptual_hashes(np.asarray(image))[0]) == reference(image)


def test_plain_images_look_the_same_and_have_a_hash():
    plain = hashes_of(*(Image.new("RGB", (50, 40), colour) for colour in ("red", "white", "gray")))
    assert near_pairs(plain[:1], plain[1:], 0).second.tolist() == [0, 1]


@pytest.mark.parametrize("turn", [None, Turn.FLIP_LEFT_RIGHT, Turn.FLIP_TOP_BOTTOM, Turn.ROTATE_90])
@pytest.mark.parametrize(
    ("quality", "size"), [(90, (160, 120)), (20, (160, 120)), (75, (64, 64)), (75, (800, 600))]
)
def test_pictures_stored_anew_are_found_and_no_others(quality: int, size: tuple[int, int], turn: Turn | None):
    pictures = [picture(seed) for seed in range(20)]
    copies = [stored_anew(one, quality, size) for one in pictures]
    if turn is not None:
        copies = [one.transpose(turn) for one in copies]
    found = near_pairs(hashes_of(*copies), hashes_of(*pictures), 8)
    assert found.first.tolist() == found.second.tolist() == list(range(20))


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8), max_size=6),
    st.lists(st.integers(0, 2**64 - 1), max_size=6),
    st.integers(0, 32),
)
def test_pairs_are_those_of_brute_force(turned: list[list[int]], plain: list[int], most: int):
    # a few that are close, since random ones never are
    plain += [row[i] ^ (1 << i) ^ (1 << 3 * i) for i, row in enumerate(turned)]
    others = np.array([[code] * 8 for code in plain], dtype=np.uint64).reshape(-1, 8)
    found = near_pairs(np.array(turned, dtype=np.uint64).reshape(-1, 8), others, most)
    expected = [
        (i, j, bits)
        for i, row in enumerate(turned)
        for j, code in enumerate(plain)
        if (bits := min((one ^ code).bit_count() for one in row)) <= most
    ]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_thousands_are_compared_in_seconds_and_little_memory():
    rng = np.random.default_rng(0)
    hashes, others = (rng.integers(0, 2**64, (n, 8), dtype=np.uint64) for n in (4_000, 20_000))
    hashes[17, 3] = others[19_999, 0]
    tracemalloc.start()
    began = time.perf_counter()
    found = near_pairs(hashes, others, 4)
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.first.tolist(), found.second.tolist(), found.distance.tolist()) == ([17], [19_999], [0])
    assert peak < 100e6  # all pairs would be 640 MB
    assert seconds < 20  # half a second on a machine that does nothing else
