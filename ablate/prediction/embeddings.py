"""Embeddings: what a network's output layer sees of an image, on the unit sphere; and the nearest images.

So images can be found again that show a class which no training image had (landmarks, faces): the angle
between two embeddings tells how alike two images are (Deng et al., ArcFace, CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fastai.learner import Learner

from ablate.errors import AblateError
from ablate.files import replace_file
from ablate.prediction.look import Looked
from ablate.prediction.mean import Counted, Place, Report, trained
from ablate.prediction.networks import Network
from ablate.training.output import output_layer
from ablate.training.predict import chunks

AT_ONCE = 16_000_000
"""So many similarities are in memory at once."""


def embeddings(network: Network, looked: Looked, place: Place, report: Report) -> np.ndarray:
    """The embeddings of images by one network, each of length 1, without augmented views.

    Those of several networks have nothing to do with each other, so there is no mean of them.

    Returns:
        float32 of shape (n, d), d the width of the last layer's input.

    Raises:
        AblateError: Its weights are missing or damaged, or an embedding is no direction.
    """
    place.start(bool(network.settings.get("deterministic")))
    learn, parts = trained(network, looked, place)
    count = len(looked.usable)
    batch_size = network.settings["phase"]["batch_size"]
    found = []
    for part in chunks(count, len(parts.items.classes), batch_size):
        learn.add_cb(counting := Counted(report, part.start, count, f"the network of {network.name}"))
        items = parts.side("valid")[part]
        loader = learn.dls.test_dl(items)
        with _seen_by_output(learn) as seen:
            learn.get_preds(dl=loader, reorder=False)
        learn.remove_cb(counting)
        found.append(np.concatenate(seen)[: len(items)])  # the last batch may have been filled up
    return normalised(np.concatenate(found))


@contextmanager
def _seen_by_output(learn: Learner) -> Iterator[list[np.ndarray]]:
    """Gathers what the output layer is given, batch by batch."""
    seen: list[np.ndarray] = []

    def keep(_: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().float().cpu().numpy())

    handle = output_layer(learn.model).register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors of shape (n, d) divided by their lengths.

    Raises:
        AblateError: One has no length, or is not finite.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise AblateError(
            "embeddings: the network gives vectors that are zero or no numbers; choose another one."
        )
    return (vectors / lengths).astype(np.float32)


def write_embeddings(ids: Sequence[str], vectors: np.ndarray, path: Path) -> None:
    """Write embeddings, by the name's ending.

    Parquet and CSV have a row per image: `item`, `e_0 … e_{d-1}`; an `.npz` has the arrays `item` and
    `embeddings`.
    """
    if path.suffix == ".npz":

        def arrays(to: Path) -> None:
            with to.open("wb") as file:
                np.savez(file, item=np.array(list(ids), dtype=np.str_), embeddings=vectors)

        replace_file(path, arrays)
        return
    columns = {f"e_{i}": vectors[:, i] for i in range(vectors.shape[1])}
    table = pa.table({"item": pa.array(list(ids)), **columns})
    if path.suffix == ".parquet":
        replace_file(path, lambda to: pq.write_table(table, to, compression="zstd"))
    else:
        replace_file(path, lambda to: table.to_pandas().to_csv(to, index=False))


def nearest(
    queries: np.ndarray, gallery: np.ndarray, count: int, *, themselves: bool = False, at_once: int = AT_ONCE
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar vectors of a gallery, by the cosine of the angle.

    Args:
        queries: Shape (n, d), each of length 1.
        gallery: Shape (m, d), likewise.
        count: How many to find; all that there are, where there are fewer.
        themselves: Whether the two are the same vectors, and none is to find itself.
        at_once: How many similarities are in memory at once.

    Returns:
        Positions in the gallery, int64, and similarities, float32, both of shape (n, count), the nearest
        first.
    """
    count = min(count, len(gallery) - themselves)
    found = np.empty((len(queries), count), np.int64)
    similar = np.empty((len(queries), count), np.float32)
    rows = max(at_once // max(len(gallery), 1), 1)
    for begin in range(0, len(queries), rows):
        part = slice(begin, min(begin + rows, len(queries)))
        cosines = queries[part] @ gallery.T
        if themselves:
            cosines[np.arange(len(cosines)), np.arange(part.start, part.stop)] = -np.inf
        some = np.argpartition(-cosines, count - 1, axis=1)[:, :count] if count < cosines.shape[1] else None
        places = (
            np.tile(np.arange(cosines.shape[1]), (len(cosines), 1)) if some is None else np.sort(some, axis=1)
        )
        own = np.take_along_axis(cosines, places, axis=1)
        order = np.argsort(-own, axis=1, kind="stable")[:, :count]
        found[part] = np.take_along_axis(places, order, axis=1)
        similar[part] = np.take_along_axis(own, order, axis=1)
    return found, similar


def neighbours_table(
    ids: Sequence[str],
    gallery: Sequence[str],
    found: np.ndarray,
    similar: np.ndarray,
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A row per image and neighbour: `item`, `rank` (from 1), `neighbour`, `similarity`.

    With the gallery's labels also `label`, the neighbour's, and `vote`, the label whose neighbours have the
    largest sum of similarities for this item; of equal ones that of the nearest.
    """
    count = found.shape[1]
    table = pd.DataFrame(
        {
            "item": np.repeat(np.array(ids, dtype=object), count),
            "rank": np.tile(np.arange(1, count + 1), len(ids)),
            "neighbour": np.array(gallery, dtype=object)[found.ravel()],
            "similarity": similar.ravel(),
        }
    )
    if labels is None:
        return table
    table["label"] = np.array(labels, dtype=object)[found.ravel()]
    sums = table.groupby(["item", "label"], sort=False)["similarity"].sum().reset_index()
    best = sums.sort_values("similarity", ascending=False, kind="stable").drop_duplicates("item")
    table["vote"] = table["item"].map(best.set_index("item")["label"])
    return table
