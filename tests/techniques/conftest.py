"""Stages that are small enough to build in every test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ablate.data.items import load_items
from ablate.data.splits import Fold
from ablate.recipe.data_schema import Data
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.techniques.base import Technique
from ablate.training.parts import Parts

ITEMS = load_items(Data(source="digits"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_parts() -> Callable[..., Parts]:
    """A phase on 96 digits for training and 40 for validation, 16 pixels wide, with some techniques on."""

    def make_parts(*on: Technique, batch_size: int = 16, seed: int = 0, **changes: Any) -> Parts:
        sides = Fold(np.arange(96), np.arange(96, 136), np.arange(0))
        phase = Phase(name="tune", epochs=1, batch_size=batch_size, size=16, presize=20, weight_decay=0.01)
        fixed: dict[str, Any] = {"model": Model(arch="test_resnet", pretrained=False), "phase": phase}
        fixed |= {"streams": Streams(seed, "tune"), "items": ITEMS, "fold": sides}
        return Parts(on={technique.name: technique for technique in on}, **(fixed | changes))

    return make_parts
