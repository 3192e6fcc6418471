"""The machines that a study ran on, written down when it begins; without importing torch."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ablate.files import replace_file

MACHINE = "machine.json"


def note_machine(folder: Path) -> None:
    """Add this machine to a study's `machine.json`; a study may go on where another machine ended."""
    known, here = _known(folder / MACHINE), machine()
    if here not in known:
        text = json.dumps([*known, here], indent=1)
        replace_file(folder / MACHINE, lambda path: path.write_text(text))


def machine() -> dict[str, Any]:
    """`platform`, `cpu`, `cores`, `memory` in bytes (None where unknown) and `gpus` by name."""
    return {
        "platform": platform.platform(),
        "cpu": processor() or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "gpus": _gpus(),
    }


def _known(path: Path) -> list[dict[str, Any]]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return known if isinstance(known, list) else []


def processor() -> str:
    """The processor's name, empty where it cannot be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus() -> list[str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
