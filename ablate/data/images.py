"""Decode an image file into upright 8-bit RGB, whatever it was, or say why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ablate.errors import AblateError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_TOPS = (1, 255, 2**16 - 1, 2**31 - 1)

# from its limit up to twice that, Pillow reads a large image but warns; above, it refuses, and so do we
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(AblateError):
    """An image that is missing, empty, cut off, or no image at all."""


def decode(source: Path | bytes | np.ndarray, name: str = "image") -> Image.Image:
    """The whole image, every pixel decoded, upright by EXIF, as RGB.

    16-bit greys are scaled to 8 bits, transparency is put on white, CMYK and palettes are converted, and of
    an animation the first frame is taken.

    Args:
        source: A file, its bytes, or pixels of shape (h, w) or (h, w, 3), uint8.
        name: What to call the image in errors.

    Raises:
        BadImage: It is missing, empty, cut off, too large to be meant, or no image.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Path):
        source = read_bytes(source)
    if not source:
        raise BadImage(f"{name}: the file is empty; replace it or drop its row.")
    try:
        with Image.open(io.BytesIO(source)) as opened:
            opened.load()
            return to_rgb(_upright(opened))
    except UnidentifiedImageError:
        raise BadImage(f"{name}: is not an image; replace it or drop its row.") from None
    except Image.DecompressionBombError:
        raise BadImage(f"{name}: has more pixels than any photo; replace it or drop its row.") from None
    except MemoryError:
        raise
    except Exception as error:  # damage shows as anything: OSError, SyntaxError, struct.error, KeyError …
        raise BadImage(f"{name}: is damaged ({error}); replace it or drop its row.") from None


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImage: There is no such file, or it cannot be read.
    """
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
