"""Run one stage in the current process: fit a phase, find a rate, predict a split, or try everything once.

A stage sees its job's settings and nothing else of the recipe, so what is not in a stage's key cannot change
its result.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastai.learner import Learner
from safetensors import SafetensorError

from ablate import devices, sealed, techniques
from ablate.data.chosen import Chosen
from ablate.data.items import load_items
from ablate.data.share import Share
from ablate.data.splits import make_folds, quick_fold
from ablate.data.tabular import fit_encoder
from ablate.errors import AblateError, StageStopped
from ablate.recipe.data_schema import Data
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.study.job import Job
from ablate.techniques import compose
from ablate.training.best import BestEpochs, weights_for
from ablate.training.callbacks import SingleBatch
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, Report, SeedEpochs, find_rate, fit_phase, peak_rates
from ablate.training.inputs import Inputs
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts
from ablate.training.predict import joined, predicted_columns, write_predictions
from ablate.training.ranks import Alone, Stopping, Team, require_devices, together
from ablate.training.samples import Samples
from ablate.training.weights import load_optimizer, load_weights, save_optimizer, save_weights

RATE = "lr.json"
_ALONE = Alone()


def run_job(job: Job, report: Report, stopping: Stopping = lambda: False) -> None:
    """Do a job, write its files into its folder and seal that.

    Args:
        job: What to do.
        report: Told of progress; see `ablate.training.fit.EpochLog`.
        stopping: Whether to stop after the present epoch.

    Raises:
        AblateError: The recipe or the data cannot work, or the disk is full.
        Damaged: A stage before it is.
        StageStopped: It was asked to stop and did.
    """
    folder, kind = Path(job.folder), job.settings["kind"]
    try:
        if kind == "fit" and job.devices > 1:
            done = together(partial(_fit_share, job, folder), job.devices, report, stopping)
        else:
            devices.load(job.device).start(job.threads, bool(job.settings.get("deterministic")))
            done = _KINDS[kind](job, folder, report, stopping)
        (folder / "settings.json").write_text(json.dumps(job.settings, indent=1))
        sealed.seal(folder, label=job.label, status=done.status, seconds=round(done.seconds, 3))
    except (OSError, SafetensorError) as error:
        if no_space(error):
            raise AblateError(
                f"{folder}: the disk is full; free some of it (`ablate store prune` removes old stages), "
                "and the same command goes on from the last finished epoch."
            ) from error
        raise


@dataclass(frozen=True)
class Done:
    """How a stage ended: `ok` or `diverged`, and the seconds of work, those before an interruption too."""

    status: str
    seconds: float


def build_parts(job: Job, settings: dict[str, Any], share: Share = _ALONE.share) -> Parts:
    """The parts of the phase that some settings describe, on a job's data."""
    data = Data.model_validate(job.data)
    items = load_items(data)
    fold = make_folds(items, data)[job.fold]
    fold = (quick_fold(fold, items) if job.quick else fold).without(job.skipped)
    return described_parts(
        settings,
        weights=job.weights,
        sources=job.technique_files,
        items=items,
        fold=fold,
        encoder=fit_encoder(data, items.items, fold),
        pixel_mean=job.pixel_mean,
        pixel_std=job.pixel_std,
        device=job.device,
        workers=job.workers,
        presized=job.presized,
        share=share,
    )


def described_parts(
    settings: dict[str, Any],
    *,
    weights: str | None = None,
    sources: Mapping[str, str] | None = None,
    **surroundings: Any,
) -> Parts:
    """The parts of the phase that some settings describe.

    Args:
        settings: A stage's.
        weights: The file of initial weights, if any.
        sources: The texts of the recipe's own techniques, if any; see `ablate.techniques.known`.
        surroundings: The fields of `Parts` that no settings tell: items, fold, device and the like.
    """
    return Parts(
        model=Model.model_validate(settings["model"] | {"weights": weights}),
        phase=Phase.model_validate(settings["phase"]),
        on={t["name"]: techniques.build(t["name"], t["options"], sources) for t in settings["techniques"]},
        streams=Streams(settings["seed"], settings["phase"]["name"], settings["salt"]),
        jpeg=settings.get("jpeg"),
        stream=settings.get("stream"),
        inactive=frozenset(t["name"] for t in settings["techniques"] if not t["active"]),
        **surroundings,
    )


def _ready_learner(job: Job, parts: Parts, resumes: bool = False) -> Learner:
    """A learner with the parent's weights or initial ones, or with any if a checkpoint has those to use."""
    parent = job.settings["parent"]
    initial = parent is None and not resumes
    learn = quiet(build_learner(parts, dataloaders(parts), initial=initial, folder=Path(job.folder)))
    if parent is not None and not resumes:
        load_weights(learn, Path(job.parents[parent]))
        if job.settings["keeps_optimizer"]:
            load_optimizer(learn, Path(job.parents[parent]), rates=False)
    return learn


