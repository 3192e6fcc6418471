"""What a stage is made of, as plain values: everything that its data, model and learner are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablate.data.chosen import Chosen
from ablate.data.items import Items
from ablate.data.packs import Presized
from ablate.data.share import Share
from ablate.data.splits import Fold
from ablate.data.tabular import TabularEncoder
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.techniques.base import Context, Technique


@dataclass(frozen=True)
class Parts:
    """One phase of one variant, seed and fold.

    Args:
        model: The network.
        phase: The phase, with every field resolved.
        on: The techniques that take part, by name.
        inactive: Those of them that do nothing in this phase but for their change of the network.
        streams: The phase's random streams.
        items: All items.
        fold: Which of them are trained and validated on.
        pixel_mean: Of the training split, per channel, in [0, 1].
        pixel_std: Likewise.
        device: The device's name.
        workers: Loader threads, or processes for item transforms from elsewhere; changes nothing but speed.
        presized: The cached images by presize; changes nothing but speed.
        jpeg: The quality at which presized images are kept as JPEGs; None keeps their pixels.
        stream: How many shards are shuffled together; None for all images.
        share: Which part of every training batch this process makes.
        encoder: Of the table's columns, where the recipe names some, by the training split.
    """

    model: Model
    phase: Phase
    on: Mapping[str, Technique]
    streams: Streams
    items: Items
    fold: Fold
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    device: str = "cpu"
    workers: int = 0
    presized: Mapping[int, Presized] = field(default_factory=dict)
    jpeg: int | None = None
    stream: int | None = None
    inactive: frozenset[str] = frozenset()
    encoder: TabularEncoder | None = None
    share: Share = field(default_factory=Share)

    @property
    def active(self) -> list[Technique]:
        """The techniques that do something in this phase."""
        return [technique for technique in self.on.values() if technique.name not in self.inactive]

    @property
    def table(self) -> TabularEncoder | None:
        """What encodes the second input of the network; None where it sees images alone."""
        return self.encoder if any(technique.reads_table for technique in self.on.values()) else None

    @property
    def context(self) -> Context:
        """What the techniques' hooks are told."""
        targets = self.items.targets[self.fold.train]
        return Context(
            phase=self.phase,
            n_classes=len(self.items.classes),
            streams=self.streams,
            on=self.on,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            train_targets=targets,
            classes=self.items.classes,
            n_tabular=len(self.table.features) if self.table else 0,
            device=self.device,
        )

    def side(self, split: str) -> Chosen:
        """The items of `train`, `valid` or `test`."""
        return Chosen(self.items.items, getattr(self.fold, split))
