from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ablate.errors import AblateError
from ablate.recipe.schema import Model
from ablate.streams import Streams
from ablate.techniques.base import View
from ablate.techniques.normalize import Normalize
from ablate.techniques.prediction_batch_norm import (
    PredictionBatchNorm,
    batch_statistics,
    filled_batch_size,
)
from ablate.techniques.tta import TTA
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.predict import predict

PREDICTION = Streams(0, "predict")


def in_training(model: nn.Module) -> nn.Module:
    """The network as torch has it in training, but without dropout."""
    twin = copy.deepcopy(model).eval()
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    return twin


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_vit"])
def test_it_predicts_as_batch_norm_does_in_training(arch: str, make_parts: Callable):
    parts = make_parts(
        Normalize(), PredictionBatchNorm(), model=Model(arch=arch, pretrained=False), batch_size=16
    )
    learn = quiet(build_learner(parts, dataloaders(parts)))
    learn.fit(1, 1e-2)
    before = copy.deepcopy(learn.model.state_dict())
    found = predict(learn, parts, parts.side("valid"), PREDICTION)
    images = torch.cat([batch[0].as_subclass(Tensor) for batch in learn.dls.valid])
    with torch.no_grad():
        twin = in_training(learn.model)
        expected = torch.cat([twin(part).softmax(1) for part in images.split([14, 14, 12])])
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)
    after = learn.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    plain = learn.get_preds()[0].numpy()
    assert np.abs(plain - found).max() > 1e-3


def test_with_tta_every_view_has_its_own_statistics(make_parts: Callable):
    asked: list[View] = []

    def predictor(view: View) -> Tensor:
        asked.append(view)
        return torch.ones(2, 3)

    techniques = PredictionBatchNorm(), TTA(n=2)
    context = make_parts(*techniques).context
    for first, second in (techniques, techniques[::-1]):
        asked.clear()
        second.predict(first.predict(predictor, context), context)(View())
        assert len(asked) == 3
        assert all(view.batch_statistics for view in asked)


def test_a_network_is_as_it_was_even_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    x = torch.randn(6, 3) + 5
    with torch.no_grad():
        expected = model(x)
        with batch_statistics(model):
            torch.testing.assert_close(model(x).mean(0), torch.zeros(3), rtol=0, atol=1e-5)
        assert torch.equal(model(x), expected)
        with pytest.raises(ValueError, match="more than 1 value"), batch_statistics(model):
            model(x[:1])
        assert torch.equal(model(x), expected)


def test_a_network_without_batch_norm_is_refused():
    message = "the network has no batch norm; turn the technique off"
    with pytest.raises(AblateError, match=message), batch_statistics(nn.Linear(2, 2)):
        pass


@given(st.integers(2, 10**5), st.integers(16, 512))
def test_the_last_batch_is_as_full_as_can_be(count: int, most: int):
    def last(size: int) -> int:
        return count - (count - 1) // size * size

    size = filled_batch_size(count, most)
    assert most // 2 < size <= most
    assert 2 <= last(size) == max(last(other) for other in range(most // 2 + 1, most + 1))


def test_what_leaves_one_image_alone_is_refused():
    for count, most in ((1, 16), (3, 2), (13, 4), (5, 1)):
        with pytest.raises(AblateError, match=rf"{count} images in batches of {most} at most leave"):
            filled_batch_size(count, most)
    assert filled_batch_size(1025, 32) == 27
    assert filled_batch_size(20, 32) == 32


def test_one_image_is_refused(make_parts: Callable):
    parts = make_parts(PredictionBatchNorm())
    learn = quiet(build_learner(parts, dataloaders(parts)))
    with pytest.raises(AblateError, match="1 images in batches"):
        predict(learn, parts, parts.side("valid")[:1], PREDICTION)
    assert predict(learn, parts, parts.side("valid")[:17], PREDICTION).shape == (17, 10)


def test_it_costs_no_training():
    assert not PredictionBatchNorm().trains_in("tune")
