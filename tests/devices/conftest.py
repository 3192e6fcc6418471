from __future__ import annotations

from pathlib import Path

import pytest
from machines import Machine

from ablate.devices import found

VARIABLES = ("PJRT_DEVICE", "CUDA_VISIBLE_DEVICES", "TPU_LIBRARY_PATH")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(found, "_PCI", tmp_path / "pci")
    monkeypatch.setattr(found, "_DEV", tmp_path / "dev")
    monkeypatch.setattr(found, "_NVIDIA", tmp_path / "proc" / "version")
    monkeypatch.setattr(found, "version", lambda name: made.versions.get(name))
    monkeypatch.setattr(found, "find_spec", made.find_spec)
    monkeypatch.setattr(found.platform, "system", lambda: made.system[0])
    monkeypatch.setattr(found.platform, "machine", lambda: made.system[1])
    return made
