"""Presized pixels of whatever there is: those out of the cache are those that are made on the spot."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ablate.data.cache import look_and_keep
from ablate.data.images import BadImage, decode
from ablate.data.items import Item
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize

NUMBERS = itertools.count()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise in one of Pillow's modes."""
    if mode in ("I;16", "I", "F"):
        levels = noise(width, height, 1, seed).astype(np.int32) * 257
        return Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    if mode == "P":
        return Image.fromarray(noise(width, height, 3, seed)).quantize(16)
    channels = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}[mode]
    return Image.fromarray(noise(width, height, channels, seed)).convert(mode)


FORMS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "jpeg": ("JPEG", ["L", "RGB", "CMYK", "YCbCr"], {"quality": 80}),
    "progressive": ("JPEG", ["L", "RGB", "CMYK"], {"progressive": True}),
    "fine jpeg": ("JPEG", ["RGB"], {"quality": 100, "subsampling": 0}),
    "png": ("PNG", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16", "I"], {}),
    "gif": ("GIF", ["L", "P", "RGB"], {}),
    "tiff": ("TIFF", ["1", "L", "RGB", "RGBA", "CMYK", "P", "I;16", "F"], {}),
    "bmp": ("BMP", ["1", "L", "RGB", "P"], {}),
    "webp": ("WEBP", ["RGB", "RGBA"], {"lossless": True}),
    "ppm": ("PPM", ["L", "RGB"], {}),
}


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def item(path: Path, content: bytes, number: int = 0) -> Item:
    path.write_bytes(content)
    return Item(number, path.name, path, 0)


presizes = st.builds(Presize, st.integers(1, 40), st.sampled_from([None, None, 60, 95]))
sides = st.integers(1, 60)
orientations = st.sampled_from([None, *range(1, 9)])


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(), st.sampled_from(sorted(FORMS)), sides, sides, presizes, st.sampled_from([None, *range(1, 9)])
)
def test_cached_pixels_are_those_without_a_cache(
    folder: Path, data: Any, kind: str, width: int, height: int, presize: Presize, orientation: int | None
):
    form, modes, options = FORMS[kind]
    mode = data.draw(st.sampled_from(modes))
    if orientation and form in ("JPEG", "PNG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {**options, "exif": exif}
    content = encoded(picture(mode, width, height), form, **options)
    one = item(folder / f"image {next(NUMBERS)}", content)
    _, presized = look_and_keep([one], [presize])
    kept = presized[presize.shorter][0]
    assert kept is not None
    expected = presize(decode(content))
    assert min(expected.shape[:2]) == presize.shorter
    np.testing.assert_array_equal(kept, expected)
    for pixels in (Pixels(presize), Pixels(presize, presized[presize.shorter])):
        np.testing.assert_array_equal(pixels(one), expected)


def test_the_whole_way_beside_pillows(folder: Path):
    """Decoded, upright, RGB and small: within a level or two of what Pillow makes of the same file."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(picture("RGB", 90, 60), "JPEG", exif=exif)
        with Image.open(io.BytesIO(content)) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        one = item(folder / f"{orientation}.jpg", content, orientation)
        _, presized = look_and_keep([one], [Presize(30)])
        found = Pixels(Presize(30), presized[30])(one)
        size = (30, 45) if orientation > 4 else (45, 30)
        expected = np.asarray(upright.resize(size, Image.Resampling.BILINEAR))
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(10)))


BAD = {
    "empty": b"",
    "cut": encoded(picture("RGB", 60, 40), "JPEG")[:-300],
    "cut png": encoded(picture("RGB", 60, 40), "PNG")[:-300],
    "bomb": _header(100_000, 100_000),
    "no pixels": _header(0, 10),
    "text": b"image_id,label\n",
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_what_is_bad_is_named_with_and_without_a_cache(kind: str, folder: Path):
    one, good = item(folder / "bad.jpg", BAD[kind]), item(folder / "a.png", _png(), 1)
    seen, presized = look_and_keep([one, good], [Presize(20)])
    assert seen[0].error.startswith("bad.jpg: ")
    assert seen[1].error == ""
    assert presized[20][0] is None
    for pixels in (Pixels(Presize(20)), Pixels(Presize(20), presized[20])):
        with pytest.raises(BadImage, match=r"^\S*bad\.jpg: "):
            pixels(one)
        assert pixels(good).shape == (20, 30, 3)


def _png() -> bytes:
    return encoded(picture("RGB", 30, 20), "PNG")


def test_an_image_that_is_too_long_is_named(folder: Path):
    content = encoded(Image.new("RGB", (2000, 1)), "PNG")
    one = item(folder / "long.png", content)
    _, presized = look_and_keep([one], [Presize(20)])
    for source in (one, folder / "long.png"):
        with pytest.raises(
            BadImage, match=r"^\S*long\.png: an image of 2000 × 1 pixels is too long and thin"
        ):
            Pixels(Presize(20), presized[20])(source)
    with pytest.raises(BadImage, match=r"^image: an image of 2000 × 1"):
        Pixels(Presize(20))(content)


def test_all_sources_of_one_image_give_the_same(folder: Path):
    content = encoded(picture("RGB", 50, 40), "PNG")
    one = item(folder / "a.png", content)
    _, presized = look_and_keep([one], [Presize(20)])
    expected = Presize(20)(decode(content))
    pixels = Pixels(Presize(20), presized[20])
    opened = Image.open(folder / "a.png")
    for source in (one, one.image, str(one.image), content, opened, np.asarray(opened)):
        np.testing.assert_array_equal(pixels(source), expected)


def test_an_item_of_another_number_is_not_taken_from_the_cache(folder: Path):
    first, second = (
        item(folder / "a.png", _png()),
        item(folder / "b.png", encoded(picture("L", 9, 9), "PNG"), 1),
    )
    _, presized = look_and_keep([first], [Presize(20)])
    np.testing.assert_array_equal(
        Pixels(Presize(20), presized[20])(second), Presize(20)(decode(second.image))
    )


def test_a_missing_file_is_named(folder: Path):
    with pytest.raises(BadImage, match=r"gone\.png: there is no such file"):
        Pixels(Presize(20))(Item(0, "gone", folder / "gone.png", 0))
