"""Run a study: look at the data, plan, try everything once, run what is not finished, write the outputs."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablate import devices
from ablate.errors import AblateError, Damaged, StageFailed
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.changes import changes, refuse, told
from ablate.study.display import make_display
from ablate.study.graph import Stage
from ablate.study.interrupts import Interrupts
from ablate.study.plan import stage_key
from ablate.study.planning import available_cores, plan_prepared
from ablate.study.prepare import prepare
from ablate.study.quick import quick_recipe
from ablate.study.running import Run
from ablate.study.store import Store
from ablate.study.stored import out_folder, store_root
from ablate.study.study import Study
from ablate.study.summary import plan_file


def run_study(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    share: bool = True,
    fresh: bool = False,
) -> Study:
    """Run what a study lacks, and write its files.

    Args:
        recipe: The recipe.
        out: The folder that studies are in; default `ABLATE_OUT`, else `runs`.
        quick: A smoke run: a few images, one epoch a phase, under another name.
        device: cpu, cuda, xla or auto.
        threads: Torch threads; default what the study was begun with, else all cores. On the CPU they are
            part of every result.
        workers: Loader processes; default by cores. They change no result.
        share: Whether trials share stages; else each trains on its own, which gives the same numbers later.
        fresh: Whether to go on where the images or the versions have changed since the study was begun: what
            they change is computed again.

    Raises:
        AblateError: The recipe, the data or the place to write to cannot be used.
        KeyboardInterrupt: Ctrl-C; the outputs are those of what is finished, and the same call goes on.
    """
    if quick:
        recipe = quick_recipe(recipe)
    study, store = Study(out_folder(out) / recipe.name), Store(store_root(out))
    _make_writable(study.folder)
    store.make_writable()
    device = devices.choose(device)
    with _disk_problems_told(study.folder), make_display() as display:
        executor = LocalExecutor(study.folder / "logs")
        if not study.seems_finished:
            executor.warm_up()  # beside what comes before the first stage
        display.say("looking at the data")
        prepared = prepare(recipe, quick=quick, progress=display.looked)
        if workers is None:
            workers = 0 if prepared.in_memory else min(available_cores(), 8)
        threads = threads or study.threads or available_cores()
        plan = plan_prepared(recipe, prepared, device, threads, share=share)
        run = Run(recipe, plan, prepared, store, executor, display, device, threads, workers, quick)
        _finish(run, study, fresh)
    return study


def _finish(run: Run, study: Study, fresh: bool) -> None:
    """Run what is missing, unless the folder holds something that it must not be mixed with."""
    plan, store, display = run.plan, run.store, run.display
    described = plan_file(run.recipe, plan, run.prepared, store.root, run.device, run.threads, run.quick)
    changed = changes(study.folder, run.recipe, described)
    refuse(changed, study.folder, fresh)
    run.set_damaged_aside()
    keys = plan.in_order(plan.needed(trial.predict for trial in plan.trials))
    missing = run.missing(keys)
    if not missing and study.is_finished(described):
        study.describe(described)  # its store may have moved
        display.note(f"{study.folder}: everything is finished; nothing to do")
        return
    for line in told(changed, len(keys) - len(missing), len(keys)):
        display.note(line)
    _preflight(run, [plan.stages[key] for key in missing])
    study.begin(run.recipe, described)
    store.refer(study.folder)
    with Interrupts(display.note) as interrupts:
        run.stopping = interrupts.stopping
        tests = _collected(run, keys, study)
    tested = all(store.has(key) for key in tests)
    if interrupts.asked and (study.is_unfinished or not tested):
        raise KeyboardInterrupt
    if tested:
        study.finish()
    display.finished(study)


def _collected(run: Run, keys: list[str], study: Study) -> list[str]:
    """Run what is missing and write the outputs, again if a stage is damaged; gives the tests."""
    while True:
        try:
            tests = _run(run, keys, study)
            study.collect(run.plan, run.store, run.failed)
            return tests
        except Damaged as error:
            run.mend(error)


def _run(run: Run, keys: list[str], study: Study) -> list[str]:
    """Run what is missing, write the outputs anew after each seed, and test the winner; gives the tests."""
    missing = run.missing(keys)
    seeds = Counter(run.plan.stages[key].seed for key in missing)

    def after(stage: Stage) -> None:
        run.display.stage_done(stage)
        if stage.kind == "predict":
            run.display.row(study.scores(run.plan, run.store, stage.key))
        seeds[stage.seed] -= 1
        if seeds[stage.seed] == 0 and any(left > 0 for left in seeds.values()):
            study.collect(run.plan, run.store, run.failed)

    run.store.sweep()
    run.display.begin(run.plan, missing)
    run.run_stages(keys, after)
    if not any(trial.test for trial in run.plan.trials):
        return []
    winner = study.best_variant(run.plan, run.store, run.recipe.study.metric)
    tests = [trial.test for trial in run.plan.trials if trial.variant == winner and trial.test]
    run.run_stages(run.plan.in_order(run.plan.needed(tests)), run.display.stage_done)
    return tests


@contextmanager
def _disk_problems_told(folder: Path) -> Iterator[None]:
    """Tell in one sentence of a disk that is full, has become read-only or breaks, wherever that shows."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        raise AblateError(
            f"{error.filename or folder}: cannot be written ({os.strerror(error.errno)}); once it can, the "
            "same command goes on from the last finished epoch."
        ) from None


def _make_writable(folder: Path) -> None:
    """Find out now, and not after the first hour, that the outputs cannot be written."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AblateError(
            f"{folder}: cannot be written ({error.strerror}); set --out or ABLATE_OUT to a folder that can."
        ) from None
    if not os.access(folder, os.W_OK):
        raise AblateError(f"{folder}: cannot be written; set --out or ABLATE_OUT to a folder that can.")


def _preflight(run: Run, missing: list[Stage]) -> None:
    """Run one batch of every distinct phase that is to be trained, before the first hour is spent."""
    distinct: dict[str, Stage] = {}
    for stage in missing:
        if stage.kind == "fit":
            own = {
                k: v
                for k, v in stage.settings.items()
                if k not in ("seed", "parent", "data", "lr_from", "salt", "trial")
            }
            distinct.setdefault(stage_key(own), stage)
    if not distinct:
        return
    first = next(iter(distinct.values()))
    settings: dict[str, Any] = {
        "kind": "preflight",
        "stages": [stage.settings for stage in distinct.values()],
    }
    settings["deterministic"] = run.recipe.deterministic
    run.display.stage("preflight: one batch of every phase", 0)
    with TemporaryDirectory(prefix="ablate-") as folder:
        try:
            run.executor.run(run.preflight_job(settings, first, Path(folder)), run.display.report)
        except StageFailed as error:
            raise AblateError(str(error)) from None
