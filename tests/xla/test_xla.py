"""What is special on XLA. Needs torch_xla, so it runs in an environment of its own: `pytest -m xla`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fastai.optimizer import OptimWrapper
from fastcore.foundation import L
from torch import Tensor, nn

from ablate import devices, techniques
from ablate.data.items import load_items
from ablate.data.splits import Fold
from ablate.errors import StageStopped
from ablate.recipe.data_schema import Data
from ablate.recipe.recipe import Recipe
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.study.job import Job
from ablate.study.plan import make_plan
from ablate.study.prepare import prepare
from ablate.techniques.augment import Augment
from ablate.techniques.base import Context, Technique
from ablate.techniques.cutmix import CutMix
from ablate.techniques.gridmask import GridMask
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.techniques.mixer import MixingTechnique
from ablate.techniques.mixup import MixUp
from ablate.techniques.normalize import Normalize
from ablate.techniques.random_erasing import RandomErasing
from ablate.techniques.tta import TTA
from ablate.techniques.unmixed import Unmixed
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, Report, fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixBatches
from ablate.training.parts import Parts
from ablate.training.predict import predict
from ablate.training.stage import run_job

pytestmark = pytest.mark.xla

DIGITS = load_items(Data(source="digits"))


class NoDropout(Technique):
    """Devices have generators of their own, so dropout cannot be the same on two of them."""

    name: ClassVar[str] = "no_dropout"

    def model(self, model: Any, context: Context) -> Any:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model


class Small(Technique):
    """A network that compiles in a second."""

    name: ClassVar[str] = "small"
    dropout: float = 0.2

    def model(self, model: Any, context: Context) -> Any:
        body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        return nn.Sequential(
            body, nn.Sequential(nn.Flatten(), nn.Dropout(self.dropout), nn.Linear(8 * 7 * 7, 10))
        )


def parts(device: str, *on: Technique, epochs: int = 1, n: int = 320) -> Parts:
    phase = Phase(
        name="tune", epochs=epochs, batch_size=32, size=32, presize=32, weight_decay=0.01, precision="float32"
    )
    return Parts(
        model=Model(arch="test_vit", pretrained=False),
        phase=phase,
        on={technique.name: technique for technique in on},
        streams=Streams(0, "tune"),
        items=DIGITS,
        fold=Fold(np.arange(n), np.arange(n, n + 96), np.arange(0)),
        device=device,
    )


def trained(own: Parts, rate: float = 5e-3, report: Report = lambda _: None) -> tuple[Any, Any]:
    learn = quiet(build_learner(own, dataloaders(own)))
    log = EpochLog(own.phase.name, report)
    assert fit_phase(learn, own.phase, [rate, rate], [log])
    return learn, log


MIXING = [
    *(MixUp(alpha=0.4), MixUp(folded=False, partner="other")),
    *(CutMix(), CutMix(per_image=True, place="inside", p=0.5)),
    *(GridMask(), GridMask(pattern="checkerboard"), Unmixed()),
]


@pytest.mark.parametrize("technique", MIXING, ids=lambda technique: technique.name)
def test_mixing_is_that_of_the_cpu(technique: MixingTechnique, xla: Any):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(16, 3, 20, 24, generator=generator), torch.randint(5, (16,), generator=generator)
    results = []
    for device in (torch.device("cpu"), xla.torch_device()):
        mixing = MixBatches([technique], Streams(0, "tune"))
        mixing.learn = learn = SimpleNamespace(loss_func=nn.CrossEntropyLoss(), cbs=L(mixing), epoch=0)
        mixing.before_fit()
        seen = []
        for learn.iter in range(5):
            learn.xb, learn.yb = (x.to(device),), (y.to(device),)
            mixing.before_batch()
            assert learn.xb[0].device.type == device.type
            loss = learn.loss_func(learn.xb[0].mean((2, 3)).repeat(1, 2), *learn.yb)
            seen.append([tensor.cpu() for tensor in (*learn.xb, *learn.yb, loss)])
            xla.end_step()
        results.append(seen)
    for here, there in zip(*results, strict=True):
        for a, b in zip(here, there, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("technique", MIXING[:-1], ids=lambda technique: technique.name)
def test_every_draw_is_the_same_graph(technique: MixingTechnique, xla: Any, graphs: Any):
    rng = np.random.default_rng(0)
    counts, totals = [], set()
    images = torch.rand(4, 3, 16, 16 + MIXING.index(technique))  # a size whose graph no other has compiled
    for _ in range(8):
        x = images.to(xla.torch_device())
        mixed, _, share = technique.mix(x, rng)
        total = mixed[0].sum() + share[0]
        xla.end_step()
        totals.add(float(total.cpu()))
        counts.append(graphs.compiled)
    assert len(totals) > 4
    assert counts[0] > 0
    assert counts[-1] == counts[1]


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_is_that_of_the_cpu_and_one_graph(mode: Any, xla: Any, graphs: Any):
    technique, images = RandomErasing(p=0.7, mode=mode, count=2), torch.rand(16, 3, 20, 24)
    counts = []
    for seed in range(6):
        here, there = (
            technique.change(images.to(device), np.random.default_rng(seed))
            for device in (torch.device("cpu"), xla.torch_device())
        )
        xla.end_step()
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-6)
        counts.append(graphs.compiled)
    assert counts[0] > 0
    assert counts[-1] == counts[1]


@pytest.mark.parametrize(
    "on",
    [
        [NoDropout(), Normalize(), Augment(), MixUp(), LabelSmoothing()],
        [Small(dropout=0.0), CutMix(), MixUp()],
    ],
    ids=["timm", "small"],
)
def test_a_phase_trains_and_agrees_with_the_cpu(on: list[Technique], xla: Any):
    here, there = (trained(parts(device, *on, epochs=3))[1] for device in ("cpu", "xla"))
    losses = [np.array([float(step["loss"]) for step in log.steps]) for log in (here, there)]
    np.testing.assert_allclose(losses[0][:5], losses[1][:5], atol=1e-3)
    assert [step["lr"] for step in here.steps] == [step["lr"] for step in there.steps]
    valid = [epoch["valid_loss"] for epoch in there.epochs]
    assert valid[-1] < valid[0]
    assert losses[1][-5:].mean() < losses[1][:5].mean()


def test_predictions_agree_with_the_cpu(xla: Any):
    on = [Normalize(), Augment(), TTA(n=2)]
    predictions = []
    for device in ("cpu", "xla"):
        own = parts(device, *on)
        learn = quiet(build_learner(own, dataloaders(own)))
        predictions.append(predict(learn, own, own.side("valid"), Streams(0, "predict")))
    assert predictions[1].shape == (96, 10)
    np.testing.assert_allclose(*predictions, atol=1e-4)


def test_dropout_is_keyed(xla: Any):
    device = xla.torch_device()

    def mask(seed: int) -> Tensor:
        xla.seed(seed)
        kept = nn.functional.dropout(torch.ones(1000, device=device), 0.5)
        xla.end_step()
        return kept.cpu()

    first = mask(2**62 + 1)
    assert torch.equal(mask(2**62 + 1), first)
    assert not torch.equal(mask(2**62 + 2), first)


def test_training_twice_gives_the_same(xla: Any):
    own = parts("xla", Small(), Normalize(), Augment(), MixUp())
    first, again = ([float(step["loss"]) for step in trained(own)[1].steps] for _ in range(2))
    assert first == again
    other = replace(own, streams=Streams(1, "tune"))
    assert [float(step["loss"]) for step in trained(other)[1].steps] != first


class OwnOptimizer(Technique):
    """One of torch's, whose state is partly on the host."""

    name: ClassVar[str] = "own_optimizer"

    def optimizer(self, optimizer: Any, context: Context) -> Any:
        return partial(OptimWrapper, opt=torch.optim.AdamW)


