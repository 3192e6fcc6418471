"""What tests on XLA share. They need torch_xla, so they run in an environment of its own: `pytest -m xla`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def xla() -> Any:
    """The adapter, with the network `test_tiny` for timm."""
    from backend import prepare

    return prepare()


@pytest.fixture
def graphs(xla: Any) -> Iterator[Any]:
    """Counts compilations and fallbacks from the beginning of the test."""
    from backend import Graphs

    counted = Graphs()
    yield counted
    counted.reset()
