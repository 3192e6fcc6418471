"""Which part of every training batch a process makes, where several train a network together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

Rows = TypeVar("Rows", bound=Any)
_BATCH_BITS = 40
"""Of an index, for the batch's number; those above are the rank."""


@dataclass(frozen=True)
class Share:
    """One process's part of the batches of an epoch: all of them, unless there are others.

    Args:
        rank: The process's number, from 0.
        ranks: How many processes there are.
    """

    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports for all."""
        return self.rank == 0

    def of(self, batch: Rows) -> Rows:
        """The rows of a batch that are this process's; those of all, one after the other, are the batch."""
        total = len(batch)
        return batch[total * self.rank // self.ranks : total * (self.rank + 1) // self.ranks]

    def index(self, batch: int) -> int:
        """What draws for the whole of a batch, such as dropout's, are keyed by: others in each process."""
        return batch + (self.rank << _BATCH_BITS)
