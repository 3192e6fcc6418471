"""Machines that are made up: their folders under /sys, /dev and /proc, and their packages."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path


class Machine:
    """A machine without an accelerator, until one is put in."""

    def __init__(self, root: Path):
        self.root = root
        self.versions = {"torch": "2.15.0", "torchvision": "0.29.2"}
        self.system = ("Linux", "x86_64")
        self.torch("13.2")
        self.pci("0x8086", "0x1237", "0x060000")

    def pci(self, vendor: str, device: str, kind: str = "0x120000") -> None:
        folder = self.root / "pci" / f"0000:00:{len(list(self.root.glob('pci/*'))):02x}.0"
        folder.mkdir(parents=True)
        for name, value in {"vendor": vendor, "device": device, "class": kind}.items():
            (folder / name).write_text(f"{value}\n")

    def file(self, name: str, text: str = "") -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def torch(self, cuda: str | None) -> None:
        self.file("torch/__init__.py")
        self.file("torch/version.py", f"from typing import Optional\ncuda: Optional[str] = {cuda!r}\n")

    def nvidia(self) -> None:
        self.file(
            "proc/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\nGCC 12\n",
        )

    def tpu(self, chips: int = 4) -> None:
        """Chips of a TPU v5e, all packages that fit, and libtpu."""
        for _ in range(chips):
            self.pci("0x1ae0", "0x0063")
        self.versions |= {"torch": "2.9.0+cpu", "torch_xla": "2.9.0", "libtpu": "0.0.21"}

    def find_spec(self, name: str) -> ModuleSpec | None:
        if name not in self.versions:
            return None
        spec = ModuleSpec(name, None, origin=str(self.root / name / "__init__.py"), is_package=True)
        spec.submodule_search_locations = [str(self.root / name)]
        return spec
