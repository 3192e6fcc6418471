"""The mean of the probabilities that several networks give: a bagged ensemble (Breiman 1996)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from fastai.callback.core import Callback
from fastai.learner import Learner

from ablate import devices
from ablate.data.items import Columns, Item, Items
from ablate.data.splits import Fold
from ablate.errors import AblateError, Damaged
from ablate.prediction.look import Looked
from ablate.prediction.networks import Network
from ablate.streams import Streams
from ablate.training.best import weights_name
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts
from ablate.training.predict import chunks, predict
from ablate.training.stage import described_parts
from ablate.training.weights import load_weights

Report = Callable[[int, int, str], None]
"""Told how many images are done, how many there are, and what is being done."""


@dataclass(frozen=True)
class Place:
    """Where networks run; changes nothing but speed, and last bits.

    Args:
        device: cpu, cuda, mps, xla.
        threads: Torch threads; None leaves them as they are.
        workers: Loader threads.
    """

    device: str = "cpu"
    threads: int | None = None
    workers: int = 0

    def start(self, deterministic: bool) -> None:
        """Prepare the process."""
        import torch

        devices.load(self.device).start(self.threads or torch.get_num_threads(), deterministic)


class AskedFor(Columns):
    """Images to predict, then stand-ins for the training images: as many of each class, without pixels.

    So whatever is built for prediction sees the training split that it was built with in training.

    Args:
        images: The images; their numbers are those of the draws.
        train_counts: How many training images each class had.
    """

    def __init__(self, images: Sequence[Item], train_counts: Sequence[int]):
        self.images = images
        trained = np.repeat(np.arange(len(train_counts)), train_counts)
        self.targets = np.concatenate([np.zeros(len(images), np.int64), trained])
        self.groups = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        if number < len(self.images):
            return self.images[number]
        blank = np.zeros((8, 8, 3), np.uint8)
        return Item(
            number, f"training {number}", blank, int(self.targets[number]), cells=self.images[0].cells
        )


def trained(network: Network, looked: Looked, place: Place) -> tuple[Learner, Parts]:
    """A network with its weights, ready to predict; its validation side is the images.

    Raises:
        AblateError: Its weights are missing or damaged.
    """
    inputs = network.inputs
    items = AskedFor(looked.images.items, inputs.train_counts)
    training = np.arange(len(looked.images.items), len(items))
    parts = described_parts(
        network.settings | {"stream": None},
        sources=network.technique_sources,
        items=Items(items, inputs.classes),
        fold=Fold(training, looked.usable, np.zeros(0, np.int64)),
        pixel_mean=inputs.pixel_mean,
        pixel_std=inputs.pixel_std,
        encoder=inputs.encoder,
        device=place.device,
        workers=place.workers,
        presized=looked.presized,
    )
    learn = quiet(build_learner(parts, dataloaders(parts), initial=False))
    try:
        load_weights(learn, network.folder, weights_name(network.folder, network.settings["keep"]))
    except Damaged:
        raise network.unusable() from None
    return learn, parts


def mean_probabilities(
    networks: Sequence[Network], looked: Looked, place: Place, report: Report
) -> Iterator[tuple[slice, np.ndarray]]:
    """Class probabilities of images, the mean over networks, each predicting as its variant does.

    Yields:
        Which of the images, and float32 of shape (n, classes): a part at a time, as large as memory allows.

    Raises:
        AblateError: Weights are missing or damaged, or a network gives no numbers.
    """
    settings = networks[0].settings
    place.start(bool(settings.get("deterministic")))
    count, n_classes = len(looked.usable), len(networks[0].inputs.classes)
    for part in chunks(count, n_classes, settings["phase"]["batch_size"]):
        total: np.ndarray | None = None
        for number, network in enumerate(networks, 1):
            learn, parts = trained(network, looked, place)
            learn.add_cb(Counted(report, part.start, count, f"network {number} of {len(networks)}"))
            streams = Streams(network.seed, "predict", network.settings["salt"])
            probabilities = predict(learn, parts, parts.side("valid")[part], streams)
            if not np.isfinite(probabilities).all():
                raise AblateError(
                    f"{network.folder}: its network ({network.name}) gives probabilities that are no numbers."
                )
            total = probabilities.astype(np.float64) if total is None else total + probabilities
        assert total is not None
        yield part, (total / len(networks)).astype(np.float32)


class Counted(Callback):
    """Tells how many images have been predicted, view by view."""

    def __init__(self, report: Report, before: int, total: int, what: str):
        self.report, self.before, self.total, self.what = report, before, total, what
        self.view = 0

    def before_validate(self) -> None:
        self.view += 1
        self.done = self.before

    def after_batch(self) -> None:
        self.done += len(self.learn.pred)  # of the real images
        view = f", view {self.view}" if self.view > 1 else ""
        self.report(self.done, self.total, f"images by {self.what}{view}")
