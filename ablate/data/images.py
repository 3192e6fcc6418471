"""Decode an image file into upright 8-bit RGB, whatever it was, or say why not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ablate.errors import AblateError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class BadImage(AblateError):
    """An image that is missing, empty, cut off, or no image at all."""


def decode(source: Path | bytes | np.ndarray, name: str = "image") -> Image.Image:
    """The whole image, every pixel decoded, upright by EXIF, as RGB.

    16-bit greys are scaled to 8 bits, alpha is put on white, CMYK and palettes are converted, and of an animation
    the first frame is taken.

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
            return to_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise BadImage(f"{name}: is not an image; replace it or drop its row.") from None
    except Image.DecompressionBombError:
        raise BadImage(f"{name}: has more pixels than any photo; replace it or drop its row.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
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


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode that Pillow has."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(levels: np.ndarray) -> np.ndarray:
    """16-bit (or wider, or floating) greys to uint8; Pillow's own conversion would clip everything above 255."""
    if levels.dtype.kind == "f":
        top = 1.0 if levels.max(initial=0) <= 1 else 255.0
        return np.clip(np.rint(levels / top * 255), 0, 255).astype(np.uint8)
    return np.clip(np.rint(levels.astype(np.float64) / 257), 0, 255).astype(np.uint8)
