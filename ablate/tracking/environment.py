"""The variables that wandb's client is to find in the process that tells W&B."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_OF_ONE_RUN = (
    "MODE",
    "RUN_ID",
    "NAME",
    "RUN_GROUP",
    "JOB_TYPE",
    "RESUME",
    "SWEEP_ID",
    "DIR",
    "RUN_DIR",
    "SERVICE",
    "SILENT",
)
"""`WANDB_…` variables that are about one run, and would be about each here, or that the study settles."""


def prepare(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Take out what is about one run of one's own, and set what nobody has.

    Args:
        folder: The study's: what wandb keeps to upload belongs to it, and is not to fill somebody's home.
        environment: The variables, which are changed.
    """
    for name in _OF_ONE_RUN:
        environment.pop(f"WANDB_{name}", None)
    environment.setdefault("WANDB_DATA_DIR", str(folder / "wandb" / "data"))
    environment.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    for what in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):  # somebody may be waiting: try again soon
        environment.setdefault(f"WANDB__{what}_RETRY_WAIT_MIN_SECONDS", "1")
        environment.setdefault(f"WANDB__{what}_RETRY_WAIT_MAX_SECONDS", "15")
