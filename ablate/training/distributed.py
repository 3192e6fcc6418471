"""Train one phase on several devices of one machine: fastai's DistributedTrainer, with our own loaders.

Every process makes its share of each batch, and the gradients are averaged over the processes: a step is that
of one device with whole batches, up to the order of sums. All processes validate all of the validation
images, with the same weights; the first alone writes and reports.

What goes by the images of a batch together goes by a share: partners in mixing, and on the CPU batch norms,
which are synchronized on CUDA (torch's SyncBatchNorm has no other devices).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.distributed import DistributedTrainer
from fastai.learner import Learner
from timm.layers import convert_sync_batchnorm
from torch import distributed, nn

from ablate import devices
from ablate.data.share import Share
from ablate.training.batch_norms import batch_norms
from ablate.training.best import BestEpochs
from ablate.training.checkpoint import Checkpoints
from ablate.training.fit import Report
from ablate.training.ranks import Stopping, require_devices

_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


class Member:
    """One of the processes that train together, a new one, on a device of its own.

    Args:
        share: Which one.
        device: The devices' name.
    """

    def __init__(self, share: Share, device: str):
        self.share, self.device = share, device

    @contextmanager
    def joined(self, meet: Path, threads: int, deterministic: bool) -> Iterator[None]:
        """Be ready to train, from here on to the end.

        Args:
            meet: A file that all processes know, and none has written.
            threads: Torch threads of this process.
            deterministic: As for `ablate.devices.Device.start`.

        Raises:
            AblateError: There are fewer devices.
        """
        share = self.share
        place = {"RANK": share.rank, "LOCAL_RANK": share.rank, "OMP_NUM_THREADS": threads}
        place |= {"WORLD_SIZE": share.ranks, "LOCAL_WORLD_SIZE": share.ranks}
        os.environ.update({name: str(value) for name, value in place.items()})  # accelerate reads them
        require_devices(self.device, share.ranks)
        if self.device == "cuda":
            torch.cuda.set_device(share.rank)
        elif Path("/sys/class/net/lo").exists():  # gloo would look for an interface to other machines
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        devices.load(self.device).start(threads, deterministic)
        distributed.init_process_group(
            _BACKENDS[self.device], init_method=meet.as_uri(), rank=share.rank, world_size=share.ranks
        )
        yield
        distributed.destroy_process_group()

    def checkpoints(self, folder: Path, best: BestEpochs, stopping: Stopping, report: Report) -> Checkpoints:
        """The checkpoints of the stage, which are the first process's."""
        return SharedCheckpoints(self.share, self.device, folder, best, stopping, report)

    def prepare(self, learn: Learner) -> None:
        """Give a learner that is about to be fitted what it takes to train with others."""
        if self.device == "cuda":
            learn.model = convert_sync_batchnorm(learn.model)
        learn.add_cbs([DataParallel(self.device), SameFigures()])


class DataParallel(DistributedTrainer):
    """Average gradients over the processes, and losses and batch norms' running averages with them.

    fastai's own wraps the network for the whole fit and deals the loaders' batches out; here, the network is
    wrapped for the training batches alone, so that all others find it as it is, and `KeyedDL` makes shares.

    Args:
        device: Their name.
    """

    order = -95  # before all that looks at a step's gradients, weights or loss

    def __init__(self, device: str):
        from accelerate import DistributedDataParallelKwargs

        # a network may have parameters that no loss hangs on, and torch would wait for their gradients
        options = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        super().__init__(sync_bn=False, cpu=device == "cpu", kwargs_handlers=[options])
        self.wrapped: Any = None
        self.plain: tuple[Any, Any] | None = None

    def before_fit(self) -> None:
        self.wrapped = self.plain = None

    def before_train(self) -> None:
        if self.wrapped is None:  # not earlier: `before_fit` may freeze parameters
            self.wrapped = self.accelerator.prepare(self.learn.model)
            if not isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
                raise RuntimeError(f"accelerate does not train in parallel here: {self.accelerator.state}")

    def before_validate(self) -> None:
        self._average_statistics()  # they may have been worked out anew

    def before_batch(self) -> None:
        if self.learn.training:
            loss = self.learn.loss_func
            self.plain, self.learn.model = (self.learn.model, loss), self.wrapped
            if getattr(loss, "reduction", "mean") == "sum":
                self.learn.loss_func = Multiplied(loss, distributed.get_world_size())

    def after_backward(self) -> None:
        self.learn.loss = mean(self.learn.loss)

    def after_step(self) -> None:
        self._average_statistics()

    def after_batch(self) -> None:
        if self.plain is not None:
            (self.learn.model, self.learn.loss_func), self.plain = self.plain, None

    def after_fit(self) -> None:
        self.after_batch()  # a fit may end within a batch

    def _average_statistics(self) -> None:
        norms = batch_norms(self.learn.model)
        both = [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]
        own = [statistic for statistic in both if statistic is not None]
        if own:
            means = mean(torch.cat(own)).split([len(statistic) for statistic in own])
            for statistic, value in zip(own, means, strict=True):
                statistic.copy_(value)


class SameFigures(Callback):
    """Have every process go by the figures of the first, so that all decide alike after an epoch.

    Where sums have no order, as on GPUs, the same validation may give other last bits.
    """

    order = 51  # after the recorder, before what reads its figures

    def after_epoch(self) -> None:
        row = self.learn.recorder.values[-1]
        device = next(self.learn.model.parameters()).device
        figures = torch.tensor([float(figure) for figure in row], dtype=torch.float64, device=device)
        distributed.broadcast(figures, 0)
        row[:] = figures.tolist()


class Multiplied:
    """A loss that is a sum, times the number of processes: what is averaged over them is the sum again."""

    def __init__(self, loss: Any, times: int):
        self.loss, self.times = loss, times

    def __call__(self, *args: Any) -> Any:
        return self.loss(*args) * self.times

    def __getattr__(self, name: str) -> Any:
        if name == "loss":  # unpickling and copying ask before __init__ has run
            raise AttributeError(name)
        return getattr(self.loss, name)


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over the processes of a tensor of the same shape in each."""
    total = tensor.detach().as_subclass(torch.Tensor).clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


class SharedCheckpoints(Checkpoints):
    """All processes go on from the same checkpoint and stop after the same epoch; the first writes.

    Args:
        share: This process's.
        device: The devices' name.
        folder: See `Checkpoints`, as for the others.
        best: Likewise.
        stopping: Likewise; the first process's decides.
        report: Likewise.
    """

    def __init__(
        self,
        share: Share,
        device: str,
        folder: Path,
        best: BestEpochs,
        stopping: Stopping,
        report: Report,
    ):
        super().__init__(folder, best, lambda: _first(stopping(), device), report)
        self.share = share

    def _save(self, epoch: int) -> None:
        if self.share.leads:
            super()._save(epoch)


def _first(answer: bool, device: str) -> bool:
    """What the first process answers."""
    told = torch.tensor(int(answer), device=devices.load(device).torch_device())
    distributed.broadcast(told, 0)
    return bool(told)