@pytest.mark.parametrize("own", [[], ["own_optimizer"]], ids=["fastai's Adam", "torch's AdamW"])
def test_a_stage_goes_on_from_a_checkpoint_as_if_undisturbed(
    own: list[str], xla: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = techniques.registry() | {technique.name: technique for technique in (Small, OwnOptimizer)}
    monkeypatch.setattr(techniques, "registry", lambda: known)
    recipe = Recipe.from_dict(
        {
            "name": "resumed",
            "data": {"source": "digits", "split": {"random": 0.9}},
            "model": {"arch": "test_vit", "pretrained": False},
            "size": 32,
            "batch_size": 32,
            "keep": "best",
            "phases": [{"name": "tune", "epochs": 3, "lr": [1e-3, 5e-3]}],
            "study": {"baseline": ["small", "normalize", "augment", "mixup", *own], "seeds": 1},
        }
    )
    prepared = prepare(recipe)
    stages = make_plan(recipe, prepared.identities, device="xla").stages.values()
    stage = next(stage for stage in stages if stage.kind == "fit")
    trained: list[int] = []

    def run(name: str, stopping: bool) -> dict[str, bytes]:
        out = tmp_path / name / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        data = recipe.data.model_dump(mode="json")
        job = Job(stage.key, stage.label, stage.settings, str(out), data, device="xla")
        run_job(
            job,
            lambda told: trained.append(told["epoch"]["epoch"]) if "epoch" in told else None,
            lambda: stopping,
        )
        timed = ("history.csv", "DONE.json")
        return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in timed}

    undisturbed = run("undisturbed", stopping=False)
    for _ in range(2):
        with pytest.raises(StageStopped):
            run("resumed", stopping=True)
    resumed = run("resumed", stopping=True)
    assert trained == [0, 1, 2, 0, 1, 2]
    assert resumed.keys() == undisturbed.keys()
    assert [name for name in undisturbed if resumed[name] != undisturbed[name]] == []


def test_the_device_starts(xla: Any):
    xla.start(1, False)
    assert xla.torch_device().type == "xla"
    assert devices.choose("xla") == "xla"
