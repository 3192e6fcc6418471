"""A study on XLA that is killed twice and goes on equals one that nothing disturbs."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from real_runs import Runs, kill, leftovers, outputs
from safetensors.torch import load
from short_phase import BATCH, noisy_photos, short_run

from ablate.errors import StageStopped

pytestmark = pytest.mark.xla

CLOSE = 1e-6
EPOCHS = 8


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the runs use XLA's CPU backend."""
    from backend import ON_CPU

    for name, value in ON_CPU.items():
        monkeypatch.setenv(name, value)


def study(photos: Path) -> dict[str, Any]:
    return {
        "name": "killed",
        "data": {"root": str(photos), "table": "table.csv", "split": {"column": "is_val"}},
        "model": {"arch": "test_resnet", "pretrained": False},
        "size": 32,
        "batch_size": BATCH,
        "phases": [{"name": "tune", "epochs": EPOCHS, "lr": 2e-3}],
        "study": {"baseline": ["normalize", "augment", "ema"], "vary": ["tta"], "seeds": 1, "retries": 1},
    }


def finished_epochs(runs: Runs) -> int:
    """How many epochs the only stage that is trained has behind it."""
    return max((int(one.name.removeprefix("epoch-")) + 1 for one in runs.checkpoints()), default=0)


def test_a_killed_run_goes_on_as_if_undisturbed(on_cpu: None, tmp_path: Path):
    recipe = study(noisy_photos(tmp_path / "photos"))
    quiet, disturbed = (Runs(tmp_path / name, recipe) for name in ("quiet", "disturbed"))
    calm, running = quiet.start("--device", "xla"), disturbed.start("--device", "xla")
    try:
        running.until(disturbed.checkpoints)
        assert sum(map(kill, running.stages())) == 1
        begun = finished_epochs(disturbed)
        assert 0 < begun < EPOCHS
        running.until(lambda: finished_epochs(disturbed) > begun)  # tried again, from where it was
        running.kill()
        between = finished_epochs(disturbed)
        assert begun < between < EPOCHS
        assert not disturbed.finished()
        running = disturbed.run("--device", "xla")
        assert running.process.returncode == 0, running.stderr
        told = re.findall(rf"epoch (\d) of {EPOCHS}:", running.stdout)
        assert int(told[0]) > between, running.stdout  # none of the earlier ones once more
        assert calm.wait() == 0, calm.stderr
    finally:
        calm.kill()
        running.kill()
    assert leftovers(disturbed.study, disturbed.store) == []
    assert_alike(outputs(quiet.study, quiet.store), outputs(disturbed.study, disturbed.store))


def assert_alike(expected: dict[str, Any], found: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    weights = [name for name in expected if name.endswith("weights.safetensors")]
    tables = [name for name in expected if name.endswith("predictions.parquet")]
    assert weights
    assert len(tables) >= 3  # two stages' and the study's
    for name in weights:
        one, other = load(expected[name]), load(found[name])
        assert one.keys() == other.keys()
        for key in one:
            torch.testing.assert_close(other[key], one[key], rtol=0, atol=CLOSE, msg=key)
    for name in tables:
        before, after = (pd.read_parquet(BytesIO(own[name])) for own in (expected, found))
        assert list(after["item"]) == list(before["item"])
        chances = [table.filter(regex=r"^p_").to_numpy() for table in (before, after)]
        np.testing.assert_allclose(*chances, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    "on", [{"ema": {}}, {"swa": {"share": 1.0}}, {"sam": {}, "cutmix": {}}], ids=lambda on: " ".join(on)
)
def test_a_stage_that_is_stopped_goes_on_as_if_undisturbed(on: dict[str, Any], xla: Any, tmp_path: Path):
    photos = noisy_photos(tmp_path / "photos")
    fields = {"keep": "best", "phases": [{"name": "tune", "epochs": 3, "lr": [1e-3, 5e-3]}]}
    undisturbed, disturbed = (
        short_run(photos, tmp_path / name, "xla", {"augment": {}, **on}, **fields)
        for name in ("quiet", "other")
    )
    fit = disturbed.fit()
    trained: list[int] = []

    def report(message: dict[str, Any]) -> None:
        if "epoch" in message:
            trained.append(message["epoch"]["epoch"])

    for _ in range(2):
        with pytest.raises(StageStopped):
            disturbed.run(fit, report, lambda: True)
    disturbed.run(fit, report, lambda: True)
    assert trained == [0, 1, 2]
    folders = [made.run_needed(fit.key) for made in (undisturbed, disturbed)]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0].keys() == files[1].keys()
    timed = {"history.csv", "DONE.json"}
    assert [name for name in files[0].keys() - timed if files[0][name] != files[1][name]] == []
    np.testing.assert_allclose(
        *(made.predictions().filter(regex=r"^p_").to_numpy() for made in (undisturbed, disturbed)),
        rtol=0,
        atol=CLOSE,
    )
