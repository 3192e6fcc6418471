"""What the scripts of this folder share, whatever environment they run in: options, the clock, the answer."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def arguments(description: str | None, cases: Sequence[str]) -> argparse.Namespace:
    """The options that every script of this folder takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("case", choices=cases)
    parser.add_argument("--photos", type=Path, required=True, help="A folder of JPEGs.")
    parser.add_argument("--work", type=Path, required=True, help="Where prepared files are kept.")
    parser.add_argument("--repeats", type=int, default=8, help="How often each photo comes in an epoch.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8, help="Count whole epochs until then.")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    given.files = sorted(given.photos.glob("*.jpg"))
    return given


def images_per_second(epoch: Callable[[], int], seconds: float) -> float:
    """The rate of an epoch that returns how many images it gave.

    The first epoch is not counted: it compiles, starts what is started once, and brings files into memory.
    """
    epoch()
    images, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        images += epoch()
    return images / spent


def answer(rate: float, **further: Any) -> None:
    """The one line that a script ends with."""
    print(json.dumps({"images_per_second": rate} | further))
