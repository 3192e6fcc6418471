"""Which devices there are, and whether they work."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from ablate.devices import found
from ablate.devices.doctor.failures import explain
from ablate.devices.doctor.finding import Finding
from ablate.devices.doctor.probe import Waiting, probe


def look_at_devices(waiting: Waiting) -> Iterator[Finding]:
    """One finding per device; those that are there are tried."""
    for look in (_cpu, _cuda, _mps, _xla):
        yield look(waiting)


def _cpu(waiting: Waiting) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _tried("cpu", f"{cores} cores", _reinstall_torch(), waiting)


def _cuda(waiting: Waiting) -> Finding:
    driver = found.nvidia_driver()
    if driver is None:
        if not found.has_nvidia_card():
            return Finding("device", "cuda", "note", "no NVIDIA card was found")
        mend = "install it until `nvidia-smi` answers; a container needs `docker run --gpus all`"
        return Finding(
            "device", "cuda", "note", "there is an NVIDIA card, and its driver is not loaded", mend
        )
    told = f"NVIDIA's driver {driver}".rstrip()
    if found.cuda_build() is None:
        text = f"{told} is there, and torch {found.version('torch')} was built without CUDA"
        return Finding("device", "cuda", "problem", text, _reinstall_torch())
    if found.hides_gpus():
        return Finding("device", "cuda", "note", f"{told}; CUDA_VISIBLE_DEVICES hides its GPUs")
    return _tried("cuda", told, "see what `nvidia-smi` says", waiting)


def _mps(waiting: Waiting) -> Finding:
    if not found.has_metal():
        return Finding("device", "mps", "note", "this is no Mac with an Apple GPU")
    return _tried("mps", "Apple GPU", _reinstall_torch(), waiting)


def _xla(waiting: Waiting) -> Finding:
    chips, asked, obstacle = found.tpu_chips(), os.environ.get("PJRT_DEVICE"), found.xla_obstacle()
    if obstacle is None and asked == "CPU":
        unused = f", and not {_counted(chips)}" if chips else ""
        return _tried(
            "xla", f"XLA's CPU backend, as PJRT_DEVICE=CPU asks{unused}", found.INSTALL_XLA, waiting
        )
    if obstacle is None:
        what = _counted(chips or map(str, found.tpu_files()))
        return _tried("xla", what, "see who has it with `sudo lsof -w /dev/accel* /dev/vfio/*`", waiting)
    text = f"{_counted(chips)}: {obstacle.what}" if chips else obstacle.what
    if chips or asked not in (None, "CPU") or (found.version("torch_xla") and found.torch_xla_obstacle()):
        return Finding("device", "xla", "problem", text, obstacle.mend)
    if found.version("torch_xla") is None:
        return Finding("device", "xla", "note", f"no TPU was found, and {text}")
    return Finding("device", "xla", "note", text, obstacle.mend)


def _tried(device: str, what: str, mend: str, waiting: Waiting) -> Finding:
    """Whether a device works.

    Args:
        device: Its name.
        what: What is known of it before.
        mend: What to do about an error that says nothing more.
        waiting: Shows a line while it takes its time.
    """
    answer = probe(device, waiting)
    if not answer.error:
        parts = f" ({_counted(answer.names)})" if answer.names else ""
        return Finding("device", device, "ok", f"{what}; works{parts}")
    meaning, mend = explain(f"{answer.error}\n{answer.log}") or (answer.error.splitlines()[0], mend)
    return Finding("device", device, "problem", f"{what}; {meaning}", mend)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in Counter(names).items())


def _reinstall_torch() -> str:
    """The command that puts PyPI's build of the same torch in place of the installed one."""
    versions = {package: found.version(package) for package in ("torch", "torchvision")}
    pins = " ".join(f"{package}=={version.split('+')[0]}" for package, version in versions.items() if version)
    return f"run `pip install --force-reinstall {pins or 'torch torchvision'}`"
