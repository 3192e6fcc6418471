"""Small pictures of the images that the report shows, so that it can be made again without the images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ablate.analysis.by_class import changed_items
from ablate.analysis.saved import StudyFiles
from ablate.data.images import BadImage, decode
from ablate.data.items import Item
from ablate.files import replace_file

FOLDER, INDEX = "thumbnails", "index.json"
SIDE = 112
"""Pixels of the longer side."""


def write_thumbnails(folder: Path, items: Sequence[Item]) -> None:
    """Write a study's `thumbnails/`: a JPEG per image, and `index.json` with their names by item.

    An image that cannot be read any more is left out: the report does without.

    Args:
        folder: The study's, with its tables and effects.
        items: All items of the study.
    """
    wanted, place = set(changed_items(StudyFiles.read(folder))), folder / FOLDER
    index = {}
    for item in items:
        if item.id in wanted and _write(item, place / f"{item.number:07d}.jpg"):
            index[item.id] = f"{item.number:07d}.jpg"
    if not index:
        shutil.rmtree(place, ignore_errors=True)
        return
    replace_file(place / INDEX, lambda path: path.write_text(json.dumps(index, indent=1)))
    # those of before go last: readers, and another process that writes the same, meet a whole set
    for path in place.glob("*.jpg"):
        if path.name not in index.values():
            path.unlink(missing_ok=True)


def _write(item: Item, path: Path) -> bool:
    try:
        image = Image.fromarray(decode(item.image, item.id))
    except BadImage:
        return False
    scale = SIDE / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    # the dots of a tiny image are its content: they are not smoothed away
    small = image.resize(size, resample=Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    replace_file(path, lambda to: small.save(to, format="JPEG", quality=80))
    return True
