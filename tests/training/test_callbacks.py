"""Micro-batches, precision and keyed dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ablate.training.callbacks import SingleBatch
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def gradients(made) -> tuple[dict[str, torch.Tensor], float]:
    """The gradients and the loss of one training batch, the network as it starts."""
    learn = quiet(build_learner(made, dataloaders(made)))
    for module in learn.model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True: None  # its sums over a batch are what micro-batches must change
    kept: dict[str, torch.Tensor] = {}

    class Keep(SingleBatch):
        def before_step(self) -> None:
            kept.update({n: p.grad.clone() for n, p in learn.model.named_parameters() if p.grad is not None})

        def after_batch(self) -> None:
            kept["loss"] = learn.loss.detach().clone()
            super().after_batch()

    learn.fit(1, cbs=Keep())
    return kept, float(kept.pop("loss"))


SUM = {"techniques__focal_loss": {"reduction": "sum"}}


@pytest.mark.parametrize(
    ("on", "options"),
    [
        ((), {}),
        (("mixup",), {}),
        (("cutmix", "gridmask", "random_erasing"), {}),
        (("label_smoothing",), {}),
        (("class_weights", "mixup"), {}),
        (("focal_loss",), SUM),
        (("focal_loss", "class_weights", "label_smoothing", "mixup"), SUM),
    ],
)
@pytest.mark.parametrize("size", [2, 4])
def test_micro_batches_add_up_to_the_whole_batch(parts, on, options, size):
    whole, whole_loss = gradients(parts(on=on, **options))
    split, split_loss = gradients(parts(on=on, micro_batch=size, **options))
    assert split_loss == pytest.approx(whole_loss, abs=1e-5)
    assert whole.keys() == split.keys()
    for name in whole:
        assert torch.allclose(whole[name], split[name], atol=2e-5), name


def test_a_single_batch_is_no_epoch_to_go_by(parts):
    learn = quiet(build_learner(made := parts(on=["early_stopping", "reduce_on_plateau"]), dataloaders(made)))
    seen = []
    learn.model.register_forward_hook(lambda module, *_: seen.append(module.training))
    learn.fit(1, cbs=SingleBatch())
    assert seen == [True, False]


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(parts):
    made = parts(precision="bfloat16")
    learn = quiet(build_learner(made, dataloaders(made)))
    seen = []
    next(m for m in learn.model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    learn.fit(1, cbs=SingleBatch())
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32}


def test_dropout_depends_on_the_batch_and_not_on_what_ran_before(parts):
    losses = []
    for disturbance in (0, 7):
        made = parts()
        learn = quiet(build_learner(made, dataloaders(made)))
        torch.manual_seed(disturbance)
        learn.fit_one_cycle(1, 1e-3)
        losses.append([float(loss) for loss in learn.recorder.losses])
    assert losses[0] == losses[1]
