"""What it costs to plan large studies of the digits. Run: python benchmarks/plan.py

Every plan is made in a fresh process by `ablate plan … --json`; its time includes starting Python and reading
the recipe. Beside it, how long plan.json takes to write, which `ablate run` does too. Must reach: 10,000
trials in less than 5 s and 1 GB, at a cost that grows linearly (s per 1,000 trials does not rise).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ABLATE = str(Path(sys.executable).parent / "ablate")
DIGITS = Path(__file__).parents[1] / "recipes" / "digits.yaml"
SIZES = (1_000, 3_000, 10_000)
SECONDS, MEGABYTES = 5, 1_000
WRITE_PLAN = """
import sys, time
from pathlib import Path
from ablate.recipe.recipe import Recipe
from ablate.study.planning import plan_study
from ablate.study.prepare import prepare
from ablate.study.summary import plan_file
recipe = Recipe.load(sys.argv[1])
_, plan = plan_study(recipe, device="cpu", threads=2)
prepared = prepare(recipe, look=False)
began = time.perf_counter()
text = plan_file(recipe, plan, prepared, Path("store"), "cpu", 2, False)
print(time.perf_counter() - began, len(text))
"""


def rates(count: int) -> list[float]:
    """So many learning rates, none of them that of the recipe."""
    return [1e-3 * (1 + i / count) for i in range(count)]


def levels(trials: int) -> dict[str, Any]:
    """One factor of many levels, five seeds."""
    return {"vary": [{"phases.large.lr": rates(trials // 5)}], "seeds": 5}


def explicit(trials: int) -> dict[str, Any]:
    """A long list of variants, five seeds."""
    design = [{"set": {"phases.large.lr": rate}} for rate in rates(trials // 5 - 1)]
    return {"vary": [], "design": design, "seeds": 5}


def factorial(trials: int) -> dict[str, Any]:
    """All combinations of up to ten factors: 128 × 8, 512 × 6 and 1,024 × 10 trials."""
    factors: list[Any] = ["progressive_resizing", "mixup", "cutmix", "label_smoothing", "tta", "reseed"]
    factors += [{"phases.small.lr": [1e-2, 1e-4]}, {"phases.large.lr": [5e-3, 1e-4]}]
    factors += [{"weight_decay": [0.01, 0.1]}, {"batch_size": [48, 32]}]
    count, seeds = {1_000: (7, 8), 3_000: (9, 6)}.get(trials, (10, round(trials / 1024)))
    return {"vary": factors[:count], "design": "factorial", "seeds": seeds}


def seeds(trials: int) -> dict[str, Any]:
    """The recipe's own eight variants, many seeds."""
    return {"seeds": trials // 8}


def measured(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and output of a process."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - began
        output.seek(0)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        return elapsed, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3), output.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().trials
    print(f"{'design':<10} {'trials':>7} {'stages':>7} {'s':>6} {'MB':>5} {'s per 1,000':>12}   plan.json")
    reached = True
    for study in (levels, explicit, factorial, seeds):
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                recipe = Path(folder) / "recipe.yaml"
                recipe.write_text(json.dumps({"extends": str(DIGITS), "name": "many", "study": study(size)}))
                elapsed, memory, output = measured([ABLATE, "plan", str(recipe), "--json"])
                _, written_memory, written = measured([sys.executable, "-c", WRITE_PLAN, str(recipe)])
            numbers, (writing, length) = json.loads(output), map(float, written.split())
            reached &= elapsed < SECONDS and max(memory, written_memory) < MEGABYTES
            print(
                f"{study.__name__:<10} {numbers['trials']:7d} {numbers['stages']:7d} {elapsed:6.2f} "
                f"{memory:5.0f} {1e3 * elapsed / numbers['trials']:12.2f}   {writing:.2f} s, "
                f"{length / 1e6:.0f} MB, peak {written_memory:.0f} MB"
            )
    print(f"every plan in less than {SECONDS} s and {MEGABYTES} MB: {'yes' if reached else 'no'}")


if __name__ == "__main__":
    main()
