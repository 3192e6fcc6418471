"""The input pipeline beside its peers, on the same real photos. Run:

    ABLATE_TEST_DATA=… python benchmarks/pipeline.py --ffcv FFCV/bin/python --tf TF/bin/python

Every side is a script of `peers/` in a process of its own, on as many cores as `--threads` says; the sides
take turns, and the median of the rounds' ratios counts, with their range beside it. The photos are the
full-size JPEGs under `cassava/full_size` (or those of `--photos`), each several times per epoch, in batches
of 64. What a side prepares, such as presized files, and its first epoch are not timed. `peers/README.md`
tells how the peers are installed, each in an environment of its own; one that is missing is named and left
out. `--facts` prints memory, opening and quality instead (see `peers/ablate_facts.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent / "peers"
# what `ablate` sets for its processes: OpenMP's threads spin otherwise
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"} | os.environ


@dataclass(frozen=True)
class Side:
    """One case of one script, and which Python runs it."""

    title: str
    script: str
    case: str
    python: str = "own"


SIDES = {
    "ffcv-raw": Side("FFCV raw, crop 224, flip, float32", "ffcv_pipeline.py", "raw", "ffcv"),
    "raw": Side("ablate raw, crop 224, flip, float32", "ablate_pipeline.py", "raw"),
    "ffcv-jpg": Side("FFCV JPEG 95, crop 224, flip, float32", "ffcv_pipeline.py", "jpg", "ffcv"),
    "jpeg": Side("ablate JPEG 95, crop 224, flip, float32", "ablate_pipeline.py", "jpeg"),
    "ffcv-uint8": Side("FFCV raw, crop 224, flip, uint8", "ffcv_pipeline.py", "raw-uint8", "ffcv"),
    "uint8": Side("ablate raw, squares of 460, uint8", "ablate_pipeline.py", "uint8"),
    "fastai": Side("stock fastai, 460, aug_transforms 224", "fastai_pipeline.py", "augment"),
    "augment": Side("ablate raw, augment 460 → 224", "ablate_pipeline.py", "augment"),
    "tf": Side("tf.data, TFRecords, square, crop 224", "tfdata_pipeline.py", "plain", "tf"),
    "tf-antialiased": Side("tf.data, the same antialiased", "tfdata_pipeline.py", "antialiased", "tf"),
    "square": Side("ablate raw, square, crop 224", "ablate_pipeline.py", "square"),
    "threads": Side("simplejpeg alone, threads", "simplejpeg_decode.py", "threads"),
    "processes": Side("simplejpeg alone, processes", "simplejpeg_decode.py", "processes"),
    "build": Side("ablate builds the raw cache", "ablate_pipeline.py", "build"),
}
TARGETS = (
    ("raw", "ffcv-raw", 1.8),
    ("jpeg", "ffcv-jpg", 1.3),
    ("uint8", "ffcv-uint8", 3.0),
    ("augment", "fastai", 30.0),
    ("square", "tf", 4.0),
    ("square", "tf-antialiased", 4.0),
    ("build", "threads", 0.6),
    ("build", "processes", 0.6),
)


def run(side: Side, python: str, work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One side, once, in a process of its own."""
    repeats = min(given.repeats, 4) if side.case == "build" else given.repeats  # each is a file of its own
    command = [python, "-W", "ignore", str(HERE / side.script), side.case, "--photos", str(given.photos)]
    command += ["--work", str(work / side.script.split("_")[0]), "--repeats", str(repeats)]
    command += ["--threads", str(given.threads), "--seconds", str(given.seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        sys.exit(f"{side.title} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(
    rates: dict[str, list[float]], versions: dict[str, dict[str, str]], given: argparse.Namespace
) -> None:
    """The tables, in Markdown."""
    print("\n| pipeline | images/s | range |\n| --- | ---: | ---: |")
    for name, measured in rates.items():
        spread = f"{min(measured):,.0f} to {max(measured):,.0f}"
        print(f"| {SIDES[name].title} | {median(measured):,.0f} | {spread} |")
    print("\n| ours | peer | ratio | range | must reach |\n| --- | --- | ---: | ---: | ---: |")
    for ours, theirs, target in TARGETS:
        if ours in rates and theirs in rates:
            ratios = [mine / other for mine, other in zip(rates[ours], rates[theirs])]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            sides = f"{SIDES[ours].title} | {SIDES[theirs].title}"
            print(f"| {sides} | {median(ratios):.2f} | {spread} | {target:g} |")
    each = (", ".join(f"{name} {number}" for name, number in found.items()) for found in versions.values())
    print(
        f"\n{len(list(given.photos.glob('*.jpg')))} photos, {given.repeats} times each per epoch, batches "
        f"of 64; {given.rounds} rounds of {given.seconds:g} s; {given.threads} cores of {cpu()}; "
        f"Python {platform.python_version()}, {'; '.join(each)}."
    )


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ffcv", default=os.environ.get("FFCV_PYTHON"), help="Python with FFCV.")
    parser.add_argument("--tf", default=os.environ.get("TF_PYTHON"), help="Python with TensorFlow.")
    parser.add_argument("--photos", type=Path, help="A folder of JPEGs; default from ABLATE_TEST_DATA.")
    parser.add_argument("--work", type=Path, help="Keep prepared files here; default a temporary folder.")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8, help="For one side in one round.")
    parser.add_argument("--facts", action="store_true", help="Memory, opening and quality instead.")
    parser.add_argument("--many", type=int, default=100_000, help="How many small images --facts makes.")
    given = parser.parse_args()
    if given.photos is None:
        if "ABLATE_TEST_DATA" not in os.environ:
            parser.error("set ABLATE_TEST_DATA, or give --photos FOLDER with JPEGs.")
        given.photos = Path(os.environ["ABLATE_TEST_DATA"], "cassava", "full_size")
    if not any(given.photos.glob("*.jpg")):
        parser.error(f"{given.photos} has no JPEGs.")
    return given


def main() -> None:
    given = options()
    cores = sorted(os.sched_getaffinity(0))[: given.threads]
    os.sched_setaffinity(0, cores)  # the sides inherit it
    pythons = {"own": sys.executable, "ffcv": given.ffcv, "tf": given.tf}
    for name in [name for name, python in pythons.items() if not (python and shutil.which(python))]:
        print(f"left out: {name}, for --{name} names no Python ({pythons.pop(name)})", flush=True)
    sides = {name: SIDES[name] for name in given.only if SIDES[name].python in pythons}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    versions: dict[str, dict[str, str]] = {name: {} for name in pythons}
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if given.facts:
            facts = [str(HERE / "ablate_facts.py"), "--photos", str(given.photos), "--many", str(given.many)]
            sys.exit(subprocess.run([sys.executable, "-W", "ignore", *facts, "--work", str(work)]).returncode)
        for number in range(1, given.rounds + 1):
            for name, side in sides.items():
                told = run(side, pythons[side.python], work, given)
                rates[name].append(told["images_per_second"])
                versions[side.python] |= told["versions"]
                print(f"round {number}: {side.title}: {rates[name][-1]:,.0f}", flush=True)
    report(rates, versions, given)


if __name__ == "__main__":
    main()
