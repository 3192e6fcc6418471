"""ablate.recipe.technique_checks: options and phases of techniques."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.recipe.recipe import Recipe

Write = Callable[..., Path]
Told = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("cutmx: {}", "cutmx is no technique; did you mean cutmix?"),
        ("mixup: {alpa: 1}", "mixup.alpa is no setting; did you mean alpha?"),
        ("mixup: {alpha: big}", "mixup.alpha is 'big', but must be a number."),
        ("mixup: {alpha: 0}", "mixup.alpha is 0, but must be above 0."),
        ("mixup: {alpha: .inf}", "mixup.alpha is inf, but must be a finite number."),
        ("label_smoothing: {eps: 1}", "label_smoothing.eps is 1, but must be below 1."),
        ("tta: {transforms: x}", "tta.transforms is 'x', but must be augment, flips or dihedral."),
        ("tta: 4", "tta is 4, but must be a mapping (name: value)."),
        (
            "augment:",
            "augment is empty, but must be a mapping (name: value); write {} to leave everything as it is.",
        ),
        (
            "progressive_resizing: {head: big}",
            "progressive_resizing.head is 'big', but must be a mapping (name: value).",
        ),
        (
            "progressive_resizing: {head: {siz: 3}}",
            "progressive_resizing.head.siz is no setting; did you mean size?",
        ),
        (
            "progressive_resizing: {hed: 16}",
            "progressive_resizing.hed names a phase 'hed' that does not exist; did you mean head?",
        ),
        (
            "mixup: {phases: [tune, tun]}",
            "mixup.phases.1 names a phase 'tun' that does not exist; did you mean tune?",
        ),
        (
            "mixup: {phases: [zzz]}",
            "mixup.phases.0 names a phase 'zzz' that does not exist; there are head, tune.",
        ),
    ],
)
def test_one_sentence(told: Told, options: str, sentence: str) -> None:
    said = told(f"techniques:\n  normalize: {{}}\n  {options}\n")
    assert said == f"r.yaml:8: techniques.{sentence}"


def test_a_phase_that_a_technique_adds_exists(write: Write) -> None:
    text = "techniques:\n  mixup: {further: {name: late, epochs: 2}}\n  cutmix: {phases: [late]}\n"
    recipe = Recipe.load(write(text))
    assert recipe.techniques["cutmix"] == {"phases": ["late"]}
