"""Which devices this machine has, and which one to use. Imports neither torch nor torch_xla."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ablate.errors import AblateError

NAMES = ("auto", "cpu", "cuda", "mps", "xla")

_PCI = Path("/sys/bus/pci/devices")
_DEV = Path("/dev")
_NVIDIA = Path("/proc/driver/nvidia/version")

_GOOGLE = "0x1ae0"
_TPUS = {
    "0x0027": "TPU v2 or v3",
    "0x0056": "TPU",  # without a public name
    "0x005e": "TPU v4",
    "0x0062": "TPU v5p",
    "0x0063": "TPU v5e",
    "0x006f": "TPU v6e",
    "0x0076": "TPU 7x",
}
"""The chips that torch_xla 2.9 knows by their PCI device ids (torch_xla/_internal/tpu.py)."""

INSTALL_XLA = (
    "in an environment of its own run `pip install 'ablate[xla]'` (torch 2.9.0, torchvision 0.24.0, "
    "torch_xla 2.9.0)"
)


class Obstacle(NamedTuple):
    """Why a device cannot be used, and what a person does about it; two parts of one sentence."""

    what: str
    mend: str


def identity(name: str, threads: int) -> dict[str, Any]:
    """What of the device is part of a stage's key.

    On the CPU the thread count changes sums. XLA's own CPU backend is not the TPU.
    """
    if name == "cpu":
        return {"class": name, "threads": threads}
    backend = os.environ.get("PJRT_DEVICE", "TPU").upper()
    return {"class": name, "backend": backend} if name == "xla" and backend != "TPU" else {"class": name}


def choose(name: str) -> str:
    """The device to use: `auto` is the first of xla, cuda, mps and cpu that this machine can use.

    XLA's CPU backend (`PJRT_DEVICE=CPU`) is no accelerator: it is for who asks for xla by name.

    Raises:
        AblateError: There is no such device, or xla is asked for and cannot be used here.
    """
    device = choose_for_plan(name)
    obstacle = xla_obstacle() if name == "xla" else None
    if obstacle:
        raise AblateError(f"--device xla: {obstacle.what}; {obstacle.mend}.")
    return device


def choose_for_plan(name: str) -> str:
    """The device to plan for: one that is asked for by name need not be on this machine.

    Raises:
        AblateError: There is no such device.
    """
    if name not in NAMES:
        raise AblateError(f"--device {name}: there is no such device; take one of {', '.join(NAMES)}.")
    return _first() if name == "auto" else name


def _first() -> str:
    if os.environ.get("PJRT_DEVICE") != "CPU" and xla_obstacle() is None:
        return "xla"
    if nvidia_driver() is not None and cuda_build() and not hides_gpus():
        return "cuda"
    return "mps" if has_metal() else "cpu"


def version(package: str) -> str | None:
    """The version of an installed package, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver, empty where it does not say, None where it is not loaded."""
    if not _NVIDIA.exists() and not (_DEV / "nvidia0").exists():
        return None
    number = re.search(r"\b\d{3}\.\d+(\.\d+)?", _read(_NVIDIA))
    return number[0] if number else ""


def has_nvidia_card() -> bool:
    """Whether there is an NVIDIA card on the PCI bus, with a driver or without."""
    return any(
        _read(folder / "vendor").strip() == "0x10de" and _read(folder / "class").startswith("0x03")
        for folder in _PCI.glob("*")
    )


def hides_gpus() -> bool:
    """Whether `CUDA_VISIBLE_DEVICES` hides all GPUs."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def cuda_build() -> str | None:
    """The CUDA version that the installed torch was built with; None for a build without CUDA."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    written = _read(Path(spec.origin).with_name("version.py"))
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", written, re.MULTILINE)
    return match[1] if match else None


def has_metal() -> bool:
    """Whether this is a Mac with a GPU that torch can use."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def tpu_chips() -> list[str]:
    """The generation of each TPU chip on the PCI bus, where torch_xla looks too."""
    google = [folder for folder in sorted(_PCI.glob("*")) if _read(folder / "vendor").strip() == _GOOGLE]
    ids = [_read(folder / "device").strip() for folder in google]
    return [_TPUS[one] for one in ids if one in _TPUS]


def tpu_files() -> list[Path]:
    """Device files that a TPU may be behind: of its own driver (up to v4) or of VFIO (since v5)."""
    return sorted([*_DEV.glob("accel[0-9]*"), *_DEV.glob("vfio/[0-9]*")])


def xla_obstacle() -> Obstacle | None:
    """What keeps xla from being used, None where nothing does."""
    return torch_xla_obstacle() or _backend_obstacle()


def torch_xla_obstacle() -> Obstacle | None:
    """What is wrong with the installed torch_xla; it does not say itself which torch it was built for."""
    torch_xla, torch = version("torch_xla"), version("torch")
    if torch_xla is None or find_spec("torch_xla") is None:
        return Obstacle("torch_xla is not installed", INSTALL_XLA)
    if torch is None or _minor(torch_xla) != _minor(torch):
        needs = f"torch_xla {torch_xla} does not fit torch {torch or 'that is missing'}"
        return Obstacle(f"{needs}: it needs torch {_minor(torch_xla)}", INSTALL_XLA)
    return None


def _backend_obstacle() -> Obstacle | None:
    """What keeps torch_xla from the backend that `PJRT_DEVICE` names, by default a TPU."""
    asked = os.environ.get("PJRT_DEVICE")
    if asked == "CPU":
        return None
    if asked not in (None, "TPU"):
        return Obstacle(
            f"PJRT_DEVICE={asked} is not what ablate runs on", "unset it, or set it to TPU or CPU"
        )
    files = tpu_files()
    if not tpu_chips() and not (asked and files):
        return _no_tpu(asked, files)
    if not _has_libtpu():
        installed = (version("torch_xla") or "").split("+")[0]
        return Obstacle(
            "there is a TPU, and libtpu, which drives it, is not installed",
            f"run `pip install 'torch_xla[tpu]=={installed}'`",
        )
    return None


def _no_tpu(asked: str | None, files: list[Path]) -> Obstacle:
    if files:
        return Obstacle(
            f"the PCI bus shows no TPU ({_PCI}), though {files[0]} is there, which may be one in a container",
            "set PJRT_DEVICE=TPU if it is",
        )
    looked = f"none of the {len(list(_PCI.glob('*')))} devices in {_PCI} is one, and there is no "
    looked += f"{_DEV}/accel* or {_DEV}/vfio/*"
    told = "PJRT_DEVICE=TPU asks for a TPU, and there is none" if asked else "no TPU was found"
    return Obstacle(
        f"{told} ({looked})",
        "on a TPU VM `tpu-info` lists its chips, and on any machine PJRT_DEVICE=CPU tries the same code on "
        "XLA's CPU backend",
    )


def _has_libtpu() -> bool:
    """Whether torch_xla will find it, at the places where it looks; else it takes the CPU and goes on."""
    if "TPU_LIBRARY_PATH" in os.environ or find_spec("libtpu") is not None:
        return True
    spec = find_spec("torch_xla")
    places = (spec.submodule_search_locations if spec else None) or ()
    return any((Path(place) / "lib" / "libtpu.so").is_file() for place in places)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _read(path: Path) -> str:
    """The text of a small file, empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
