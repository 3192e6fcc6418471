"""A TPU, or XLA's CPU backend, through torch_xla.

Operations are recorded and run as one graph at the end of each step. A graph that differs in anything, a
shape, a constant or which of its tensors are still held, is compiled anew; what is here and in the callbacks
keeps one step's graph the same as the next one's. All processors of the host share each batch (SPMD): the
network is on each of them, and sums over a batch, batch norm's too, are over the whole of it.
"""

from __future__ import annotations

import gc
import logging
import os

# torch_xla reads these when it is imported. 0 and 1 would be written into the graph as constants, so that a
# rate that reaches one of them would be a new graph; and its own warnings are not the user's business
os.environ.setdefault("XLA_NO_SPECIAL_SCALARS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch
import torch_xla
import torch_xla.backends
import torch_xla.runtime as xr
from fastai.torch_core import apply, to_device
from torch.nn.modules.batchnorm import _BatchNorm
from torch_xla.debug import metrics
from torch_xla.distributed import spmd

from ablate.data.buffers import Buffers
from ablate.data.float_table import FloatSteps, in_one
from ablate.data.remembered import cache_folder
from ablate.devices.steady import (
    by_running_averages,
    compute_all,
    create_state,
    forget_gradients,
    in_training,
)
from ablate.errors import AblateError


class Xla:
    """All XLA devices of the process, as one."""

    name = "xla"
    memory_format = torch.contiguous_format  # XLA lays tensors out by itself
    fixed_shapes = True
    buffers = Buffers()

    @cached_property
    def mesh(self) -> Any:
        """All processors in a row, over which batches are spread; None where there is one."""
        count = xr.global_runtime_device_count()
        if count == 1:
            return None
        xr.use_spmd()
        return spmd.Mesh(np.arange(count), (count,), ("batch",))

    @property
    def replicas(self) -> int:
        return 1 if self.mesh is None else self.mesh.size()

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        _prepare()

    def torch_device(self) -> Any:
        assert self.replicas
        return torch_xla.device()

    def buffer(self, shape: tuple[int, ...]) -> Any:
        return torch.from_numpy(self.buffers(shape))

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return in_one(transforms, FloatSteps)

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        return (apply(self._send, batch) for batch in batches)

    def lay_out(self, batch: Any) -> Any:
        return apply(self._spread, batch) if self.mesh else batch

    def compile(self, model: Any, options: dict[str, Any]) -> None:
        raise AblateError(
            "torch_compile: XLA compiles every step as a whole anyway; leave the technique out there."
        )

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        if precision != "bfloat16":
            raise AblateError(
                f"precision: {precision} is not what XLA computes in; write bfloat16 or float32."
            )
        return torch.autocast("xla", dtype=torch.bfloat16)

    def scaler(self, precision: str) -> Any:
        return torch.amp.GradScaler("cpu", enabled=False)

    def settle(self, learn: Any) -> None:
        for module in learn.model.modules():
            if isinstance(module, _BatchNorm):
                own = in_training if module.training else by_running_averages
                vars(module)["forward"] = partial(own, module)
        learn.opt.zero_grad = partial(forget_gradients, learn.opt)
        if getattr(learn, "settled", None) is learn.opt:
            return
        forget_gradients(learn.opt)
        create_state(learn.opt)
        compute_all("xla")
        learn.settled = learn.opt

    def seed(self, seed: int) -> None:
        torch_xla.manual_seed(seed)

    def generator(self, seed: int) -> Any:
        return torch.Generator("cpu").manual_seed(seed)

    def results(self, tensors: Any) -> Any:
        tensors = apply(self._gather, tensors) if self.mesh else tensors
        self.end_step()
        return to_device(tensors, torch.device("cpu"))  # where any number of them and any metric is welcome

    def end_step(self) -> None:
        gc.collect(1)  # what is held only by cycles of Python's objects would be part of some steps' results
        torch_xla.sync()

    def compiled(self) -> int:
        counted = metrics.metric_data("CompileTime")
        return counted[0] if counted else 0

    def left_to_host(self) -> Collection[str]:
        names = (name for name in metrics.counter_names() if name.startswith("aten::"))
        fetching = "aten::_local_scalar_dense"
        return [name.removeprefix("aten::") for name in names if name != fetching]

    def _send(self, tensor: Any) -> Any:
        """A tensor on the device, marked while it is still on the host: each replica gets its part alone."""
        sent = tensor.as_subclass(torch.Tensor).to(self.torch_device())
        return (self._spread(sent) if self.mesh else sent).as_subclass(type(tensor))

    def _spread(self, tensor: Any) -> Any:
        if tensor.shape[0] % self.replicas == 0:
            spmd.mark_sharding(tensor, self.mesh, ("batch", *[None] * (tensor.ndim - 1)))
        return tensor

    def _gather(self, tensor: Any) -> Any:
        """The whole on each replica, as part of the step; fetching parts compiles a graph each time."""
        whole = tensor.as_subclass(torch.Tensor) + 0
        spmd.mark_sharding(whole, self.mesh, (None,) * tensor.ndim)
        return whole


@cache
def _prepare() -> None:
    """What is set once for the process."""
    logging.getLogger("torch_xla.backends").setLevel(logging.ERROR)  # it warns that it is new
    torch_xla.backends.set_mat_mul_precision("highest")  # float32 means float32, on a TPU too
    if xr.device_type() != "CPU":  # whose executables cannot be read back
        xr.initialize_cache(str(cache_folder() / "xla"))


def _to_be_moved(storage: Any, location: str) -> Any:
    """For `torch.load` to an XLA device, which has no storages: tensors are read on the host, then moved."""
    return storage if location.startswith("xla") else None


torch.serialization.register_package(100, lambda storage: None, _to_be_moved)
adapter = Xla()
