"""What Ctrl-C and SIGTERM mean while a study runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from ablate.errors import Terminated


class Interrupts:
    """The first Ctrl-C asks to stop after the epoch, a second one stops at once; SIGTERM stops at once.

    Outside the main thread Python gives no signals, and nothing is changed.

    Args:
        tell: Told what the first Ctrl-C has asked for.
    """

    def __init__(self, tell: Callable[[str], None]):
        self.tell, self.asked, self._told = tell, False, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ((signal.SIGINT, self._interrupt), (signal.SIGTERM, self._terminate)):
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopping(self) -> bool:
        """Whether to stop as soon as nothing is lost by it; tells so the first time."""
        if self.asked and not self._told:
            self._told = True
            self.tell("stopping after this epoch; Ctrl-C again stops at once")
        return self.asked

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True  # a handler must not print: it may interrupt what is printing

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        raise Terminated
