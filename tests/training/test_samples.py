"""The picture of a phase's training images against the images, mixed and put side by side by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.torch_core import TensorImage
from PIL import Image
from stages import Runner
from torch import Tensor, nn

from ablate.devices.cpu import Cpu
from ablate.errors import StageStopped
from ablate.training.data import dataloaders
from ablate.training.fit import fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixBatches
from ablate.training.samples import Samples
from ablate.training.stage import build_parts

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
GAP = 2


class Roll:
    """Mixes each image with the one before it: three tenths of itself."""

    name: ClassVar[str] = "roll"
    weight = 1.0

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        partner = torch.arange(len(x)).roll(1)
        return 0.3 * x + 0.7 * x[partner], partner, torch.full((len(x),), 0.3)


def pasted(images: np.ndarray) -> np.ndarray:
    """Images of shape (n, h, w, 3) in rows of four on black, two pixels between and around them."""
    n, height, width, _ = images.shape
    rows = -(-n // 4)
    sheet = Image.new("RGB", (GAP + min(n, 4) * (width + GAP), GAP + rows * (height + GAP)))
    for i, image in enumerate(images):
        at = GAP + i % 4 * (width + GAP), GAP + i // 4 * (height + GAP)
        sheet.paste(Image.fromarray(np.clip(image.round(), 0, 255).astype(np.uint8)), at)
    return np.asarray(sheet).astype(float)


def picture(jpeg: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB")).astype(float)


def colours(n: int, side: int, channels: int = 3) -> np.ndarray:
    """Images of one colour each, uint8 of shape (n, channels, side, side)."""
    rng = np.random.default_rng(0)
    return np.broadcast_to(
        rng.integers(0, 256, (n, channels, 1, 1), dtype=np.uint8), (n, channels, side, side)
    ).copy()


class MeanColour(nn.Linear):
    """The smallest network that there is, of images of any size and type."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.as_subclass(Tensor).float().mean((2, 3)))


def fitted(tmp_path: Path, images: np.ndarray, transforms: list[Any], *callbacks: Any) -> np.ndarray:
    """The picture of a plain fastai fit on images in their order, 20 to a batch."""
    pairs = [(TensorImage(torch.from_numpy(image)), torch.tensor(i % 3)) for i, image in enumerate(images)]
    dls = DataLoaders(*(TfmdDL(pairs, bs=20, after_batch=transforms, num_workers=0) for _ in range(2)))
    learn = Learner(
        dls, MeanColour(images.shape[1], 3), CrossEntropyLossFlat(), cbs=list(callbacks), path=tmp_path
    )
    samples = Samples()
    quiet(learn).fit(2, 1e-3, cbs=[samples])
    samples.write(tmp_path)
    return picture((tmp_path / "samples.jpg").read_bytes())


def last(images: np.ndarray) -> np.ndarray:
    """Shape (n, c, h, w) to (n, h, w, 3)."""
    images = images.astype(float).transpose(0, 2, 3, 1)
    return images.repeat(3, axis=3) if images.shape[3] == 1 else images


def test_mixed_normalized_images_look_as_they_were_mixed(tmp_path: Path):
    images = colours(30, 16)
    transforms = [IntToFloatTensor(), Normalize.from_stats(MEAN, STD, cuda=False)]
    found = fitted(tmp_path, images, transforms, MixBatches([Roll()]))
    batch = last(images[:20])
    expected = pasted((0.3 * batch + 0.7 * np.roll(batch, 1, axis=0))[:16])
    assert found.shape == expected.shape == (74, 74, 3)
    assert np.abs(found - expected).mean() < 4
    assert np.abs(found - pasted(batch[:16])).mean() > 20


@pytest.mark.parametrize("transforms", [[], [IntToFloatTensor()]], ids=["uint8", "floats"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 6, 30])
def test_any_channels_levels_and_few_images(tmp_path: Path, transforms: list[Any], channels: int, count: int):
    images = colours(count, 16, channels)
    found = fitted(tmp_path, images, transforms)
    expected = pasted(last(images[:16, : 3 if channels > 2 else 1]))
    if count == 1:
        expected = expected[GAP:-GAP, GAP:-GAP]
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4


