"""What telling W&B costs a study. Run: python benchmarks/tracking.py RECIPE

`ablate run`, whole, in three ways that take turns: `--wandb off`, online with a W&B that answers, and online
with one that takes connections and never answers. W&B is the loopback backend of the tests, in this process,
on the same cores; wandb's own client sends. Every run has a fresh store and fresh outputs; the images have
been looked at before, by `ablate check`. The least of each way counts, since noise only adds. A W&B that
answers must have everything at the end, once; one that hangs must have been asked. Must reach: at most 3%
more wall time in both, on a study of some minutes (of a study of seconds, the 2 seconds' wait at the end are
more than that):

    CASSAVA_DATA=… ABLATE_WEIGHTS=… python benchmarks/tracking.py recipes/cassava-cpu.yaml --runs 3
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "tracking")]

from arrived import lacking  # noqa: E402
from loopback import Fault, Loopback  # noqa: E402
from wandb_backend import KEY  # noqa: E402

ABLATE = str(Path(sys.executable).parent / "ablate")
WAYS = ("off", "answering", "hanging")


def seconds(recipe: str, changes: list[str], way: str) -> float:
    """Run the study once."""
    backend = Loopback()
    backend.fault = Fault("hang") if way == "hanging" else None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        mode = "off" if way == "off" else "online"
        command = [ABLATE, "run", recipe, "--out", str(out), "--wandb", mode, *changes]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment(backend, folder))
        found = time.perf_counter() - began
        (study,) = (path.parent for path in out.glob("*/plan.json"))
        # a run that sends nothing, or does not even try, would cost nothing
        if way == "answering" and (wrong := lacking(backend, study)):
            sys.exit("\n".join(wrong))
        if way == "hanging" and not backend.asked:
            sys.exit("W&B was not asked anything")
    backend.stop()
    return found


def _environment(backend: Loopback, folder: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ours = {"WANDB_BASE_URL": backend.url, "WANDB_API_KEY": KEY, "ABLATE_STORE": f"{folder}/store"}
    return kept | ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    changes = [part for change in arguments.changes for part in ("--set", change)]
    subprocess.run([ABLATE, "check", arguments.recipe, *changes], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(arguments.runs):
        for way in WAYS[number % 3 :] + WAYS[: number % 3]:
            found[way].append(seconds(arguments.recipe, changes, way))
        told = ", ".join(f"{way} {found[way][-1]:.1f} s" for way in WAYS)
        print(f"run {number + 1}: {told}", flush=True)
    least = {way: min(found[way]) for way in WAYS}
    for way in WAYS[1:]:
        print(
            f"W&B {way}: {least[way]:.1f} s against {least['off']:.1f} s, "
            f"{100 * (least[way] / least['off'] - 1):+.1f}%"
        )


if __name__ == "__main__":
    main()
