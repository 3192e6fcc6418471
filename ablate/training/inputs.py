"""What a trained network needs beside its weights: `inputs.json`, in the folder of its stage.

Without torch, so that a study's folder can be put together without it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate import sealed
from ablate.data.tabular import TabularEncoder

if TYPE_CHECKING:
    from ablate.training.parts import Parts

INPUTS = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """What of its training data a network goes on needing.

    Args:
        classes: The names of the classes, in the order of the network's outputs.
        pixel_mean: Of the training images, per channel, in [0, 1].
        pixel_std: Likewise.
        train_counts: How many training images each class had.
        tabular: What encodes the table's columns, as `TabularEncoder.to_dict` gives it; None without a table.
    """

    classes: list[str]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    train_counts: list[int]
    tabular: dict[str, Any] | None = None

    @classmethod
    def of(cls, parts: Parts) -> Inputs:
        """Those of a phase."""
        classes = parts.items.classes
        targets = parts.items.targets[parts.fold.train]
        counts = np.bincount(targets, minlength=len(classes)).tolist()
        tabular = parts.encoder.to_dict() if parts.encoder else None
        return cls(list(classes), parts.pixel_mean, parts.pixel_std, counts, tabular)

    @property
    def encoder(self) -> TabularEncoder | None:
        """What encodes the table's columns."""
        return TabularEncoder.from_dict(self.tabular) if self.tabular else None

    @classmethod
    def read(cls, folder: Path) -> Inputs:
        """Those in a sealed folder.

        Raises:
            Damaged: The file is not the one that was written.
        """
        values: dict[str, Any] = json.loads(sealed.read(folder, INPUTS))
        values |= {name: tuple(values[name]) for name in ("pixel_mean", "pixel_std")}
        return cls(**values)

    def write(self, folder: Path) -> None:
        """Write `inputs.json`."""
        (folder / INPUTS).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")
