"""A training step, and the whole pipeline, beside bare PyTorch. Run on a machine with a CUDA device:

    ABLATE_TEST_DATA=… python benchmarks/step.py

Three sides take turns, and the median of the rounds counts, for each network at 224 pixels: a bare PyTorch
loop over timm's model with a fused AdamW, bfloat16 autocast, channels_last and one batch that lies on the
device; `Recipe.learner` with the same network, precision and batch; and `Recipe.learner` with real photos out
of the raw cache, random resized crops, flips and normalization included. Must reach: 95% and 90% of the bare
loop. Nothing is fetched. `--device cpu --batch-size 4 --batches 3 --archs resnet18` tries it anywhere.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import timm
import torch
from ablate_pipeline import recipe, table
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import nn

from ablate import devices
from ablate.training.learner import quiet

CLASSES, SIZE = 5, 224


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Bare:
    """A loop over one synthetic batch, as fast as plain PyTorch has it."""

    def __init__(self, arch: str, given: argparse.Namespace):
        self.device, self.batches = given.device, given.batches
        self.model = timm.create_model(arch, pretrained=False, num_classes=CLASSES)
        self.model.to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        images = torch.randn(given.batch_size, 3, SIZE, SIZE, device=self.device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.targets = torch.randint(CLASSES, (given.batch_size,), device=self.device)

    def __call__(self) -> float:
        """Images/s of an epoch."""
        loss_function = nn.CrossEntropyLoss()
        synchronize(self.device)
        began = time.perf_counter()
        for _ in range(self.batches):
            with torch.autocast(self.device, dtype=torch.bfloat16):
                loss = loss_function(self.model(self.images), self.targets)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        synchronize(self.device)
        return self.batches * len(self.images) / (time.perf_counter() - began)


class Same:
    """A loader in place of another that gives one batch again and again, on the device already."""

    def __init__(self, loader: Any, batches: int):
        self.loader, self.batches = loader, batches
        images, targets = loader.one_batch()
        self.batch = images.contiguous(memory_format=torch.channels_last), targets

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.batches):
            yield self.batch

    def __len__(self) -> int:
        return self.batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


class Clock(Callback):
    """Times the training half of an epoch, device included, and leaves validation out."""

    order = -200

    def __init__(self, device: str):
        self.device = device

    def before_train(self) -> None:
        synchronize(self.device)
        self.began = time.perf_counter()

    def after_train(self) -> None:
        synchronize(self.device)
        self.seconds = time.perf_counter() - self.began


class Ours:
    """An epoch of `Recipe.learner`, over one synthetic batch or over the photos in the cache."""

    def __init__(self, arch: str, root: Path, given: argparse.Namespace, synthetic: bool):
        fields = {"model.arch": arch, "precision": "bfloat16"}
        self.learn: Learner = quiet(recipe(root, "raw", given.batch_size).override(fields).learner())
        self.clock = Clock(given.device)
        self.learn.add_cb(self.clock)
        loaders = self.learn.dls.loaders
        if synthetic:
            loaders[0] = Same(loaders[0], given.batches)
        self.images = len(loaders[0]) * given.batch_size

    def __call__(self) -> float:
        """Images/s of an epoch."""
        self.learn.fit(1, 1e-4)
        return self.images / self.clock.seconds


def measured(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The rates of sides that take turns, after an epoch of each that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            rate = side()
            if number:
                rates[name].append(rate)
    return rates


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="A folder of JPEGs; default from ABLATE_TEST_DATA.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--archs", nargs="+", default=["resnet50", "efficientnet_b0"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=100, help="In an epoch.")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "torch sees no CUDA device; run this on a machine with one, or try it with --device cpu."
        )
    if given.device != devices.choose("auto"):
        parser.error("ablate takes the CUDA device of this machine; drop --device cpu.")
    if given.photos is None:
        if "ABLATE_TEST_DATA" not in os.environ:
            parser.error("set ABLATE_TEST_DATA, or give --photos FOLDER with JPEGs.")
        given.photos = Path(os.environ["ABLATE_TEST_DATA"], "cassava", "full_size")
    given.files = sorted(given.photos.glob("*.jpg"))
    if not given.files:
        parser.error(f"{given.photos} has no JPEGs.")
    return given


def main() -> None:
    given = options()
    devices.load(given.device).start(len(os.sched_getaffinity(0)), False)  # as every stage begins
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATE_CACHE"] = str(Path(folder) / "cache")
        repeats = -(-given.batches * given.batch_size // len(given.files))
        root = table(given.files, Path(folder), repeats, False)
        for arch in given.archs:
            sides = {
                "bare PyTorch, synthetic": Bare(arch, given),
                "ablate, synthetic": Ours(arch, root, given, True),
                "ablate, photos from the cache": Ours(arch, root, given, False),
            }
            rates = measured(sides, given.rounds)
            bare = median(rates["bare PyTorch, synthetic"])
            for (name, found), target in zip(rates.items(), ("", "95%", "90%")):
                middle = median(found)
                line = f"| {arch} | {name} | {middle:,.0f} | {min(found):,.0f} to {max(found):,.0f} "
                lines.append(f"{line}| {100 * middle / bare:.1f}% | {target} |")
                print(lines[-1], file=sys.stderr, flush=True)
            del sides
    print("| network | what | images/s | range | of bare | must reach |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(lines))
    name = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "fastai", "timm"))
    print(
        f"\n{name}, {len(os.sched_getaffinity(0))} cores; batches of {given.batch_size}, {given.batches} an "
        f"epoch, {given.rounds} rounds; {SIZE} pixels, bfloat16, channels_last; {packages}."
    )


if __name__ == "__main__":
    main()
