"""The machines of a study, written down without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.study import machine as module
from ablate.study.machine import machine, note_machine


def test_it_tells_platform_processor_memory_and_gpus():
    found = machine()
    assert set(found) == {"platform", "cpu", "cores", "memory", "gpus"}
    assert found["cores"] == os.cpu_count()
    assert found["cpu"]
    assert found["memory"] is None or found["memory"] > 2**28
    assert isinstance(found["gpus"], list)


def test_gpus_are_those_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\nif [ "$1" = --query-gpu=name ]; then echo "NVIDIA A"; echo "NVIDIA A"; fi\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine()["gpus"] == ["NVIDIA A", "NVIDIA A"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine()["gpus"] == []


def test_a_study_that_moves_names_both_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    note_machine(tmp_path)
    note_machine(tmp_path)
    assert json.loads((tmp_path / "machine.json").read_text()) == [machine()]
    monkeypatch.setattr(module, "_gpus", lambda: ["another"])
    note_machine(tmp_path)
    noted = json.loads((tmp_path / "machine.json").read_text())
    assert [each["gpus"] for each in noted][1:] == [["another"]]


@pytest.mark.parametrize("content", ["", "{", "{}", "7"])
def test_a_broken_file_is_written_anew(tmp_path: Path, content: str):
    (tmp_path / "machine.json").write_text(content)
    note_machine(tmp_path)
    assert json.loads((tmp_path / "machine.json").read_text()) == [machine()]


def test_torch_is_not_imported():
    code = "import sys; from ablate.study.machine import machine; machine(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
