"""Nothing against nothing, in real training. Run: python benchmarks/aa.py --out runs-aa

208 small studies compare `baseline` with `baseline+reseed`: the same training under other random numbers, no
stage shared. Whatever such a study calls `helps` or `hurts` is a false alarm. Must reach: at most 5% of the
studies, within binomial error. Each has 3 seeds and 2 variants, hence 1,248 trials in all: a network of 0.1
million parameters, 2 epochs at 32 pixels on half of scikit-learn's digits, scored on the other half.

The trials run as 26 studies (`ablate run`, one thread, two at a time) with 24 seeds each; every group has
seeds and a split of its own. Then every 3 seeds in a row are analysed as one study. A trial's result hangs on
recipe, data and seed alone, so these are the numbers that 208 separate studies of 3 seeds would have given;
it only saves the start of 182 commands. The 8 studies of a group share their images, which is why there are
many groups: the binomial interval takes all studies as independent.

About 30 minutes on two cores; `--groups 2` is a small try. The groups' tables stay in `--out`, so that the
same command goes on after a stop, and `--analyse-only` repeats the analysis alone, also on another metric or
with other numbers of seeds in a study (`--seeds 6`: 104 studies).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

import ablate
from ablate import Study

GROUPS, SEEDS_OF_GROUP = 26, 24
SMALLEST_EFFECT = 0.005
VERDICTS = ("helps", "hurts", "negligible", "undecided")


def recipe(group: int) -> dict[str, Any]:
    """The recipe of one group, with a split and seeds that no other group has."""
    first = group * SEEDS_OF_GROUP
    return {
        "name": f"group-{group:02}",
        "data": {"source": "digits", "split": {"random": 0.5, "stratify": True, "seed": group}},
        "model": {"arch": "test_efficientnet", "pretrained": False},
        "size": 32,
        "batch_size": 64,
        "phases": [{"name": "fit", "epochs": 2, "lr": 1.5e-2}],
        "study": {
            "vary": ["reseed"],
            "design": "one_at_a_time",
            "seeds": [*range(first, first + SEEDS_OF_GROUP)],
            "smallest_effect": SMALLEST_EFFECT,
        },
    }


def run(group: int, out: Path) -> Study:
    """Run one group by the command, as anybody would, unless it is finished; its weights are not kept."""
    values = recipe(group)
    study, store = Study(out / values["name"]), out / ".stages" / values["name"]
    if not study.seems_finished:
        file = out / f"{values['name']}.yaml"
        file.write_text(json.dumps(values))  # JSON is YAML
        command = [sys.executable, "-m", "ablate.cli", "run", str(file), "--out", str(out), "--threads", "1"]
        command += ["--wandb", "off"]
        began = time.perf_counter()
        with (out / f"{values['name']}.log").open("w") as log:
            environment = os.environ | {"ABLATE_STORE": str(store)}
            subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
        print(f"{values['name']}: {time.perf_counter() - began:.0f} s", flush=True)
    shutil.rmtree(store, ignore_errors=True)
    return study


def analyse(study: Study, seeds: int, metric: str) -> pd.DataFrame:
    """The effect of `reseed` in each of the group's studies, a row per study."""
    summary = study.plan["summary"]
    assert summary["requested_epochs"] == summary["unique_epochs"], "stages are shared"
    trials, predictions = study.trials, study.predictions()
    rows = []
    for first in range(0, SEEDS_OF_GROUP, seeds):
        chosen = sorted(trials["seed"].unique())[first : first + seeds]
        found = ablate.effects(
            trials[trials["seed"].isin(chosen)],
            predictions[predictions["seed"].isin(chosen)],
            metric=metric,
            smallest_effect=SMALLEST_EFFECT,
        )
        rows.append(found[found["metric"] == metric])
    return pd.concat(rows).assign(group=study.folder.name)


def report(found: pd.DataFrame, scores: pd.Series, metric: str) -> None:
    """Print how often the studies were wrong."""
    number, counts = len(found), found["verdict"].value_counts()
    print(f"{number} studies in {found['group'].nunique()} groups, {int(found['n_seeds'].min())} seeds each")
    print(f"{metric} of a trial: mean {scores.mean():.4f}, from {scores.min():.4f} to {scores.max():.4f}")
    for name in VERDICTS:
        print(f"  {name:<12}{counts.get(name, 0):>5}")
    wrong = int(counts.get("helps", 0) + counts.get("hurts", 0))
    print(f"called helps or hurts: {share(wrong, number)}")
    for name, what in (("ci", "new images and new seeds"), ("seed_ci", "new seeds on these images")):
        holds = (found[f"{name}_low"] <= 0) & (found[f"{name}_high"] >= 0)
        print(f"the 95% interval for {what} holds 0: {share(int(holds.sum()), number)}")
    print(f"at most 5% within binomial error: {'yes' if at_most(wrong, number, 0.05) else 'NO'}")


def share(count: int, number: int) -> str:
    """A share with its 95% interval (Clopper and Pearson, Biometrika 1934)."""
    interval = binomtest(count, number).proportion_ci(0.95, method="exact")
    low, high = 100 * interval.low, 100 * interval.high
    return f"{count} of {number} = {100 * count / number:.1f}% [{low:.1f}, {high:.1f}]"


def at_most(count: int, number: int, rate: float) -> bool:
    """Whether a count is no surprise (p ≥ 0.025) if the true rate is no higher."""
    return float(binomtest(count, number, rate, alternative="greater").pvalue) >= 0.025


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="The folder that the runs stay in.")
    parser.add_argument("--groups", type=int, default=GROUPS)
    parser.add_argument("--processes", type=int, default=2, help="How many commands run at a time.")
    parser.add_argument("--analyse-only", action="store_true", help="Run nothing; take what is finished.")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--seeds", type=int, default=3, help="Seeds of a study; a divisor of 24.")
    arguments = parser.parse_args()
    if arguments.seeds < 2 or SEEDS_OF_GROUP % arguments.seeds:
        parser.error(f"--seeds must divide {SEEDS_OF_GROUP}, and be 2 or more")
    out = arguments.out.absolute()
    if arguments.analyse_only:
        studies = [
            study for folder in sorted(out.glob("group-*/")) if (study := Study(folder)).seems_finished
        ]
        if not studies:
            parser.error(f"{out} holds no finished group")
    else:
        out.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(arguments.processes) as pool:
            studies = list(pool.map(lambda group: run(group, out), range(arguments.groups)))
    found = pd.concat([analyse(study, arguments.seeds, arguments.metric) for study in studies])
    found.to_csv(out / "effects.csv", index=False)
    scores = pd.concat([study.trials for study in studies])[arguments.metric]
    report(found, scores, arguments.metric)


if __name__ == "__main__":
    main()
