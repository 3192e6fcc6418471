"""ablate.techniques: all techniques, by name, ready to be planned without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ablate import techniques
from ablate.recipe.schema import Phase
from ablate.techniques import compose
from ablate.techniques.base import TRAINING_HOOKS, Technique

ISSUE_2 = {
    "normalize",
    "augment",
    "progressive_resizing",
    "mixup",
    "cutmix",
    "label_smoothing",
    "tta",
    "reseed",
}
ALL = list(techniques.registry().values())


def test_the_techniques_of_the_first_day() -> None:
    assert set(techniques.registry()) >= ISSUE_2
    assert list(techniques.registry()) == sorted(techniques.registry())


@pytest.mark.parametrize("technique", ALL, ids=lambda technique: technique.name)
def test_every_technique(technique: type[Technique]) -> None:
    assert technique().name == technique.name
    assert technique.paper
    assert (technique.__doc__ or "").splitlines()[0].endswith(".")
    assert technique.structural <= set(technique.model_fields)
    assert technique.__module__.rsplit(".", 1)[1] == technique.name  # one file per technique
    assert getattr(techniques, technique.__name__) is technique
    hooks = ("edit_phases", "model", "predict", "stream_salt", *TRAINING_HOOKS)
    assert any(technique().overrides(hook) for hook in hooks)


@pytest.mark.parametrize("technique", ALL, ids=lambda technique: technique.name)
def test_options_are_strict(technique: type[Technique]) -> None:
    with pytest.raises(ValidationError):
        techniques.build(technique.name, {"no_such_option": [1]})
    with pytest.raises(ValidationError, match="frozen"):
        technique().version_ = 3  # pyright: ignore


def test_build() -> None:
    assert techniques.build("mixup", {"alpha": 1}).model_dump()["alpha"] == 1
    assert techniques.build("mixup") == techniques.build("mixup", {})
    with pytest.raises(KeyError):
        techniques.build("mixp")
    with pytest.raises(AttributeError, match="has no attribute 'MixDown'"):
        _ = techniques.MixDown


def test_what_the_planner_asks() -> None:
    mixup = techniques.build("mixup", {"phases": ["late"]})
    assert (mixup.active_in("late"), mixup.active_in("early")) == (True, False)
    assert (mixup.trains_in("late"), mixup.trains_in("early")) == (True, False)
    assert mixup.phase_names() == ["late"]
    tta = techniques.build("tta")
    assert (tta.trains_in("late"), tta.overrides("predict")) == (False, True)
    assert "phases" not in mixup.identity({})["options"]


def test_order_does_not_depend_on_the_recipe() -> None:
    built = [techniques.build(name) for name in techniques.registry()]
    names = [technique.name for technique in compose.ordered(built)]
    assert names == [technique.name for technique in compose.ordered(built[::-1])]
    assert names.index("augment") < names.index("mixup") < names.index("tta")


def test_a_further_phase_of_mixup() -> None:
    phases = [Phase(name="a", epochs=1), Phase(name="b", epochs=2, lr=0.5, size=64)]
    mixup = techniques.build("mixup", {"further": {"name": "late", "epochs": 50}})
    edited = compose.edit_phases([mixup], phases)
    assert edited[:2] == phases
    assert (edited[2].name, edited[2].epochs, edited[2].lr, edited[2].size) == ("late", 50, 0.5, 64)
    assert [mixup.active_in(phase.name) for phase in edited] == [False, False, True]


def test_technique_modules_import_without_torch() -> None:
    code = "import sys; from ablate import techniques; techniques.registry(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ablate.techniques.mixup" in loaded
    assert not {"torch", "pandas", "fastai", "timm"} & loaded


def test_the_documentation_tells_of_every_technique_and_its_cost() -> None:
    text = (Path(__file__).parents[2] / "docs" / "techniques.md").read_text(encoding="utf-8")
    told, costs = text.split("## What they cost")
    for name in techniques.registry():
        assert f"`{name}`" in told
        assert f"| `{name}` | " in costs
