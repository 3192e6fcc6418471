"""Stock fastai on torch_xla: `aug_transforms`, `vision_learner`, and its own `CutMix` if asked for.

Nothing of fastai is changed. The one thing added is what any code on torch_xla must do: end a step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch_xla
from fastai.callback.core import Callback
from fastai.callback.mixup import CutMix
from fastai.callback.schedule import Learner  # noqa: F401  its module gives Learner fit_one_cycle
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from xla_counts import answer, fitted, rows


class EndStep(Callback):
    """Runs what has been recorded in a batch, as one graph if it can be."""

    order = 100

    def after_batch(self) -> None:
        torch_xla.sync()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--cutmix", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    set_seed(0)
    table = pd.DataFrame(rows(given.root))
    table["is_val"] = table["is_val"] == "True"
    dls = ImageDataLoaders.from_df(
        table,
        given.root,
        valid_col="is_val",
        item_tfms=Resize(round(given.size * 1.25)),
        batch_tfms=aug_transforms(size=given.size),
        bs=given.batch_size,
        num_workers=0,  # a process that runs XLA must not fork
        device=torch_xla.device(),
    )
    learn = vision_learner(dls, given.arch, pretrained=False, metrics=accuracy, cbs=EndStep())
    if given.cutmix:
        learn.add_cb(CutMix())
    with learn.no_bar(), learn.no_logging():
        answer([fitted(learn)], began)


if __name__ == "__main__":
    main()
