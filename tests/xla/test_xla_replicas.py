"""One and four virtual devices of XLA's CPU backend train alike from the same global batches.

How many there are is fixed for a process, so each run has one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from real_runs import Runs
from separate import separately
from short_phase import BATCH, STEPS, TRAIN, VALID, noisy_photos, results, short_run
from timm.layers import convert_splitbn_model

from ablate import techniques
from ablate.techniques.base import Context, Technique

pytestmark = pytest.mark.xla

DEVICES = 4
MOST = 5
"""Graphs of a phase, validation included."""
CLOSE = 1e-4


class Rising(Technique):
    """Every batch goes from its darkest photo to its brightest: each device gets photos of another kind."""

    name: ClassVar[str] = "rising"

    def sampler(self, context: Context, epoch: int) -> np.ndarray | None:
        return np.arange(TRAIN).reshape(BATCH, -1).T.ravel()


class Apart(Technique):
    """What must not be: each quarter of a batch is normalized by its own statistics. timm's, for the CPU."""

    name: ClassVar[str] = "apart"

    def model(self, model: Any, context: Context) -> Any:
        model[0] = convert_splitbn_model(model[0], num_splits=DEVICES)
        return model


def know() -> None:
    """Add the techniques of this module, in a process that ends soon."""
    known = techniques.registry() | {technique.name: technique for technique in (Rising, Apart)}
    techniques.registry = lambda: known


def run_on(
    count: int, photos: Path, root: Path, on: Mapping[str, dict[str, Any]], device: str = "xla", **fields: Any
) -> dict[str, Any]:
    """Train on a number of devices; what came of it, what each step compiled, and what fell back."""
    os.environ["CPU_NUM_DEVICES"] = str(count)
    from backend import Graphs, prepare

    adapter = prepare()
    know()
    graphs, made = Graphs(), short_run(photos, root / f"{device} {count}", device, on, **fields)
    compiled: list[int] = []
    (fit,) = made.trial().fits
    made.run(made.plan.stages[fit], lambda message: compiled.append(graphs.compiled))
    compiled.append(graphs.compiled)
    found = results(made)
    return {
        "replicas": adapter.replicas,
        "losses": found.losses,
        "history": found.history[["train_loss", "valid_loss", "accuracy"]].to_numpy(),
        "probabilities": found.probabilities,
        "compiled": compiled,
        "fallbacks": graphs.fallbacks,
    }


SEVERAL = {name: {} for name in ("normalize", "augment", "cutmix", "label_smoothing", "random_erasing")}


