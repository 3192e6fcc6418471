"""Measure one part of a phase after the other, each for its share of the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ablate import devices
from ablate.bench import device, host
from ablate.bench.subject import Subject
from ablate.bench.verdict import Facts, Rates
from ablate.errors import AblateError
from ablate.recipe.data_schema import Cache
from ablate.study.planning import available_cores
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.stage import is_out_of_memory, out_of_memory

ROUNDS = 3
"""Step and whole are measured in turn, so that a machine that is busy for a while is busy for both."""

T = TypeVar("T")


def measure(subject: Subject, seconds: float, say: Callable[[str], None] = lambda text: None) -> Rates:
    """Measure everything, in this process, as a stage of a run would have it.

    Nothing is left on the disk, and the network's weights are random, which is as fast.

    Args:
        subject: What to measure.
        seconds: For all measures together; a slow step may take longer.
        say: Told what is being measured.

    Raises:
        AblateError: There are fewer images than a batch, the device is not there, or memory runs out.
    """
    parts = subject.parts
    devices.load(parts.device).start(subject.threads, subject.recipe.deterministic)

    def timed(what: str, function: Callable[..., T], share: float, *more: Any) -> T:
        say(f"measuring {what}")
        return function(*more, seconds * share)

    try:
        dls = dataloaders(parts)  # first, since it tells what cannot work
        values: dict[str, Any] = {
            "decode": timed("decoding", host.decoding, 0.07, subject),
            "presize": timed("decoding and presizing", host.presizing, 0.07, subject),
        }
        if subject.is_cached:
            values["cache"] = timed("the cache", host.reading, 0.04, subject)
        values["loader"] = values["loader_kept"] = timed("the loader", host.loading, 0.15, subject)
        if subject.foreign or not subject.is_cached:
            values["loader_kept"] = timed("the loader, images in memory", host.loading_kept, 0.08, subject)
        values["loader_decoding"] = (
            timed("the loader without the cache", host.loading_decoded, 0.1, subject)
            if subject.is_cached
            else values["loader"]
        )
        if not subject.foreign:
            values["augment"] = timed("augmentation", host.augmenting, 0.05, subject)
        values["transforms"] = timed("the batch transforms", device.transforming, 0.04, dls)
        with TemporaryDirectory() as folder:
            learn = quiet(build_learner(parts, dls, initial=False, folder=Path(folder)))
            rounds = []
            for _ in range(ROUNDS):
                step = timed("the training step", device.stepping, 0.2 / ROUNDS, learn, subject)
                waits = values["loader"] < step[0]
                whole = timed("training as a whole", device.training, 0.2 / ROUNDS, learn, subject, waits)
                rounds.append((*step, whole))
        for name, rates in zip(("step", "validation", "whole"), zip(*rounds, strict=True), strict=True):
            values[name] = median(rates)
    except Exception as error:
        if is_out_of_memory(error):
            raise AblateError(out_of_memory(parts.phase.model_dump())) from error
        raise
    return Rates(**({"cache": None, "augment": None} | values))


def facts(subject: Subject) -> Facts:
    """What the advice depends on beside the rates."""
    parts, cache = subject.parts, subject.recipe.data.cache
    assert parts.phase.size is not None
    return Facts(
        device=parts.device,
        cores=available_cores(),
        workers=parts.workers,
        size=parts.phase.size,
        presize=subject.presize.shorter,
        in_memory=subject.in_memory,
        streams=subject.recipe.data.stream is not None,
        cache=cache.format if isinstance(cache, Cache) else cache,
        has_room=subject.has_room,
        kept_bytes=subject.kept_bytes,
        precision=parts.phase.precision or "float32",
        foreign=tuple(subject.foreign),
    )
