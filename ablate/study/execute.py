"""Run a study: look at the data, plan, try everything once, run what is not finished, write the outputs."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ablate import devices
from ablate.errors import AblateError, StageFailed
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.display import Display, make_display
from ablate.study.graph import Plan, Stage
from ablate.study.job import Job
from ablate.study.plan import stage_key
from ablate.study.planning import available_cores, plan_prepared
from ablate.study.prepare import Prepared, prepare
from ablate.study.quick import quick_recipe
from ablate.study.store import Store
from ablate.study.study import Study
from ablate.study.summary import plan_file


@dataclass
class Run:
    """A study while it runs: where things are, and what went wrong so far."""

    recipe: Recipe
    plan: Plan
    prepared: Prepared
    store: Store
    executor: LocalExecutor
    display: Display
    device: str
    threads: int
    workers: int
    quick: bool
    failed: dict[str, str] = field(default_factory=dict)

    def job(
        self, key: str, settings: dict[str, Any], label: str, fold: int, weights: str | None, work: Path
    ) -> Job:
        """What a process needs to run one stage."""
        mean, std = self.prepared.pixels[fold]
        parents = [settings.get("parent"), settings.get("lr_from")]
        return Job(
            key=key,
            label=label,
            settings=settings,
            folder=str(work),
            data=self.recipe.data.model_dump(mode="json"),
            fold=fold,
            quick=self.quick,
            weights=weights,
            parents={parent: str(self.store.folder(parent)) for parent in parents if parent},
            device=self.device,
            threads=self.threads,
            workers=self.workers,
            pixel_mean=mean,
            pixel_std=std,
        )


def run_study(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
) -> Study:
    """Run what a study lacks, and write its files.

    Args:
        recipe: The recipe.
        out: The folder that studies are in; default `ABLATE_OUT`, else `runs`.
        quick: A smoke run: a few images, one epoch a phase, under another name.
        device: cpu, cuda, xla or auto.
        threads: Torch threads; default all cores. On the CPU they are part of every result.
        workers: Loader processes; default by cores. They change no result.

    Raises:
        AblateError: The recipe, the data or the place to write to cannot be used.
    """
    if quick:
        recipe = quick_recipe(recipe)
    folder = Path(out or os.environ.get("ABLATE_OUT") or "runs").absolute() / recipe.name
    _make_writable(folder)
    store = Store(Path(os.environ.get("ABLATE_STORE") or folder.parent / ".stages"))
    device, threads = devices.choose(device), threads or available_cores()
    display = make_display()
    with display:
        executor = LocalExecutor(folder / "logs")
        executor.warm_up()
        display.say("looking at the data")
        prepared = prepare(recipe, quick=quick, progress=display.looked)
        if workers is None:
            workers = 0 if prepared.in_memory else min(available_cores(), 8)
        plan = plan_prepared(recipe, prepared, device, threads)
        run = Run(recipe, plan, prepared, store, executor, display, device, threads, workers, quick)
        wanted = plan.needed(trial.predict for trial in plan.trials)
        missing = [key for key in wanted if not store.has(key)]
        study = Study(folder)
        if not missing and study.is_complete(plan):
            display.say(f"{folder}: everything is finished; nothing to do")
            return study
        _preflight(run, [plan.stages[key] for key in missing])
        _write_inputs(run, folder, prepared)
        if missing:
            _run_stages(run, missing, study)
        _test_winner(run, study)
        study.collect(plan, store, run.failed)
        display.finished(study)
    return study


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


def _write_inputs(run: Run, folder: Path, prepared: Prepared) -> None:
    from ablate.study.tables import replace_file

    yaml, text = YAML(), io.StringIO()
    yaml.dump(run.recipe.to_dict(), text)
    replace_file(folder / "recipe.yaml", lambda path: path.write_text(text.getvalue()))
    content = plan_file(run.recipe, run.plan, prepared, run.store.root, run.device, run.threads, run.quick)
    replace_file(folder / "plan.json", lambda path: path.write_text(content))


def _preflight(run: Run, missing: list[Stage]) -> None:
    """Run one batch of every distinct phase that is to be trained, before the first hour is spent."""
    distinct: dict[str, Stage] = {}
    for stage in missing:
        if stage.kind == "fit":
            own = {
                k: v
                for k, v in stage.settings.items()
                if k not in ("seed", "parent", "data", "lr_from", "salt")
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
    work = run.store.workplace("preflight")
    try:
        run.executor.run(
            run.job("preflight", settings, "preflight", first.fold, first.weights, work), run.display.report
        )
    except StageFailed as error:
        raise AblateError(str(error)) from None
    finally:
        run.store.discard(work)


def _run_stages(run: Run, keys: list[str], study: Study) -> None:
    """Run stages in order; what hangs on a failed one is skipped, and nothing else."""
    run.display.begin(run.plan, keys)
    for key in keys:
        stage = run.plan.stages[key]
        if not _can_run(run, stage):
            run.failed[key] = "a stage before it failed"
            continue
        _run_stage(run, stage)
        if stage.kind == "predict":
            run.display.row(study.scores(run.plan, run.store, key))


def _can_run(run: Run, stage: Stage) -> bool:
    return all(
        run.store.has(parent) and run.store.result(parent)["status"] == "ok" for parent in stage.parents
    )


def _run_stage(run: Run, stage: Stage) -> None:
    if run.store.has(stage.key):
        return
    work = run.store.workplace(stage.key)
    run.display.stage(stage.label, stage.epochs)
    try:
        run.executor.run(
            run.job(stage.key, stage.settings, stage.label, stage.fold, stage.weights, work),
            run.display.report,
        )
        run.store.publish(stage.key, work, stage.settings)
    except StageFailed as error:
        run.failed[stage.key] = str(error)
        run.display.problem(str(error))
    finally:
        run.store.discard(work)
    run.display.stage_done(stage)


def _test_winner(run: Run, study: Study) -> None:
    """Score the best variant, and no other, on the test split."""
    if not any(trial.test for trial in run.plan.trials):
        return
    winner = study.best_variant(run.plan, run.store, run.recipe.study.metric)
    for trial in run.plan.trials:
        if trial.variant == winner and trial.test is not None and _can_run(run, run.plan.stages[trial.test]):
            _run_stage(run, run.plan.stages[trial.test])
