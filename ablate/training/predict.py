"""Predict one split with a trained network, and write the predictions down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastai.learner import Learner
from torch import Tensor

from ablate.data.draws import Drawer
from ablate.data.items import Item
from ablate.streams import Streams
from ablate.techniques import compose
from ablate.techniques.base import View
from ablate.training.parts import Parts

PREDICTIONS = "predictions.parquet"


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
        seen = loader.new()
        drawer = Drawer(streams, view.transforms) if view.transforms else None
        seen.keyed(streams, drawer, fetch=loader.fetch)
        seen.epoch = view.copy
        return learn.get_preds(dl=seen, reorder=False)[0]

    predictor = compose.predictor(parts.on.values(), plain, parts.context)
    return predictor(View()).float().cpu().numpy()


def write_predictions(folder: Path, items: Sequence[Item], probabilities: np.ndarray) -> None:
    """Write `predictions.parquet`: item, group, target, pred, p_0 … p_{K-1}."""
    columns = {
        "item": pa.array([item.id for item in items]),
        "group": pa.array([item.group for item in items]),
        "target": pa.array([item.target for item in items], pa.int64()),
        "pred": pa.array(probabilities.argmax(1), pa.int64()),
    }
    columns |= {f"p_{k}": pa.array(probabilities[:, k], pa.float32()) for k in range(probabilities.shape[1])}
    pq.write_table(pa.table(columns), folder / PREDICTIONS, compression="zstd")
