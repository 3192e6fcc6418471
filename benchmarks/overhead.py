"""What planning, processes, store and checkpoints cost. Run: python benchmarks/overhead.py RECIPE

`ablate run`, whole, from the command to the report (fresh store and outputs; the images have been looked at
before, by `ablate check`), beside the same stages in the same order in one bare fastai process: the same
loaders, learners and epochs, weights handed on in memory, nothing written, timed after its imports. The two
sides take turns; the least of each counts, since noise only adds. Must reach: at most 5% on cassava-cpu:

    CASSAVA_DATA=… ABLATE_WEIGHTS=… python benchmarks/overhead.py recipes/cassava-cpu.yaml
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastai.learner import Learner

    from ablate.recipe.recipe import Recipe
    from ablate.study.graph import Stage
    from ablate.study.prepare import Prepared
    from ablate.training.parts import Parts

ABLATE = str(Path(sys.executable).parent / "ablate")


def with_ablate(recipe: str, changes: list[str]) -> dict[str, Any]:
    """Run the study by its command in fresh folders."""
    with tempfile.TemporaryDirectory() as folder:
        store, out = Path(folder) / "store", Path(folder) / "out"
        command = [ABLATE, "run", recipe, "--out", str(out), "--wandb", "off", *changes]
        began = time.perf_counter()
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"ABLATE_STORE": str(store)}
        )
        seconds = time.perf_counter() - began
        (table,) = out.glob("*/trials.csv")
        with table.open() as file:
            accuracies = {name(row): float(row["accuracy"]) for row in csv.DictReader(file)}
        inside = sum(json.loads(done.read_text())["seconds"] for done in store.glob("*/DONE.json"))
    return {"seconds": seconds, "inside": inside, "accuracies": accuracies}


def without(recipe: str, changes: list[str]) -> dict[str, Any]:
    """The same in a bare process of its own, with OpenMP set as `ablate` sets it."""
    command = [sys.executable, "-W", "ignore", __file__, recipe, "--bare", *changes]
    environment = {"GOMP_SPINCOUNT": "1000"} | os.environ
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def name(trial: dict[str, Any]) -> str:
    return f"{trial['variant']}, seed {trial['seed']}, fold {trial['fold']}"


def bare(recipe: Recipe) -> dict[str, Any]:
    """Fit and predict every stage of the plan here, one after the other."""
    import fastai.vision.all  # noqa: F401

    import ablate.training.stage  # noqa: F401  imports must not be timed
    from ablate import devices
    from ablate.study.planning import available_cores, plan_prepared
    from ablate.study.prepare import prepare

    device, threads = devices.choose("auto"), available_cores()
    devices.load(device).start(threads, recipe.deterministic)
    prepared = prepare(recipe)
    plan = plan_prepared(recipe, prepared, device, threads)
    stages = [plan.stages[key] for key in plan.in_order(plan.needed(t.predict for t in plan.trials))]
    if any(stage.kind == "lr_find" or stage.settings.get("keep") == "best" for stage in stages):
        sys.exit("lr: find and keep: best are not part of this benchmark.")
    trained: dict[str, dict[str, Any]] = {}
    accuracies: dict[str, float] = {}
    began = time.perf_counter()
    for stage in stages:
        parts = parts_of(stage, prepared, device)
        if stage.kind == "fit":
            trained[stage.key] = fit(stage, parts, trained)
        else:
            accuracies[stage.key] = accuracy(stage, parts, trained)
    seconds = time.perf_counter() - began
    found = {name(vars(trial)): accuracies[trial.predict] for trial in plan.trials}
    epochs = sum(stage.epochs for stage in stages)
    return {"seconds": seconds, "stages": len(stages), "epochs": epochs, "accuracies": found}


def parts_of(stage: Stage, prepared: Prepared, device: str) -> Parts:
    """What a stage is built from, with items that are loaded once."""
    from ablate import techniques
    from ablate.recipe.schema import Model, Phase
    from ablate.streams import Streams
    from ablate.study.planning import available_cores
    from ablate.training.parts import Parts

    settings, (mean, std) = stage.settings, prepared.pixels[stage.fold]
    model, phase = settings["model"], Phase.model_validate(settings["phase"])
    return Parts(
        model=Model(arch=model["arch"], pretrained=model["pretrained"], weights=stage.weights),
        phase=phase,
        on={one["name"]: techniques.build(one["name"], one["options"]) for one in settings["techniques"]},
        streams=Streams(stage.seed, phase.name, settings["salt"]),
        items=prepared.items,
        fold=prepared.folds[stage.fold],
        pixel_mean=mean,
        pixel_std=std,
        device=device,
        workers=0 if prepared.in_memory else min(available_cores(), 8),
        inactive=frozenset(one["name"] for one in settings["techniques"] if not one["active"]),
    )


def learner(parts: Parts, state: dict[str, Any] | None, optimizer: bool, initial: bool) -> Learner:
    """A learner with its parent's weights, and its optimizer's state where that goes on."""
    from ablate.training.data import dataloaders
    from ablate.training.learner import build_learner, quiet

    learn = quiet(build_learner(parts, dataloaders(parts), initial=initial))
    if state:
        learn.model.load_state_dict(state["model"])
    if state and optimizer:
        rates = learn.opt.state_dict()["hypers"]
        learn.opt.load_state_dict(deepcopy(state["optimizer"]) | {"hypers": rates})
    return learn


def fit(stage: Stage, parts: Parts, trained: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Train one phase, by fastai's own call, and tell where the learner stands."""
    parent, phase = stage.settings["parent"], parts.phase
    learn = learner(parts, trained.get(parent), stage.settings["keeps_optimizer"], parent is None)
    rate: Any = slice(*phase.lr) if isinstance(phase.lr, list) else phase.lr
    learn.fit_one_cycle(phase.epochs, lr_max=rate, wd=phase.weight_decay)
    return deepcopy({"model": learn.model.state_dict(), "optimizer": learn.opt.state_dict()})


