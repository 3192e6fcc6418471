"""Run a study: look at the data, plan, try everything once, run what is not finished, write the outputs."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from ablate.errors import AblateError, Damaged
from ablate.executors import make_executor
from ablate.recipe.recipe import Recipe
from ablate.study.changes import Changes, changes, refuse, told
from ablate.study.display import make_display
from ablate.study.graph import Stage
from ablate.study.interrupts import Interrupts
from ablate.study.local_log import LocalLog
from ablate.study.loop import run_stages
from ablate.study.planning import plan_prepared
from ablate.study.prepare import prepare, presizes_of
from ablate.study.quick import quick_recipe
from ablate.study.remote_store import store_at
from ablate.study.running import Run
from ablate.study.stored import out_folder, store_place
from ablate.study.study import SKIPPED_IMAGES, Study
from ablate.study.summary import plan_file
from ablate.study.until_decided import (
    Findings,
    Looks,
    choose_looks,
    first_trials,
    look_at,
    more_trials,
    part,
    require_question,
    with_seeds,
)
from ablate.study.weights import keep_weights
from ablate.tracking.tracker import Tracker

T = TypeVar("T")


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
    until_decided: bool = False,
    max_seeds: int | None = None,
    executor: str = "local",
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    wandb: str = "auto",
) -> Study:
    """Run what a study lacks, and write its files.

    Args:
        recipe: The recipe.
        out: The folder that studies are in; default `ABLATE_OUT`, else `runs`.
        quick: A smoke run: a few images, one epoch a phase, under another name.
        device: cpu, cuda, mps, xla or auto.
        threads: Torch threads; default what the study was begun with, else all cores. On the CPU they are
            part of every result.
        workers: Loader threads; default by cores. They change no result.
        share: Whether trials share stages; else each trains on its own, which gives the same numbers later.
        fresh: Whether to go on where the images or the versions have changed since the study was begun: what
            they change is computed again.
        until_decided: Add seeds where a verdict is open, at looks fixed beforehand, instead of running the
            seeds of the recipe; see `ablate.study.until_decided`.
        max_seeds: The seeds of the last look; default 12.
        executor: Where stages run: local or ray.
        address: Of the Ray cluster; default what `RAY_ADDRESS` says, else one of this run's own.
        resources: What each stage takes of a Ray node: num_cpus, num_gpus, or a resource of its own.
        wandb: online, offline, off, or auto: online with a key, else offline.

    Raises:
        AblateError: The recipe, the data or the place to write to cannot be used.
        KeyboardInterrupt: Ctrl-C; the outputs are those of what is finished, and the same call goes on.
    """
    looks = choose_looks(until_decided, max_seeds, quick)
    if quick:
        recipe = quick_recipe(recipe)
    study, store = Study(out_folder(out) / recipe.name), store_at(store_place(out))
    _make_writable(study.folder)
    store.make_writable()
    with _disk_problems_told(study.folder), make_display() as display, ExitStack() as open_:
        place = make_executor(executor, study.folder / "logs", device, address, resources)
        open_.callback(place.close)
        tracker = Tracker(study.folder, wandb, display.note)
        open_.callback(tracker.abandon)
        if not study.seems_finished:
            place.warm_up()  # beside what comes before the first stage
        display.say("looking at the data")
        prepared = prepare(
            recipe, quick=quick, presizes=presizes_of(recipe), progress=display.looked, note=display.note
        )
        if workers is None:
            workers = 0 if prepared.in_memory else min(place.threads, 8)
        threads = threads or study.threads or place.threads
        planned = with_seeds(recipe, looks[-1]) if looks else recipe
        plan = plan_prepared(planned, prepared, place.device, threads, share=share)
        if looks:
            require_question(plan)
        run = Run(
            recipe=recipe,
            plan=plan,
            prepared=prepared,
            store=store,
            executor=place,
            display=display,
            log=LocalLog(study.folder),
            tracker=tracker,
            threads=threads,
            workers=workers,
            quick=quick,
            looks=looks,
        )
        _finish(run, study, fresh)
    return study


def _finish(run: Run, study: Study, fresh: bool) -> None:
    """Run what is missing, unless the folder holds something that it must not be mixed with."""
    described = _described(run)
    changed = changes(study.folder, run.recipe, described)
    refuse(changed, study.folder, fresh)
    run.set_damaged_aside()
    if run.looks:
        _look_by_look(run, study, run.looks, changed)
        described = _described(run)
    if not run.missing(run.keys) and study.is_finished(described):
        study.describe(described)  # its store may have moved
        _keep_weights(run, study)
        run.display.note(f"{study.folder}: everything is finished; nothing to do")
        return
    _begin(run, study, changed, described)
    with Interrupts(run.display.note) as interrupts:
        run.stopping = interrupts.stopping
        tests = _mending(run, lambda: _to_the_end(run, study))
    tested = all(run.store.has(key) for key in tests)
    if interrupts.asked and (study.is_unfinished or not tested):
        raise KeyboardInterrupt
    if tested:
        study.finish()
    run.display.finished(study)
    run.tracker.finish()


def _look_by_look(run: Run, study: Study, looks: Looks, changed: Changes) -> None:
    """Run look after look while a contrast goes on; leaves the plan of the last one in the run."""
    whole = run.plan
    asked = first_trials(whole, looks)
    for number in range(len(looks)):
        run.plan = part(whole, asked)
        found = _mending(run, lambda: _look(run, study, looks, changed))
        run.display.note(found.told(looks, number))
        if not found.open or number == len(looks) - 1:
            return
        asked = more_trials(asked, whole, found.open, looks[number + 1])


def _look(run: Run, study: Study, looks: Looks, changed: Changes) -> Findings:
    """Run what a look lacks, and tell what it has found; the folder is left alone where it lacks nothing."""
    if run.missing(run.keys):
        _begin(run, study, changed, _described(run))
        study.collect(run.plan, run.store, run.failed)  # what the looks before have found stays to be seen
        with Interrupts(run.display.note) as interrupts:
            run.stopping = interrupts.stopping
            _run(run, study)
        if interrupts.asked:
            study.collect(run.plan, run.store, run.failed)
            raise KeyboardInterrupt
    return look_at(run, looks)


def _described(run: Run) -> str:
    """The `plan.json` of the run's present plan."""
    return plan_file(
        run.recipe,
        run.plan,
        run.prepared,
        run.store.place,
        run.executor.device,
        run.threads,
        run.quick,
        run.looks,
    )


