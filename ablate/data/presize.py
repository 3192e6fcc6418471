"""Make a decoded image small: the one function whose results the cache of images remembers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import simplejpeg

from ablate.data.images import BadImage

_LONGEST = 1 << 15

# memory-mapped pixels cannot be written, and nothing here does
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize with an antialiased triangle filter: torch's, which is Pillow's within one level and faster.

    Args:
        pixels: uint8 of shape (h, w, 3).
        width: Of the result.
        height: Of the result.

    Returns:
        uint8 of shape (height, width, 3), contiguous.
    """
    import torch  # here, since a plan works out sizes without it
    from torch.nn.functional import interpolate

    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # in this order, torch knows channels_last
    smaller = interpolate(image, (height, width), mode="bilinear", antialias=True)
    return smaller[0].permute(1, 2, 0).contiguous().numpy()


@dataclass(frozen=True)
class Presize:
    """Resize an image so that its shorter side has some length, and keep it as pixels or as a JPEG.

    Args:
        shorter: The shorter side, in pixels.
        quality: The JPEG's; None keeps the pixels themselves.
    """

    shorter: int
    quality: int | None = None

    @property
    def name(self) -> str:
        """The name of the folder that such images are kept in."""
        return f"{self.shorter}-raw" if self.quality is None else f"{self.shorter}-jpeg{self.quality}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what becomes of an image of some width and height.

        Raises:
            BadImage: It is so long and thin that the other side would be longer than OpenCV can warp.
        """
        scale = self.shorter / min(width, height)
        wide, high = max(self.shorter, round(width * scale)), max(self.shorter, round(height * scale))
        if max(wide, high) >= _LONGEST:
            raise BadImage(
                f"an image of {width} × {height} pixels is too long and thin to train on at {self.shorter}; "
                "crop it or drop its row."
            )
        return wide, high

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The image as it is trained on, loss by JPEG included: uint8 of shape (h, w, 3)."""
        small = self.small(pixels)
        return small if self.quality is None else self.load(self.pack(small), *small.shape[:2])

    def small(self, pixels: np.ndarray) -> np.ndarray:
        """The image resized: uint8 of shape (h, w, 3)."""
        height, width = pixels.shape[:2]
        wide, high = self.size(width, height)
        return pixels if (wide, high) == (width, height) else resized(pixels, wide, high)

    def pack(self, small: np.ndarray) -> np.ndarray:
        """The bytes that keep a resized image, uint8 of shape (n,)."""
        small = np.ascontiguousarray(small)
        if self.quality is None:
            return small.reshape(-1)
        content = simplejpeg.encode_jpeg(small, quality=self.quality, colorsubsampling="420")
        return np.frombuffer(content, np.uint8)

    def load(self, packed: np.ndarray, height: int, width: int) -> np.ndarray:
        """The image from the bytes that keep it: uint8 of shape (height, width, 3)."""
        if self.quality is None:
            return packed.reshape(height, width, 3)
        return simplejpeg.decode_jpeg(packed, "RGB")
