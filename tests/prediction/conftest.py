"""Two small studies, run once: only their folders are left, not their stores and training folders."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import SMALL, TABLE, Alone, animals, moles, run_alone


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Three variants, two folds, two seeds. Only to be read."""
    origin = tmp_path_factory.mktemp("origin")
    animals(origin / "photos")
    return run_alone(SMALL, origin, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Two classes, columns of a table beside the image, one network. Only to be read."""
    origin = tmp_path_factory.mktemp("origin")
    moles(origin / "photos")
    return run_alone(TABLE, origin, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def changed(small: Alone, tmp_path: Path) -> Alone:
    """A copy of the first, to be changed."""
    shutil.copytree(small.folder, tmp_path / "changed")
    return replace(small, folder=tmp_path / "changed")
