from __future__ import annotations

import pytest
import torch
from fastai.torch_core import TensorCategory, TensorImage

from ablate.data.layout import Layout


@pytest.mark.parametrize("wanted", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_images_are_laid_out_and_all_else_stays(given: torch.memory_format, wanted: torch.memory_format):
    images = TensorImage(torch.rand(2, 3, 8, 8).contiguous(memory_format=given))
    labels, numbers = TensorCategory(torch.tensor([0, 1])), torch.rand(2, 5)
    shown, *others = Layout(wanted)((images, numbers, labels))
    assert shown.is_contiguous(memory_format=wanted)
    assert torch.equal(shown, images)
    assert type(shown) is TensorImage
    assert (shown.data_ptr() == images.data_ptr()) == (given == wanted)  # no copy without need
    assert others[0] is numbers
    assert others[1] is labels
