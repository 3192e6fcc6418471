"""ablate: the same photos through `Recipe.dataloaders`, from the cache of presized images.

raw, jpeg: random resized crop 224, flip, normalized, from that cache; square: the crops and flips of
`tfdata_pipeline.py`; augment: the defaults of `augment`, 460 to 224, as stock fastai's; uint8: random squares
of 460 as they go to a device; build: decode, presize and write, every file another.
"""

from __future__ import annotations

import csv
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timing import answer, arguments, images_per_second

import ablate.training.data  # noqa: F401  imports must not be timed
from ablate import Recipe, devices

FLIP = {"max_rotate": 0.0, "max_zoom": 1.0, "max_lighting": 0.0, "max_warp": 0.0}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "raw": {"normalize": {}, "random_resized_crop": {"scale": [0.08, 1.0]}, "augment": FLIP},
    "square": {
        "normalize": {},
        # the square is 3/4 of a photo's area
        "random_resized_crop": {"scale": [0.3675, 0.75], "ratio": [1.0, 1.0]},
        "augment": FLIP | {"flip_vert": True},
    },
    "augment": {"normalize": {}, "augment": {}},
    "uint8": {},
    "build": {"normalize": {}},
}
TECHNIQUES["jpeg"] = TECHNIQUES["raw"]
CACHES = {"jpeg": {"format": "jpeg", "quality": 95}}


def table(files: list[Path], work: Path, repeats: int, distinct: bool) -> Path:
    """A folder with every photo several times under names of their own, and a table of them.

    Args:
        files: The photos.
        work: Where the folder is made.
        repeats: How often each comes.
        distinct: Whether the files differ, by a comment in the JPEG, so that none is known from another.
    """
    root = work / f"{len(files)}x{repeats}{'-distinct' if distinct else ''}"
    if root.exists():
        return root
    half = root.with_suffix(".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    rows = [(f"{repeat}_{file.name}", file, False) for repeat in range(repeats) for file in files]
    rows += [(f"valid_{file.name}", file, True) for file in files[:10]]
    for number, (name, file, _) in enumerate(rows):
        if distinct:
            content = file.read_bytes()
            comment = b"\xff\xfe\x00\x06" + number.to_bytes(4, "big")
            (half / name).write_bytes(content[:2] + comment + content[2:])
        else:
            (half / name).symlink_to(file.resolve())
    with (half / "photos.csv").open("w", newline="") as out:
        lines = ((name, number % 5, held_out) for number, (name, _, held_out) in enumerate(rows))
        csv.writer(out).writerows([("image", "label", "is_val"), *lines])
    half.rename(root)
    return root


def recipe(root: Path, case: str, batch_size: int, cache: Any = None) -> Recipe:
    """The recipe of a case over such a folder."""
    techniques = TECHNIQUES[case]
    return Recipe.from_dict(
        {
            "name": f"pipeline-{case}",
            "data": {
                "root": str(root),
                "table": "photos.csv",
                "split": {"column": "is_val"},
                "cache": cache or CACHES.get(case, {"format": "raw"}),
            },
            "model": {"arch": "resnet18", "pretrained": False},
            "size": 460 if case == "uint8" else 224,
            "presize": 460,
            "batch_size": batch_size,
            "phases": [{"name": "train", "epochs": 1}],
            "techniques": techniques,
            "study": {"baseline": list(techniques)},
        }
    )


def built(root: Path, work: Path, batch_size: int, count: int, seconds: float) -> float:
    """Images/s of building the cache, from nothing to loaders that are ready; each time anew."""
    spent, times = 0.0, 0
    while spent < seconds:
        folder = work / "building"
        shutil.rmtree(folder, ignore_errors=True)
        os.environ["ABLATE_CACHE"] = str(folder)
        began = time.perf_counter()
        recipe(root, "build", batch_size).dataloaders()
        spent, times = spent + time.perf_counter() - began, times + 1
    shutil.rmtree(folder)
    return times * count / spent


def main() -> None:
    given = arguments(__doc__, list(TECHNIQUES))
    devices.load("cpu").start(given.threads, False)  # as every stage begins
    count = len(given.files) * given.repeats
    root = table(given.files, given.work, given.repeats, given.case == "build")
    os.environ["ABLATE_CACHE"] = str(given.work / "cache")
    versions = {"ablate": version("ablate"), "torch": torch.__version__}
    if given.case == "build":
        answer(built(root, given.work, given.batch_size, count + 10, given.seconds), versions=versions)
        return
    loader = recipe(root, given.case, given.batch_size).dataloaders().train
    uint8 = given.case == "uint8"
    if uint8:
        loader.after_batch.fs.clear()  # what follows happens on the device
    size = 460 if uint8 else 224

    def epoch() -> int:
        seen = 0
        for images, _ in loader:
            assert images.shape[1:] == (3, size, size)
            assert images.dtype == (torch.uint8 if uint8 else torch.float32)
            seen += len(images)
        return seen

    answer(images_per_second(epoch, given.seconds), versions=versions)


if __name__ == "__main__":
    main()
