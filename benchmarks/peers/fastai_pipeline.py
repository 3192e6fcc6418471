"""Stock fastai: full-size JPEGs, `Resize(460)`, `aug_transforms(size=224)`, normalize; worker processes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    Normalize,
    Resize,
    aug_transforms,
    imagenet_stats,
)
from timing import answer, arguments, images_per_second


def label(photo: Path) -> str:
    return photo.stem[-1]


def no_validation(photos: list[Path]) -> tuple[list[int], list[int]]:
    return list(range(len(photos))), []


def main() -> None:
    given = arguments(__doc__, ["augment"])
    torch.set_num_threads(given.threads)
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_y=label,
        splitter=no_validation,
        item_tfms=Resize(460),
        batch_tfms=[*aug_transforms(size=224), Normalize.from_stats(*imagenet_stats)],
    )
    photos = given.files * given.repeats
    cpu = torch.device("cpu")
    dls = block.dataloaders(photos, bs=given.batch_size, num_workers=given.threads, device=cpu)

    def epoch() -> int:
        return sum(len(images) for images, _ in dls.train)

    rate = images_per_second(epoch, given.seconds)
    answer(rate, versions={name: version(name) for name in ("fastai", "torch", "pillow")})


if __name__ == "__main__":
    main()
