"""What people ask of a study's networks: predictions of images, embeddings, the nearest images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ablate import devices
from ablate.data.unseen import new_categories
from ablate.prediction.embeddings import embeddings, nearest, neighbours_table
from ablate.prediction.images import find_images
from ablate.prediction.look import Looked, look_at
from ablate.prediction.mean import Place, Report, mean_probabilities
from ablate.prediction.networks import Ensemble, Network
from ablate.prediction.submission import Meaning, Sample, fill, told, wanted
from ablate.prediction.tables import predicted_table
from ablate.study.planning import available_cores


@dataclass(frozen=True)
class Asking:
    """How something is asked, the same for everything that can be.

    Args:
        device: cpu, cuda, mps, xla or auto.
        threads: Torch threads; default as they are.
        workers: Loader threads; default by cores.
        skip_bad: Whether images that cannot be used are left out; else they are an error.
        report: Told of progress.
        note: Told what else a person wants to know.
    """

    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    skip_bad: bool = False
    report: Report = lambda done, total, what: None
    note: Callable[[str], None] = lambda text: None

    @property
    def place(self) -> Place:
        """Where the networks run."""
        workers = min(available_cores(), 8) if self.workers is None else self.workers
        return Place(devices.choose(self.device), self.threads, workers)

    def look(
        self,
        ensemble: Ensemble,
        networks: Sequence[Network],
        source: str | Path,
        root: str | Path | None,
        sample: Sample | None = None,
        option: str = "--images",
    ) -> Looked:
        """Find images and look at them; tells which are left out.

        Raises:
            AblateError: There are none, they cannot be used, or they are not those of a sample submission.
        """
        images = find_images(source, ensemble.data, root, option)
        if sample is not None:
            sample.places([item.id for item in images.items])
        looked = look_at(
            images,
            networks,
            cached=ensemble.recipe.data.is_cached,
            skip_bad=self.skip_bad,
            progress=lambda done, total: self.report(done, total, "new images looked at"),
            note=self.note,
        )
        for reason in looked.skipped.values():
            self.note(f"left out: {reason}")
        if ensemble.data.tabular:
            encoders = [network.inputs.encoder for network in networks if network.inputs.encoder]
            for line in new_categories(encoders, [item.cells for item in images.items]):
                self.note(line)
        if sample is not None:
            sample.places(looked.ids)
        return looked


def predict_images(
    ensemble: Ensemble,
    source: str | Path,
    asking: Asking,
    *,
    root: str | Path | None = None,
    sample: Sample | None = None,
    values: Meaning | None = None,
) -> pd.DataFrame:
    """What an ensemble predicts of images, the mean of its networks' probabilities.

    Args:
        ensemble: The networks.
        source: A folder of images, or a CSV table.
        asking: How.
        root: The folder of a table's images.
        sample: A sample submission.
        values: What its only column asks for; default by its name and values.

    Returns:
        A row per image, as `predicted_table` has it, or the submission.

    Raises:
        AblateError: Images, weights or the sample cannot be used.
    """
    networks, classes = ensemble.networks, ensemble.classes
    columns = wanted(sample, classes, values) if sample is not None else {}
    looked = asking.look(ensemble, networks, source, root, sample)
    parts = mean_probabilities(networks, looked, asking.place, asking.report)
    table = predicted_table(looked.ids, parts, classes)
    if sample is None:
        return table
    asking.note(told(columns))
    return fill(sample, columns, looked.ids, table)


def embed_images(
    ensemble: Ensemble, network: Network, source: str | Path, asking: Asking, root: str | Path | None = None
) -> tuple[list[str], np.ndarray]:
    """The ids of images, and their embeddings by one network; see `embeddings`."""
    looked = asking.look(ensemble, [network], source, root)
    return looked.ids, embeddings(network, looked, asking.place, asking.report)


def nearest_images(
    ensemble: Ensemble,
    network: Network,
    source: str | Path,
    asking: Asking,
    count: int,
    *,
    root: str | Path | None = None,
    gallery: str | Path | None = None,
    gallery_root: str | Path | None = None,
) -> pd.DataFrame:
    """The nearest images of each image, by the embeddings of one network; see `neighbours_table`.

    Args:
        ensemble: The network's.
        network: What embeds.
        source: A folder of images, or a CSV table.
        asking: How.
        count: How many neighbours.
        root: The folder of a table's images.
        gallery: Where the neighbours are looked for; default among the images, each without itself.
        gallery_root: The folder of the gallery's images, where that is a table.

    Raises:
        AblateError: Images or weights cannot be used.
    """
    looked = asking.look(ensemble, [network], source, root)
    vectors = embeddings(network, looked, asking.place, asking.report)
    among, others = looked, vectors
    if gallery is not None:
        among = asking.look(ensemble, [network], gallery, gallery_root, option="--gallery")
        others = embeddings(network, among, asking.place, asking.report)
    found, similar = nearest(vectors, others, count, themselves=gallery is None)
    return neighbours_table(looked.ids, among.ids, found, similar, among.labels)
