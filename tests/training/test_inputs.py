"""`inputs.json`: what a network needs beside its weights, there and back, if nobody changed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablate import sealed
from ablate.data.tabular import TabularEncoder
from ablate.errors import Damaged
from ablate.recipe.data_schema import Tabular
from ablate.training.inputs import Inputs
from ablate.training.parts import Parts


def test_what_is_written_is_read(parts: Callable[..., Parts], tmp_path: Path):
    made = parts()
    found = Inputs.of(made)
    assert found.classes == ["cat", "dog", "fox"]
    assert found.train_counts == [6, 6, 6]  # six of eight photos of each class are trained on
    assert (found.pixel_mean, found.pixel_std) == (made.pixel_mean, made.pixel_std)
    assert found.encoder is None
    found.write(tmp_path)
    sealed.seal(tmp_path)
    assert Inputs.read(tmp_path) == found


def test_the_encoder_comes_back(parts: Callable[..., Parts], tmp_path: Path):
    encoder = TabularEncoder.fit(
        Tabular(numeric=["age"], categorical=["sex"]), [(3.0, "f"), (None, "m"), (5.5, None)]
    )
    Inputs.of(replace(parts(), encoder=encoder)).write(tmp_path)
    sealed.seal(tmp_path)
    assert Inputs.read(tmp_path).encoder == encoder


def test_what_was_changed_is_refused(parts: Callable[..., Parts], tmp_path: Path):
    Inputs.of(parts()).write(tmp_path)
    sealed.seal(tmp_path)
    file = tmp_path / "inputs.json"
    file.write_text(file.read_text().replace("cat", "cow"))
    with pytest.raises(Damaged):
        Inputs.read(tmp_path)
