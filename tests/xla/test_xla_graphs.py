"""Every technique on XLA: one graph per phase for training, few for the rest, and nothing left to the CPU.

Each trial runs in a process of its own, where nothing has been compiled before.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastai.callback.core import Callback
from separate import separately
from stages import Runner, tiny_recipe
from technique_settings import SETTINGS, all_at_once

from ablate import techniques
from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique

pytestmark = pytest.mark.xla

MOST = 5
"""Graphs of a phase, validation included."""
PHASES = [{"name": "early", "epochs": 3, "lr": 2e-3}, {"name": "late", "epochs": 3, "lr": [1e-3, 4e-3]}]
REFUSED = "torch_compile"
SINGLE = [
    pytest.param({name: options}, id=f"{name} {number}" if number else name)
    for name in techniques.registry()
    for number, options in enumerate(SETTINGS.get(name, [{}]))
    if name != REFUSED
]


class Stepwise(Technique):
    """Somebody's own that slices by a random number, so that every step is another graph."""

    name: ClassVar[str] = "stepwise"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Slice(Callback):
            run_valid = False

            def before_batch(self) -> None:
                x, rows = self.learn.xb[0], 1 + (7 * int(self.learn.train_iter)) % 29
                self.learn.xb = (x - x[:, :, :rows].mean(),)

        return [Slice()]


class LeftToHost(Technique):
    """Somebody's own that uses an operation which XLA does not have."""

    name: ClassVar[str] = "left_to_host"

    def callbacks(self, context: Context | None = None) -> list[Any]:
        class Solve(Callback):
            run_valid = False

            def before_batch(self) -> None:
                import torch

                x = self.learn.xb[0]
                one = torch.linalg.solve(
                    torch.eye(3, device=x.device), torch.ones(3, 1, device=x.device)
                ).mean()
                self.learn.xb = (x * one,)

        return [Solve()]


def run_trial(photos: Path, root: Path, on: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Run a trial with some techniques on; what was compiled and told in each of its stages.

    There are four steps to an epoch, and a smaller last batch to validate.
    """
    from backend import Graphs, prepare

    prepare()
    own = (Stepwise, LeftToHost)
    known = techniques.registry() | {technique.name: technique for technique in own}
    techniques.registry = lambda: known  # in a process that ends soon
    fields = {"study__baseline": list(on), "study__seeds": 1, "techniques": on, "phases": PHASES, **fields}
    if "tabular" in on:
        fields["data__tabular"] = {"categorical": ["patient"]}
    if "sigmoid_output" in on:
        fields["data__table"] = "two_classes.csv"
    recipe = tiny_recipe(photos, **{"model__arch": "test_tiny", "batch_size": 4, **fields})
    made, graphs, stages = Runner(recipe, root, device="xla"), Graphs(), []
    for key in (*made.trial().fits, made.trial().predict):
        graphs.reset()
        counts: list[tuple[str, int]] = []
        notes: list[str] = []

        def report(message: dict[str, Any], counts: Any = counts, notes: Any = notes) -> None:
            if "note" in message:
                notes.append(message["note"])
            else:
                counts.append(("epoch" if "epoch" in message else "step", graphs.compiled))

        made.run(made.plan.stages[key], report)
        stages.append(
            {"counts": counts, "compiled": graphs.compiled, "fallbacks": graphs.fallbacks, "notes": notes}
        )
    return stages


def assert_few_graphs(stages: list[dict[str, Any]]) -> None:
    for stage in stages:
        counts = stage["counts"]
        assert stage["compiled"] <= MOST, counts
        assert stage["fallbacks"] == {}
        assert stage["notes"] == []
        epochs = [[n for _, n in own] for kind, own in groupby(counts, lambda one: one[0]) if kind == "step"]
        for number, steps in enumerate(epochs):
            assert len(steps) >= 3
            # nothing new after the second step of a phase, nor after the first of later epochs
            assert len(set(steps[0 if number else 1 :])) == 1, counts
        reports = [n for kind, n in counts if kind == "epoch"]
        assert all(before == steps[0] for before, steps in zip(reports, epochs[1:], strict=False)), counts
    assert stages[0]["compiled"] >= 2  # what is counted is there


@pytest.mark.parametrize("on", SINGLE)
def test_few_graphs(on: dict[str, Any], photos: Path, tmp_path: Path):
    assert_few_graphs(separately(run_trial, photos, tmp_path, on))


def test_few_graphs_with_everything_on(photos: Path, tmp_path: Path):
    on = {name: options for name, options in all_at_once().items() if name != REFUSED}
    assert_few_graphs(separately(run_trial, photos, tmp_path, on))


def test_few_graphs_with_bfloat16_in_parts_and_frozen(photos: Path, tmp_path: Path):
    phases = [PHASES[0] | {"freeze": True}, PHASES[1]]
    fields = {"precision": "bfloat16", "micro_batch": 2, "phases": phases}
    assert_few_graphs(separately(run_trial, photos, tmp_path, {"normalize": {}, "mixup": {}}, **fields))


def test_torch_compile_is_refused(photos: Path, tmp_path: Path):
    with pytest.raises(AblateError, match="torch_compile: XLA compiles every step as a whole anyway"):
        separately(run_trial, photos, tmp_path, {REFUSED: {}})


def test_a_technique_with_other_shapes_in_each_step_is_named(photos: Path, tmp_path: Path):
    stages = separately(run_trial, photos, tmp_path, {"normalize": {}, "stepwise": {}}, batch_size=2)
    (note,) = stages[0]["notes"]
    assert "every step is compiled anew" in note
    assert "the technique stepwise:" in note


def test_operations_that_are_left_to_the_host_are_named(photos: Path, tmp_path: Path):
    stages = separately(run_trial, photos, tmp_path, {"normalize": {}, "left_to_host": {}})
    (note,) = stages[0]["notes"]
    assert note.startswith(
        "phase early: xla leaves _linalg_solve_ex to the host, which is slow; look at the tech"
    )
