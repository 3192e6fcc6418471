"""The parts of a phase: which techniques act, and what their hooks are told."""

from __future__ import annotations

import dataclasses

import numpy as np


def test_inactive_techniques_do_not_act(parts):
    made = parts(on=("mixup", "label_smoothing"))
    limited = dataclasses.replace(made, inactive=frozenset({"mixup"}))
    assert {t.name for t in made.active} == {"normalize", "mixup", "label_smoothing"}
    assert {t.name for t in limited.active} == {"normalize", "label_smoothing"}


def test_hooks_are_told_of_the_training_split_alone(parts):
    made = parts()
    context = made.context
    assert context.n_classes == 3
    assert context.size == 32
    assert np.array_equal(context.train_targets, [item.target for item in made.side("train")])
    assert len(made.side("train")) == 18
    assert {item.id for item in made.side("train")}.isdisjoint(item.id for item in made.side("valid"))
