"""progressive_resizing: phases get sizes of their own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablate.recipe.schema import Phase
from ablate.techniques.progressive_resizing import ProgressiveResizing, Sizes

PHASES = [
    Phase(name="head", epochs=3, size=64, presize=80, freeze=True),
    Phase(name="tune", epochs=2, size=64, presize=80),
]


def sized(**options: Any) -> list[tuple[int | None, int | None]]:
    phases = ProgressiveResizing.model_validate(options).edit_phases(PHASES)
    return [(phase.size, phase.presize) for phase in phases]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [(64, 80), (64, 80)]),
        ({"head": 32}, [(32, 80), (64, 80)]),
        ({"head": {"size": 32}}, [(32, 80), (64, 80)]),
        ({"head": {"size": 32, "presize": 40}}, [(32, 40), (64, 80)]),
        ({"head": 32, "tune": {"size": 128, "presize": 160}}, [(32, 80), (128, 160)]),
        # a presize that was written is not silently lowered, one that is too small is raised with the size
        ({"tune": 96}, [(64, 80), (96, 96)]),
    ],
)
def test_edit_phases(options: dict[str, Any], sizes: list[tuple[int, int]]) -> None:
    assert sized(**options) == sizes


def test_nothing_else_changes_and_the_given_phases_stay() -> None:
    before = [phase.model_dump() for phase in PHASES]
    edited = ProgressiveResizing.model_validate({"head": 32}).edit_phases(PHASES)
    assert [phase.model_dump() for phase in PHASES] == before
    assert edited[0].model_dump() | {"size": 64} == before[0]
    assert edited[1] is PHASES[1]


@pytest.mark.parametrize(
    "options",
    [
        {"head": "small"},
        {"head": 0},
        {"head": True},
        {"head": {}},
        {"head": {"size": 3, "x": 1}},
        {"head": 3.0},
    ],
)
def test_sizes_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProgressiveResizing.model_validate(options)


def test_what_it_is_for_the_planner() -> None:
    technique = ProgressiveResizing.model_validate({"head": 32, "tune": {"size": 64, "presize": 70}})
    assert technique.phase_names() == ["head", "tune"]
    assert technique.sizes() == {"head": Sizes(size=32), "tune": Sizes(size=64, presize=70)}
    # its whole effect is on the phases, which are in every key themselves
    assert not technique.trains_in("head")
