from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from ablate.data.images import SUFFIXES, BadImage, decode, read_bytes, to_rgb

FORMATS = ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"]
LOSSLESS = {"BMP": {}, "PNG": {}, "PPM": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def picture(width: int = 31, height: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    found = decode(data)
    assert found.dtype == np.uint8
    assert found.shape[2:] == (3,)
    return found


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))


@pytest.mark.parametrize("form", LOSSLESS)
def test_every_pixel_of_a_lossless_file(form: str):
    np.testing.assert_array_equal(pixels(encoded(picture(), form, **LOSSLESS[form])), picture())


def test_a_path_its_bytes_and_its_pixels_are_the_same(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    for source in (path, path.read_bytes(), picture()):
        np.testing.assert_array_equal(np.asarray(decode(source)), picture())


def test_grey_pixels_become_three_equal_channels():
    grey = picture()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(decode(grey)), expected)
    np.testing.assert_array_equal(pixels(encoded(grey)), expected)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_of_a_format_that_is_read(suffix: str, tmp_path: Path):
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}")
    assert decode(tmp_path / f"a{suffix}").shape == (24, 31, 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "x: the file is empty"),
        (b"image_id,label\n1.jpg,3\n", "x: is not an image"),
        (b"<html>404 Not Found</html>", "x: is not an image"),
        (b"\x89PNG\r\n\x1a\n", "x: is not an image"),
        (png_header(100_000, 100_000), "x: has more pixels than any photo"),
        (png_header(10, 10), "x: is damaged"),
    ],
    ids=["empty", "text", "html", "png magic alone", "bomb", "no pixels"],
)
def test_what_is_no_image_says_so(content: bytes, why: str):
    with pytest.raises(BadImage) as caught:
        decode(content, "x")
    assert str(caught.value).startswith(why)
    assert str(caught.value).endswith("replace it or drop its row.")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_was_cut_off_is_bad(form: str, share: float):
    data = encoded(picture(200, 150), form)
    with pytest.raises(BadImage, match=r"^x: is (damaged|not an image)"):
        decode(data[: int(len(data) * share)], "x")


def plain_jpegs() -> dict[str, bytes]:
    """JPEGs in all the ways in which cameras and programs write them, grey and in colour."""
    image, grey = Image.fromarray(picture(75, 50)), Image.fromarray(picture(40, 33)[..., 0])
    smooth = image.resize((3, 2)).resize((131, 87), Image.Resampling.BICUBIC)
    made = {"grey": encoded(grey, "JPEG"), "grey, progressive": encoded(grey, "JPEG", progressive=True)}
    for quality in (5, 75, 100):
        for sampling in (0, 1, 2):
            for progressive in (False, True):
                for kind, one in (("noise", image), ("smooth", smooth)):
                    name = f"{kind}, quality {quality}, subsampling {sampling}, progressive {progressive}"
                    options = {"quality": quality, "subsampling": sampling, "progressive": progressive}
                    made[name] = encoded(one, "JPEG", **options)
    made["restart markers"] = encoded(smooth, "JPEG", restart_marker_rows=1)
    made["optimized"] = encoded(smooth, "JPEG", optimize=True)
    made["a comment"] = encoded(smooth, "JPEG", comment=b"x" * 3000)
    made["channels kept as RGB"] = encoded(smooth, "JPEG", keep_rgb=True)
    made["one pixel"] = encoded(Image.new("RGB", (1, 1), "red"), "JPEG")
    made["bytes after its end"] = encoded(smooth, "JPEG") + b"something else" * 10
    return made


JPEGS = plain_jpegs()


