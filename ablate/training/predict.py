"""Predict one split with a trained network, and write the predictions down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastai.learner import Learner
from torch import Tensor

from ablate.analysis.names import MOST_CLASSES
from ablate.data.draws import Drawer
from ablate.data.items import Item
from ablate.streams import Streams
from ablate.techniques import compose
from ablate.techniques.base import View
from ablate.techniques.prediction_batch_norm import batch_statistics, filled_batch_size
from ablate.training.parts import Parts

PREDICTIONS = "predictions.parquet"
TOP = 10
"""Above `MOST_CLASSES`, so many classes of each item are kept."""
AT_ONCE = 20_000_000
"""About so many probabilities are in memory at once, for each view of the items."""
_BLOCK = 1_000_000
"""So many are ranked at once: they stay in the processor's cache."""


def predict(learn: Learner, parts: Parts, items: Sequence[Item], streams: Streams) -> np.ndarray:
    """Class probabilities of some items, as the variant's techniques make them.

    Args:
        learn: Trained; its validation loader gives the transforms.
        parts: The last phase's parts, with the techniques that change prediction.
        items: What to predict.
        streams: The streams of prediction, for random views.

    Returns:
        float32 of shape (n, classes), in the order of `items`.
    """
    loader = learn.dls.test_dl(items)

    def plain(view: View) -> Tensor:
        size = filled_batch_size(len(items), loader.bs) if view.batch_statistics else loader.bs
        seen = loader.new(bs=size)
        drawer = Drawer(streams, view.transforms) if view.transforms else None
        seen.keyed(streams, drawer, fetch=loader.fetch)
        seen.epoch, seen.fills = view.copy, not view.batch_statistics
        with batch_statistics(learn.model) if view.batch_statistics else nullcontext():
            return learn.get_preds(dl=seen, reorder=False)[0]

    predictor = compose.predictor(parts.on.values(), plain, parts.context)
    return predictor(View()).float().cpu().numpy()


def chunks(n_items: int, n_classes: int, batch_size: int) -> Iterator[slice]:
    """Parts of some items, each of whole batches and about `AT_ONCE` probabilities.

    What is predicted is the same as in one piece: a batch holds the same items, and what is drawn for an item
    goes by its number.
    """
    size = max(AT_ONCE // (n_classes * batch_size), 1) * batch_size
    return (slice(begin, begin + size) for begin in range(0, n_items, size))


def predicted_columns(
    learn: Learner, parts: Parts, items: Sequence[Item], streams: Streams
) -> dict[str, np.ndarray] | None:
    """What `kept_columns` keeps of the predictions of any number of items; None where some are not finite.

    Args are those of `predict`.
    """
    assert parts.phase.batch_size
    n_classes = len(parts.items.classes)
    targets = np.array([item.target for item in items], dtype=np.int64)
    kept = [kept_columns(np.empty((0, n_classes), np.float32), targets[:0])]
    for part in chunks(len(items), n_classes, parts.phase.batch_size):
        probabilities = predict(learn, parts, items[part], streams)
        if not np.isfinite(probabilities).all():
            return None
        kept.append(kept_columns(probabilities, targets[part]))
    return joined(kept)


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of several parts, one below the other."""
    return {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}


def kept_columns(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of predictions that tell what was predicted.

    Args:
        probabilities: float32 of shape (n, K).
        targets: The true classes, shape (n,).

    Returns:
        Columns of shape (n,): `pred`, then `p_0 … p_{K-1}` up to 1,000 classes. Above that `top_1 … top_10`
        (the most probable classes), `p_top_1 … p_top_10`, `p_target` and `rank_target` (1 for the most
        probable). Of equally probable classes the later one comes first, as in scikit-learn's
        `top_k_accuracy_score`.
    """
    n, n_classes = probabilities.shape
    if n_classes <= MOST_CLASSES:
        return {"pred": probabilities.argmax(1)} | {f"p_{k}": probabilities[:, k] for k in range(n_classes)}
    rows = max(_BLOCK // n_classes, 1)
    blocks = (slice(begin, begin + rows) for begin in range(0, max(n, 1), rows))
    return joined([_top_columns(probabilities[block], targets[block]) for block in blocks])


def _top_columns(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    columns = {"pred": probabilities.argmax(1)}
    n_classes = probabilities.shape[1]
    # the bits of floats that are not negative are in their order; the class decides between equals
    keys = (probabilities.view(np.int32).astype(np.int64) << 32) | np.arange(n_classes)
    top = np.sort(np.partition(keys, n_classes - TOP, axis=1)[:, -TOP:], axis=1)[:, ::-1]
    classes = (top & 0xFFFFFFFF).astype(np.int32)
    chances = np.take_along_axis(probabilities, classes, axis=1)
    own = np.take_along_axis(keys, targets[:, None], axis=1)
    columns |= {f"top_{i + 1}": classes[:, i] for i in range(TOP)}
    columns |= {f"p_top_{i + 1}": chances[:, i] for i in range(TOP)}
    columns["p_target"] = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    columns["rank_target"] = (1 + (keys > own).sum(axis=1)).astype(np.int32)
    return columns


def write_predictions(folder: Path, items: Sequence[Item], columns: Mapping[str, np.ndarray]) -> None:
    """Write `predictions.parquet`: item, group, target, and what `kept_columns` gives."""
    about = {
        "item": pa.array([item.id for item in items]),
        "group": pa.array([item.group for item in items]),
        "target": pa.array([item.target for item in items], pa.int64()),
    }
    pq.write_table(pa.table(about | dict(columns)), folder / PREDICTIONS, compression="zstd")
