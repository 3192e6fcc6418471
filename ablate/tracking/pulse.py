"""Whether W&B answers, asked again and again beside the sending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ablate.tracking.service import Problem, Service

_PAUSE, _URGENT = 5.0, 0.5
"""Seconds between questions, and when somebody waits."""


class Pulse(threading.Thread):
    """Asks whether the service answers, and tells.

    Args:
        service: W&B.
        tell: Told `{"asking": true}` before each question, after it `{"answers": whether, "seconds": how long
            it took}`, and what is wrong.
        urgent: Set when somebody is waiting for the end.
    """

    def __init__(self, service: Service, tell: Callable[[dict[str, Any]], None], urgent: threading.Event):
        super().__init__(daemon=True)
        self.service, self._tell, self._urgent = service, tell, urgent
        self.entity: str | None = None
        self.problem: Problem | None = None
        self.asked = threading.Event()

    def run(self) -> None:
        while True:
            seconds = None
            self._tell({"asking": True})
            try:
                self.entity, seconds = self.service.viewer()
                self.problem = None
            except Problem as problem:
                self.problem = problem
                self._tell({"note": str(problem)})
            self._tell({"answers": self.problem is None, "seconds": seconds})
            self.asked.set()
            time.sleep(_URGENT)
            self._urgent.wait(_PAUSE)
