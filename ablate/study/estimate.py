"""How long a stage takes and how much room, from stages like it that were computed in the same store.

Every stage that is computed adds one line to a file beside the stages. It is derived data: nothing is wrong
without it, and a line that cannot be read is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.study.graph import Stage
from ablate.study.store import Store

MEASURED = ".measured.jsonl"
_SAME_WORK = ("kind", "arch", "data", "device")
_SAME_STEPS = (*_SAME_WORK, "freeze", "precision", "tta")
_SAME = (*_SAME_STEPS, "techniques", "batch_size", "size", "epochs")
_ALIKE = (_SAME, _SAME_STEPS, _SAME_WORK)
"""What two stages have in common that tell of each other, the best first."""

Traits = dict[str, str | int | bool | None]


@dataclass(frozen=True)
class Estimate:
    """What a stage will take."""

    seconds: float
    bytes: float


@dataclass
class _Sum:
    """Of stages that are alike: how many, their seconds per unit of work, their bytes."""

    number: int = 0
    pace: float = 0.0
    bytes: float = 0.0

    def add(self, pace: float, size: float) -> None:
        self.number, self.pace, self.bytes = self.number + 1, self.pace + pace, self.bytes + size


def remember(store: Store, settings: Mapping[str, Any], seconds: float, size: int) -> None:
    """Note what a stage took.

    Args:
        store: Where it is.
        settings: The stage's.
        seconds: Of work.
        size: In bytes.
    """
    line = json.dumps({**_traits(settings), "seconds": seconds, "bytes": size}) + "\n"
    with contextlib.suppress(OSError):  # a stage is worth more than its estimate
        descriptor = os.open(store.root / MEASURED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # at once, so that the lines of two processes do not mix
        finally:
            os.close(descriptor)


class Estimator:
    """Estimates stages from those that were measured.

    Args:
        store: Where they were computed.
    """

    def __init__(self, store: Store):
        self._sums: list[defaultdict[tuple[Any, ...], _Sum]] = [defaultdict(_Sum) for _ in _ALIKE]
        for traits, seconds, size in _measured(store):
            pace = seconds / _work(traits)
            for names, sums in zip(_ALIKE, self._sums):
                sums[tuple(traits[name] for name in names)].add(pace, size)

    def __call__(self, stage: Stage) -> Estimate | None:
        """What a stage will take: the mean of those like it, by epochs × size²; None if there is none."""
        traits = _traits(stage.settings)
        for names, sums in zip(_ALIKE, self._sums):
            alike = sums.get(tuple(traits[name] for name in names))
            if alike is not None:
                return Estimate(alike.pace / alike.number * _work(traits), alike.bytes / alike.number)
        return None


def _measured(store: Store) -> Iterator[tuple[Traits, float, float]]:
    """Traits, seconds and bytes of the stages that were measured."""
    try:
        lines = (store.root / MEASURED).read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            value = json.loads(line)
            traits: Traits = {name: value[name] for name in _SAME}
            if _work(traits) > 0 and all(isinstance(trait, str | int | None) for trait in traits.values()):
                yield traits, float(value["seconds"]), float(value["bytes"])


def _traits(settings: Mapping[str, Any]) -> Traits:
    """What of a stage's settings decides how long it takes."""
    phase, fits = settings["phase"], settings["kind"] == "fit"
    names = [technique["name"] for technique in settings["techniques"]]
    return {
        "kind": settings["kind"],
        "arch": settings["model"]["arch"],
        "data": " ".join(settings["data"].values()),
        "device": " ".join(map(str, settings["device"].values())),
        "freeze": phase["freeze"] and fits,
        "precision": phase["precision"],
        "batch_size": phase["batch_size"],
        "size": phase["size"],
        "epochs": phase["epochs"] if fits else 1,
        "techniques": " ".join(names),
        "tta": "tta" in names,
    }


def _work(traits: Mapping[str, Any]) -> float:
    return float(traits["epochs"]) * float(traits["size"]) ** 2
