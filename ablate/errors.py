"""The errors that a person is meant to read: one sentence, a place and a next step, never a traceback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class AblateError(Exception):
    """A mistake in a recipe, in data or in a command, told in one clear sentence.

    The command line prints the message to stderr and exits with code 2.

    Args:
        message: The sentence; it stays as it is where fastai puts the callback and the event before it.
    """

    def __init__(self, message: str = ""):
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Place:
    """Where a value of a recipe was written."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class RecipeError(AblateError):
    """A recipe that cannot be used, with every problem on a line of its own, each led by file and line."""


class StageFailed(AblateError):
    """A stage that ended with an error; the message says which, why, and where its log lies."""


class StageLost(StageFailed):
    """A stage whose process, worker or node has gone, through no fault of its own."""


class StageStopped(AblateError):
    """A stage that was asked to stop and did so after its epoch; its checkpoint stands."""


class Damaged(AblateError):
    """A stored folder whose files are not what was written.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        super().__init__(
            f"{folder}: is damaged; `ablate run` sets it aside and computes it again, "
            "`ablate store verify` looks at the whole store."
        )
        self.folder = folder


class Terminated(BaseException):
    """SIGTERM, as a preemptible machine sends it: go now; the last epoch's checkpoint stands."""
