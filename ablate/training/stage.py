"""Run one stage in the current process: fit a phase, find a rate, predict a split, or try everything once.

A stage sees its job's settings and nothing else of the recipe, so what is not in a stage's key cannot change
its result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastai.learner import Learner

from ablate import devices, techniques
from ablate.data.items import load_items
from ablate.data.splits import make_folds, quick_fold
from ablate.errors import AblateError
from ablate.recipe.schema import Data, Model, Phase
from ablate.streams import Streams
from ablate.study.job import Job
from ablate.training.callbacks import SingleBatch
from ablate.training.checkpoint import load_optimizer, load_weights, save_optimizer, save_weights
from ablate.training.data import dataloaders
from ablate.training.fit import Report, find_rate, fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts
from ablate.training.predict import predict, write_predictions

RESULT, RATE = "result.json", "lr.json"


def run_job(job: Job, report: Report) -> None:
    """Do a job and write its files, `result.json` last.

    Args:
        job: What to do.
        report: Told of progress; see `ablate.training.fit.EpochLog`.

    Raises:
        AblateError: The recipe or the data cannot work.
    """
    devices.load(job.device).start(job.threads, bool(job.settings.get("deterministic")))
    began = time.perf_counter()
    status = _KINDS[job.settings["kind"]](job, Path(job.folder), report)
    result = {"status": status, "seconds": round(time.perf_counter() - began, 3)}
    (Path(job.folder) / RESULT).write_text(json.dumps(result))


def build_parts(job: Job, settings: dict[str, Any]) -> Parts:
    """The parts of the phase that some settings describe."""
    data = Data.model_validate(job.data)
    items = load_items(data)
    fold = make_folds(items, data)[job.fold]
    model = settings["model"]
    return Parts(
        model=Model(arch=model["arch"], pretrained=model["pretrained"], weights=job.weights),
        phase=Phase.model_validate(settings["phase"]),
        on={t["name"]: techniques.build(t["name"], t["options"]) for t in settings["techniques"]},
        streams=Streams(settings["seed"], settings["phase"]["name"], settings["salt"]),
        items=items,
        fold=quick_fold(fold, items) if job.quick else fold,
        pixel_mean=job.pixel_mean,
        pixel_std=job.pixel_std,
        device=job.device,
        workers=job.workers,
        inactive=frozenset(t["name"] for t in settings["techniques"] if not t["active"]),
    )


def _ready_learner(job: Job, parts: Parts) -> Learner:
    """A learner with the parent's weights, or with initial ones."""
    parent = job.settings["parent"]
    learn = quiet(build_learner(parts, dataloaders(parts), initial=parent is None, folder=Path(job.folder)))
    if parent is not None:
        load_weights(learn, Path(job.parents[parent]))
        if job.settings["keeps_optimizer"]:
            load_optimizer(learn, Path(job.parents[parent]))
    return learn


def _fit(job: Job, folder: Path, report: Report) -> str:
    parts = build_parts(job, job.settings)
    learn = _ready_learner(job, parts)
    log, finite = fit_phase(learn, parts.phase, _rate(job, parts.phase), report)
    log.write(folder)
    if not finite:
        return "diverged"
    save_weights(learn, folder)
    save_optimizer(learn, folder)
    return "ok"


def _find(job: Job, folder: Path, report: Report) -> str:
    parts = build_parts(job, job.settings)
    rate = find_rate(_ready_learner(job, parts), folder)
    (folder / RATE).write_text(json.dumps({"lr": rate}))
    return "ok"


def _predict(job: Job, folder: Path, report: Report) -> str:
    parts = build_parts(job, job.settings)
    learn = quiet(build_learner(parts, dataloaders(parts), initial=False, folder=folder))
    load_weights(learn, Path(job.parents[job.settings["parent"]]))
    items = parts.side(job.settings["split"])
    streams = Streams(job.settings["seed"], "predict", job.settings["salt"])
    write_predictions(folder, items, predict(learn, parts, items, streams))
    return "ok"


def _preflight(job: Job, folder: Path, report: Report) -> str:
    """Build every distinct phase and run one batch of training and one of validation through it."""
    stages = job.settings["stages"]
    for done, settings in enumerate(stages, 1):
        parts = build_parts(job, settings)
        learn = quiet(build_learner(parts, dataloaders(parts), initial=done == 1, folder=folder))
        try:
            learn.fit(1, cbs=SingleBatch())
        except Exception as error:
            if is_out_of_memory(error):
                raise AblateError(out_of_memory(settings["phase"])) from error
            raise
        report({"done": done, "total": len(stages)})
    return "ok"


def _rate(job: Job, phase: Phase) -> float | list[float]:
    found = job.settings["lr_from"]
    if found is not None:
        return float(json.loads((Path(job.parents[found]) / RATE).read_text())["lr"])
    assert phase.lr != "find"
    return phase.lr  # pyright: ignore[reportReturnType]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the host or on the device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def out_of_memory(phase: dict[str, Any]) -> str:
    """What to tell somebody whose phase does not fit."""
    return (
        f"phase {phase['name']}: batches of {phase['batch_size']} images of {phase['size']} pixels do not "
        "fit into memory; set micro_batch for all variants, "
        f"for example to {max(phase['batch_size'] // 4, 1)}."
    )


_KINDS: dict[str, Callable[[Job, Path, Report], str]] = {
    "fit": _fit,
    "lr_find": _find,
    "predict": _predict,
    "preflight": _preflight,
}
