"""The order of training: a technique's own, that of a stream of shards, or else the loader's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ablate.data.chosen import Chosen
from ablate.data.sharded import ShardItems
from ablate.data.streaming import fetching, stream_order
from ablate.streams import Streams
from ablate.training.parts import Parts

Order = Callable[[int], "np.ndarray | None"]


def training_order(parts: Parts) -> Order | None:
    """Gives the positions to visit in an epoch; None, or a rule that gives None, leaves it to the loader."""
    own = _own(parts)
    if parts.stream is None:
        return own
    assert parts.items.shards is not None
    return Streamed(parts.streams, parts.items.shards[parts.fold.train], parts.stream, own)


@dataclass(frozen=True)
class Streamed:
    """The order of a stream, where no technique has another.

    Args:
        streams: Those of the phase.
        shard_of_item: The shard of each training item, shape (n,).
        shards: How many are shuffled together.
        own: A technique's order.
    """

    streams: Streams
    shard_of_item: np.ndarray
    shards: int
    own: Order | None = None

    def __call__(self, epoch: int) -> np.ndarray:
        chosen = self.own(epoch) if self.own else None
        return (
            stream_order(self.streams, epoch, self.shard_of_item, self.shards) if chosen is None else chosen
        )


@dataclass(frozen=True)
class Fetch:
    """Fetches remote shards in the background, while positions before them are read.

    Args:
        ahead: How many shards.
    """

    ahead: int

    def __call__(self, items: Sequence[Any], positions: np.ndarray) -> Iterable[int]:
        """The same positions, each when its item's shard is here."""
        if not isinstance(items, Chosen) or not isinstance(items.items, ShardItems):
            return positions
        shards = items.items.shards
        if not any(shard.is_remote for shard in shards):
            return positions
        return fetching(positions, items.items.number[items.numbers], shards, self.ahead)


def _own(parts: Parts) -> Order | None:
    own = [technique for technique in parts.active if technique.overrides("sampler")]
    return partial(own[0].sampler, parts.context) if own else None