def _begin(run: Run, study: Study, changed: Changes, described: str) -> None:
    """Write what is about to run into the folder; the first time, tell what has changed and try it."""
    if not run.begun:
        keys = run.keys
        missing = run.missing(keys)
        for line in told(changed, len(keys) - len(missing), len(keys)):
            run.display.note(line)
        if left_out := len(run.prepared.skipped):
            run.display.note(f"{left_out} images cannot be used and are left out: see {SKIPPED_IMAGES}")
        if leaking := run.prepared.n_leaking:
            run.display.note(
                f"extra images that are left out, since they look like validation or test images or are of "
                f"their groups: {leaking}, see {SKIPPED_IMAGES}"
            )
        run.require(missing)
        run.preflight(missing)
    run.begun = True
    study.begin(run.recipe, described, run.prepared.reasons)
    run.keep_logs()
    run.store.refer(study.folder)
    run.tracker.start()


def _mending(run: Run, work: Callable[[], T]) -> T:
    """Do some work, again if a stage turns out to be damaged."""
    while True:
        try:
            return work()
        except Damaged as error:
            run.mend(error)


def _to_the_end(run: Run, study: Study) -> list[str]:
    """Run what is missing, test the winner and write the outputs; gives the tests."""
    _run(run, study)
    run.keep_logs()
    tests = _test_winner(run, study)
    study.collect(run.plan, run.store, run.failed, run.prepared.items.items)
    _keep_weights(run, study)
    return tests


def _keep_weights(run: Run, study: Study) -> None:
    """Put the weights that predict into the study's folder."""
    if left := keep_weights(study.folder, run.plan, run.store):
        run.display.note(
            f"{study.folder}: there is no room for copies of the weights of {left} networks; `ablate "
            f"predict` takes them from {run.store.root}, as long as they are there"
        )


def _run(run: Run, study: Study) -> None:
    """Run what is missing, and write the outputs anew after each seed, while the next one trains."""
    keys = run.keys
    missing = run.missing(keys)
    seeds = Counter(run.plan.stages[key].seed for key in missing)
    news = False

    def after(stage: Stage) -> None:
        nonlocal news
        run.display.stage_done(stage)
        if stage.kind == "predict":
            run.display.row(study.scores(run.plan, run.store, stage.key))
        seeds[stage.seed] -= 1
        news = news or seeds[stage.seed] == 0

    def beside() -> None:
        nonlocal news
        if news:
            news = False
            study.collect(run.plan, run.store, run.failed)

    run.store.sweep()
    run.display.begin(run.plan, missing)
    run_stages(run, keys, after, beside)


def _test_winner(run: Run, study: Study) -> list[str]:
    """Score the best variant on the test split, where there is one; gives the stages that do."""
    if not any(trial.test for trial in run.plan.trials):
        return []
    winner = study.best_variant(run.plan, run.store, run.recipe.study.metric)
    tests = [trial.test for trial in run.plan.trials if trial.variant == winner and trial.test]
    run_stages(run, run.plan.in_order(run.plan.needed(tests)), run.display.stage_done)
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
