"""What planning asks of a technique: its hooks, where it is active, its identity."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from ablate.techniques.base import InPhases, Technique


class Late(InPhases):
    name: ClassVar[str] = "late"
    strength: float = 1.0

    def callbacks(self, context=None):
        return []


class Surgery(InPhases):
    name: ClassVar[str] = "surgery"

    def model(self, model, context):
        return model


class Predicts(Technique):
    name: ClassVar[str] = "predicts"

    def predict(self, predictor, context):
        return predictor


def test_a_technique_trains_where_it_is_active_and_has_a_training_hook():
    assert Late(phases=["b"]).trains_in("b")
    assert not Late(phases=["b"]).trains_in("a")
    assert Late().trains_in("a")


def test_surgery_holds_for_every_phase():
    assert Surgery(phases=["b"]).trains_in("a")


def test_a_technique_that_only_predicts_trains_nowhere():
    assert not Predicts().trains_in("a")
    assert Predicts().overrides("predict")


def test_where_it_is_active_is_not_part_of_the_identity():
    assert Late(phases=["b"]).identity({}) == Late().identity({})
    assert Late(strength=2.0).identity({}) != Late().identity({})
    source = blake2b(Path(__file__).read_bytes(), digest_size=16).hexdigest()  # it comes from outside
    options = {"strength": 1.0}
    assert Late().identity({}) == {"name": "late", "version": 1, "options": options, "source": source}


def test_options_are_strict():
    with pytest.raises(ValidationError):
        Late.model_validate({"strength": "2"})
    with pytest.raises(ValidationError):
        Late.model_validate({"strenght": 2.0})
