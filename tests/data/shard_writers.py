"""Write shards with other people's libraries: `webdataset` and `tfrecord`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Record = Mapping[str, tuple[Any, str]]


def picture(seed: int, suffix: str = "jpeg") -> bytes:
    """A small image's file, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix)
    return file.getvalue()


def write_tar(path: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    """A tar of samples as webdataset takes them: `__key__`, and values by extension."""
    from webdataset import TarWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(dict(sample))
    return path


def write_tfrecord(path: Path, records: Sequence[Record]) -> Path:
    """A TFRecord of features: the value and its type, `byte`, `int` or `float`."""
    from tfrecord import TFRecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = TFRecordWriter(str(path))
    for record in records:
        writer.write(dict(record))
    writer.close()
    return path


def samples(begin: int, end: int) -> list[dict[str, Any]]:
    """Samples of a tar: three classes in turn, two images to a patient."""
    return [
        {
            "__key__": f"photos/{i:04d}",
            "jpg": picture(i),
            "json": {"label": ("cat", "dog", "fox")[i % 3], "patient": f"p{i // 2}", "held": i % 4 == 0},
        }
        for i in range(begin, end)
    ]


def records(begin: int, end: int) -> list[Record]:
    """Records as on Kaggle, with the same images and classes as `samples`."""
    return [
        {
            "image": (picture(i), "byte"),
            "image_name": (f"photos/{i:04d}".encode(), "byte"),
            "target": (i % 3, "int"),
            "patient": (f"p{i // 2}".encode(), "byte"),
            "held": (int(i % 4 == 0), "int"),
            "age": (0.5 * i, "float"),
        }
        for i in range(begin, end)
    ]
