"""FFCV: random resized crop and flip at 224, from photos presized to a shorter side of 460.

FFCV's own `max_resolution` bounds the longer side, so the file is written from photos that are presized
before. Its crops are resized by OpenCV's INTER_AREA, which is antialiased (libffcv/libffcv.cpp, `resize`).
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from PIL import Image
from timing import answer, arguments, images_per_second

PRESIZE, SIZE = 460, 224
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


class Presized:
    """The photos with a shorter side of 460, as FFCV's writer takes them."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        with Image.open(self.files[i]) as photo:
            scale = PRESIZE / min(photo.size)
            width, height = (max(PRESIZE, round(side * scale)) for side in photo.size)
            return photo.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), i % 5


def written(files: list[Path], work: Path, mode: str) -> Path:
    """FFCV's file of the photos, written once."""
    path = work / f"{mode}-{len(files)}.beton"
    if not path.exists():
        half = path.with_suffix(".part")
        fields = {"image": RGBImageField(write_mode=mode, jpeg_quality=95), "label": IntField()}
        DatasetWriter(str(half), fields, num_workers=1).from_indexed_dataset(Presized(files))
        os.replace(half, path)
    return path


def main() -> None:
    given = arguments(__doc__, ["raw", "jpg", "raw-uint8"])
    mode, _, uint8 = given.case.partition("-")
    path = written(given.files, given.work, mode)
    normalize = [] if uint8 else [NormalizeImage(MEAN, STD, np.float32)]
    image = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip(), *normalize]
    loader = Loader(
        str(path),
        batch_size=given.batch_size,
        num_workers=given.threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        indices=np.tile(np.arange(len(given.files), dtype=np.uint64), given.repeats),
        pipelines={"image": [*image, ToTensor(), ToTorchImage()], "label": [IntDecoder(), ToTensor()]},
    )

    def epoch() -> int:
        seen = 0
        for images, _ in loader:
            assert images.shape[1:] == (3, SIZE, SIZE)
            assert images.dtype == (torch.uint8 if uint8 else torch.float32)
            seen += len(images)
        return seen

    rate = images_per_second(epoch, given.seconds)
    answer(rate, versions={name: version(name) for name in ("ffcv", "torch", "numba", "numpy")})


if __name__ == "__main__":
    main()
