"""`ablate doctor`: which devices there are, whether they work, whether the packages fit, and what to do.

It works where half of the packages are missing, so it imports none of them but click, rich and packaging.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ablate.devices import found
from ablate.devices.doctor.finding import Finding
from ablate.devices.doctor.folders import look_at_folders
from ablate.devices.doctor.hardware import look_at_devices
from ablate.devices.doctor.packages import look_at_packages
from ablate.devices.doctor.probe import Waiting

__all__ = ["Diagnosis", "Finding", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the device that `--device auto` takes."""

    auto: str
    findings: list[Finding]

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return sum(finding.level == "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        return {**asdict(self), "problems": self.problems}


def diagnose(waiting: Waiting) -> Diagnosis:
    """Look at the devices, the packages and the folders of this machine.

    Args:
        waiting: Shows a line while a device takes its time to answer.
    """
    findings = [*look_at_devices(waiting), *look_at_packages(), *look_at_folders()]
    return Diagnosis(found.choose("auto"), findings)
