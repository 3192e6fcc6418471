"""Does a device work? It multiplies two matrices, in a process of its own, which may hang or crash.

`python -m ablate.devices.doctor.probe cuda` prints the names of its devices, or what went wrong, as JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 2.0
"""Seconds after which a person is told what is being waited for."""
LIMIT = 120.0
"""Seconds after which a device counts as not answering."""
_SIDE = 64

Waiting = Callable[[str], AbstractContextManager[Any]]
"""Shows a line while something is waited for."""


@dataclass(frozen=True)
class Answer:
    """What a device said: the names of its parts, if it has some; what went wrong; and its process's log."""

    names: list[str] = field(default_factory=list)
    error: str = ""
    log: str = ""


def probe(device: str, waiting: Waiting, limit: float = LIMIT) -> Answer:
    """Try a device in a new process.

    Args:
        device: cpu, cuda, mps or xla.
        waiting: Shows a line once it takes longer than `PATIENCE`.
        limit: Seconds after which it is given up.
    """
    # -P: a folder that happens to have a torch.py or random.py is no fault of the device
    command = [sys.executable, "-P", "-m", "ablate.devices.doctor.probe", device]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, log = _communicate(process, waiting, f"trying {device}", limit)
    except subprocess.TimeoutExpired:
        return Answer(error=f"did not answer within {limit:g} seconds")
    finally:
        process.kill()
    try:
        told = json.loads(said.splitlines()[-1])
        return Answer(told.get("names", []), told.get("error", ""), log)
    except (ValueError, IndexError):
        return Answer(error=_ending(process.returncode), log=log)


def _communicate(
    process: subprocess.Popen[str], waiting: Waiting, text: str, limit: float
) -> tuple[str, str]:
    patience = min(PATIENCE, limit)
    try:
        return process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        with waiting(text):
            return process.communicate(timeout=limit - patience)


def _ending(code: int) -> str:
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process ended with exit code {code} and said nothing"


def _cpu() -> list[str]:
    import torch

    _multiply(torch.device("cpu"))
    return []


def _cuda() -> list[str]:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if not names:
        torch.cuda.init()  # which says why
        raise RuntimeError("torch sees no GPU")
    for number in range(len(names)):
        _multiply(torch.device("cuda", number))
    return names


def _mps() -> list[str]:
    import torch

    _multiply(torch.device("mps"))
    return []


def _xla() -> list[str]:
    import torch_xla
    import torch_xla.runtime as runtime

    _multiply(torch_xla.device())
    return [runtime.device_type()] * runtime.global_runtime_device_count()


def _multiply(device: Any) -> None:
    import torch

    ones = torch.ones(_SIDE, _SIDE, device=device)
    total = (ones @ ones).sum().item()  # powers of two: the same in every precision
    if total != _SIDE**3:
        raise RuntimeError(f"{device} multiplied wrongly: {total}, not {_SIDE**3}")


_PROBES: dict[str, Callable[[], list[str]]] = {"cpu": _cpu, "cuda": _cuda, "mps": _mps, "xla": _xla}


def _main(device: str) -> None:
    try:
        told: dict[str, Any] = {"names": _PROBES[device]()}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told))


if __name__ == "__main__":
    _main(sys.argv[1])
