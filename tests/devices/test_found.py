"""Which device is taken, on machines that are made up: their folders, packages and variables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine

from ablate import devices
from ablate.devices import found
from ablate.errors import AblateError


def refusal(name: str = "xla") -> str:
    """What the person reads: one sentence."""
    with pytest.raises(AblateError) as caught:
        found.choose(name)
    told = str(caught.value)
    assert told.startswith(f"--device {name}: ")
    assert told.endswith(".")
    assert len(told.splitlines()) == 1
    return told


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_device_that_is_named_is_taken(machine: Machine, name: str):
    assert found.choose(name) == name


@pytest.mark.parametrize("name", ["tpu", "CUDA", "cuda:1", ""])
def test_no_such_device(name: str):
    assert "there is no such device; take one of auto, cpu, cuda, mps, xla" in refusal(name)


def test_choosing_imports_neither_torch_nor_torch_xla():
    code = (
        "import sys; from ablate import devices; devices.choose('auto');"
        "print({'torch', 'torch_xla'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def everything(machine: Machine) -> None:
    machine.tpu()
    machine.nvidia()
    machine.system = ("Darwin", "arm64")


def no_tpu(machine: Machine) -> None:
    machine.nvidia()
    machine.system = ("Darwin", "arm64")


def a_mac(machine: Machine) -> None:
    machine.torch(None)
    machine.system = ("Darwin", "arm64")


def an_old_mac(machine: Machine) -> None:
    machine.system = ("Darwin", "x86_64")


def a_gpu_whose_driver_shows_as_a_device_file(machine: Machine) -> None:
    machine.file("dev/nvidia0")


def torch_without_cuda(machine: Machine) -> None:
    machine.nvidia()
    machine.torch(None)


def nothing(machine: Machine) -> None:
    pass


@pytest.mark.parametrize(
    ("put_in", "taken"),
    [
        (everything, "xla"),
        (no_tpu, "cuda"),
        (a_gpu_whose_driver_shows_as_a_device_file, "cuda"),
        (torch_without_cuda, "cpu"),
        (a_mac, "mps"),
        (an_old_mac, "cpu"),
        (nothing, "cpu"),
    ],
)
def test_auto_takes_the_first_that_works(machine: Machine, put_in: Callable[[Machine], None], taken: str):
    put_in(machine)
    assert devices.choose("auto") == taken


def test_a_tpu_is_not_taken_where_packages_do_not_fit(machine: Machine):
    everything(machine)
    machine.versions["torch"] = "2.15.0"
    assert found.choose("auto") == "cuda"
    machine.versions["torch"] = "2.9.1+cu128"  # the minor version decides
    assert found.choose("auto") == "xla"
    del machine.versions["libtpu"]
    assert found.choose("auto") == "cuda"
    del machine.versions["torch_xla"]
    assert found.choose("auto") == "cuda"


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_are_not_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch, hidden: str):
    machine.nvidia()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert found.choose("auto") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert found.choose("auto") == "cuda"


def test_xlas_cpu_backend_is_taken_by_name_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.versions |= {"torch": "2.9.0", "torch_xla": "2.9.0"}
    monkeypatch.setenv("PJRT_DEVICE", "CPU")
    assert found.choose("auto") == "cpu"
    assert found.choose("xla") == "xla"
    machine.tpu()
    assert found.choose("auto") == "cpu"


def test_xla_without_torch_xla(machine: Machine):
    told = refusal()
    assert "torch_xla is not installed; in an environment of its own run `pip install 'ablate[xla]'`" in told


def test_a_plan_may_be_for_another_machine(machine: Machine):
    assert [found.choose_for_plan(name) for name in ("cpu", "cuda", "mps", "xla")] == [
        "cpu",
        "cuda",
        "mps",
        "xla",
    ]
    assert found.choose_for_plan("auto") == found.choose("auto")
    with pytest.raises(AblateError, match="--device tpu: there is no such device"):
        found.choose_for_plan("tpu")


def test_xla_with_a_torch_that_does_not_fit(machine: Machine):
    machine.tpu()
    machine.versions["torch"] = "2.15.0"
    told = refusal()
    assert (
        "torch_xla 2.9.0 does not fit torch 2.15.0: it needs torch 2.9; in an environment of its own" in told
    )
    assert "`pip install 'ablate[xla]'`" in told
    del machine.versions["torch"]
    assert "does not fit torch that is missing" in refusal()


def test_the_versions_that_are_told_are_those_of_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["xla"]
    pinned = dict(re.findall(r"(torch|torchvision|torch_xla)(?:\[\w+\])?==([\d.]+)", " ".join(extra)))
    assert len(pinned) == 3
    for package, version in pinned.items():
        assert f"{package} {version}" in found.INSTALL_XLA


@pytest.mark.parametrize("asked", [None, "TPU"])
def test_xla_without_a_tpu(machine: Machine, monkeypatch: pytest.MonkeyPatch, asked: str | None):
    machine.versions |= {"torch": "2.9.0", "torch_xla": "2.9.0", "libtpu": "0.0.21"}
    machine.pci("0x1ae0", "0x0042", "0x020000")  # Google's network card
    if asked:
        monkeypatch.setenv("PJRT_DEVICE", asked)
    told = refusal()
    assert ("PJRT_DEVICE=TPU asks for a TPU, and there is none" if asked else "no TPU was found") in told
    assert f"none of the 2 devices in {machine.root / 'pci'} is one" in told
    assert "there is no" in told
    assert "/accel*" in told
    assert "on a TPU VM `tpu-info` lists its chips" in told
    assert "PJRT_DEVICE=CPU tries the same code on XLA's CPU backend" in told
    assert found.choose("auto") == "cpu"


@pytest.mark.parametrize("asked", ["CUDA", "tpu", "", "GPU"])
def test_xla_with_a_backend_that_it_does_not_run_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, asked: str
):
    machine.tpu()
    monkeypatch.setenv("PJRT_DEVICE", asked)
    assert f"PJRT_DEVICE={asked} is not what ablate runs on; unset it, or set it to TPU or CPU" in refusal()
    assert found.choose("auto") == "cpu"


@pytest.mark.parametrize("name", ["dev/accel0", "dev/vfio/0"])
def test_a_tpu_in_a_container_that_hides_the_bus(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str
):
    machine.tpu(chips=0)
    machine.file(name)
    told = refusal()
    assert f"{machine.root / name} is there" in told
    assert "set PJRT_DEVICE=TPU if it is" in told
    assert found.choose("auto") == "cpu"
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    assert found.choose("xla") == "xla"
    assert found.choose("auto") == "xla"


@pytest.mark.parametrize("name", ["dev/vfio/vfio", "dev/accel/accel0"])
def test_other_device_files_are_no_tpu(machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str):
    machine.tpu(chips=0)
    machine.file(name)  # VFIO's own, and an accelerator of the kernel's compute class
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    assert "there is none" in refusal()


def test_a_tpu_without_libtpu(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.tpu()
    del machine.versions["libtpu"]
    told = refusal()
    assert "libtpu, which drives it, is not installed; run `pip install 'torch_xla[tpu]==2.9.0'`" in told
    machine.file("torch_xla/lib/libtpu.so")
    assert found.choose("xla") == "xla"
    (machine.root / "torch_xla/lib/libtpu.so").unlink()
    monkeypatch.setenv("TPU_LIBRARY_PATH", "/lib/libtpu.so")
    assert found.choose("xla") == "xla"


@pytest.mark.parametrize(
    ("device", "name"),
    [("0x0027", "TPU v2 or v3"), ("0x005e", "TPU v4"), ("0x0062", "TPU v5p"), ("0x006f", "TPU v6e")],
)
def test_the_generation_of_a_chip(machine: Machine, device: str, name: str):
    machine.pci("0x1ae0", device)
    assert found.tpu_chips() == [name]


def test_a_bus_that_cannot_be_read(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(found, "_PCI", machine.root / "none")
    (machine.root / "pci" / "0000:00:00.0" / "vendor").unlink()
    assert found.tpu_chips() == []
    monkeypatch.setattr(found, "_PCI", machine.root / "pci")
    assert found.tpu_chips() == []


def test_what_nvidias_driver_says(machine: Machine):
    assert found.nvidia_driver() is None
    machine.file("dev/nvidia0")
    assert found.nvidia_driver() == ""
    machine.nvidia()
    assert found.nvidia_driver() == "580.65.06"


def test_what_the_installed_torch_was_built_for(monkeypatch: pytest.MonkeyPatch):
    import torch

    assert found.cuda_build() == torch.version.cuda
    assert (found.version("torch") or "").split("+")[0] == torch.__version__.split("+")[0]
    assert found.version("no-such-package") is None
