"""A network as ONNX: from RGB pixels between 0 and 1 to class probabilities, normalisation included."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fastai.data.transforms import Normalize
from fastcore.basics import getcallable
from torch import Tensor, nn

from ablate.data.items import Item
from ablate.data.layout import Layout
from ablate.errors import AblateError
from ablate.files import replace_file
from ablate.prediction.images import Images
from ablate.prediction.look import Looked
from ablate.prediction.mean import Place, trained
from ablate.prediction.networks import Network
from ablate.techniques import compose
from ablate.training.parts import Parts

CLOSE = 1e-3
"""By how much the probabilities of the two may differ: they add up in another order."""


class FromPixels(nn.Module):
    """A network with what comes before and after it in prediction.

    Args:
        model: Gives the logits.
        mean: Per channel, subtracted from the pixels; zeros where nothing is.
        std: Per channel, which they are then divided by.
        activation: From logits to probabilities.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor, activation):  # type: ignore[no-untyped-def]
        super().__init__()
        self.model, self.activation = model, activation
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1).clone())
        self.register_buffer("std", std.reshape(1, 3, 1, 1).clone())

    def forward(self, images: Tensor, table: Tensor | None = None) -> Tensor:
        """Pixels of shape (n, 3, size, size) in [0, 1], and a table's features, to (n, classes)."""
        seen = (images - self.mean) / self.std
        return self.activation(self.model(seen) if table is None else self.model(seen, table))


def write_onnx(network: Network, path: Path) -> None:
    """Write a network as ONNX.

    Its inputs are `images`, float32 of shape (n, 3, size, size), RGB between 0 and 1; and for a network that
    sees a table `table`, float32 of shape (n, features), as `TabularEncoder.encode` makes them. Its output is
    `probabilities`, float32 of shape (n, classes). Views of test-time augmentation are not in it.

    Raises:
        AblateError: Its weights are missing or damaged, or what it does cannot be said in ONNX.
    """
    learn, parts = trained(network, _noise(network), Place())
    learn.model._compiled_call_impl = None  # torch.compile's, which cannot be exported
    learn.model.eval()
    mean, std = _statistics(network, parts)
    whole = FromPixels(learn.model, mean, std, getcallable(learn.loss_func, "activation")).eval()
    normalised, *table = (_plain(part) for part in learn.dls.valid.one_batch()[: learn.dls.n_inp])
    inputs = [(normalised * std + mean).contiguous(), *table]
    with torch.no_grad():
        ours, theirs = whole(*inputs), learn.get_preds(reorder=False)[0]
    if not torch.allclose(ours, _plain(theirs), atol=CLOSE):
        raise _cannot(network, "predicts through more than its normalisation and its layers")
    try:
        with _hushed():
            program = _program(whole, inputs)
    except Exception as error:  # the exporter's errors are of many kinds
        reason = error.__cause__ or error
        first = (str(reason).strip().splitlines() or [type(reason).__name__])[0][:200]
        raise _cannot(network, f"has an architecture that torch cannot express in it: {first}") from error
    replace_file(path, lambda to: program.save(str(to), external_data=False))


def _program(whole: FromPixels, inputs: list[Tensor]):  # type: ignore[no-untyped-def]
    names = ["images", "table"][: len(inputs)]
    batch = {0: torch.export.Dim("batch")}
    return torch.onnx.export(
        whole,
        tuple(inputs),
        input_names=names,
        output_names=["probabilities"],
        dynamic_shapes=tuple(batch for _ in inputs),
        dynamo=True,
        verbose=False,
    )


def _statistics(network: Network, parts: Parts) -> tuple[Tensor, Tensor]:
    """What images are normalised with, each of shape (1, 3, 1, 1)."""
    mean, std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    for technique in compose.ordered(parts.active):
        for transform in technique.batch_transforms(parts.context):
            if isinstance(transform, Normalize):
                mean, std = _plain(transform.mean).cpu(), _plain(transform.std).cpu()
            elif not isinstance(transform, Layout) and getattr(transform, "split_idx", None) != 0:
                raise _cannot(
                    network, f"has its images changed by {technique.name}, which is not put into it"
                )
    return mean, std


def _plain(tensor: Tensor) -> Tensor:
    """A tensor without fastai's type."""
    return tensor.as_subclass(Tensor)


def _cannot(network: Network, why: str) -> AblateError:
    return AblateError(f"--onnx: the network of {network.name} {why}; export it without --onnx.")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporter's words to programmers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _noise(network: Network) -> Looked:
    """Two images to try a network on."""
    size = network.settings["phase"]["size"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    encoder = network.inputs.encoder
    cells = tuple(None for _ in encoder.columns) if encoder else ()
    items = [Item(i, str(i), image, 0, cells=cells) for i, image in enumerate(pixels)]
    return Looked(Images(items), np.arange(2))
