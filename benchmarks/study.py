"""A whole study against the same variants by hand. Run: python benchmarks/study.py

    CASSAVA_DATA=… ABLATE_WEIGHTS=… python benchmarks/study.py --out numbers.json

A factorial study over five techniques of the cassava-cpu recipe: 32 variants, one seed. `ablate run` runs it
whole, from the command to the report, with a fresh store and fresh outputs. `by_hand.py` trains some of the
variants, drawn at random, as a notebook does: one after the other, from scratch, timed after its imports; its
time is scaled to all epochs of the study. Both sides use the same loader, images and epochs.
Must reach: at least 2 times less wall time through sharing alone, 6 times with presized images, aim for 10.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

ABLATE = str(Path(sys.executable).parent / "ablate")
HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "cassava-cpu.yaml"
TECHNIQUES = ("augment", "progressive_resizing", "mixup", "label_smoothing", "tta")
STUDY = {"baseline": ["normalize"], "vary": list(TECHNIQUES), "design": "factorial", "seeds": 1}
# what `ablate` sets for its processes: OpenMP's threads spin otherwise
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"} | os.environ


def title(on: list[str]) -> str:
    """The name that `ablate` gives a variant."""
    return "+".join(["baseline", *on])


def drawn(count: int, draw: int) -> list[list[str]]:
    """So many of the variants, at random."""
    every = [
        [name for name, is_on in zip(TECHNIQUES, levels) if is_on]
        for levels in product((False, True), repeat=len(TECHNIQUES))
    ]
    return random.Random(draw).sample(every, count)


def with_ablate(recipe: Path, changes: list[str]) -> dict[str, Any]:
    """The whole study, by its command."""
    with tempfile.TemporaryDirectory() as folder:
        store, out = Path(folder) / "store", Path(folder) / "out"
        began = time.perf_counter()
        subprocess.run(
            [ABLATE, "run", str(recipe), "--out", str(out), "--wandb", "off", *changes],
            check=True,
            env=ENVIRONMENT | {"ABLATE_STORE": str(store)},
        )
        seconds = time.perf_counter() - began
        (table,) = out.glob("*/trials.csv")
        with table.open() as file:
            accuracies: dict[str, list[float]] = {}
            for row in csv.DictReader(file):
                accuracies.setdefault(row["variant"], []).append(float(row["accuracy"]))
    return {"seconds": seconds, "accuracies": {name: mean(values) for name, values in accuracies.items()}}


def by_hand(recipe: Path, changes: list[str], variants: list[list[str]]) -> list[dict[str, Any]]:
    """Some variants, by `by_hand.py`."""
    command = [sys.executable, "-W", "ignore", str(HERE / "by_hand.py"), str(recipe), json.dumps(variants)]
    process = subprocess.Popen([*command, *changes], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    rows = []
    for line in process.stdout:
        rows.append(json.loads(line))
        print(f"by hand: {title(rows[-1]['on'])}, {rows[-1]['seconds']:.1f} s", flush=True)
    if process.wait():
        sys.exit("the script by hand failed")
    return rows


def print_table(numbers: dict[str, Any]) -> None:
    """Both sides, as far as they have been run."""
    plan, ours, rows = numbers["plan"], numbers.get("ablate"), numbers.get("hand")
    requested, unique = plan["requested_epochs"], plan["unique_epochs"]
    print(f"\n{plan['trials']} trials; epochs requested {requested}, unique {unique}, ", end="")
    print(f"merge rate {plan['merge_rate']:.2f}")
    if ours:
        print(f"ablate run, whole: {ours['seconds']:.0f} s")
    if not rows:
        return
    epochs, seconds = sum(row["epochs"] for row in rows), sum(row["seconds"] for row in rows)
    scaled = seconds * requested / epochs
    print(
        f"by hand: {seconds:.0f} s for {len(rows)} variants drawn at random (--draw {numbers['draw']}) with "
        f"{epochs} epochs, scaled to {requested} epochs: {scaled:.0f} s"
    )
    if ours:
        print(f"ratio: {scaled / ours['seconds']:.2f}")
    print(f"\n{'accuracy':<70} {'ablate':>7} {'by hand':>8}")
    for row in rows:
        name = title(row["on"])
        print(f"{name:<70} {_score(ours and ours['accuracies'][name])} {row['accuracy']:8.3f}")
    own = ours and mean(ours["accuracies"][title(row["on"])] for row in rows)
    print(f"{'mean':<70} {_score(own)} {mean(row['accuracy'] for row in rows):8.3f}")


def _score(value: float | None) -> str:
    return f"{'' if value is None else format(value, '.3f'):>7}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe-set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--sample", type=int, default=8, help="Variants that are trained by hand.")
    parser.add_argument("--draw", type=int, default=0, help="The seed that they are drawn with.")
    parser.add_argument("--side", choices=("both", "ablate", "hand"), default="both")
    parser.add_argument("--out", type=Path, help="Keep the numbers here, and add to those that are there.")
    arguments = parser.parse_args()
    changes = [part for change in arguments.changes for part in ("--set", change)]
    out: Path | None = arguments.out
    numbers: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "study.yaml"
        recipe.write_text(json.dumps({"extends": str(RECIPE), "name": "cassava-factorial", "study": STUDY}))
        plan = subprocess.run(
            [ABLATE, "plan", str(recipe), "--json", *changes], check=True, stdout=subprocess.PIPE, text=True
        )
        numbers |= {"plan": json.loads(plan.stdout), "changes": arguments.changes, "draw": arguments.draw}
        subprocess.run([ABLATE, "check", str(recipe), *changes], check=True, stdout=subprocess.DEVNULL)
        if arguments.side in ("both", "ablate"):
            numbers["ablate"] = with_ablate(recipe, changes)
        if arguments.side in ("both", "hand"):
            numbers["hand"] = by_hand(recipe, changes, drawn(arguments.sample, arguments.draw))
    if out:
        out.write_text(json.dumps(numbers, indent=1))
    print_table(numbers)


if __name__ == "__main__":
    main()
