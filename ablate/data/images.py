"""Decode an image file into upright 8-bit RGB, whatever it was, or say why not."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ablate.errors import AblateError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_TOPS = (1, 255, 2**16 - 1, 2**31 - 1)

# from its limit up to twice that, Pillow reads a large image but warns; above, it refuses, and so do we
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(AblateError):
    """An image that is missing, empty, cut off, or no image at all."""


class Readable(Protocol):
    """An image's file that is part of something else, such as a member of a shard."""

    def read(self) -> bytes:
        """Its bytes."""
        ...


Source = Path | bytes | np.ndarray | Readable


def decode(source: Source, name: str = "image") -> np.ndarray:
    """The whole image, every pixel decoded, upright by EXIF, as RGB.

    16-bit greys are scaled to 8 bits, transparency is put on white, CMYK and palettes are converted, and of
    an animation the first frame is taken.

    Args:
        source: A file, its bytes, or pixels of shape (h, w) or (h, w, 3), uint8.
        name: What to call the image in errors.

    Returns:
        uint8 of shape (h, w, 3).

    Raises:
        BadImage: It is missing, empty, cut off, too large to be meant, or no image.
    """
    if isinstance(source, np.ndarray):
        return np.asarray(Image.fromarray(source).convert("RGB"))
    content = read_bytes(source)
    if not content:
        raise BadImage(f"{name}: the file is empty; replace it or drop its row.")
    if (plain := _plain_jpeg(content)) is not None:
        return plain
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            return np.asarray(to_rgb(_upright(opened)))
    except UnidentifiedImageError:
        raise BadImage(f"{name}: is not an image; replace it or drop its row.") from None
    except Image.DecompressionBombError:
        raise BadImage(f"{name}: has more pixels than any photo; replace it or drop its row.") from None
    except MemoryError:
        raise
    except Exception as error:  # damage shows as anything: OSError, SyntaxError, struct.error, KeyError …
        raise BadImage(f"{name}: is damaged ({error}); replace it or drop its row.") from None


def _plain_jpeg(content: bytes) -> np.ndarray | None:
    """The pixels of an upright JPEG in colour or grey, a fifth faster than Pillow's, from the same library.

    None for every other image, and for one with the least oddity: Pillow then says what is wrong, or that
    nothing is.
    """
    if not content.startswith(b"\xff\xd8") or not _is_upright(content):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or height * width > (Image.MAX_IMAGE_PIXELS or sys.maxsize):
            return None
        return simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None


def _is_upright(content: bytes) -> bool:
    if not _has_app1(content):
        return True
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # Pillow says later what is wrong
        return False


def _has_app1(content: bytes) -> bool:
    """Whether a JPEG has the segment that EXIF and XMP stand in, before its pixels; or it cannot be told."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in (_START_OF_SCAN, _APP1):
            return marker == _APP1
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return True


def read_bytes(path: Path | bytes | Readable) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImage: There is no such file, or it cannot be read.
    """
    if isinstance(path, bytes):
        return path
    if not isinstance(path, Path):
        return path.read()
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage(f"{path}: there is no such file; restore it or drop its row.") from None
    except OSError as error:
        raise BadImage(f"{path}: cannot be read ({error.strerror}).") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read leaves the pixels as they lie, as every viewer does
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode that Pillow has."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(levels: np.ndarray) -> np.ndarray:
    """Greys of 16 bits, 32 bits or floating point to uint8; Pillow's own conversion clips what is above 255.

    Whole numbers span 16 bits, or 31 where one lies above that; floating ones the smallest usual range.
    """
    tops = _TOPS if levels.dtype.kind == "f" else _TOPS[2:]
    levels = np.nan_to_num(levels.astype(np.float64), posinf=0, neginf=0)
    highest = levels.max(initial=0)
    top = next((top for top in tops if highest <= top), highest)
    return np.clip(np.rint(levels * (255 / top)), 0, 255).astype(np.uint8)