@pytest.mark.parametrize(
    "on",
    [SEVERAL, {"rising": {}}, {"normalize": {}, "swa": {"share": 1.0}, "tta": {"n": 2}}],
    ids=lambda on: " ".join(on),
)
def test_devices_agree(on: dict[str, Any], tmp_path: Path):
    photos = noisy_photos(tmp_path / "photos")
    one, four = (separately(run_on, count, photos, tmp_path, on) for count in (1, DEVICES))
    assert [one["replicas"], four["replicas"]] == [1, DEVICES]
    assert one["losses"].shape == (STEPS,)
    assert one["probabilities"].shape == (VALID, 3)
    for name in ("losses", "history", "probabilities"):
        np.testing.assert_allclose(four[name], one[name], rtol=0, atol=CLOSE, err_msg=name)
    counts = four["compiled"]
    assert 2 <= counts[-1] <= MOST, counts
    assert len(set(counts[STEPS // 4 + 1 : -1])) == 1, counts  # nothing new after the first epoch
    assert four["fallbacks"] == {}


def test_devices_agree_in_micro_batches(tmp_path: Path):
    photos, on = noisy_photos(tmp_path / "photos"), {"normalize": {}, "mixup": {}}
    one, four = (
        separately(run_on, count, photos, tmp_path, on, micro_batch=BATCH // 2) for count in (1, DEVICES)
    )
    np.testing.assert_allclose(four["losses"], one["losses"], rtol=0, atol=CLOSE)
    assert four["compiled"][-1] <= MOST
    assert four["fallbacks"] == {}


def test_batch_norm_sees_the_whole_batch(tmp_path: Path):
    photos, on = noisy_photos(tmp_path / "photos"), {"rising": {}}
    four = separately(run_on, DEVICES, photos, tmp_path, on)
    whole = separately(run_on, 1, photos, tmp_path, on, "cpu")
    apart = separately(run_on, 1, photos, tmp_path / "apart", on | {"apart": {}}, "cpu")
    np.testing.assert_allclose(four["losses"], whole["losses"], rtol=0, atol=1e-3)
    assert np.abs(apart["losses"] - whole["losses"]).max() > 0.05  # so that each device's own would be seen


def layout(photos: Path, root: Path) -> dict[str, Any]:
    """How batches and a network lie on four devices, and how many bytes went there."""
    os.environ["CPU_NUM_DEVICES"] = str(DEVICES)
    from backend import prepare

    adapter = prepare()
    import torch_xla
    from torch_xla.debug import metrics

    from ablate.training.data import dataloaders
    from ablate.training.learner import build_learner, quiet

    def spec(tensor: torch.Tensor) -> str:
        return torch_xla._XLAC._get_xla_sharding_spec(tensor.as_subclass(torch.Tensor))

    made = short_run(photos, root, "xla", {"normalize": {}})
    parts = replace(made.recipe.parts("tune", ["normalize"]), device="xla")
    dls = dataloaders(parts)
    metrics.clear_all()
    host = torch.zeros(BATCH, 3, 32, 32, dtype=torch.uint8), torch.zeros(BATCH, dtype=torch.int64)
    ((x, y),) = adapter.feed(iter([host]))
    sent = metrics.metric_data("OutboundData")[1]
    adapter.end_step()
    batches = [*dls.train, *dls.valid]
    learn = quiet(build_learner(parts, dls))
    learn.fit(1)
    adapter.end_step()
    torch_xla.sync(wait=True)
    (shards,) = torch_xla._XLAC._get_local_shards([batches[-1][0].as_subclass(torch.Tensor)])
    return {
        "sent": sent,
        "bytes": sum(tensor.nbytes for tensor in host),
        "fed": [spec(x), spec(y)],
        "batches": [(tuple(images.shape), spec(images), spec(targets)) for images, targets in batches],
        "shards": [tuple(shard.shape) for shard, _ in shards],
        "parameters": {spec(parameter) for parameter in learn.model.parameters()},
    }


def test_each_device_gets_its_part_of_a_batch_and_the_whole_network(tmp_path: Path):
    found = separately(layout, noisy_photos(tmp_path / "photos"), tmp_path)
    images, targets = "{devices=[4,1,1,1]0,1,2,3}", "{devices=[4]0,1,2,3}"
    assert found["fed"] == [images, targets]
    assert found["sent"] == found["bytes"]  # and not four times as much
    assert found["batches"] == [((BATCH, 3, 32, 32), images, targets)] * 7  # the last one is filled up
    assert found["shards"] == [(BATCH // DEVICES, 3, 32, 32)] * DEVICES
    assert found["parameters"] <= {"", "{replicated}"}


STUDY: dict[str, Any] = {
    "name": "small",
    "model": {"arch": "test_resnet", "pretrained": False, "head": {}},  # without dropout
    "size": 32,
    "batch_size": BATCH,
    "phases": [{"name": "tune", "epochs": 3, "lr": 2e-3}],
    "study": {"baseline": ["normalize"], "vary": ["mixup"], "seeds": 2, "smallest_effect": 0.01},
}


def test_a_study_gives_the_same_table_within_seed_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from backend import ON_CPU

    for name, value in ON_CPU.items():
        monkeypatch.setenv(name, value)
    photos = str(noisy_photos(tmp_path / "photos"))
    data = {"root": photos, "table": "table.csv", "split": {"column": "is_val"}}
    running = []
    for count in (1, DEVICES):
        monkeypatch.setenv("CPU_NUM_DEVICES", str(count))
        runs = Runs(tmp_path / str(count), STUDY | {"data": data})
        running.append(runs.start("--device", "xla"))
    tables = []
    for one in running:
        assert one.wait() == 0, one.stderr
        tables.append(pd.read_csv(one.runs.study / "trials.csv"))
    one, four = (table.sort_values(["variant", "seed"]).set_index(["variant", "seed"]) for table in tables)
    assert list(four.index) == list(one.index)
    assert len(one) == 4
    assert set(four["status"]) == set(one["status"]) == {"ok"}
    for metric in ("accuracy", "log_loss"):
        means = [table[metric].groupby("variant").mean() for table in (one, four)]
        noise = np.sqrt(one[metric].groupby("variant").var().mean())  # of seeds within a variant
        assert 0 < noise < 0.2
        assert (means[1] - means[0]).abs().max() <= noise
        effects = [mean["baseline+mixup"] - mean["baseline"] for mean in means]
        assert abs(effects[1] - effects[0]) <= noise
