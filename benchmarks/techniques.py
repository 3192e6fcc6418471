"""What each technique costs, in time relative to none. Run: python benchmarks/techniques.py

Generated photos of two classes, so that every technique has something to do; a network with random weights.
All learners are built first and then take turns, a short epoch each; a technique's ratio is to the plain
learner's turn of the same round, so that a busy minute slows both. Prints a Markdown table with the median
ratio and the range over rounds.

    python benchmarks/techniques.py --arch mobilenetv2_100 --size 96 --batch-size 32 --steps 6 --rounds 5
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ablate.recipe.recipe import Recipe

OPTIONS: dict[str, dict[str, Any]] = {
    "class_weights": {"weights": "balanced"},
    "early_stopping": {"patience": 1000},
    "progressive_resizing": {"train": {"size": 64}},
    "tile_tta": {"tile": 64},
}
"""Options without which a technique cannot run or does nothing."""
ONLY_PHASES = "changes the list of phases, not a step"


def make_photos(folder: Path, count: int) -> None:
    """Smooth noise of two tints, 320×240, as JPEGs, and `table.csv` with a class and a number for each."""
    import cv2

    rng = np.random.default_rng(0)
    lines = ["image,label,age"] + [f"{i}.jpg,{'ab'[i % 2]},{20 + i % 60}" for i in range(count)]
    (folder / "table.csv").write_text("\n".join(lines))
    for i in range(count):
        coarse = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
        photo[..., i % 2] //= 2
        cv2.imwrite(str(folder / f"{i}.jpg"), photo)


def make_recipe(photos: Path, args: argparse.Namespace, name: str = "") -> Recipe:
    """One phase without any technique, and what the named one needs of the recipe."""
    from ablate.recipe.recipe import Recipe

    phase = {"name": "train", "epochs": 1, "lr": 1e-4}
    table: dict[str, Any] = {"tabular": {"numeric": ["age"]}} if name == "tabular" else {}
    share = 32 / (32 + args.steps * args.batch_size)
    return Recipe.from_dict(
        {
            "name": "cost",
            "data": {"root": str(photos), "table": "table.csv", "split": {"random": round(share, 4)}} | table,
            "model": {"arch": args.arch, "pretrained": False},
            "size": args.size,
            "presize": round(args.size * 1.25),
            "batch_size": args.batch_size,
            "phases": [phase],
            "techniques": {name: OPTIONS.get(name, {})} if name else {},
            "study": {"vary": [name] if name else []},
        }
    )


def trainer(recipe: Recipe, on: list[str]) -> Callable[[], float]:
    """Gives the seconds of a short epoch of training, without validation, with some techniques on."""
    from fastai.callback.core import Callback

    from ablate.training.data import dataloaders
    from ablate.training.learner import build_learner, quiet

    class Began(Callback):
        order = -1000

        def before_epoch(self) -> None:
            self.at = time.perf_counter()

    class Ended(Callback):
        order = 1000

        def after_train(self) -> None:
            self.at = time.perf_counter()

    parts = recipe.parts("train", on)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    began, ended = Began(), Ended()

    def run() -> float:
        learn.fit(1, lr=1e-4, cbs=[began, ended])
        return ended.at - began.at

    return run


def predictor(recipe: Recipe, on: list[str]) -> Callable[[], float]:
    """Gives the seconds of a prediction of the validation images with some techniques on."""
    from ablate.training.data import dataloaders
    from ablate.training.learner import build_learner, quiet
    from ablate.training.predict import predict

    parts = recipe.parts("train", on)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    items = parts.side("valid")

    def run() -> float:
        began = time.perf_counter()
        predict(learn, parts, items, parts.streams)
        return time.perf_counter() - began

    return run


def ratios(subjects: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each subject relative to the plain one, named "", once per round, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds + 1):
        for name, run in subjects.items():
            seconds[name].append(run())
    plain = seconds.pop("")
    return {name: [s / p for s, p in zip(own, plain, strict=True)][1:] for name, own in seconds.items()}


def main() -> None:
    """Measure every registered technique and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("only", nargs="*", help="techniques; default: all")
    args = parser.parse_args()

    from ablate import devices, techniques
    from ablate.errors import AblateError
    from ablate.study.planning import available_cores

    devices.load(devices.choose("auto")).start(available_cores(), deterministic=False)
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), 2 * (args.steps * args.batch_size + 32) // 2)
        plain = make_recipe(Path(folder), args)
        training, predicting = {"": trainer(plain, [])}, {"": predictor(plain, [])}
        rows: dict[str, str] = {}
        for name, technique in techniques.registry().items():
            if args.only and name not in args.only:
                continue
            try:
                recipe = make_recipe(Path(folder), args, name)
                if techniques.build(name, OPTIONS.get(name, {})).trains_in("train"):
                    training[name] = trainer(recipe, [name])
                elif technique.predict is not techniques.Technique.predict:
                    predicting[name] = predictor(recipe, [name])
                else:
                    rows[name] = ONLY_PHASES
            except AblateError as error:
                rows[name] = f"not measured: {error}"
        for what, subjects in (("training", training), ("prediction", predicting)):
            for name, found in ratios(subjects, args.rounds).items():
                rows[name] = f"{what} × {median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
    print("| technique | cost |\n| --- | --- |")
    for name in sorted(rows):
        print(f"| `{name}` | {rows[name]} |")


if __name__ == "__main__":
    main()
