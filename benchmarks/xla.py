"""Stock fastai and ablate on XLA, side by side. Run in the environment that has torch_xla:

    ABLATE_TEST_DATA=… python benchmarks/xla.py

Two epochs of ten batches of 32, each with 80 validation images, resnet18 with random weights at 96 pixels;
on XLA's CPU backend where there is no TPU, or as PJRT_DEVICE says. Every side is a script of `peers/` in a
process of its own, so that nothing has been compiled before; the sides take turns. The parts:

cutmix, plain: `aug_transforms` and `vision_learner`, with fastai's `CutMix` and without, beside `augment` and
`cutmix` of ablate: graphs compiled, what fell back to the CPU, and seconds, from the list of photos to the
end of the last epoch, without imports. Must reach with CutMix: a fifth of the seconds; at most 5 graphs a
phase.

phases: three phases in one process, at 96, 128 and 96 pixels: another size costs the graphs of new shapes.

devices: the same 20 steps without dropout on the plain CPU, on one XLA device and on four; only on XLA's CPU
backend. Must reach: losses within 1e-3 of the CPU's, and within 1e-4 of one device's. The rate is low, 1e-5:
at 1e-3, the rounding of sums in another order alone (the CPU with one thread) grows to 0.1 within 20 steps.

Stock fastai with CutMix takes four minutes on two idle cores, everything else three. The photos are those of
the 2020 cassava competition under ABLATE_TEST_DATA; generated ones without it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from ablate.devices.found import tpu_chips
from ablate.study.machine import processor

HERE = Path(__file__).parent / "peers"
TRAIN, VALID = 320, 80
OURS = {"cutmix": ["augment", "cutmix"], "plain": ["augment"]}
PARTS = ("cutmix", "plain", "phases", "devices")


def make_root(folder: Path) -> tuple[Path, str]:
    """A folder with 400 photos and `table.csv`, and what the photos are."""
    folder.mkdir()
    found = cassava(folder) if "ABLATE_TEST_DATA" in os.environ else generated(folder)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "is_val"])
        writer.writerows((name, label, number >= TRAIN) for number, (name, label) in enumerate(found))
    return folder, "cassava photos" if "ABLATE_TEST_DATA" in os.environ else "generated photos"


def cassava(folder: Path) -> list[tuple[str, str]]:
    """Links to photos of the competition's training and validation images, in the order of the table."""
    source = Path(os.environ["ABLATE_TEST_DATA"], "cassava")
    with (source / "train_val_split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sides = [[row for row in rows if row["is_val"] == value] for value in ("False", "True")]
    chosen = [*sides[0][:TRAIN], *sides[1][:VALID]]
    for row in chosen:
        (folder / row["image_id"]).symlink_to(source / "train_images" / row["image_id"])
    return [(row["image_id"], row["label"]) for row in chosen]


def generated(folder: Path) -> list[tuple[str, str]]:
    """Smooth noise of five tints, 320×240, as JPEGs."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for number in range(TRAIN + VALID):
        coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse // np.uint8(1 + number % 5)).resize((320, 240))
        photo.save(folder / f"{number}.jpg", quality=90)
        found.append((f"{number}.jpg", "abcde"[number % 5]))
    return found


def run(
    script: str, root: Path, given: argparse.Namespace, *options: object, **changed: str
) -> dict[str, Any]:
    """One side, in a process of its own with a cache of its own.

    Args:
        script: In `peers/`.
        root: The photos.
        given: The command's options.
        options: Further ones of the script.
        changed: Environment variables.
    """
    command = [sys.executable, "-W", "ignore", str(HERE / script), "--root", str(root), "--arch", given.arch]
    command += ["--batch-size", "32", *map(str, options)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"ABLATE_CACHE": cache} | changed
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def beside_fastai(part: str, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, and the table of a part."""
    stock, ours = ["--size", given.size], ["--size", given.size, "--on", *OURS[part]]
    stock += ["--cutmix"] if part == "cutmix" else []
    rounds = []
    for number in range(1, given.rounds + 1):
        pair = run("fastai_xla.py", root, given, *stock), run("ablate_xla.py", root, given, *ours)
        rounds.append(pair)
        told(f"{part}, round {number}: {pair[0]['seconds']:.0f} s and {pair[1]['seconds']:.0f} s")
    ratios = [theirs["seconds"] / mine["seconds"] for theirs, mine in rounds]
    print(f"\n{part}: {given.arch}, {given.size} pixels, 2 epochs of 10 batches\n")
    print("| | graphs compiled | after each epoch | fell back to the CPU | s compiling | s in all |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for name, sides in zip(("stock fastai", "ablate"), zip(*rounds, strict=True), strict=True):
        print(row(name, [*sides]))
    print(f"\nratio of the seconds in all: **{median(ratios):.1f}** {spread(ratios)}".rstrip())
    if part == "cutmix":
        print("(must reach 5, aim 8; at most 5 graphs, none after the second step of a phase)")
    print("\ngraphs compiled after each training step:")
    for name, side in zip(("stock fastai", "ablate"), rounds[-1], strict=True):
        print(f"- {name}: {listed(side['phases'][0]['steps'])}")
    return rounds[-1][0]


def row(name: str, sides: list[dict[str, Any]]) -> str:
    """A side's line of the table: counts of its last run, medians of its seconds."""
    last = sides[-1]["phases"][0]
    fell = ", ".join(f"`{one.removeprefix('aten::')}`" for one in sides[-1]["fallbacks"]) or "nothing"
    compiling = median(side["phases"][0]["compile_seconds"] for side in sides)
    seconds = median(side["seconds"] for side in sides)
    cells = (name, last["compilations"], listed(last["epochs"]), fell, f"{compiling:.1f}", f"{seconds:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def phases(part: str, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Compilations of further phases in the same process."""
    sizes = [given.size, given.size // 3 * 4, given.size]
    told_by = run("ablate_xla.py", root, given, "--size", *sizes, "--on", *OURS["cutmix"])
    print(f"\n{part}: one after the other in one process, with `cutmix`\n")
    print("| pixels | graphs compiled | after each training step | s |\n| ---: | ---: | --- | ---: |")
    for size, phase in zip(sizes, told_by["phases"], strict=True):
        steps = listed(phase["steps"])
        print(f"| {size} | {phase['compilations']} | {steps} | {phase['fit_seconds']:.1f} |")
    return told_by


def devices(part: str, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The losses of 20 steps on the CPU, with one thread too, on one XLA device and on four."""
    cores = len(os.sched_getaffinity(0))
    options = ["--size", given.size, "--on", *OURS["cutmix"], "--no-dropout", "--rate", 1e-5]
    sides = {
        f"the plain CPU, {cores} threads": run("ablate_xla.py", root, given, *options, "--device", "cpu"),
        "1 XLA device": run("ablate_xla.py", root, given, *options, CPU_NUM_DEVICES="1"),
        "4 XLA devices": run("ablate_xla.py", root, given, *options, CPU_NUM_DEVICES="4"),
        "the plain CPU, 1 thread": run(
            "ablate_xla.py", root, given, *options, "--device", "cpu", "--threads", 1
        ),
    }
    losses = [side["phases"][0]["losses"] for side in sides.values()]
    print(f"\n{part}: {len(losses[0])} steps with `cutmix`, float32, no dropout, the same global batch\n")
    print("| | graphs compiled | loss, first | last | furthest from the CPU's | from 1 XLA device's |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for (name, side), own in zip(sides.items(), losses, strict=True):
        cells = [name, str(side["phases"][0]["compilations"]), f"{own[0]:.5f}", f"{own[-1]:.5f}"]
        cells += [f"{furthest(own, other):.1e}" for other in losses[:2]]
        print(f"| {' | '.join(cells)} |")
    print("\n(must reach 1e-3 from the CPU's, and 1e-4 of four devices from one's)")
    return sides["1 XLA device"]


def furthest(one: list[float], other: list[float]) -> float:
    """The largest difference of two curves."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def spread(ratios: list[float]) -> str:
    return f"({min(ratios):.1f} to {max(ratios):.1f})" if len(ratios) > 1 else ""


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--arch", default="resnet18", help="A timm network.")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=1, help="Of cutmix and plain.")
    return parser.parse_args()


def main() -> None:
    given = options()
    backend = os.environ.setdefault("PJRT_DEVICE", "TPU" if tpu_chips() else "CPU")
    parts: dict[str, Callable[[str, Path, argparse.Namespace], dict[str, Any]]]
    parts = {"cutmix": beside_fastai, "plain": beside_fastai, "phases": phases, "devices": devices}
    with tempfile.TemporaryDirectory() as folder:
        root, photos = make_root(Path(folder) / "photos")
        for part in given.part if backend == "CPU" else set(given.part) - {"devices"}:
            last = parts[part](part, root, given)
    packages = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    print(
        f"\nXLA's {backend} backend; {TRAIN} and {VALID} {photos}, batches of 32; "
        f"{len(os.sched_getaffinity(0))} cores of {processor() or platform.machine()}; "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {packages}."
    )


if __name__ == "__main__":
    main()
