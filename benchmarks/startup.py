"""How long the commands take to answer, beside importing fastai. Run: python benchmarks/startup.py

Interleaved runs of whole processes; the minimum of each, since noise only adds. Must reach: `ablate --help`
at most 1/12, `ablate plan` at most 1/6 of the import.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ABLATE = str(Path(sys.executable).parent / "ablate")
RECIPES = Path(__file__).parents[1] / "recipes"
HEAVY = ("torch", "pandas", "scipy.stats")


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def imported(command: str) -> list[str]:
    """Which heavy packages a command brings in."""
    code = (
        f"import sys; from ablate.cli import main\ntry: main({command.split()!r})\nexcept SystemExit: pass\n"
    )
    code += f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.rsplit("HEAVY ", 1)[1].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    recipe = RECIPES / ("cassava.yaml" if "CASSAVA_DATA" in os.environ else "digits.yaml")
    commands = {
        "import fastai": [sys.executable, "-W", "ignore", "-c", "from fastai.vision.all import *"],
        "ablate --help": [ABLATE, "--help"],
        f"ablate plan {recipe.name}": [ABLATE, "plan", str(recipe)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    reference = min(times["import fastai"])
    heads = f"{'command':<28} {'min s':>7} {'median s':>9}"
    print(f"{heads}   import ÷ command   imports of {', '.join(HEAVY)}")
    for name, measured in times.items():
        heavy = "" if name == "import fastai" else imported(" ".join(commands[name][1:]))
        median = sorted(measured)[len(measured) // 2]
        print(f"{name:<28} {min(measured):7.2f} {median:9.2f}   {reference / min(measured):16.1f}   {heavy}")


if __name__ == "__main__":
    main()
