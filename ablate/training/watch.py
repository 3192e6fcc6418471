"""Tell when a phase keeps compiling: when some technique gives every step another graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from fastai.callback.core import Callback

from ablate import devices
from ablate.techniques.base import Technique

SETTLED = 3
"""After so many steps of a pass nothing new should have to be compiled."""
PATIENCE = 5
"""So many further steps in a row that compile are told of."""


class WatchCompilations(Callback):
    """Say once which technique may be to blame when step after step is compiled anew, or is left to the host.

    Args:
        device: The device's name.
        phase: The phase's name.
        techniques: Those that are on in it.
        tell: Takes the sentence.
    """

    order = 52  # after the device's step
    run_valid = False

    def __init__(
        self,
        device: str,
        phase: str,
        techniques: Sequence[Technique],
        tell: Callable[[str], Any] = warnings.warn,
    ):
        self.device, self.phase, self.tell = devices.load(device), phase, tell
        self.suspects = suspects(techniques)

    def before_fit(self) -> None:
        self.told: set[str] = set()
        self.left = set(self.device.left_to_host())

    def before_train(self) -> None:
        self.compiled, self.grown = self.device.compiled(), 0

    def after_batch(self) -> None:
        before, self.compiled = self.compiled, self.device.compiled()
        self.grown = self.grown + 1 if self.compiled > before and self.learn.iter >= SETTLED else 0
        if self.grown == PATIENCE:
            self._say(
                f"phase {self.phase}: every step is compiled anew, which takes most of the time; look at "
                f"{self.suspects}: shapes and slices must be the same in each step (docs/tpu.md)."
            )

    def after_train(self) -> None:
        if new := sorted(set(self.device.left_to_host()) - self.left):
            self._say(
                f"phase {self.phase}: {self.device.name} leaves {', '.join(new)} to the host, which is slow; "
                f"look at {self.suspects} (docs/tpu.md)."
            )

    def _say(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.tell(text)


def suspects(techniques: Sequence[Technique]) -> str:
    """The techniques to look at, by name: those from outside if there are any, since ours are tested."""
    foreign = [one.name for one in techniques if not type(one).__module__.startswith("ablate.techniques.")]
    if foreign:
        return f"the technique{'s' * (len(foreign) > 1)} {', '.join(foreign)}"
    return "the network" if not techniques else f"the network and {', '.join(one.name for one in techniques)}"
