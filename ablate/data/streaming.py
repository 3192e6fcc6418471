"""The order of training where only a few shards are read at a time, and the fetching of those that come next.

Shards are shuffled, taken in windows of k, and the items of each window shuffled together. So reading touches
k shards at a time, while an epoch stays a permutation of all items, drawn anew for every epoch. MosaicML's
Streaming shuffles shards and then blocks of items likewise (`shuffle_algo: py1br`,
https://docs.mosaicml.com/projects/streaming/en/stable/dataset_configuration/shuffling.html); a block here is
k whole shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import blake2b

import numpy as np

from ablate.data.ahead import in_order
from ablate.data.shards import Shard
from ablate.streams import Streams

_CONNECTIONS = 4


def stream_order(streams: Streams, epoch: int, shard_of_item: np.ndarray, shards: int) -> np.ndarray:
    """The order of an epoch, in windows of a few shards; a pure function of its arguments.

    Args:
        streams: Those of the phase.
        epoch: From 0.
        shard_of_item: The number of the shard that each training item lies in, integers of shape (n,).
        shards: How many shards make up a window.

    Returns:
        A permutation of 0 … n − 1, int64.
    """
    generator = streams.generator("order", epoch)
    names, shard = np.unique(shard_of_item, return_inverse=True)
    window = generator.permutation(len(names))[shard] // shards
    shuffled = generator.permutation(len(shard))
    return shuffled[np.argsort(window[shuffled], kind="stable")]


def layout(shard_of_item: np.ndarray) -> str:
    """A hash of how training items are spread over shards, which with the seed decides `stream_order`.

    Args:
        shard_of_item: As in `stream_order`.
    """
    shard = np.unique(shard_of_item, return_inverse=True)[1]
    return blake2b(shard.astype("<i8").tobytes(), digest_size=16).hexdigest()


def fetching(
    order: Sequence[int] | np.ndarray, shard_of_item: np.ndarray, shards: Sequence[Shard], ahead: int
) -> Iterator[int]:
    """An order, one position after the other, while the remote shards that it comes to next are fetched.

    Args:
        order: Positions, as from `stream_order`.
        shard_of_item: The position in `shards` of each item's shard, shape (n,).
        shards: All shards.
        ahead: How many shards to fetch before they are needed, such as those of one window.

    Raises:
        AblateError: A shard cannot be fetched, when its first item comes up.
    """
    used, firsts = np.unique(shard_of_item[np.asarray(order)], return_index=True)
    in_turn = np.argsort(firsts)
    begins = set(firsts.tolist())
    with (
        ThreadPoolExecutor(_CONNECTIONS) as pool,
        closing(in_order(pool, Shard.path, [shards[i] for i in used[in_turn]], ahead)) as fetched,
    ):
        for place, position in enumerate(order):
            if place in begins:
                next(fetched)
            yield int(position)