def test_large_images_are_made_small(tmp_path: Path):
    images = np.concatenate([colours(16, 300), np.zeros((16, 3, 300, 150), np.uint8)], axis=3)[..., :450]
    found = fitted(tmp_path, images, [IntToFloatTensor()])
    small = np.stack(
        [np.asarray(Image.fromarray(own).resize((112, 74))) for own in last(images).astype(np.uint8)]
    )
    expected = pasted(small.astype(float))
    assert found.shape[1] == 4 * 112 + 5 * GAP
    assert abs(found.shape[0] - expected.shape[0]) <= 4
    cell = found[GAP : GAP + 70, GAP : GAP + 70], expected[GAP : GAP + 70, GAP : GAP + 70]
    assert np.abs(cell[0] - cell[1]).mean() < 4
    assert found[GAP + 10, GAP + 100].max() < 10


STUDY = {"study__baseline": ["normalize", "augment"], "study__vary": ["mixup"]}


@pytest.mark.parametrize(
    "options", [{}, {"precision": "bfloat16", "micro_batch": 4}], ids=["plain", "in parts"]
)
def test_a_stage_shows_the_first_batch_of_its_loader(runner: Callable[..., Runner], options: dict[str, Any]):
    made = runner(**STUDY, **options)
    stage = made.fit(phase=0)
    found = picture((made.run(stage) / "samples.jpg").read_bytes())
    batch = next(iter(dataloaders(build_parts(made.job(stage), stage.settings)).train))[0]
    images = last(batch.as_subclass(Tensor).numpy()) * STD + MEAN
    assert images.shape == (6, 32, 32, 3)
    error = np.abs(found - pasted(images * 255)).mean()
    assert error < 8
    assert np.abs(found - pasted(images[::-1] * 255)).mean() > 4 * error  # these are not all alike


def test_a_network_with_a_table_and_one_for_digits(runner: Callable[..., Runner], tmp_path: Path):
    table = {"data__tabular": {"categorical": ["patient"]}, "study__baseline": ["tabular"]}
    made = runner(**table)
    assert picture((made.run(made.fit(phase=0)) / "samples.jpg").read_bytes()).any()
    digits = runner("digits", data={"source": "digits"}, size=8, presize=8, batch_size=256)
    found = picture((digits.run(digits.fit(phase=0)) / "samples.jpg").read_bytes())
    assert found.shape == (42, 42, 3)
    assert np.abs(found - found.mean(2, keepdims=True)).max() < 3  # they are grey


def test_an_interrupted_fit_shows_the_same(runner: Callable[..., Runner]):
    whole, parts = runner("whole", **STUDY), runner("parts", **STUDY)
    stage = whole.fit("baseline+mixup", phase=1)
    for made in (whole, parts):
        made.run_needed(stage.parents[0])
    with pytest.raises(StageStopped):
        parts.run(stage, stopping=lambda: True)
    pictures = [(made.run(stage) / "samples.jpg").read_bytes() for made in (whole, parts)]
    assert pictures[0] == pictures[1]


def test_nothing_else_changes(parts: Callable[..., Any]):
    weights = []
    for own in ([], [Samples()]):
        made = parts(on=("augment", "mixup", "cutmix", "random_erasing"))
        learn = quiet(build_learner(made, dataloaders(made)))
        fit_phase(learn, made.phase, [1e-2] * 2, own)
        weights.append(learn.model.state_dict())
    assert own[0].jpeg is not None
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_a_device_that_compiles_is_left_alone(tmp_path: Path, parts: Callable[..., Any], monkeypatch):
    made, samples = parts(), Samples()
    learn = quiet(build_learner(made, dataloaders(made)))
    monkeypatch.setattr(Cpu, "fixed_shapes", True)
    fit_phase(learn, made.phase, [1e-3] * 2, [samples])
    samples.write(tmp_path)
    assert not (tmp_path / "samples.jpg").exists()
