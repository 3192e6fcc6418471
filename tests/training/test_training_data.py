"""DataBlocks and loaders of a phase are plain fastai ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from fastai.data.block import DataBlock
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.vision.core import PILImage
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.float_table import FloatTable
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize
from ablate.devices.cpu import Cpu
from ablate.errors import AblateError
from ablate.training.data import Open, check_divides, datablock, dataloaders


def test_an_image_is_opened_from_items_files_bytes_and_pixels(parts, photos):
    item = parts().side("train")[0]
    opened = Open(Pixels(Presize(20)))
    for source in (item, item.image, str(item.image), item.image.read_bytes()):
        image = opened(source)
        assert isinstance(image, PILImage)
        assert min(image.size) == 20
        np.testing.assert_array_equal(np.asarray(image), np.asarray(opened(item)))


def test_the_datablock_is_fastais_own(parts):
    made = parts()
    block = datablock(made)
    assert isinstance(block, DataBlock)
    dls = block.dataloaders(made.side("train") + made.side("valid"), bs=4, num_workers=0)
    assert len(dls.train_ds) == 18
    assert len(dls.valid_ds) == 6
    assert list(dls.vocab) == ["cat", "dog", "fox"]


def test_sizes_and_labels_come_through(parts):
    made = parts()
    x, y = dataloaders(made).valid.one_batch()
    assert x.shape == (6, 3, 32, 32)
    assert x.dtype == torch.float32
    assert y.tolist() == [item.target for item in made.side("valid")]


def test_normalization_is_there_only_when_on(parts):
    on, off = dataloaders(parts()), dataloaders(parts(study__baseline=[]))
    held = []
    for dls in (on, off):
        (table,) = (t for t in dls.valid.after_batch.fs if isinstance(t, FloatTable))
        held.append([type(step) for step in table.steps])
        assert not any(isinstance(t, Normalize) for t in dls.valid.after_batch.fs)
    assert held == [[IntToFloatTensor, Normalize], [IntToFloatTensor]]
    plain, normalized = (dls.valid.one_batch()[0] for dls in (off, on))
    assert float(plain.min()) >= 0
    assert float(plain.max()) <= 1
    assert float(normalized.min()) < -0.5


def test_a_batch_larger_than_the_training_split_is_refused(parts):
    with pytest.raises(AblateError, match="batch_size: 19 is more than the 18 training images"):
        dataloaders(parts(batch_size=19))


@pytest.mark.parametrize(
    ("batch_size", "replicas", "proposed"),
    [(30, 4, "28 or 32"), (2, 4, "4"), (33, 8, "32 or 40"), (5, 4, "4 or 8"), (7, 8, "8")],
)
def test_a_batch_that_does_not_divide_is_refused(batch_size: int, replicas: int, proposed: str):
    with pytest.raises(
        AblateError,
        match=rf"^batch_size: {batch_size} images do not divide by the {replicas} processors that share a "
        rf"batch; set it to {proposed}\.$",
    ):
        check_divides(batch_size, replicas)


@given(batch_size=st.integers(1, 5000), replicas=st.integers(1, 64))
def test_batch_sizes_that_are_proposed_divide_and_are_the_nearest(batch_size: int, replicas: int):
    if batch_size % replicas == 0:
        check_divides(batch_size, replicas)
        return
    with pytest.raises(AblateError) as refused:
        check_divides(batch_size, replicas)
    proposed = [int(word) for word in re.findall(r"\d+", str(refused.value).split("set it to")[1])]
    near = range(batch_size - replicas + 1, batch_size + replicas)
    assert proposed == [size for size in near if size > 0 and size % replicas == 0]
    for size in proposed:
        check_divides(size, replicas)


def test_loaders_are_refused_where_a_batch_does_not_divide(parts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Cpu, "replicas", 4)
    with pytest.raises(AblateError, match="6 images do not divide by the 4 processors"):
        dataloaders(parts(batch_size=6))
    dataloaders(parts(batch_size=8))
