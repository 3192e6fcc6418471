"""A W&B backend for each test, and an environment in which the real client finds it and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from arrived import is_whole
from loopback import Loopback
from real_runs import Runs
from tracked import STUDY
from wandb_backend import KEY


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    """A healthy backend; `WANDB_*` leads there, nothing leads to the person's own account."""
    loopback = Loopback()
    for name in list(os.environ):
        if name.startswith("WANDB_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name, value in wandb_environment(loopback, tmp_path).items():
        monkeypatch.setenv(name, value)
    yield loopback
    loopback.stop()


def wandb_environment(loopback: Loopback, folder: Path) -> dict[str, str]:
    """The variables that lead the client to a backend, and its own folders to a folder of the test.

    It also is less patient than it would be: it streams each second, not each 15, and tries again soon.
    """
    waits = {
        f"WANDB__{what}_RETRY_WAIT_{end}_SECONDS": seconds
        for what in ("FILE_STREAM", "GRAPHQL", "FILE_TRANSFER")
        for end, seconds in (("MIN", "1"), ("MAX", "1"))  # whole seconds, as wandb counts them
    }
    return waits | {
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_BASE_URL": loopback.url,
        "WANDB_API_KEY": KEY,
        "WANDB_CONFIG_DIR": str(folder / ".wandb-config"),
        "WANDB_CACHE_DIR": str(folder / ".wandb-cache"),
        "WANDB_DATA_DIR": str(folder / ".wandb-data"),
        "WANDB_ERROR_REPORTING": "false",
        "NETRC": str(folder / ".netrc"),
    }


@pytest.fixture(scope="session")
def untold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study that W&B has not been told of."""
    runs = Runs(tmp_path_factory.mktemp("tracked") / "runs", STUDY)
    running = runs.run("--wandb", "off")
    assert running.process.returncode == 0, running.stderr
    assert is_whole(runs.study)
    assert not (runs.study / "wandb").exists()
    return runs.study


@pytest.fixture
def study(untold: Path, tmp_path: Path) -> Path:
    """A copy of it for each test."""
    return Path(shutil.copytree(untold, tmp_path / "runs" / untold.name))