def accuracy(stage: Stage, parts: Parts, trained: dict[str, dict[str, Any]]) -> float:
    """Predict one split, and score it."""
    from ablate.streams import Streams
    from ablate.training.predict import predict

    learn = learner(parts, trained[stage.settings["parent"]], False, False)
    items = parts.side(stage.settings["split"])
    found = predict(learn, parts, items, Streams(stage.seed, "predict", stage.settings["salt"]))
    return float((found.argmax(1) == [item.target for item in items]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="Only the bare side, in this process.")
    arguments = parser.parse_args()
    if arguments.bare:
        from ablate.recipe.load import parse_overrides
        from ablate.recipe.recipe import Recipe

        print(json.dumps(bare(Recipe.load(arguments.recipe, parse_overrides(arguments.changes)))))
        return
    changes = [part for change in arguments.changes for part in ("--set", change)]
    subprocess.run([ABLATE, "check", arguments.recipe, *changes], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = [], []
    for number in range(1, arguments.runs + 1):
        ours.append(with_ablate(arguments.recipe, changes))
        theirs.append(without(arguments.recipe, changes))
        print(
            f"run {number}: ablate run {ours[-1]['seconds']:.1f} s ({ours[-1]['inside']:.1f} s in stages), "
            f"bare {theirs[-1]['seconds']:.1f} s",
            flush=True,
        )
    mine, other = (min(run["seconds"] for run in runs) for runs in (ours, theirs))
    stages, epochs = theirs[0]["stages"], theirs[0]["epochs"]
    same = sum(
        abs(ours[0]["accuracies"][trial] - value) < 1e-9 for trial, value in theirs[0]["accuracies"].items()
    )
    print(f"{stages} stages, {epochs} epochs: ablate run {mine:.1f} s, bare {other:.1f} s")
    print(f"overhead: {100 * (mine / other - 1):.1f}%, {(mine - other) / stages:.2f} s per stage")
    print(f"the same accuracy in {same} of {len(theirs[0]['accuracies'])} trials")


if __name__ == "__main__":
    main()
