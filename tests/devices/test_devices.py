from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastai.torch_core import TensorCategory, TensorImage

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


def test_what_counts_as_another_device():
    assert devices.identity("cpu", 1) != devices.identity("cpu", 2)
    assert devices.identity("cuda", 1) == devices.identity("cuda", 2)
    assert devices.identity("xla", 1) == devices.identity("xla", 2)
    assert len({str(devices.identity(name, 1)) for name in ("cpu", "cuda", "xla")}) == 3


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
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


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_loss_scaler_is_for_float16_alone(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    adapter = devices.load(name)
    loss = torch.tensor(2.0)
    for precision in ("float32", "bfloat16"):
        scaler = adapter.scaler(precision)
        assert not scaler.is_enabled()
        assert scaler.scale(loss) is loss
        assert scaler.state_dict() == {}
    scaler = adapter.scaler("float16")
    assert scaler.is_enabled()
    assert scaler.get_scale() == 2**16
    assert scaler._device == name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_cpu_computes_in_a_precision(precision: str):
    layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    with devices.load("cpu").autocast(precision):
        assert layer(x).dtype == getattr(torch, precision)
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_gpu_is_asked_for_a_precision(name: str, precision: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, torch.dtype]] = []
    monkeypatch.setattr(torch, "autocast", lambda device, dtype: asked.append((device, dtype)))
    devices.load(name).autocast(precision)
    assert asked == [(name, getattr(torch, precision))]


def test_a_generator_is_of_its_own():
    cpu = devices.load("cpu")
    state = torch.get_rng_state()
    one, same, other = (cpu.generator(seed) for seed in (2**62 + 1, 2**62 + 1, 5))
    assert one.device == torch.device("cpu")
    drawn = torch.rand(6, generator=one)
    assert torch.equal(drawn, torch.rand(6, generator=torch.Generator().manual_seed(2**62 + 1)))
    assert torch.equal(drawn, torch.rand(6, generator=same))
    assert not torch.equal(drawn, torch.rand(6, generator=other))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_gpus_generator_is_on_it(name: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    class Generator:
        def __init__(self, device: torch.device | str):
            asked.append(torch.device(device).type)

        def manual_seed(self, seed: int) -> int:
            return seed

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert devices.load(name).generator(7) == 7
    assert asked == [name]


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_only_xla_has_graphs(name: str):
    adapter = devices.load(name)
    tensors = torch.ones(2), (torch.zeros(3),)
    assert adapter.results(tensors) is tensors
    assert (adapter.fixed_shapes, adapter.replicas) == (False, 1)
    assert adapter.compiled() == 0
    assert not list(adapter.left_to_host())
    learn = object()  # which has nothing that could be touched
    adapter.settle(learn)
    adapter.end_step()


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_batchs_images_are_laid_out_channels_last_and_all_else_stays(name: str):
    images, targets = TensorImage(torch.rand(4, 3, 8, 6)), TensorCategory(torch.arange(4))
    laid, others = devices.load(name).lay_out((images, targets))
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert type(laid) is TensorImage
    assert torch.equal(laid, images)
    assert others is targets


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_network_is_compiled_in_place(name: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: asked.append(options) or call)
    model, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    plain = model(x)
    devices.load(name).compile(model, {"fallback_random": True})
    assert torch.equal(model(x), plain)
    assert [one["options"] for one in asked] == [{"fallback_random": True}]


def test_the_adapter_of_a_tensor():
    assert devices.of(torch.ones(2)) is devices.load("cpu")
    assert devices.of(torch.ones(2, device="meta")) is devices.load("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_the_adapter_of_a_tensor_on_a_gpu(name: str):
    assert devices.of(SimpleNamespace(device=torch.device(name, 0))) is devices.load(name)


def test_mps_without_metal_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(AblateError, match=r"^--device mps: torch sees no Metal GPU; use --device cpu\.$"):
        devices.load("mps").start(1, False)


def test_mps_starts_with_its_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    devices.load("mps").start(2, True)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert devices.load("mps").torch_device() == torch.device("mps")


def test_a_buffer_is_room_for_pixels():
    for name in ("cpu", "mps"):
        room = devices.load(name).buffer((2, 3, 4, 4))
        assert (room.shape, room.dtype, room.device.type) == ((2, 3, 4, 4), torch.uint8, "cpu")
