"""Which of the packages that matter are installed, and whether they get what they say they need."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import requires

from packaging.requirements import Requirement

from ablate.devices import found
from ablate.devices.doctor.finding import Finding

_SHOWN = ("ablate", "torch", "torchvision", "torch_xla", "libtpu", "fastai", "timm", "wandb")
_OPTIONAL = ("torch_xla", "libtpu", "wandb")


def look_at_packages() -> Iterator[Finding]:
    """One finding per package."""
    yield Finding("package", "python", "ok", f"{platform.python_version()}, {sys.executable}")
    for package in _SHOWN:
        version = found.version(package)
        if version is not None:
            yield _installed(package, version)
        elif package not in _OPTIONAL:
            yield Finding("package", package, "problem", "is not installed", f"run `pip install {package}`")


def _installed(package: str, version: str) -> Finding:
    built = f"built for CUDA {found.cuda_build()}" if found.cuda_build() else "built without CUDA"
    text = f"{version}, {built}" if package == "torch" else version
    unmet = _unmet(package)
    if not unmet:
        return Finding("package", package, "ok", text)
    lacks = ", ".join(f"{one.name}{one.specifier}" for one in unmet)
    versions = {one.name: found.version(one.name) for one in unmet}
    has = ", ".join(f"{name} {there}" if there else f"no {name}" for name, there in versions.items())
    return Finding("package", package, "problem", f"{text}; needs {lacks}; has {has}", _mend(unmet))


def _unmet(package: str) -> list[Requirement]:
    """What a package says it needs and this environment does not have."""
    wanted = [Requirement(line) for line in requires(package) or ()]
    return [
        one for one in wanted if (one.marker is None or one.marker.evaluate({"extra": ""})) and not _met(one)
    ]


def _met(requirement: Requirement) -> bool:
    version = found.version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _mend(unmet: list[Requirement]) -> str:
    if found.version("torch_xla") and any(one.name in ("torch", "torchvision") for one in unmet):
        return found.INSTALL_XLA
    return "run `pip install " + " ".join(f"'{one.name}{one.specifier}'" for one in unmet) + "`"
