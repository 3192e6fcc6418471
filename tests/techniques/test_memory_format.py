from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ablate.techniques.memory_format import MemoryFormat
from ablate.techniques.normalize import Normalize
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner
from ablate.training.weights import memory_format

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def learner(make_parts: Callable, *on: Any) -> Any:
    parts = make_parts(Normalize(), *on)
    return build_learner(parts, dataloaders(parts))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_kernels_and_batches_are_laid_out(make_parts: Callable, layout: Any):
    learn = learner(make_parts, MemoryFormat(layout=layout))
    for kernel in learn.model.parameters():
        assert kernel.is_contiguous(
            memory_format=FORMATS[layout] if kernel.ndim == 4 else torch.contiguous_format
        )
    for loader in (learn.dls.train, learn.dls.valid, learn.dls.test_dl(learn.dls.valid_ds.items[:4])):
        images = loader.one_batch()[0]
        assert images.is_contiguous(memory_format=FORMATS[layout])
        assert not images.is_contiguous(
            memory_format=FORMATS["contiguous" if layout != "contiguous" else "channels_last"]
        )
    assert memory_format(learn.model) is FORMATS[layout]


def test_the_pixels_are_the_same(make_parts: Callable):
    plain, other = (learner(make_parts, *on).dls.train.one_batch() for on in ((), (MemoryFormat(),)))
    for a, b in zip(plain, other, strict=True):
        assert type(a) is type(b)
        assert torch.equal(a.as_subclass(Tensor), b.as_subclass(Tensor))


def test_training_gives_the_same_within_rounding(make_parts: Callable):
    losses = []
    for on in ((), (MemoryFormat(),), (MemoryFormat(layout="channels_last"),)):
        learn = learner(make_parts, *on)
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3)
        assert memory_format(learn.model) is (
            torch.contiguous_format if on == (MemoryFormat(),) else torch.channels_last
        )
        losses.append([float(loss) for loss in learn.recorder.losses])
    assert losses[0] == losses[2]  # the CPU's own layout
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_other_layouts():
    with pytest.raises(ValidationError):
        MemoryFormat.model_validate({"layout": "blocked"})
