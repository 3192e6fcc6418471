"""A stage as it is handed to the process that runs it: what decides the result, and where things are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ablate.data.packs import Presized


@dataclass(frozen=True)
class Job:
    """Everything that one stage's process needs, and nothing else. Pickles.

    Args:
        key: The stage's key.
        label: What to call it in front of people.
        settings: The identity that the key is the hash of; alone decides the result.
        folder: Where to write: empty, and the job's own. Checkpoints go beside it.
        data: The recipe's data section, to find the images by.
        fold: Which of the recipe's folds.
        quick: Whether only a sample of the images is used.
        weights: The file of initial weights, if any.
        parents: Folders of finished stages by key.
        device: The device's name.
        threads: Torch threads.
        workers: Loader threads, or processes for item transforms from elsewhere.
        presized: The cached images by presize.
        skipped: The numbers of the items that are left out.
        pixel_mean: Of the training split.
        pixel_std: Likewise.
        technique_files: The texts of the recipe's own techniques, by file name without `.py`.
        environment: Variables that its process has beside those of whoever starts it, such as the devices
            that a scheduler gives it.
    """

    key: str
    label: str
    settings: dict[str, Any]
    folder: str
    data: dict[str, Any]
    fold: int = 0
    quick: bool = False
    weights: str | None = None
    parents: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    presized: dict[int, Presized] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    technique_files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> int:
        """How many devices of one machine it takes; a preflight as many as any of its stages."""
        return max(one.get("devices", 1) for one in (self.settings, *self.settings.get("stages", ())))
