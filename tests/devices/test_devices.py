from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate import devices
from ablate.errors import AblateError


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    state = torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", ["cpu", "cuda", "xla"])
def test_a_device_that_is_named_is_taken(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "find_spec", lambda module: object())
    assert devices.choose(name) == name


@pytest.mark.parametrize("there", [None, "/proc/driver/nvidia/version", "/dev/nvidia0"])
def test_auto_is_cuda_where_there_is_a_driver(there: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == there)
    assert devices.choose("auto") == ("cuda" if there else "cpu")


@pytest.mark.parametrize("name", ["tpu", "CUDA", "cuda:1", ""])
def test_no_such_device(name: str):
    with pytest.raises(AblateError, match="there is no such device; take one of auto, cpu, cuda, xla"):
        devices.choose(name)


def test_xla_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "find_spec", lambda module: None)
    with pytest.raises(AblateError, match=r"install ablate\[xla\]"):
        devices.choose("xla")


def test_what_counts_as_another_device():
    assert devices.identity("cpu", 1) != devices.identity("cpu", 2)
    assert devices.identity("cuda", 1) == devices.identity("cuda", 2)
    assert devices.identity("xla", 1) == devices.identity("xla", 2)
    assert len({str(devices.identity(name, 1)) for name in ("cpu", "cuda", "xla")}) == 3


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_adapter_has_its_devices_name(name: str):
    adapter = devices.load(name)
    assert adapter.name == name
    assert adapter is devices.load(name)


@pytest.mark.parametrize(("threads", "deterministic"), [(1, True), (2, False)])
def test_the_cpu_starts_with_its_threads(threads: int, deterministic: bool):
    devices.load("cpu").start(threads, deterministic)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert devices.load("cpu").torch_device() == torch.device("cpu")


def test_the_cpus_seed_is_torchs_generators():
    cpu = devices.load("cpu")
    cpu.seed(2**62 + 1)
    first = torch.rand(4)
    cpu.end_step()
    assert not torch.equal(torch.rand(4), first)
    cpu.seed(2**62 + 1)
    assert torch.equal(torch.rand(4), first)
    cpu.seed(2**62 + 2)
    assert not torch.equal(torch.rand(4), first)


def test_cuda_without_a_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AblateError, match=r"torch sees no GPU; check `nvidia-smi`, or use --device cpu\.$"):
        devices.load("cuda").start(1, False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_cuda_is_deterministic_when_asked(deterministic: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    devices.load("cuda").start(1, deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.benchmark == (not deterministic)
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
