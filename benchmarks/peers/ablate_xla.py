"""ablate on XLA, or on the plain CPU: the same photos, network and epochs, through a recipe's parts."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from xla_counts import TABLE, answer, fitted

from ablate import Recipe, devices
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def recipe(given: argparse.Namespace, size: int) -> Recipe:
    """One phase at a size."""
    # fastai's head for a small network, without its dropout, which is another on every device
    head = {"pool": "concat", "hidden": [512], "dropout": 0.0}
    return Recipe.from_dict(
        {
            "name": "xla",
            "data": {"root": str(given.root), "table": TABLE, "split": {"column": "is_val"}},
            "model": {"arch": given.arch, "pretrained": False} | ({"head": head} if given.no_dropout else {}),
            "size": size,
            "presize": round(size * 1.25),
            "batch_size": given.batch_size,
            "phases": [{"name": f"at{size}", "epochs": 2, "lr": 1e-3}],
            "study": {"baseline": given.on},
        }
    )


def phase(given: argparse.Namespace, size: int) -> dict[str, Any]:
    """Train one phase from random weights."""
    parts = replace(recipe(given, size).parts(), device=given.device, workers=0)  # as the other side
    return fitted(quiet(build_learner(parts, dataloaders(parts))), given.rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--size", type=int, nargs="+", required=True, help="Of each phase.")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--on", nargs="*", default=["augment"], help="Techniques.")
    parser.add_argument("--device", choices=["xla", "cpu"], default="xla")
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--rate", type=float, default=1e-3, help="The highest learning rate.")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    devices.load(given.device).start(given.threads, False)  # as every stage begins
    began = time.perf_counter()
    answer([phase(given, size) for size in given.size], began)


if __name__ == "__main__":
    main()
