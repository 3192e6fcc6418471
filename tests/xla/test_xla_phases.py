"""What a phase costs after others in the same process: its own shapes, and nothing from before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from separate import separately
from short_phase import noisy_photos, short_run
from stages import Runner

from ablate.study.graph import Stage
from ablate.training.stage import run_job

pytestmark = pytest.mark.xla

MOST = 5
"""Graphs of a phase, validation included."""
SETTLING = 1
"""The small graph before the first step goes by which tensors Python holds, others of the process too."""


def counting() -> Callable[[Callable[[], Any]], int]:
    """Counts the graphs that something compiles, in a process where nothing has run."""
    from backend import Graphs, prepare

    prepare()
    graphs = Graphs()

    def count(work: Callable[[], Any]) -> int:
        graphs.reset()
        work()
        return graphs.compiled

    return count


def two_sizes(photos: Path, root: Path) -> list[int]:
    """Graphs of a phase at 96 pixels, of the next one at 128, of each of them once more, of prediction."""
    count = counting()
    phases = [{"name": f"at_{size}", "epochs": 2, "lr": 1e-3, "size": size} for size in (96, 128)]
    on = {"normalize": {}, "augment": {}, "cutmix": {}}
    made = short_run(photos, root, "xla", on, size=128, presize=128, phases=phases)
    trial = made.trial()
    keys = [*trial.fits, *trial.fits, trial.predict]
    return [count(lambda stage=made.plan.stages[key]: made.run(stage)) for key in keys]


def test_another_size_costs_its_own_shapes_alone(tmp_path: Path):
    small, large, *again, predicted = separately(two_sizes, noisy_photos(tmp_path / "photos"), tmp_path)
    assert 2 <= small <= MOST
    assert 2 <= large <= MOST
    assert max(again) <= SETTLING
    assert predicted <= SETTLING


def preflight(made: Runner) -> None:
    """Try the training stages of the baseline once, as a study does before its first stage."""
    fits = [made.plan.stages[key] for key in made.trial().fits]
    settings = {"kind": "preflight", "stages": [stage.settings for stage in fits]}
    stage = Stage("preflight", "preflight", "preflight", settings, 0, fits[0].fold, (), None)
    made.folder(stage.key).mkdir(parents=True)
    run_job(made.job(stage), lambda _: None)


def after_preflight(photos: Path, root: Path, on: dict[str, Any]) -> list[int]:
    """Graphs of a preflight, and of the training stage that comes after it."""
    count = counting()
    made = short_run(photos, root, "xla", on)
    return [count(lambda: preflight(made)), count(lambda: made.run(made.fit()))]


@pytest.mark.parametrize(
    "on", [{"normalize": {}, "augment": {}, "cutmix": {}}, {"ema": {}}], ids=lambda on: " ".join(on)
)
def test_a_preflight_compiles_ahead(on: dict[str, Any], tmp_path: Path):
    ahead, then = separately(after_preflight, noisy_photos(tmp_path / "photos"), tmp_path, on)
    assert 2 <= ahead <= MOST
    assert then <= SETTLING