def pillows(data: bytes) -> np.ndarray | None:
    """The pixels that Pillow finds when it loads a file in full; None if it refuses."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except Exception:
        return None


@pytest.mark.parametrize("name", JPEGS)
def test_plain_jpegs_have_pillows_pixels(name: str):
    np.testing.assert_array_equal(pixels(JPEGS[name]), pillows(JPEGS[name]))


@pytest.mark.parametrize("name", ["grey", "restart markers", "channels kept as RGB", "one pixel"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut and closed"])
def test_a_jpeg_that_was_cut_off_anywhere_is_never_taken_for_whole(name: str, end: bytes):
    """Unless Pillow's full load takes it; then they see the same."""
    data = JPEGS[name]
    accepted = 0
    for length in range(0, len(data), max(len(data) // 300, 1)):
        cut = data[:length] + (end if length else b"")
        expected = pillows(cut)
        try:
            found = decode(cut)
        except BadImage:
            continue
        accepted += 1
        assert expected is not None
        np.testing.assert_array_equal(found, expected)
    assert accepted < 5 or end


@pytest.mark.parametrize("form", [*FORMATS, "progressive"])
def test_a_file_that_was_cut_off_at_its_end_is_bad_where_pillow_says_so(form: str):
    progressive = {"progressive": True} if form == "progressive" else {}
    data = encoded(picture(40, 30), "JPEG" if progressive else form, **progressive)
    for missing in range(1, 40):
        expected = pillows(data[:-missing])
        if expected is None:
            with pytest.raises(BadImage):
                decode(data[:-missing])
        else:
            np.testing.assert_array_equal(decode(data[:-missing]), expected)


@settings(max_examples=300)
@given(st.sampled_from(sorted(JPEGS)), st.data())
def test_a_damaged_jpeg_is_never_read_where_pillow_refuses(name: str, data: st.DataObject):
    content = bytearray(JPEGS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content))
    except BadImage:
        return
    expected = pillows(bytes(content))
    assert expected is not None
    assert found.shape == expected.shape


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FORMATS), st.integers(0, 2**32), st.integers(1, 8), st.booleans())
def test_any_damage_is_read_or_told(form: str, seed: int, hits: int, cut: bool):
    rng = random.Random(seed)
    data = bytearray(encoded(picture(), form))
    if cut:
        data = data[: rng.randrange(1, len(data))]
    for _ in range(hits):
        data[rng.randrange(min(len(data), rng.choice([60, 10**6])))] = rng.randrange(256)
    try:
        image, told = decode(bytes(data)), ""
    except BadImage as bad:
        image, told = None, str(bad)
    assert told.startswith("image: ") if image is None else image.shape[2] == 3


def test_a_missing_file_and_a_folder(tmp_path: Path):
    with pytest.raises(BadImage, match=r"gone.jpg: there is no such file"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(BadImage, match="cannot be read \\(Is a directory\\)"):
        read_bytes(tmp_path)


def test_large_photos_are_read_without_a_warning():
    code = """
import io
from PIL import Image
from ablate.data.images import decode
file = io.BytesIO()
Image.new("L", (15, 10)).save(file, "PNG")
Image.MAX_IMAGE_PIXELS = 100
print(decode(file.getvalue()).shape[:2])
"""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(10, 15)\n", "")


def test_16_bit_greys_are_scaled_and_not_clipped():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(levels / 257).astype(np.uint8)
    for form in ("PNG", "TIFF"):
        shown = pixels(encoded(levels, form))
        np.testing.assert_array_equal(shown[..., 0], expected)
        assert (shown == shown[..., :1]).all()
    big_endian = Image.frombytes("I;16B", (256, 256), levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(big_endian))[..., 1], expected)
    np.testing.assert_array_equal(pixels(encoded(big_endian, "TIFF"))[..., 1], expected)


