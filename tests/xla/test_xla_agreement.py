"""XLA and the CPU train, validate and predict alike, step by step, from the same streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_phase import STEPS, VALID, Trained, noisy_photos, results, short_run
from torch import nn

from ablate.devices.steady import in_training
from ablate.errors import AblateError

pytestmark = pytest.mark.xla

Train = Callable[..., tuple[Trained, dict[str, torch.Tensor]]]
CLOSE = 1e-3
"""Roundings make about 1e-5 of it, more where small gradients are normalized."""


@pytest.fixture
def train(xla: Any, tmp_path: Path) -> Train:
    """Trains on a device, with some techniques; what came of it, and the weights."""
    photos = noisy_photos(tmp_path / "photos")

    def run(device: str, on: Mapping[str, dict[str, Any]], **fields: Any) -> Any:
        made = short_run(photos, tmp_path / f"{device} {sorted(fields)}", device, on, **fields)
        return results(made), load_file(made.folder(made.trial().fits[-1]) / "weights.safetensors")

    return run


SEVERAL = {name: {} for name in ("normalize", "augment", "cutmix", "label_smoothing", "random_erasing")}
EACH: list[dict[str, Any]] = [
    *({}, {"ema": {}}, {"ema": {"decay": 0.7, "warmup": False}}, {"swa": {"share": 1.0}}, {"freeze_bn": {}}),
    {"layer_decay": {}, "schedule": {"warmup": 0.5, "per": "step"}},
    *({"sam": {"rho": 0.1}}, {"sam": {"adaptive": True}}, {"gradient_clip": {"max_norm": 0.5}}),
    *({"bce_loss": {}}, {"focal_loss": {}}, {"arcface": {}}, {"mixup": {}, "gridmask": {}}),
    {"augment": {}, "tta": {"n": 2}},
]


@pytest.mark.parametrize(
    "on", [SEVERAL, *({"normalize": {}} | more for more in EACH)], ids=lambda on: " ".join(on)
)
def test_it_agrees_with_the_cpu(on: dict[str, Any], train: Train):
    (there, weights), (here, expected) = (train(device, on) for device in ("xla", "cpu"))
    assert here.losses.shape == (STEPS,)
    np.testing.assert_allclose(there.losses, here.losses, rtol=0, atol=CLOSE)
    figures = ["train_loss", "valid_loss", "accuracy"]
    np.testing.assert_allclose(there.history[figures], here.history[figures], rtol=0, atol=CLOSE)
    assert here.probabilities.shape == (VALID, 3)
    np.testing.assert_allclose(there.probabilities, here.probabilities, rtol=0, atol=CLOSE)
    assert weights.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=1e-4, msg=name)


def test_losses_move(train: Train):
    losses = train("xla", {"normalize": {}}, phases=[{"name": "tune", "epochs": 4, "lr": 5e-3}])[0].losses
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()


@pytest.mark.parametrize("rows", [16, 5])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batch_norm_counts_as_on_the_cpu(kind: Any, rows: int, xla: Any):
    """torch_xla itself takes the biased variance; `in_training` mends that."""
    x = torch.randn(rows, 3, *((2, 1) if kind is nn.BatchNorm2d else ()), generator=torch.Generator()) * 4
    expected = kind(3, momentum=0.3)
    norm = kind(3, momentum=0.3).to(xla.torch_device())
    for _ in range(2):
        out, wanted = in_training(norm, x.to(xla.torch_device())), expected(x)
        xla.end_step()
        torch.testing.assert_close(out.cpu(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.running_mean.cpu(), expected.running_mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.running_var.cpu(), expected.running_var, rtol=0, atol=1e-5)


def test_bfloat16_is_near_float32_without_a_loss_scaler(train: Train, xla: Any):
    rough, weights = train("xla", SEVERAL, precision="bfloat16")
    exact, _ = train("xla", SEVERAL)
    assert np.isfinite(rough.losses).all()
    assert 1e-4 < np.abs(rough.losses - exact.losses).max() < 0.1  # another precision, and the same training
    np.testing.assert_allclose(rough.probabilities, exact.probabilities, rtol=0, atol=0.05)
    assert not xla.scaler("bfloat16").is_enabled()
    assert {weight.dtype for weight in weights.values()} == {torch.float32, torch.int64}


def test_float16_is_refused(train: Train):
    message = r"^precision: float16 is not what XLA computes in; write bfloat16 or float32\.$"
    with pytest.raises(AblateError, match=message):
        train("xla", {}, precision="float16")
