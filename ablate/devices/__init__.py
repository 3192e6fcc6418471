"""What differs between cpu, cuda, mps and xla, one adapter each; nothing else asks which device it is.

`found` says which there are and which to use, `doctor` whether they work.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ablate.devices.found import NAMES, choose, choose_for_plan, identity

__all__ = ["NAMES", "Device", "choose", "choose_for_plan", "identity", "load", "of"]


class Device(Protocol):
    """The few things that a device does in its own way."""

    name: str
    memory_format: Any
    """How batches and the network's weights are laid out."""
    fixed_shapes: bool
    """Whether another shape, or another operation, costs a compilation."""

    @property
    def replicas(self) -> int:
        """How many processors share each batch; batches must divide by it."""
        ...

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

    def lay_out(self, batch: Any) -> Any:
        """A batch on the device, as it computes with it: in its memory format, over its replicas."""
        ...

    def compile(self, model: Any, options: dict[str, Any]) -> None:
        """Have a network compiled by torch.compile, in place, with options of its inductor."""
        ...

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """Compute in `bfloat16` or `float16` where that is safe."""
        ...

    def scaler(self, precision: str) -> Any:
        """The loss scaler that a precision needs here, torch's `GradScaler`; one that does nothing else."""
        ...

    def settle(self, learn: Any) -> None:
        """Make ready a learner that is about to train: what would make its first step unlike the others."""
        ...

    def seed(self, seed: int) -> None:
        """Seed the generator that dropout and the like draw from on the device."""
        ...

    def generator(self, seed: int) -> Any:
        """A torch generator of its own, for noise of the size of a batch; on the host if need be."""
        ...

    def results(self, tensors: Any) -> Any:
        """Predictions and targets of a batch where their losses and metrics are best computed."""
        ...

    def end_step(self) -> None:
        """Called after every optimizer step or prediction batch."""
        ...

    def compiled(self) -> int:
        """How many graphs have been compiled in this process."""
        ...

    def left_to_host(self) -> Collection[str]:
        """Operations that the device does not have, and that were computed on the host in this process."""
        ...


def load(name: str) -> Device:
    """The adapter of a device, `cpu`, `cuda`, `mps` or `xla`. Imports torch."""
    return importlib.import_module(f"ablate.devices.{name}").adapter


def of(tensor: Any) -> Device:
    """The adapter of the device that a tensor is on; the CPU's, which asks for nothing, for others."""
    name = tensor.device.type
    return load(name if name in NAMES else "cpu")
