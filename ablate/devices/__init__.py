"""What differs between cpu, cuda and xla, one adapter each; nothing else asks which device it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import AblateError

NAMES = ("auto", "cpu", "cuda", "xla")


class Device(Protocol):
    """The few things that a device does in its own way."""

    name: str
    memory_format: Any
    """How batches and the network's weights are laid out."""

    def start(self, threads: int, deterministic: bool) -> None:
        """Prepare the process, once, before anything runs on the device."""
        ...

    def torch_device(self) -> Any:
        """The torch device that models and batches go to."""
        ...

    def buffer(self, shape: tuple[int, ...]) -> Any:
        """Room on the host for a batch on its way to the device: a uint8 tensor, uninitialized."""
        ...

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        """The same batch transforms in the form that is quickest on the device."""
        ...

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Move batches from the host to the device."""
        ...

    def seed(self, seed: int) -> None:
        """Seed the generator that dropout and the like draw from on the device."""
        ...

    def end_step(self) -> None:
        """Called after every optimizer step or prediction batch."""
        ...


def load(name: str) -> Device:
    """The adapter of a device, `cpu`, `cuda` or `xla`. Imports torch."""
    return importlib.import_module(f"ablate.devices.{name}").adapter


def identity(name: str, threads: int) -> dict[str, Any]:
    """What of the device is part of a stage's key; on the CPU the thread count changes sums."""
    return {"class": name, "threads": threads} if name == "cpu" else {"class": name}


def choose(name: str) -> str:
    """The device to use: `auto` is cuda where an NVIDIA driver answers, else cpu. Does not import torch.

    Raises:
        AblateError: xla is asked for and torch_xla is not installed.
    """
    if name not in NAMES:
        raise AblateError(f"--device {name}: there is no such device; take one of {', '.join(NAMES)}.")
    if name == "xla" and find_spec("torch_xla") is None:
        raise AblateError(
            "--device xla: torch_xla is not installed; install ablate[xla] in an environment of its own."
        )
    if name != "auto":
        return name
    return "cuda" if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists() else "cpu"