def test_32_bit_greys():
    levels = np.linspace(0, 65535, 256).astype(np.int32).reshape(16, 16)
    expected = np.rint(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(encoded(levels, "TIFF"))[..., 0], expected)
    wide = levels * 32768
    np.testing.assert_allclose(pixels(encoded(wide, "TIFF"))[..., 0], expected.astype(int), atol=1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_greys_span_a_usual_range(top: float):
    levels = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    shown = pixels(encoded(levels * np.float32(top), "TIFF"))
    np.testing.assert_array_equal(shown[..., 2].ravel(), np.arange(256))
    odd = np.array([[np.nan, np.inf, -np.inf, -3, 0.5]], dtype=np.float32)
    assert to_rgb(Image.fromarray(odd)).getpixel((4, 0)) == (128, 128, 128)


def test_alpha_is_put_on_white():
    rgb, alpha = picture(), picture(seed=1)[..., 0]
    share = alpha[..., None] / 255
    expected = rgb * share + 255 * (1 - share)
    shown = pixels(encoded(np.dstack([rgb, alpha])))
    np.testing.assert_allclose(shown, expected, atol=1)
    grey = pixels(encoded(Image.merge("LA", [Image.fromarray(rgb[..., 0]), Image.fromarray(alpha)])))
    np.testing.assert_allclose(grey[..., 1], expected[..., 0], atol=1)


def test_a_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    np.testing.assert_array_equal(pixels(encoded(image)), [[[10, 20, 30], [40, 50, 60]]])
    np.testing.assert_array_equal(pixels(encoded(image, transparency=1))[0], [[10, 20, 30], [255, 255, 255]])
    half = pixels(encoded(image, transparency=bytes([255, 128])))[0]
    np.testing.assert_allclose(half, [[10, 20, 30], [147, 152, 157]], atol=1)
    np.testing.assert_array_equal(
        pixels(encoded(image, "GIF", transparency=0))[0], [[255, 255, 255], [40, 50, 60]]
    )


def test_a_transparent_colour_without_a_palette():
    rgb = np.array([[[10, 20, 30], [40, 50, 60]]], dtype=np.uint8)
    data = encoded(rgb, transparency=(40, 50, 60))
    np.testing.assert_array_equal(pixels(data)[0], [[10, 20, 30], [255, 255, 255]])
    grey = encoded(rgb[..., 0], transparency=10)
    np.testing.assert_array_equal(pixels(grey)[0], [[255, 255, 255], [40, 40, 40]])


def test_cmyk_is_neither_inverted_nor_refused():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for form in ("JPEG", "TIFF"):
        np.testing.assert_allclose(pixels(encoded(inks, form))[8, 8], [255, 0, 0], atol=3)


def test_modes_that_only_some_files_have():
    rgb = Image.fromarray(picture())
    np.testing.assert_array_equal(
        np.asarray(to_rgb(rgb.convert("1"))), np.asarray(rgb.convert("1").convert("RGB"))
    )
    two = np.array([[0, 1]], dtype=bool)
    np.testing.assert_array_equal(pixels(encoded(two))[0], [[0, 0, 0], [255, 255, 255]])
    smooth = Image.fromarray(picture()).resize((8, 8))
    for mode in ("YCbCr", "HSV"):
        np.testing.assert_allclose(np.asarray(to_rgb(smooth.convert(mode))), np.asarray(smooth), atol=12)
    np.testing.assert_allclose(pixels(encoded(smooth.convert("YCbCr"), "TIFF")), np.asarray(smooth), atol=3)
    for source, mode in (("RGBA", "RGBX"), ("RGBA", "RGBa"), ("LA", "La"), ("P", "PA")):
        stored = smooth.convert(source)
        expected = np.asarray(stored.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(to_rgb(stored.convert(mode))), expected)


def test_lab_is_turned_into_the_colour_that_was_meant():
    red = Image.new("RGB", (4, 4), (200, 40, 60))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.profileToProfile(red, srgb, lab, outputMode="LAB")
    assert turned is not None
    assert turned.mode == "LAB"
    np.testing.assert_allclose(np.asarray(to_rgb(turned))[0, 0], [200, 40, 60], atol=3)
    np.testing.assert_allclose(pixels(encoded(turned, "TIFF"))[0, 0], [200, 40, 60], atol=3)


# how each EXIF orientation's stored pixels follow from the upright ones, from the EXIF standard's table
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, 3),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_made_upright(orientation: int, form: str):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(STORED[orientation](upright)), form, exif=exif)
    shown = pixels(data)
    assert shown.shape == upright.shape
    np.testing.assert_allclose(shown[4::8, 8::16].astype(int), upright[4::8, 8::16], atol=12)


def test_exif_that_cannot_be_read_leaves_the_pixels():
    data = encoded(picture(), exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\xff garbage")
    np.testing.assert_array_equal(pixels(data), picture())


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(pixels(data)[0, 0], [255, 0, 0])


def test_real_photos(cassava: Path):
    for path in sorted((cassava / "train_images").iterdir())[:5]:
        with Image.open(path) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(decode(path)), expected)
