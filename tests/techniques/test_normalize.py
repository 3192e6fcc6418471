from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fastai.data.transforms import Normalize as FastaiNormalize
from fastai.vision.learner import vision_learner
from safetensors.torch import save_file

from ablate.data.float_table import FloatTable
from ablate.recipe.schema import Model
from ablate.techniques.normalize import IMAGENET, Normalize
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


def normalizers(loader: Any) -> list[FastaiNormalize]:
    steps = [
        step
        for own in loader.after_batch.fs
        for step in (own.steps if isinstance(own, FloatTable) else [own])
    ]
    return [step for step in steps if isinstance(step, FastaiNormalize)]


@pytest.fixture
def pretrained(tmp_path: Path) -> Model:
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return Model(arch="test_resnet", weights=str(path))


@pytest.mark.parametrize(("stats", "mean", "std"), [("imagenet", *IMAGENET), ("train", MEAN, STD)])
def test_the_statistics_reach_every_batch(stats: Any, mean: Any, std: Any, make_parts: Callable):
    given = {"pixel_mean": MEAN, "pixel_std": STD}
    plain, normalized = (dataloaders(make_parts(*on, **given)) for on in ((), (Normalize(stats=stats),)))
    centre, scale = (torch.tensor(values)[None, :, None, None] for values in (mean, std))
    items = [plain.valid_ds.items[0], plain.train_ds.items[3]]
    pairs = [(plain.train, normalized.train), (plain.valid, normalized.valid)]
    pairs += [(plain.test_dl(items), normalized.test_dl(items))]
    for without, loader in pairs:
        (raw, *_), (x, *_) = without.one_batch(), loader.one_batch()
        assert raw.min() >= 0
        assert raw.max() <= 1
        torch.testing.assert_close(x, (raw - centre) / scale)
        assert len(normalizers(loader)) == 1


def test_what_is_shown_is_what_was_read(make_parts: Callable):
    plain, normalized = (dataloaders(make_parts(*on)).valid for on in ((), (Normalize(),)))
    shown, expected = (loader.decode(loader.one_batch())[0].long() for loader in (normalized, plain))
    assert (shown - expected).abs().max() <= 1  # fastai cuts off the fraction


def test_off_leaves_no_trace_even_with_pretrained_weights(make_parts: Callable, pretrained: Model):
    parts = make_parts(model=pretrained)
    dls = dataloaders(parts)
    learn = build_learner(parts, dls)
    for loader in (dls.train, dls.valid, learn.dls.test_dl(parts.side("valid"))):
        assert not normalizers(loader)
        assert float(loader.one_batch()[0].max()) <= 1
    # fastai, left to itself, adds one
    overlay = {"pretrained_cfg_overlay": {"file": pretrained.weights}}
    vision_learner(dls, "test_resnet", pretrained=True, loss_func=learn.loss_func, **overlay)
    assert normalizers(dls.train)


def test_on_is_there_once_with_pretrained_weights(make_parts: Callable, pretrained: Model):
    parts = make_parts(Normalize(stats="train"), model=pretrained, pixel_mean=MEAN, pixel_std=STD)
    dls = dataloaders(parts)
    build_learner(parts, dls)
    for loader in dls.loaders:
        (normalizer,) = normalizers(loader)
        torch.testing.assert_close(normalizer.mean.flatten(), torch.tensor(MEAN))
        torch.testing.assert_close(normalizer.std.flatten(), torch.tensor(STD))
