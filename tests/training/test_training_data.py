"""DataBlocks and loaders of a phase are plain fastai ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastai.data.block import DataBlock
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.vision.core import PILImage

from ablate.data.float_table import FloatTable
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize
from ablate.errors import AblateError
from ablate.training.data import Open, datablock, dataloaders


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