def _fit_share(job: Job, folder: Path, share: Share, meet: Path, report: Report, stopping: Stopping) -> Done:
    """Fit a phase in one of the processes that do so together."""
    from ablate.training.distributed import Member  # takes a second, which most studies need not wait

    team = Member(share, job.device)
    threads, workers = max(job.threads // share.ranks, 1), -(-job.workers // share.ranks)
    job = replace(job, threads=threads, workers=workers)
    with team.joined(meet, job.threads, bool(job.settings.get("deterministic"))):
        return _fit(job, folder, report, stopping, team)


def _fit(job: Job, folder: Path, report: Report, stopping: Stopping, team: Team = _ALONE) -> Done:
    began = time.perf_counter()
    parts = build_parts(job, job.settings, team.share)
    best = BestEpochs(parts.side("valid"), job.settings.get("keep_by", "log_loss"))
    log, samples = EpochLog(parts.phase.name, report), Samples()
    checkpoints = team.checkpoints(folder.parent, best, stopping, report)
    start = checkpoints.start_epoch
    learn = _ready_learner(job, parts, resumes=start > 0)
    team.prepare(learn)
    learn.watch_compilations.tell = lambda text: report({"note": text})
    callbacks = [SeedEpochs(parts.streams), log, samples, best, checkpoints]
    finite = _train(learn, parts, _rate(job, parts.phase), callbacks, start)
    if checkpoints.stopped:
        raise StageStopped(f"{job.label}: stopped after epoch {int(learn.epoch) + 1}.")
    seconds = time.perf_counter() - began + log.earlier
    status = "ok" if finite else "diverged"
    if not team.share.leads:
        return Done(status, seconds)
    log.write(folder)
    samples.write(folder)
    if not finite:
        return Done(status, seconds)
    last = int(learn.epoch)
    save_weights(learn, folder)
    save_optimizer(learn, folder)
    Inputs.of(parts).write(folder)
    checkpoints.keep_best(folder, last)
    best.write(folder, last)
    return Done(status, seconds)


def _train(
    learn: Learner, parts: Parts, rate: float | list[float], callbacks: list[Any], start: int = 0
) -> bool:
    """`fit_phase` with the rates and the schedule that a phase's techniques make of a rate."""
    context = parts.context
    rates = compose.rates(parts.active, peak_rates(rate, len(learn.opt.param_lists)), context)
    return fit_phase(learn, parts.phase, rates, callbacks, start, compose.schedule(parts.active, context))


def _find(job: Job, folder: Path, report: Report, stopping: Stopping) -> Done:
    began = time.perf_counter()
    parts = build_parts(job, job.settings)
    rate = find_rate(_ready_learner(job, parts), folder)
    (folder / RATE).write_text(json.dumps({"lr": rate}))
    return Done("ok", time.perf_counter() - began)


def _predict(job: Job, folder: Path, report: Report, stopping: Stopping) -> Done:
    began = time.perf_counter()
    parts = build_parts(job, job.settings)
    learn = quiet(build_learner(parts, dataloaders(parts), initial=False, folder=folder))
    parent, split = Path(job.parents[job.settings["parent"]]), job.settings["split"]
    items = parts.side(split)
    streams = Streams(job.settings["seed"], "predict", job.settings["salt"])
    places, found = [], []
    for weights, numbers in weights_for(parent, items, split, job.settings["keep"]):
        load_weights(learn, parent, weights)
        some = Chosen(items.items, items.numbers[numbers])
        columns = predicted_columns(learn, parts, some, streams)
        if columns is None:
            return Done("diverged", time.perf_counter() - began)
        places.append(numbers)
        found.append(columns)
    order = np.argsort(np.concatenate(places))
    write_predictions(folder, items, {name: column[order] for name, column in joined(found).items()})
    return Done("ok", time.perf_counter() - began)


def _preflight(job: Job, folder: Path, report: Report, stopping: Stopping) -> Done:
    """Build every distinct phase and run one batch of training and one of validation through it."""
    began = time.perf_counter()
    stages = job.settings["stages"]
    require_devices(job.device, job.devices)
    for done, settings in enumerate(stages, 1):
        parts = build_parts(job, settings, Share(0, settings.get("devices", 1)))
        learn = quiet(build_learner(parts, dataloaders(parts), initial=done == 1, folder=folder))
        try:
            # at the rates of training: on XLA, numbers that are equal by chance make another graph
            rate = 1e-3 if parts.phase.lr == "find" else parts.phase.lr
            _train(learn, parts, _spread(rate, parts.phase), [SingleBatch()])
        except Exception as error:
            if is_out_of_memory(error):
                raise AblateError(out_of_memory(settings["phase"])) from error
            raise
        report({"done": done, "total": len(stages)})
    return Done("ok", time.perf_counter() - began)


def _rate(job: Job, phase: Phase) -> float | list[float]:
    found = job.settings["lr_from"]
    rate: float | list[float]
    if found is not None:
        rate = float(json.loads(sealed.read(Path(job.parents[found]), RATE))["lr"])
    else:
        assert phase.lr != "find"
        rate = phase.lr
    return _spread(rate, phase)


def _spread(rate: float | list[float], phase: Phase) -> float | list[float]:
    """A rate over the layers, as far as the phase says and the rate does not."""
    return rate if isinstance(rate, list) or phase.lr_spread == 1 else [rate / phase.lr_spread, rate]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the host or on the device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def no_space(error: BaseException) -> bool:
    """Whether an exception says that a disk is full or a quota used up; safetensors' say it in text only."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(code) in str(error) for code in full)


def out_of_memory(phase: dict[str, Any]) -> str:
    """What to tell somebody whose phase does not fit."""
    return (
        f"phase {phase['name']}: batches of {phase['batch_size']} images of {phase['size']} pixels do not "
        "fit into memory; set micro_batch for all variants, "
        f"for example to {max(phase['batch_size'] // 4, 1)}."
    )


_KINDS: dict[str, Callable[[Job, Path, Report, Stopping], Done]] = {
    "fit": _fit,
    "lr_find": _find,
    "predict": _predict,
    "preflight": _preflight,
}
