"""Small real studies, run once for all tests that only read them."""

from __future__ import annotations

import copy as copying
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 16,
    "batch_size": 128,
    "phases": [{"name": "one", "epochs": 1, "lr": 3e-3}, {"name": "two", "epochs": 1, "lr": 1e-3}],
    "techniques": {"mixup": {"phases": ["two"]}},
    "study": {
        "baseline": ["normalize"],
        "vary": ["mixup", "tta", {"phases.one.lr": [3e-3, 1e-6]}],
        "seeds": 2,
        "smallest_effect": 0.01,
    },
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The values of a small recipe on digits."""
    return copying.deepcopy(TINY)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """That study, run. Only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(folder / "cache"))
        patch.setenv("ABLATE_STORE", str(folder / "store"))
        patch.delenv("ABLATE_OUT", raising=False)
        return Recipe.from_dict(TINY).run(folder / "runs", threads=1)


@pytest.fixture
def copy_of(finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A copy of the finished study and its store, to be changed."""
    root, copy = finished.folder.parent.parent, tmp_path / "copy"
    shutil.copytree(root, copy)
    monkeypatch.setenv("ABLATE_STORE", str(copy / "store"))
    study = Study.open(copy / "runs" / "tiny")
    plan = study.folder / "plan.json"  # it names the store, and .finished is its checksum
    plan.write_text(plan.read_text().replace(str(root / "store"), str(copy / "store")))
    study.finish()
    return study
